"""Values fitted to the schema that they should have had: only where there is one way to do it."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsontools.budget import Budget
from jsontools.fit import fit
from jsontools.schema import fault


def strict(**properties: Any) -> dict[str, Any]:
    """An object as strict schemas have it: all keys required, no others allowed."""
    closed = {"required": [*properties], "additionalProperties": False}
    return {"type": "object", "properties": properties, **closed}


INTEGER, MAYBE = {"type": "integer"}, {"type": ["integer", "null"]}
TREE = {
    "$defs": {
        "node": strict(size=INTEGER, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})
    },
    "$ref": "#/$defs/node",
}  # fmt: skip
KINDS = {"anyOf": [strict(kind={"const": "a"}, n=INTEGER), strict(kind={"const": "b"}, s=MAYBE)]}
FITTED: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "a missing nullable key": ({}, strict(a=MAYBE), {"a": None}),
    "its default instead": ({}, strict(a={**MAYBE, "default": 3}), {"a": 3}),
    "nullable by anyOf": ({}, strict(a={"anyOf": [INTEGER, {"type": "null"}]}), {"a": None}),
    "nullable by OpenAPI": ({}, strict(a={"type": "string", "nullable": True}), {"a": None}),
    "nullable by enum": ({}, strict(a={"enum": ["x", None]}), {"a": None}),
    "nullable by oneOf": ({}, strict(a={"oneOf": [INTEGER, {"type": "null"}]}), {"a": None}),
    "nullable by allOf": ({}, strict(a={"allOf": [MAYBE]}), {"a": None}),
    "nullable by reference": (
        {}, {"$defs": {"m": MAYBE}, **strict(a={"$ref": "#/$defs/m"})}, {"a": None},
    ),
    "default by reference": (
        {}, {"$defs": {"m": {"default": 0}}, **strict(a={"$ref": "#/$defs/m"})}, {"a": 0},
    ),
    "a number in quotes": ({"a": "5"}, strict(a=INTEGER), {"a": 5}),
    "a fraction in quotes": ({"a": " 0.5 "}, strict(a={"type": "number"}), {"a": 0.5}),
    "a boolean in quotes": ({"a": "True"}, strict(a={"type": "boolean"}), {"a": True}),
    "null in quotes": ({"a": "NULL"}, strict(a=MAYBE), {"a": None}),
    "null in quotes, by OpenAPI": (
        {"a": "null"}, strict(a={"type": "integer", "nullable": True}), {"a": None},
    ),
    "an array in quotes": ({"a": '["x"]'}, strict(a={"type": "array"}), {"a": ["x"]}),
    "a number of an enum": ({"a": "2"}, strict(a={"enum": [1, 2]}), {"a": 2}),
    "a number of an enum that may be text": (
        {"a": "2"}, strict(a={"type": ["string", "integer"], "enum": [1, 2]}), {"a": 2},
    ),
    "a word in quotes": ({"a": '"x"'}, strict(a={"enum": ["x"]}), {"a": "x"}),
    "a constant": ({"a": "true"}, strict(a={"const": True}), {"a": True}),
    "keys too many": ({"a": 1, "b": 2}, strict(a=INTEGER), {"a": 1}),
    "deep in an array": (
        {"a": [{"b": "1", "c": 0}]},
        strict(a={"type": "array", "items": strict(b=INTEGER)}),
        {"a": [{"b": 1}]},
    ),
    "the first of a tuple": (["1", "1"], {"prefixItems": [INTEGER]}, [1, "1"]),
    "through a recursive reference": (
        {"size": "1", "next": {"size": "2"}}, TREE, {"size": 1, "next": {"size": 2, "next": None}},
    ),
    "the branch that fits": ({"kind": "b", "x": 1}, KINDS, {"kind": "b", "s": None}),
    "all of several": (
        {"a": "1", "b": "true"},
        {"allOf": [
            {"properties": {"a": INTEGER}}, {"properties": {"b": {"type": "boolean"}}}
        ]},
        {"a": 1, "b": True},
    ),
    "other keys by their rule": ({"x": "1"}, {"additionalProperties": INTEGER}, {"x": 1}),
}  # fmt: skip


@pytest.mark.parametrize("case", FITTED)
def test_what_has_one_meaning_is_mended(case: str) -> None:
    value, schema, wanted = FITTED[case]
    given = copy.deepcopy(value)
    assert fit(value, schema) == wanted
    assert fault(wanted, schema) is None
    assert value == given


LEFT: dict[str, tuple[Any, dict[str, Any]]] = {
    "text that is wanted": ({"a": "5"}, strict(a={"type": ["string", "integer"]})),
    "text that says nothing of its kind": ({"a": "5"}, strict(a={})),
    "text that is wanted, but not so long": (
        {"a": "55"}, strict(a={"type": ["string", "integer"], "maxLength": 1}),
    ),
    "text of any kind, but not so long": ({"a": "55"}, strict(a={"maxLength": 1})),
    "text of an enum": ({"a": "1"}, strict(a={"enum": ["1", 1], "maxLength": 0})),
    "a word for a number": ({"a": "five"}, strict(a=INTEGER)),
    "null for a number": ({"a": "null"}, strict(a=INTEGER)),
    "a number that the enum lacks": ({"a": "3"}, strict(a={"enum": [1, 2]})),
    "a fraction for a whole number": ({"a": "5.5"}, strict(a=INTEGER)),
    "a number for text": ({"a": 5}, strict(a={"type": "string"})),
    "a key that is required and has no null": ({}, strict(a=INTEGER)),
    "a key of any kind": ({}, strict(a={"description": "anything"})),
    "a key of any kind, in words": ({}, strict(a={"anyOf": [INTEGER, {}]})),
    "a key that may be left out": ({}, {"properties": {"a": MAYBE}}),
    "keys that are not forbidden": ({"b": 1}, {"properties": {"a": MAYBE}}),
    "keys that a pattern may allow": (
        {"b": 1}, {"patternProperties": {"b": {}}, "additionalProperties": False},
    ),
    "no branch fits": ({"kind": "c"}, KINDS),
    "not a finite number": ({"a": "1e999"}, strict(a={"type": "number"})),
    "a schema that makes no sense": ({"a": "5"}, {"type": "any", "properties": 3}),
    "a reference that leads nowhere": ({"a": "5"}, strict(a={"$ref": "#/$defs/b"})),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT)
def test_the_rest_stays_as_it_was(case: str) -> None:
    value, schema = LEFT[case]
    assert fit(value, schema) == value


def test_fitting_ends_in_time() -> None:
    steps = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
    schema = {"$defs": steps | {"d40": INTEGER}, **strict(a={"$ref": "#/$defs/d0"})}
    budget = Budget(0.5)
    assert fit({"a": "x", "b": 1}, schema, budget) == {"a": "x"}
    assert fit({"a": "7", "b": 1}, schema, budget) == {"a": 7}
    assert 0 < budget.left < 0.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["1", "true", "null", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=200)
@given(JSON, st.sampled_from([schema for _, schema, _ in FITTED.values()]))
def test_fitting_never_breaks_what_was_good_and_does_its_work_at_once(
    value: Any, schema: dict[str, Any]
) -> None:
    fitted = fit(value, schema)
    assert fit(fitted, schema) == fitted
    if fault(value, schema) is None:
        assert fitted == value
