"""Schemas of tools as callers write them, which nobody checks unless they are strict."""

from typing import Any

import pytest

from bridge.tool_calls import find_calls
from bridge.tool_prompt import instructions
from bridge.tool_schemas import kinds_of, properties, required
from chat_request import Tool, ToolUse
from events import Done, Text, ToolCall

ODD: list[Any] = [5, "ab", True, {}, [{}], [["a"]], ["a", {}, 1, None], {"a": 1}]


def tool(**schema: Any) -> Tool:
    return Tool("f", parameters={"type": "object", **schema})


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize(
    "said",
    ['<invoke name="f"><parameter name="a">1</parameter></invoke>',
     '<invoke name="f"><parameter name="a">1</parameter>',
     '<invoke name="f" a="1"/>',
     '<tool_call>{"name": "f", "arguments": {"a": "1"}}</tool_call>'],
    ids=["closed", "not closed", "empty", "taught"],
)  # fmt: skip
def test_an_odd_list_of_required_arguments_harms_nobody(odd: Any, said: str) -> None:
    use = ToolUse((tool(properties={"a": {"type": "string"}}, required=odd),))
    assert '"name":"f"' in instructions(use)
    found = [one for one in find_calls(iter([Text(said), Done()]), use, last_try=True)]
    assert found[-1] in (Done("stop"), Done("tool_calls"))
    calls = [one for one in found if isinstance(one, ToolCall)]
    assert all(call.name == "f" for call in calls)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_properties_harm_nobody(odd: Any) -> None:
    use = ToolUse((tool(properties=odd, required=["a"]),))
    assert '"name":"f"' in instructions(use)
    said = '<tool_call>{"name": "f", "arguments": {"a": "1"}}</tool_call>'
    found = [one for one in find_calls(iter([Text(said), Done()]), use, last_try=True)]
    assert [one.arguments for one in found if isinstance(one, ToolCall)] == ['{"a":"1"}']


def test_what_is_named_and_required_is_told() -> None:
    usual = tool(properties={"a": {"type": "string"}, "b": {}}, required=["a"])
    assert list(properties(usual)) == ["a", "b"]
    assert required(usual) == ["a"]
    assert properties(Tool("f")) == properties(None) == {}
    assert required(Tool("f")) == required(None) == []


@pytest.mark.parametrize(
    ("rule", "kinds"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": ["integer", "null", 5]}, {"integer", "null"}),
        ({"enum": ["a", 1, True]}, {"string", "integer", "boolean"}),
        ({"enum": [], "const": 2.5}, {"number"}),
        ({"type": "string", "enum": [1]}, {"string"}),
        ({"anyOf": [{"type": "array"}, {"$ref": "#/$defs/a~1b"}]}, {"array", "boolean"}),
        ({"allOf": "x", "oneOf": [5, {"type": "null"}]}, {"null"}),
        ({"$ref": "#/$defs/circle"}, set()),
        ({"$ref": "#/nowhere"}, set()),
        ({"$ref": {}}, set()),
        ("string", set()),
    ],
)
def test_the_types_that_a_rule_allows_are_found(rule: Any, kinds: set[str]) -> None:
    circle = {"anyOf": [{"$ref": "#/$defs/circle"}, {"$ref": "#/$defs/circle"}]}
    root = {"$defs": {"a/b": {"type": "boolean"}, "circle": circle}}
    assert kinds_of(rule, root) == kinds
