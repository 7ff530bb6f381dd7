"""What the text of an argument in tags is, by the tool's schema.

Knows nothing of the tags around it.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any
from xml.etree import ElementTree

from bridge.call_python import python_value
from jsontools.text import read_json

_MOST_REFERENCES = 20
# A number with zeros in front, which neither JSON nor Python takes.
_PADDED = re.compile(r"-?0\d{1,20}", re.ASCII)
_NO_VALUE = re.compile(r"<[!?]")
_LAYOUT = re.compile(r"\r?\n(?:(.*?)\r?\n)?[ \t]*", re.DOTALL)


def value_text(text: str, *, closed: bool = True) -> str:
    """The text of a value as it is meant. A line end behind the opening tag and one before the
    closing one are layout, but only together: else a file would lose its last one. Where the
    closing tag is missing (`closed`) they are layout anyway."""
    inner = text.strip()
    if inner.startswith("<![CDATA[") and inner.endswith("]]>"):
        return in_one_piece(inner[9:-3])
    if not closed:
        return text.removeprefix("\n").removesuffix("\n")
    pair = _LAYOUT.fullmatch(text)
    return (pair[1] or "") if pair else text


def in_one_piece(cdata: str) -> str:
    """The text of CDATA; where it holds an end of CDATA, it comes as two of them."""
    return cdata.replace("]]><![CDATA[", "")


def typed(text: str, rule: Any, root: dict[str, Any], *, literal: bool = False) -> Any:
    """A value out of tags as its schema has it; text where the schema knows no better."""
    kinds = set() if literal else kinds_of(rule, root)
    bare = text.strip()
    if "string" in kinds or (not kinds and not literal and bare[:1] not in ("{", "[")):
        return text
    if bare.startswith("<") and kinds & {"array", "object"}:
        with suppress(ValueError):
            return _from_elements(bare, rule, root)
    if _PADDED.fullmatch(bare) and kinds & {"integer", "number"}:
        return int(bare)
    for read in (partial(read_json, strict=False), python_value):
        with suppress(ValueError):
            return read(bare)
    return text


def _from_elements(text: str, rule: Any, root: dict[str, Any]) -> Any:
    """An object or a list whose parts came in tags of their own; ValueError where more or other
    things stand in it than those parts."""
    if _NO_VALUE.search(text):
        raise ValueError("what would be lost")
    try:
        whole = ElementTree.fromstring(f"<value>{text.replace('&', '&amp;')}</value>")
    except ElementTree.ParseError:
        raise ValueError("no elements") from None
    return _built(whole, rule, root)


def _built(element: ElementTree.Element, rule: Any, root: dict[str, Any]) -> Any:
    parts = list(element)
    if element.attrib:
        raise ValueError("attributes")
    if not parts:
        return typed(value_text(element.text or ""), rule, root)
    if any((text or "").strip() for text in (element.text, *(part.tail for part in parts))):
        raise ValueError("text between elements")
    if "array" not in kinds_of(rule, root):
        return _object(parts, rule, root)
    item = _inner_rule(rule, root, "items")
    if all(_inner_rule(item, root, "properties", part.tag) is not None for part in parts):
        return [_object(parts, item, root)]
    if len({part.tag for part in parts}) > 1:
        raise ValueError("parts of several things")
    return [_built(part, item, root) for part in parts]


def _object(parts: list[ElementTree.Element], rule: Any, root: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for part in parts:
        inner = _inner_rule(rule, root, "properties", part.tag)
        found.setdefault(part.tag, []).append(_built(part, inner, root))
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


def _inner_rule(rule: Any, root: dict[str, Any], *path: str) -> Any:
    """What a rule says of its parts, through references and branches; None: nothing."""
    for branch in _branches(rule, root):
        inner: Any = branch
        for step in path:
            inner = inner.get(step) if isinstance(inner, dict) else None
        if inner is not None:
            return inner
    return None


_JSON_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def kinds_of(rule: Any, root: dict[str, Any]) -> set[str]:
    """The types a rule allows, through references and branches; empty: it does not say."""
    kinds: set[str] = set()
    for branch in _branches(rule, root):
        said = branch.get("type")
        kinds |= {k for k in (said if isinstance(said, list) else [said]) if isinstance(k, str)}
        options = branch.get("enum") if isinstance(branch.get("enum"), list) else []
        if said is None and (options or "const" in branch):
            members = [*(options or ()), *([branch["const"]] if "const" in branch else [])]
            kinds |= {_JSON_KINDS.get(type(member), "object") for member in members}
    return kinds


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
            waiting += rule[branch] if isinstance(rule.get(branch), list) else []
        waiting.append(_referred(rule.get("$ref"), root))


def _referred(ref: Any, root: dict[str, Any]) -> Any:
    """What a `$ref` within the schema names; None where it leads nowhere."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    found: Any = root
    for step in filter(None, ref[1:].split("/")):
        step = step.replace("~1", "/").replace("~0", "~")
        found = found.get(step) if isinstance(found, dict) else None
    return found
