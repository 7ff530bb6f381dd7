"""What the schema of a tool says of its arguments, however odd it is.

A schema that is not strict is shown to the model as the caller wrote it, and never checked: so
nothing here relies on its form. Knows nothing of calls.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from chat_request import Tool
from jsontools.keywords import types_of
from jsontools.schema import resolve

_MOST_REFERENCES = 20  # rules that are looked at for the types of one value
_JSON_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def properties(tool: Tool | None) -> dict[str, Any]:
    """The arguments that are named, with their rules."""
    found = (tool.parameters or {}).get("properties") if tool else None
    return found if isinstance(found, dict) else {}


def required(tool: Tool | None) -> list[str]:
    """The names of the arguments that a call has to have."""
    found = _list_in(tool.parameters or {}, "required") if tool else []
    return [name for name in found if isinstance(name, str)]


def lone_text(tool: Tool | None) -> str:
    """The one argument that a tool needs, if it is text; empty where there is none such."""
    needed = required(tool)
    if tool is None or len(needed) != 1:
        return ""
    kinds = kinds_of(properties(tool).get(needed[0]), tool.parameters or {})
    return needed[0] if kinds == {"string"} else ""


def kinds_of(rule: Any, root: dict[str, Any]) -> set[str]:
    """The types that a rule of the schema `root` allows, through references and branches; empty
    where it does not say."""
    kinds: set[str] = set()
    for branch in _branches(rule, root):
        said = branch.get("type")
        kinds.update(kind for kind in types_of(said) if isinstance(kind, str))
        if said is None:
            members = [*_list_in(branch, "enum"), *([branch["const"]] if "const" in branch else ())]
            kinds.update(_JSON_KINDS.get(type(member), "object") for member in members)
    return kinds


def inner_rule(rule: Any, root: dict[str, Any], *path: str) -> Any:
    """What a rule says of its parts, through references and branches; None: nothing."""
    for branch in _branches(rule, root):
        inner: Any = branch
        for step in path:
            inner = inner.get(step) if isinstance(inner, dict) else None
        if inner is not None:
            return inner
    return None


def _branches(rule: Any, root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A rule and all that it refers to or is made of."""
    waiting, followed = [rule], 0
    while waiting and followed < _MOST_REFERENCES:
        rule = waiting.pop()
        if not isinstance(rule, dict):
            continue
        followed += 1
        yield rule
        for branch in ("anyOf", "oneOf", "allOf"):
            waiting += _list_in(rule, branch)
        with suppress(LookupError):
            waiting.append(resolve(rule.get("$ref"), root))


def _list_in(rule: dict[str, Any], keyword: str) -> list[Any]:
    found = rule.get(keyword)
    return found if isinstance(found, list) else []
