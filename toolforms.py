"""The forms in which models write a call: JSON of many shapes, and XML parameters.

Knows nothing of streams; `toolfinder` finds where a call stands.
"""

import re
from typing import Any, NamedTuple

from structured import clean, compact, read_json
from toolcalls import Tool

NS = r"(?:[\w-]{1,24}:)?"  # a namespace, which some models put before their tags
_XML_ARGUMENTS = re.compile(rf"(?i)<({NS}(?:arguments|parameters|input|args))>")
_VALUE = r"\s*=\s*[\"']?([^\"'<>\s]{1,200})[\"']?[^<>]{0,200}"
_PARAMETER = re.compile(rf"(?i)<{NS}(?:parameter|param|arg)(?:\s+name)?{_VALUE}>")
_PARAMETER_END = re.compile(rf"(?i)</{NS}(?:parameter|param|arg)\s?>")
_NAME_KEYS = ("name", "tool", "tool_name", "function", "recipient_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "input", "args")
_CALL_KEYS = {*_NAME_KEYS, *_ARGUMENT_KEYS, "id", "type", "tool_calls", "tool_uses"}


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
    values = _parameters(body)
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


def _parameters(body: str) -> dict[str, str]:
    opened = list(_PARAMETER.finditer(body))
    starts = [found.start() for found in opened] + [len(body)]
    values: dict[str, str] = {}
    for found, end in zip(opened, starts[1:], strict=True):
        value = body[found.end() : end]
        if closed := list(_PARAMETER_END.finditer(value)):
            value = value[: closed[-1].start()]
        values[found[1]] = value.removeprefix("\n").removesuffix("\n")
    return values


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
