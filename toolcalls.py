"""The tool bridge: what a request says of tools, how a model is told of them, how it writes calls.

Knows nothing of HTTP, of streams or of Flowith. Flowith's models have no tool channel, so tools,
calls and results are text; `toolfinder` finds where in an answer a call stands.
"""

import html
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from errors import Unmet, bad_value, expect, missing, require, wrong_type
from events import ToolCall
from structured import check_schema, clean, compact, parse_name, read_json

Choice = Literal["auto", "none", "required"]

_FIELDS = {"description": str, "parameters": dict, "strict": bool, "format": dict}


NS = r"(?:[\w-]{1,24}:)?"  # a namespace, which some models put before their tags
_XML_ARGUMENTS = re.compile(rf"(?i)<({NS}(?:arguments|parameters|input|args))>")
_VALUE = r"\s*=\s*[\"']?([^\"'<>\s]{1,200})[\"']?[^<>]{0,200}"
_PARAMETER = re.compile(rf"(?i)<{NS}(?:parameter|param|arg)(?:\s+name)?{_VALUE}>")
_PARAMETER_END = re.compile(rf"(?i)</{NS}(?:parameter|param|arg)\s?>")
_NAME_KEYS = ("name", "tool", "tool_name", "function", "recipient_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "input", "args")
_CALL_KEYS = {*_NAME_KEYS, *_ARGUMENT_KEYS, "id", "type", "tool_calls", "tool_uses"}


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
    parse = _parse_definition if legacy else _parse_tool
    offered, parallel = body.get(field), body.get("parallel_tool_calls", True)
    offered = expect(field, [] if offered is None else offered, list, "an array of objects")
    expect("parallel_tool_calls", parallel, bool)
    tools = tuple(parse(item, f"{field}[{i}]") for i, item in enumerate(offered))
    choice, chosen = _parse_choice(body.get(chooser), tools, chooser)
    return ToolUse(chosen, choice, parallel and not legacy, legacy) if tools else None


def _parse_tool(item: Any, param: str) -> Tool:
    kind = expect(param, item, dict).get("type") or "function"
    if kind not in ("function", "custom"):
        wanted = f"'{str(kind)[:64]}' is not built in here, only 'function' and 'custom' work"
        raise bad_value(f"{param}.type", wanted)
    if item.get(kind) is not None or "name" not in item:
        param = f"{param}.{kind}"
        item = require(param, item.get(kind), dict)
    return _parse_definition(item, param, custom=kind == "custom")


def _parse_definition(spec: Any, param: str, *, custom: bool = False) -> Tool:
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
    kinds = [("custom" if tool.custom else "function", tool) for tool in use.tools]
    tools = [{"type": kind, kind: _definition(tool)} for kind, tool in kinds]
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


class Found(NamedTuple):
    """A call as it was written."""

    name: str
    arguments: Any
    repaired: bool = False
    xml: bool = False


def calls_in(value: Any, name: str, *, loose: bool, repaired: bool) -> list[Found]:
    """The calls in JSON of any shape that models give them; `loose` where a tag vouches for it."""
    if isinstance(value, list):
        items = [item for item in value if isinstance(item, dict)]
        return [c for i in items for c in calls_in(i, name, loose=loose, repaired=repaired)]
    if not isinstance(value, dict):
        return []
    if repaired and not name and value.keys() - _CALL_KEYS:
        return []  # A string with raw quotes has been torn apart: the rest cannot be trusted.
    for key in ("tool_calls", "tool_uses", "function"):
        if isinstance(value.get(key), list | dict):
            return calls_in(value[key], name, loose=loose, repaired=repaired)
    given = [value[key] for key in _ARGUMENT_KEYS if key in value]
    if name and not (given and "name" in value):
        return [Found(name, value, repaired)]
    name = next((value[k] for k in _NAME_KEYS if isinstance(value.get(k), str)), "")
    if not given and loose:
        given = [{k: v for k, v in value.items() if k not in (*_NAME_KEYS, "id", "type")}]
    return [Found(name, given[0], repaired)] if name and given else []


def free_text(arguments: Any) -> str:
    if isinstance(arguments, dict) and len(arguments) == 1:
        arguments = next(iter(arguments.values()))
    return clean(arguments) if isinstance(arguments, str) else compact(arguments)


def from_xml(body: str, tool: Tool) -> Any:
    """Arguments out of tags, typed by the schema; JSON text where the tags hold JSON."""
    rules = (tool.parameters or {}).get("properties")
    rules = rules if isinstance(rules, dict) else {}
    values: dict[str, str] = {}
    _, *parts = _PARAMETER.split(body)
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        closed = list(_PARAMETER_END.finditer(text))
        value = text[: closed[-1].start()] if closed else text
        values[name] = value.removeprefix("\n").removesuffix("\n")
    if not values:
        if inner := _XML_ARGUMENTS.search(body):
            end = body.rfind(f"</{inner[1]}")
            body = body[inner.end() : end if end > 0 else None]
        if tool.custom or body.lstrip().startswith("{"):
            return body.strip()
        for key in rules:
            _, opened, rest = body.partition(f"<{key}>")
            if opened:
                values[key] = rest.partition(f"</{key}>")[0].strip()
    return values if tool.custom else {k: _typed(v, rules.get(k)) for k, v in values.items()}


def _typed(value: str, rule: Any) -> Any:
    """A value out of XML as its schema has it; text unless the schema knows better."""
    rules = [rule]
    if isinstance(rule, dict) and isinstance(rule.get("anyOf"), list):
        rules += rule["anyOf"]
    types = [one.get("type") for one in rules if isinstance(one, dict)]
    kinds = {k for t in types for k in (t if isinstance(t, list) else [t]) if isinstance(k, str)}
    text = value.strip()
    if "string" in kinds or (not kinds and text[:1] not in ("{", "[")):
        return value
    try:
        return read_json(text.lower() if "boolean" in kinds else text, strict=False)
    except ValueError:
        return value
