"""The tool bridge: what a request says of tools, and how a model is told of them.

Knows nothing of HTTP or of Flowith. Flowith's models have no tool channel, so tools, calls and
results are text; `toolfinder` finds the calls in what comes back.
"""

import html
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from errors import JSON_TYPES, Unmet, bad_value, missing, wrong_type
from events import ToolCall
from structured import NAME, NAME_RULE, check_schema, compact, read_json

Choice = Literal["auto", "none", "required"]

_FIELDS = {"name": str, "description": str, "parameters": dict, "strict": bool, "format": dict}


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool on offer; a `custom` one takes free text instead of JSON arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool = False
    custom: bool = False
    format: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a request and what is asked of them.

    A named tool is `required` with that tool alone; `allowed_tools` leaves only those.
    """

    tools: tuple[Tool, ...]
    choice: Choice = "auto"
    parallel: bool = True
    legacy: bool = False


def parse_tools(body: dict[str, Any]) -> ToolUse | None:
    """Read `tools` or the deprecated `functions`; null and `[]` are as good as absent."""
    legacy = body.get("tools") in (None, []) and body.get("functions") not in (None, [])
    field, chooser = ("functions", "function_call") if legacy else ("tools", "tool_choice")
    offered, parallel = body.get(field), body.get("parallel_tool_calls")
    if not isinstance(offered, list | None):
        raise wrong_type(field, "an array of objects", offered)
    if not isinstance(parallel, bool | None):
        raise wrong_type("parallel_tool_calls", "a boolean", parallel)
    parse = _parse_definition if legacy else _parse_tool
    tools = tuple(parse(item, f"{field}[{i}]") for i, item in enumerate(offered or []))
    choice, chosen = _parse_choice(body.get(chooser), tools, chooser)
    if not tools:
        return None
    return ToolUse(chosen, choice, parallel is not False and not legacy, legacy)


def _parse_tool(item: Any, param: str) -> Tool:
    if not isinstance(item, dict):
        raise wrong_type(param, "an object", item)
    kind = item.get("type") or "function"
    if kind not in ("function", "custom"):
        wanted = f"'{str(kind)[:64]}' is not built in here, only 'function' and 'custom' work"
        raise bad_value(f"{param}.type", wanted)
    if item.get(kind) is None and "name" in item:
        return _parse_definition(item, param)
    if item.get(kind) is None:
        raise missing(f"{param}.{kind}")
    return _parse_definition(item[kind], f"{param}.{kind}", custom=kind == "custom")


def _parse_definition(spec: Any, param: str, *, custom: bool = False) -> Tool:
    if not isinstance(spec, dict):
        raise wrong_type(param, "an object", spec)
    custom = custom or spec.get("type") == "custom"
    name = spec.get("name")
    if name is None:
        raise missing(f"{param}.name")
    for key, kind in _FIELDS.items():
        if not isinstance(spec.get(key), kind | None):
            raise wrong_type(f"{param}.{key}", JSON_TYPES[kind], spec[key])
    if not NAME.fullmatch(name):
        raise bad_value(f"{param}.name", NAME_RULE)
    description, parameters = spec.get("description") or "", spec.get("parameters")
    if custom:
        return Tool(name, description, custom=True, format=spec.get("format"))
    if spec.get("strict") and parameters is not None:
        check_schema(parameters, f"{param}.parameters", f"the function '{name}'")
    return Tool(name, description, parameters, bool(spec.get("strict")))


def _parse_choice(
    wanted: Any, tools: tuple[Tool, ...], param: str
) -> tuple[Choice, tuple[Tool, ...]]:
    names = [tool.name for tool in tools]
    chosen = names
    if isinstance(wanted, dict):
        wanted, chosen = _parse_named(wanted, param)
    match wanted:
        case None:
            wanted = "auto"
        case "none" | "auto" | "required":
            pass
        case str():
            raise bad_value(param, "supported values are 'none', 'auto', 'required' or an object")
        case _:
            raise wrong_type(param, "a string or an object", wanted)
    if unknown := [name for name in chosen if name not in names]:
        raise bad_value(param, f"the tool '{unknown[0][:64]}' is not among those offered")
    if wanted == "required" and not tools:
        raise bad_value(param, "it demands a tool, but the request offers none")
    return wanted, tuple(tool for tool in tools if tool.name in chosen)


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


def instructions(use: ToolUse) -> str:
    """The system text that offers the tools; empty when there is nothing to offer."""
    if use.choice == "none" or not use.tools:
        return ""
    rules = [_HOW_TO_CALL]
    if any(tool.custom for tool in use.tools):
        rules.append(_CUSTOM)
    if any(tool.strict for tool in use.tools):
        rules.append(_STRICT)
    rules.append(_PARALLEL if use.parallel else _SINGLE)
    only = f"the tool {use.tools[0].name}" if len(use.tools) == 1 else "at least one of the tools"
    rules.append(f"- This answer must call {only}." if use.choice == "required" else _AUTO)
    offered = [({"type": "custom"} if t.custom else {}) | _definition(t) for t in use.tools]
    return "\n".join([*rules, "", "The tools:", *map(compact, offered)])


_HOW_TO_CALL = """# Tools

