"""Schemas a caller may send: told good from bad, and never more work than they are worth."""

import sys
from time import thread_time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import InvalidRequest
from formats.fields import check_schema
from jsontools.budget import Budget, Spent
from jsontools.schema import fault, schema_fault
from jsontools.text import compact, read_json, repair

SLOW = "(a+)+$"
DRAFT = "http://json-schema.org/draft-07/schema#"


def doubling(kind: str, end: dict[str, Any]) -> dict[str, Any]:
    """A schema of 3 KB whose references double at each of forty steps."""
    steps = {f"d{i}": {kind: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
    return {"$ref": "#/$defs/d0", "$defs": steps | {"d40": end}}


HOSTILE: dict[str, tuple[dict[str, Any], bool]] = {
    "pattern": ({"properties": {"a": {"pattern": SLOW}}}, True),
    "pattern properties": ({"patternProperties": {SLOW: {}}, "additionalProperties": False}, True),
    "another draft": (
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"$schema": DRAFT, "propertyNames": {"pattern": SLOW}}},
        },
        True,
    ),
    "endless": ({"$ref": "#"}, True),
    "doubling": (doubling("allOf", {}), True),
    "doubling, wrong": (doubling("allOf", {"type": "string"}), False),
    "doubling branches": (doubling("anyOf", {"type": "string"}), False),
    "nowhere": ({"$ref": "#/$defs/a"}, True),
    "remote": ({"$ref": "http://127.0.0.1:9/"}, True),
    "nonsense": ({"type": "any", "properties": 3}, True),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_schema_neither_hangs_nor_calls_out(case: str) -> None:
    schema, fits = HOSTILE[case]
    budget = Budget(0.5)
    told = fault({"a": "a" * 50 + "!", "a" * 50 + "!": 1}, schema, budget)
    assert (told is None) == fits
    assert len(told or "") <= 400
    assert budget.left > 0


def test_properties_may_bear_the_names_of_rules() -> None:
    schema = {"properties": {"pattern": {"type": "string"}, "$schema": {"const": {"pattern": "x"}}}}
    assert fault({"pattern": 1}, schema) == 'properties/pattern/type is "string"'
    assert fault({"$schema": {}}, schema)
    assert fault({"$schema": {"pattern": "x"}}, schema) is None


def test_patterns_need_not_be_pythons() -> None:
    check_schema({"pattern": r"^(?<year>\d+)\p{L}$"}, "p", "it", Budget())


def test_a_deep_schema_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"not": deep}
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        check_schema(deep, "p", "it", Budget())


def test_all_schemas_of_a_request_share_one_budget() -> None:
    wide: dict[str, Any] = {"anyOf": [{"properties": {"a": {}}}] * 40_000}
    budget = Budget(0.01)
    with pytest.raises(InvalidRequest, match="needs too much work") as refused:
        check_schema(wide, "tools[0].function.parameters", "it", budget)
    assert refused.value.param == "tools[0].function.parameters"
    with pytest.raises(InvalidRequest, match="needs too much work"):
        check_schema({"type": "object"}, "p", "it", budget)


REFUSED: dict[str, dict[str, Any]] = {
    "$.type": {"type": "text"},
    "$.properties.a": {"properties": {"a": 5}},
    "$.items[0].enum": {"items": [{"enum": "x"}]},
    "$.required": {"required": 1},
    "$.required: expected": {"required": ["a", 1]},
    "$.dependentRequired": {"dependentRequired": ["a"]},
    "$.multipleOf": {"multipleOf": "2"},
    "$.contains.type": {"contains": {"type": "text"}},
    "$.definitions.a": {"definitions": {"a": 5}},
    "$.anyOf": {"anyOf": []},
    "$.anyOf[1].minLength": {"anyOf": [True, {"minLength": -1}]},
    "$.properties.a: $ref '#/$defs/b' leads nowhere": {
        "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"a": {}},
    },
    "$: $ref '#/anyOf/x' leads nowhere": {"$ref": "#/anyOf/x", "anyOf": [{}]},
    "$: a $ref must begin with '#'": {"$ref": "https://example.org/s.json"},
    "$: a $ref must be '#' or begin with '#/'": {"$ref": "#name"},
    "#/x.minProperties": {"$ref": "#/x", "x": {"minProperties": "1"}},
    "#/x: $ref '#/y' leads nowhere": {"$ref": "#/x", "x": {"$ref": "#/y"}},
}  # fmt: skip


