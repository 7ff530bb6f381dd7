"""The tools that a caller offers and the choice among them, checked.

What is said to the model about them belongs to the bridge.
"""

from collections.abc import Collection
from typing import Any

from chat_request import Choice, Tool, ToolUse
from formats.fields import (
    bad_value,
    check_schema,
    expect,
    missing,
    parse_name,
    require,
    too_many,
    wrong_type,
)
from jsontools.budget import Budget

MOST_TOOLS = 2048  # all of them are told to the model
_FIELDS = {
    "description": str, "parameters": dict, "input_schema": dict, "strict": bool, "format": dict,
}  # fmt: skip
_MODES: dict[str, Choice] = {
    "auto": "auto", "none": "none", "required": "required", "any": "required",
}  # fmt: skip


def parse_tools(body: dict[str, Any], budget: Budget) -> ToolUse | None:
    """Read `tools` or the deprecated `functions`; `[]` is as good as none. `budget` is the
    request's, for the schemas. Raises InvalidRequest."""
    legacy = body.get("tools", []) == [] and body.get("functions", []) != []
    field, chooser = ("functions", "function_call") if legacy else ("tools", "tool_choice")
    parse = parse_definition if legacy else parse_tool
    offered = expect(field, body.get(field, []), list, "an array of objects")
    parallel = expect("parallel_tool_calls", body.get("parallel_tool_calls", True), bool)
    check_count(field, len(offered))
    tools = tuple(parse(item, f"{field}[{i}]", budget) for i, item in enumerate(offered))
    named_in = "name" if legacy else "function.name"
    choice, chosen = parse_choice(body.get(chooser), [t.name for t in tools], chooser, named_in)
    use = tuple(tool for tool in tools if tool.name in chosen)
    return ToolUse(use, choice, parallel and not legacy, legacy) if tools else None


def check_count(param: str, count: int) -> None:
    """Refuse more tools than a model can be told of. Raises InvalidRequest."""
    if count > MOST_TOOLS:
        raise too_many(param, count, MOST_TOOLS)


def parse_tool(item: Any, param: str, budget: Budget) -> Tool:
    """One of chat's tools, nested or flat, or in Anthropic's form with its `input_schema`. Raises
    InvalidRequest that begins with `param`."""
    kind = expect(param, item, dict).get("type") or "function"
    if kind == "custom" and item.get("input_schema") is not None:
        kind = "function"  # Anthropic's word for a tool of the caller's own
    if kind not in ("function", "custom"):
        wanted = f"'{str(kind)[:64]}' is not built in here, only 'function' and 'custom' work"
        raise bad_value(f"{param}.type", wanted)
    if item.get(kind) is not None or "name" not in item:
        param = f"{param}.{kind}"
        item = require(param, item.get(kind), dict)
    return parse_definition(item, param, budget, custom=kind == "custom")


def parse_definition(
    spec: Any, param: str, budget: Budget, *, custom: bool = False, longest: int = 64
) -> Tool:
    """What is said of a tool: its name, of at most `longest` characters, its description and what
    it takes. Raises InvalidRequest."""
    name = parse_name(f"{param}.name", expect(param, spec, dict).get("name"), longest)
    for key, kind in _FIELDS.items():
        if spec.get(key) is not None:
            expect(f"{param}.{key}", spec[key], kind)
    description = spec.get("description") or ""
    if custom:
        return Tool(name, description, custom=True, format=spec.get("format"))
    field = "parameters" if spec.get("parameters") is not None else "input_schema"
    parameters = spec.get(field)
    if spec.get("strict") and parameters is not None:
        check_schema(parameters, f"{param}.{field}", f"the function '{name}'", budget)
    return Tool(name, description, parameters, bool(spec.get("strict")))


def parse_choice(
    wanted: Any, offered: Collection[str], param: str, named_in: str
) -> tuple[Choice, set[str]]:
    """What is demanded, and the names of the tools that it is demanded of, all that are `offered`
    unless it names some. `named_in` is where in an object a tool has its name. Raises
    InvalidRequest.
    """
    chosen = set(offered)
    if isinstance(wanted, dict):
        mode = wanted.get("type")
        if isinstance(mode, str) and mode in _MODES:
            wanted = mode  # an object only because it is one in other APIs
        else:
            wanted, chosen = _parse_named(wanted, param, named_in)
    wanted = "auto" if wanted is None else expect(param, wanted, str, "a string or an object")
    if wanted not in _MODES:
        raise bad_value(param, "supported values are 'none', 'auto', 'required' or an object")
    for name in sorted(chosen.difference(offered)):
        raise bad_value(param, f"the tool '{name[:64]}' is not among those offered")
    if _MODES[wanted] == "required" and not offered:
        raise bad_value(param, "it demands a tool, but none is offered that works here")
    return _MODES[wanted], chosen


def _parse_named(wanted: dict[str, Any], param: str, named_in: str) -> tuple[Any, set[str]]:
    """The mode and the tool names of a choice that names its tools."""
    if wanted.get("type") != "allowed_tools":
        return "required", {_name_in(wanted, f"{param}.{named_in}")}
    place = f"{param}.tools" if named_in == "name" else f"{param}.allowed_tools.tools"
    spec = allowed_of(wanted)
    allowed = spec.get("tools")
    if not isinstance(allowed, list) or not allowed:
        raise wrong_type(place, "an array of objects", allowed)
    names = {_name_in(item, f"{place}[{i}].{named_in}") for i, item in enumerate(allowed)}
    return spec.get("mode"), names


def allowed_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """The mode and the tools of a choice among some tools: nested under its type, or flat."""
    spec = wanted.get("allowed_tools") or wanted
    return spec if isinstance(spec, dict) else {}


def _name_in(item: Any, place: str) -> str:
    name = _spec_of(item).get("name")
    if not isinstance(name, str):
        raise missing(place)
    return name


def _spec_of(item: Any) -> dict[str, Any]:
    """What is said of a tool: nested under its type, or flat."""
    spec = item.get("function") or item.get("custom") or item if isinstance(item, dict) else None
    return spec if isinstance(spec, dict) else {}
