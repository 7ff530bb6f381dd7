"""The tools that a caller offers and the choice among them, checked.

What is said to the model about them belongs to the bridge.
"""

from typing import Any, get_args

from chat_request import Choice, Tool, ToolUse
from formats.fields import (
    bad_value,
    check_schema,
    expect,
    missing,
    parse_name,
    require,
    wrong_type,
)

_FIELDS = {"description": str, "parameters": dict, "strict": bool, "format": dict}


def parse_tools(body: dict[str, Any]) -> ToolUse | None:
    """Read `tools` or the deprecated `functions`; null and `[]` are as good as absent."""
    legacy = body.get("tools") in (None, []) and body.get("functions") not in (None, [])
    field, chooser = ("functions", "function_call") if legacy else ("tools", "tool_choice")
    parse = parse_definition if legacy else parse_tool
    offered, parallel = body.get(field), body.get("parallel_tool_calls", True)
    offered = expect(field, [] if offered is None else offered, list, "an array of objects")
    expect("parallel_tool_calls", parallel, bool)
    tools = tuple(parse(item, f"{field}[{i}]") for i, item in enumerate(offered))
    choice, chosen = _parse_choice(body.get(chooser), tools, chooser)
    return ToolUse(chosen, choice, parallel and not legacy, legacy) if tools else None


def parse_tool(item: Any, param: str) -> Tool:
    """One of chat's tools, nested or flat. Raises InvalidRequest that begins with `param`."""
    kind = expect(param, item, dict).get("type") or "function"
    if kind not in ("function", "custom"):
        wanted = f"'{str(kind)[:64]}' is not built in here, only 'function' and 'custom' work"
        raise bad_value(f"{param}.type", wanted)
    if item.get(kind) is not None or "name" not in item:
        param = f"{param}.{kind}"
        item = require(param, item.get(kind), dict)
    return parse_definition(item, param, custom=kind == "custom")


def parse_definition(spec: Any, param: str, *, custom: bool = False) -> Tool:
    """What is said of a tool: its name, description and what it takes. Raises InvalidRequest."""
    name = parse_name(f"{param}.name", expect(param, spec, dict).get("name"))
    for key, kind in _FIELDS.items():
        if spec.get(key) is not None:
            expect(f"{param}.{key}", spec[key], kind)
    description, parameters = spec.get("description") or "", spec.get("parameters")
    if custom:
        return Tool(name, description, custom=True, format=spec.get("format"))
    if spec.get("strict") and parameters is not None:
        check_schema(parameters, f"{param}.parameters", f"the function '{name}'")
    return Tool(name, description, parameters, bool(spec.get("strict")))


def _parse_choice(
    wanted: Any, tools: tuple[Tool, ...], param: str
) -> tuple[Choice, tuple[Tool, ...]]:
    names = chosen = [tool.name for tool in tools]
    if isinstance(wanted, dict):
        wanted, chosen = _parse_named(wanted, param)
    choice: Choice = "auto" if wanted is None else wanted
    if choice not in get_args(Choice):
        expect(param, choice, str, "a string or an object")
        raise bad_value(param, "supported values are 'none', 'auto', 'required' or an object")
    if unknown := [name for name in chosen if name not in names]:
        raise bad_value(param, f"the tool '{unknown[0][:64]}' is not among those offered")
    if choice == "required" and not tools:
        raise bad_value(param, "it demands a tool, but the request offers none")
    return choice, tuple(tool for tool in tools if tool.name in chosen)


def _parse_named(wanted: dict[str, Any], param: str) -> tuple[Any, list[str]]:
    """The mode and the tool names of a choice that names its tools."""
    if wanted.get("type") != "allowed_tools":
        return "required", [_name_in(wanted, param)]
    spec = wanted.get("allowed_tools") or wanted
    allowed = spec.get("tools") if isinstance(spec, dict) else None
    if not isinstance(allowed, list) or not allowed:
        raise wrong_type(f"{param}.allowed_tools.tools", "an array of objects", allowed)
    return spec.get("mode"), [_name_in(item, param) for item in allowed]


def _name_in(item: Any, param: str) -> str:
    spec = item.get("function") or item.get("custom") or item if isinstance(item, dict) else None
    name = spec.get("name") if isinstance(spec, dict) else None
    if not isinstance(name, str):
        raise missing(f"{param}.function.name" if param == "tool_choice" else f"{param}.name")
    return name