@pytest.mark.parametrize("begin", REFUSED)
def test_what_is_no_schema_is_told_with_its_place(begin: str) -> None:
    assert schema_fault(REFUSED[begin]).startswith(begin)


ODD: dict[str, dict[str, Any]] = {
    "draft 7 items": {"items": [{"type": "string"}], "additionalItems": False},
    "draft 4 limit": {"minimum": 1, "exclusiveMinimum": True},
    "escaped names": {"$defs": {"a/b~c": {}, "ü": {}}, "$ref": "#/$defs/a~1b~0c"},
    "percent": {"$defs": {"ü x": {}}, "$ref": "#/$defs/%C3%BC%20x"},
    "through a list": {"anyOf": [{"type": "null"}, {}], "not": {"$ref": "#/anyOf/0"}},
    "unknown words": {"x-kind": 5, "format": "date", "nullable": True, "deprecated": False},
    "a recursive one": {"properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
}


@pytest.mark.parametrize("case", ODD)
def test_what_clients_send_is_taken(case: str) -> None:
    assert schema_fault(ODD[case]) == ""


ALIKE: list[tuple[Any, Any, bool]] = [
    (1, 1.0, True), (True, 1, False), (0, False, False), ("1", 1, False), (None, False, False),
    ([1], [1], True), ([1], [True], False), ({"a": [0]}, {"a": [False]}, False), ({}, [], False),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), ([1, {"a": 2.0}], [1.0, {"a": 2}], True),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "same"), ALIKE)
def test_values_are_compared_as_json(one: Any, other: Any, same: bool) -> None:
    for value, wanted in ((one, other), (other, one)):
        assert (fault(value, {"const": wanted}) is None) == same
        assert (fault(value, {"enum": ["x", wanted]}) is None) == same
        assert (fault([value, wanted], {"uniqueItems": True}) is None) != same


# A rule, a value that just meets it and one that just does not.
EDGES: dict[str, tuple[Any, Any, Any]] = {
    "minimum": (2, 2, 1), "maximum": (2, 2, 3), "exclusiveMinimum": (2, 3, 2),
    "exclusiveMaximum": (2, 1, 2), "multipleOf": (2, 4, 3), "minLength": (2, "ab", "a"),
    "maxLength": (2, "ab", "abc"), "minItems": (1, [0], []), "maxItems": (1, [0], [0, 1]),
    "minProperties": (1, {"a": 0}, {}), "maxProperties": (1, {"a": 0}, {"a": 0, "b": 0}),
    "required": (["a"], {"a": 0}, {"b": 0}),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_each_keyword_has_its_edge(name: str) -> None:
    rule, fits, breaks = EDGES[name]
    assert fault(fits, {name: rule}) is None
    assert fault(breaks, {name: rule}) == f"{name} is {compact(rule)}"
    assert fault(None, {name: rule}) is None


@pytest.mark.parametrize("flag", [True, False])
def test_a_flag_of_draft_4_is_no_limit_of_its_own(flag: bool) -> None:
    rules = {"minimum": -5, "exclusiveMinimum": flag, "maximum": 100, "exclusiveMaximum": flag}
    assert [fault(value, rules) for value in (-2, 0, 1, 50)] == [None] * 4
    assert fault(-6, rules) == "minimum is -5"


def test_a_number_too_large_for_a_float_is_no_multiple_of_one() -> None:
    assert fault(10**400, {"multipleOf": 0.5}) == "multipleOf is 0.5"
    assert fault(10**400, {"multipleOf": 5}) is None


def test_a_key_may_depend_on_another() -> None:
    schema = {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"c": {"required": ["d"]}}}
    assert fault({"a": 1}, schema) == 'dependentRequired/a is ["b"]'
    assert fault({"c": 1}, schema) == 'dependentSchemas/c/required is ["d"]'
    assert fault({"a": 1, "b": 1, "c": 1, "d": 1}, schema) is None
    assert fault({"b": 1}, schema) is None


def test_null_fits_what_openapi_calls_nullable() -> None:
    schema = {"properties": {"a": {"type": "string", "enum": ["x"], "nullable": True}}}
    assert fault({"a": None}, schema) is None
    assert fault({"a": "y"}, schema) == 'properties/a/enum is ["x"]'


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "bb", 0.5, 1.0]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=5,
)
TYPE_NAMES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
COUNTS = st.integers(0, 2)
KEYS = st.lists(st.sampled_from("abc"), unique=True, max_size=2)


def keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some, named = (
        st.lists(inner, min_size=1, max_size=2),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    )
    one: dict[str, st.SearchStrategy[Any]] = {
        "type": TYPE_NAMES | st.lists(TYPE_NAMES, min_size=1, max_size=2, unique=True),
        "enum": st.lists(VALUES, max_size=3), "const": VALUES,
        "minimum": COUNTS, "maximum": COUNTS, "exclusiveMinimum": COUNTS,
        "exclusiveMaximum": COUNTS, "multipleOf": st.sampled_from([1, 2, 0.5]),
        "minLength": COUNTS, "maxLength": COUNTS, "minItems": COUNTS, "maxItems": COUNTS,
        "uniqueItems": st.booleans(), "minProperties": COUNTS, "maxProperties": COUNTS,
        "required": KEYS, "dependentRequired": st.dictionaries(st.sampled_from("abc"), KEYS),
        "properties": named, "dependentSchemas": named, "additionalProperties": inner,
        "propertyNames": inner, "items": inner, "prefixItems": some, "contains": inner,
        "minContains": COUNTS, "maxContains": COUNTS, "allOf": some, "anyOf": some,
        "oneOf": some, "not": inner, "if": inner, "then": inner, "else": inner,
        "$ref": st.sampled_from(["#/$defs/a", "#/$defs/b"]),
    }  # fmt: skip
    return st.lists(st.sampled_from(sorted(one)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: one[name] for name in names})
    )


SCHEMAS = st.recursive(st.booleans() | keywords(st.booleans()), keywords, max_leaves=4)


def verdict_of_the_package(schema: dict[str, Any], value: Any) -> bool | None:
    """Whether the value fits; None if a rule refers to itself in place, which has no verdict.

    The package's maps are written in Rust, and panic where the end of the stack meets them
    (7 of 120 such schemas); PyO3's exception for that has no name that could be imported.
    """
    try:
        return jsonschema.Draft202012Validator(schema).is_valid(value)
    except RecursionError:
        return None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return None


def test_a_rule_that_refers_to_itself_in_place_has_no_verdict() -> None:
    steps = {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}
    schema = {"$ref": "#/$defs/a", "$defs": steps}

    def at_depth(frames: int) -> bool | None:
        return at_depth(frames - 1) if frames else verdict_of_the_package(schema, 1)

    assert [at_depth(frames) for frames in range(20)] == [None] * 20


@settings(max_examples=300)
@given(SCHEMAS, SCHEMAS, SCHEMAS, VALUES)
def test_the_verdict_is_that_of_the_jsonschema_package(
    rules: Any, first: Any, second: Any, value: Any
) -> None:
    schema = {"allOf": [rules], "$defs": {"a": first, "b": second}}
    assert schema_fault(schema) == ""
    theirs = verdict_of_the_package(schema, value)
    if theirs is not None:
        assert (fault(value, schema) is None) == theirs


@pytest.mark.parametrize("text", ["[" + '\\"{](“' * 2000, "{" + "]{ '" * 2000, "{" * 100_000])
def test_hopeless_json_is_given_up_in_time(text: str) -> None:
    budget = Budget(0.2)
    with pytest.raises(ValueError, match=r"nested too deeply|needs too much work"):
        repair(text, budget)
    assert budget.left > -2
    assert sys.getprofile() is None


def test_json_too_deep_to_be_read_or_written_is_told() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="nested too deeply"):
        compact(value)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json("[" * 100_000 + "]" * 100_000)


def test_huge_json_is_not_repaired() -> None:
    with pytest.raises(ValueError, match="too large to be repaired"):
        repair('{"a": "' + "b" * 300_000)


def test_json_can_always_be_encoded() -> None:
    assert compact(["\ud83d", "é"]).encode().decode() == '["\ufffd","é"]'
    for value in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match="JSON"):
            compact(value)


def test_a_budget_that_is_spent_stays_spent() -> None:
    budget = Budget(0.005)

    def work() -> None:
        until = thread_time() + 1
        while thread_time() < until:
            budget.step()

    for _ in range(2):
        with pytest.raises(Spent), budget.running():
            work()
