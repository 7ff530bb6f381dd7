"""What the text of an argument in tags is, by the tool's schema.

Knows nothing of the tags around it.
"""

import re
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge.call_python import python_value
from bridge.call_tags import CDATA, CDATA_END
from bridge.tool_schemas import inner_rule, kinds_of
from jsontools.text import read_json

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# A number with zeros in front, which neither JSON nor Python takes.
_PADDED = re.compile(r"-?0\d{1,20}", re.ASCII)
_NO_VALUE = re.compile(r"<[!?]")
_MOST_TAGS = 10_000  # in one value; each takes up to 20 us
_LAYOUT = re.compile(r"\r?\n(?:(.*?)\r?\n)?[ \t]*", re.DOTALL)


def value_text(text: str, *, closed: bool = True) -> str:
    """The text of a value as it is meant. A line end behind the opening tag and one before the
    closing one are layout, but only together: else a file would lose its last one. Where the
    closing tag is missing (`closed`) they are layout anyway."""
    inner = text.strip()
    if inner.startswith(CDATA) and inner.endswith(CDATA_END):
        return in_one_piece(inner.removeprefix(CDATA).removesuffix(CDATA_END))
    if not closed:
        return text.removeprefix("\n").removesuffix("\n")
    pair = _LAYOUT.fullmatch(text)
    return (pair[1] or "") if pair else text


def in_one_piece(cdata: str) -> str:
    """The text of CDATA; where it holds an end of CDATA, it comes as two of them."""
    return cdata.replace(CDATA_END + CDATA, "")


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
    from xml.etree import ElementTree  # half a MB that few services ever need

    if _NO_VALUE.search(text):
        raise ValueError("what would be lost")
    if text.count("<") > _MOST_TAGS:
        raise ValueError("too many elements")
    try:
        whole = ElementTree.fromstring(f"<value>{text.replace('&', '&amp;')}</value>")
    except ElementTree.ParseError:
        raise ValueError("no elements") from None
    return _built(whole, rule, root)


def _built(element: "Element", rule: Any, root: dict[str, Any]) -> Any:
    parts = list(element)
    if element.attrib:
        raise ValueError("attributes")
    if not parts:
        return typed(value_text(element.text or ""), rule, root)
    if any((text or "").strip() for text in (element.text, *(part.tail for part in parts))):
        raise ValueError("text between elements")
    if "array" not in kinds_of(rule, root):
        return _object(parts, rule, root)
    item = inner_rule(rule, root, "items")
    if all(inner_rule(item, root, "properties", part.tag) is not None for part in parts):
        return [_object(parts, item, root)]
    if len({part.tag for part in parts}) > 1:
        raise ValueError("parts of several things")
    return [_built(part, item, root) for part in parts]


def _object(parts: list["Element"], rule: Any, root: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for part in parts:
        inner = inner_rule(rule, root, "properties", part.tag)
        found.setdefault(part.tag, []).append(_built(part, inner, root))
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}
