"""Arguments that came as text, in tags or in their attributes, as the tool's schema has them.

Knows nothing of JSON calls or of streams.
"""

import html
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge.call_python import python_value
from bridge.call_tags import ARGUMENT_WORDS, CDATA, CDATA_END, FILLER, ROLES, Role, plain
from bridge.call_xml import Value, XmlBody
from bridge.tool_schemas import inner_rule, kinds_of, properties
from chat_request import Tool
from jsontools.text import read_json

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_VALUE_ENDS = (Role.PARAMETER, Role.ARGUMENTS)
# A plain value has no comment and none of the marks that would make it something else.
_PAIR = re.compile(r"([\w-]{1,64}):[ \t]+([\w./~$+-](?:(?!\s#|:\s).)*|[\[{\"].*)")
_STRAY_ENDS = re.compile(r"\s*</[\w:.|｜-]{1,60}>\s*\Z")  # of an argument that never began
_NO_VALUE = re.compile(r"<[!?]")
_FILLER = re.compile(rf"{re.escape(FILLER)}\s*")
_MOST_TAGS = 10_000  # in one value; each takes up to 20 us
_LAYOUT = re.compile(r"\r?\n(?:(.*?)\r?\n)?[ \t]*", re.DOTALL)


def from_body(body: XmlBody, text: str, tool: Tool, given: dict[str, str]) -> Any:
    """What a body in tags holds, and what of it was `given` as attributes of the tag around it."""
    inner = _STRAY_ENDS.sub("", text[: body.inner]) if not tool.custom else text[: body.inner]
    if tool.custom and not body.values:
        return _value_text(inner)
    if inner.strip() and not body.values:
        return _from_lines(inner, tool)
    rules = properties(tool)
    named = {key: given[key] for key in given if key in rules or key in ARGUMENT_WORDS}
    return from_attributes(named, tool) | _from_tags(body.values, text, tool)


def _from_lines(text: str, tool: Tool) -> dict[str, Any]:
    """Arguments as YAML has them, each in a line of its own; ValueError for all that is more."""
    rules, root = properties(tool), tool.parameters or {}
    found: dict[str, Any] = {}
    for line in text.strip().splitlines():
        pair = _PAIR.fullmatch(line.strip())
        if not pair or pair[1] in found or pair[1] not in rules:
            raise ValueError("no arguments in it")
        key, value = pair.groups()
        found[key] = read_json(value) if value[0] in '"[{' else _typed(value, rules[key], root)
    return found


def from_attributes(given: dict[str, str], tool: Tool) -> dict[str, Any]:
    """Arguments among the attributes of a tag: one by one, or as JSON in one of them."""
    rules, root = properties(tool), tool.parameters or {}
    if len(given) == 1:
        (key, value), *_ = given.items()
        if key in ARGUMENT_WORDS and key not in rules:
            return _object_in(value)
    return {key: _typed(value, rules.get(key), root) for key, value in given.items()}


def _object_in(attribute: str) -> dict[str, Any]:
    """The object whose JSON an attribute is, with or without the entities that its quotes need."""
    try:
        value = read_json(attribute, strict=False)
    except ValueError:
        value = read_json(html.unescape(attribute), strict=False)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _from_tags(values: list[Value], body: str, tool: Tool) -> dict[str, Any]:
    """Arguments in tags, typed by the tool's schema; ValueError where they have no names."""
    rules, root = properties(tool), tool.parameters or {}
    found: dict[str, Any] = {}
    for name, text, sort in _texts(values, body, rules):
        if not (name or tool.custom):
            raise ValueError("a value without a name")
        rule = rules.get(name)
        as_text = tool.custom or (sort == "true" and not kinds_of(rule, root))
        value = text if as_text else _typed(text, rule, root, literal=sort == "false")
        if name in found and "array" in kinds_of(rule, root):  # an item in each tag
            value = [*_listed(found[name]), *_listed(value)]
        found[name] = value
    if not found and any(body[value.start : value.end].strip() for value in values):
        raise ValueError("no values for the names, or no names for the values")
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _texts(
    values: list[Value], body: str, rules: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    """Name, text and what the tag itself says of the type (`string="false"`). The name is empty
    where none is given and the tag's word, by the `rules` that are known, is none."""
    key = ""
    for value in values:
        word = plain(value.word)
        given = value.given["name"] or value.given.get("key", "")
        own = value.word if value.word in rules or ROLES.get(word) is not Role.PARAMETER else ""
        name = key if word == "arg_value" else given or own
        text = _FILLER.sub("", body[value.start : value.end])
        if not value.closed:
            text = _without_wrong_end(text, name)
        text = _value_text(text, closed=value.closed)
        if word == "arg_key":
            key = text.strip()
            continue
        yield name, value.given.get("value", text), value.given.get("string", "")


def _without_wrong_end(text: str, name: str) -> str:
    """A value without the tag at its end that was to close it and is another's, or broke off."""
    at = text.rfind("</")
    word = plain(text[at:].strip("</> \t\r\n"))
    meant = at >= 0 and (word == plain(name) or ROLES.get(word) in _VALUE_ENDS)
    return text[:at] if meant else text


def _value_text(text: str, *, closed: bool = True) -> str:
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


def _typed(text: str, rule: Any, root: dict[str, Any], *, literal: bool = False) -> Any:
    """A value out of tags as its schema has it; text where the schema knows no better."""
    kinds = set() if literal else kinds_of(rule, root)
    bare = text.strip()
    if "string" in kinds or (not kinds and not literal and bare[:1] not in ("{", "[")):
        return text
    if bare.startswith("<") and kinds & {"array", "object"}:
        with suppress(ValueError):
            return _from_elements(bare, rule, root)
    for read in (partial(read_json, strict=False), python_value, _escaped):
        with suppress(ValueError):
            return read(bare)
    return text


def _escaped(text: str) -> Any:
    r"""JSON as it would stand in a string: `[{\"a\": 1}]`."""
    return read_json(read_json(f'"{text}"', strict=False), strict=False)


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
        return _typed(_value_text(element.text or ""), rule, root)
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