You can call the tools listed below. They are real: the program that reads your answer runs them \
and tells you what they returned. To call a tool, write a block of exactly this form:

<tool_call>
{"name": "the tool's name", "arguments": {"parameter": "value"}}
</tool_call>

- Between the tags stands one valid JSON object and nothing else: no Markdown fence, no comments, \
quotes and line breaks inside strings escaped.
- "arguments" is an object that fits the tool's "parameters" schema; {} if it takes none.
- Results come back in the next message as <tool_result id="..." name="..."> blocks. Never write \
such a block yourself and never guess a result: end your answer after the last call."""
_CUSTOM = """- A tool of type "custom" takes plain text in place of arguments: \
{"name": "the tool's name", "input": "the text"}"""
_STRICT = """- For a tool with "strict": true the arguments must match the schema exactly: every \
required key, no other keys, the right types."""
_SINGLE = "- Write at most one block in an answer."
_PARALLEL = "- For several calls write one block after the other."
_AUTO = "- Call a tool only when it helps; otherwise answer in ordinary text, without any block."


def _definition(tool: Tool) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.custom:
        return spec | ({"format": tool.format} if tool.format else {})
    spec["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    return spec | ({"strict": True} if tool.strict else {})


def native(use: ToolUse) -> dict[str, Any]:
    """The tools as parameters, for the models that take them so."""
    if use.choice == "none":
        return {}
    kinds = ["custom" if tool.custom else "function" for tool in use.tools]
    specs = [_definition(tool) for tool in use.tools]
    tools = [{"type": kind, kind: spec} for kind, spec in zip(kinds, specs, strict=True)]
    return {"tools": tools, "tool_choice": use.choice, "parallel_tool_calls": use.parallel}


def call_to_text(call: ToolCall) -> str:
    """An earlier call, as the model is asked to write calls, with its id for the result."""
    told: dict[str, Any] = {"id": call.id, "name": call.name}
    told["input" if call.custom else "arguments"] = call.arguments
    if not call.custom:
        with suppress(ValueError):
            told["arguments"] = read_json(call.arguments or "{}")
    # In JSON `<\/` is the same string as `</`, and it closes no tag.
    body = compact(told).replace("</", "<\\/")
    return f"<tool_call>\n{body}\n</tool_call>"


def result_to_text(call_id: str, name: str, content: str) -> str:
    """What a tool returned; a page or file it read cannot end the block or open another."""
    attributes = f'id="{html.escape(call_id)}" name="{html.escape(name)}"'
    content = re.sub(r"<(?=\s*/?\s*tool_(?:result|call))", r"<\\", content, flags=re.I)
    return f"<tool_result {attributes}>\n{content}\n</tool_result>"


def correction(unmet: Unmet) -> str:
    """The user message of the one retry, to follow what the model had said."""
    return (
        f"That answer could not be used: {unmet.message} Write the whole answer again, in the "
        "form that the instructions ask for, and do not mention this correction."
    )
