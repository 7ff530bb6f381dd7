"""What the body of a tool call says: names and arguments out of JSON, Python or tags.

Values in tags are text; the schema tells what they are. Knows nothing of streams.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bridge import call_words
from bridge.call_bodies import Value
from bridge.call_names import Names
from bridge.call_python import STRING, literal
from bridge.call_tags import ROLES, Role, plain
from bridge.call_types import typed, value_text
from bridge.tool_schemas import kinds_of, properties
from chat_request import Tool
from jsontools.text import compact, read_json

_VALUE_ENDS = (Role.PARAMETER, Role.ARGUMENTS)
_PLACEHOLDERS = {"...", "…"}
_PLACEHOLDER = re.compile(r"[{:,(=\[]\s{0,50}(?:\.\.\.|…|<[\w ./-]{1,40}>)\s{0,50}(?:[}\]),]|\Z)")
_JSON_ESCAPE = re.compile(r"\\(?:[\"\\/bfnrt']|u[0-9a-fA-F]{4})|\\")
# Gemma's and Gemini's tokens in place of quotes, and JavaScript's back-quotes behind a key.
_TOKENS_AS_QUOTES = re.compile(r"(<\|\"\|>|<escape>|<ctrl46>)(.*?)\1", re.DOTALL)
_BACK_QUOTED = re.compile(r"(?<=:)(\s{0,20})`([^`]*)`(?=\s{0,20}[,}])")
# JavaScript's keys without quotes, behind which no quotes are missing.
_BARE_KEY = re.compile(
    rf"(?P<string>{STRING.pattern})|(?<=[{{,])(?P<gap>\s{{0,50}})(?P<key>[A-Za-z_$][\w$-]{{0,63}})(?=\s{{0,20}}:)",
    re.DOTALL,
)
_DRIVE = re.compile(r'"[A-Za-z]:\\(?:[^"\\]|\\[^"])*"')


@dataclass(frozen=True, slots=True)
class Found:
    """A call as it was written; `repaired`: its JSON was broken."""

    name: str
    arguments: Any
    repaired: bool = False


class NoCall(Exception):
    """What was read only looks like a call: a definition, an example, other data."""


def calls_in(value: Any, name: str, names: Names, *, loose: bool, repaired: bool) -> list[Found]:
    """The calls in JSON of any shape that models give them.

    `name` is what stood before the JSON; `loose` where a tag vouches for it. Raises NoCall for a
    list of which a part is no call, unless loose.
    """
    if name:
        whole = isinstance(value, dict) and value.keys() <= call_words.KEYS and "name" in value
        if not (whole and value.keys() & set(call_words.ARGUMENT_KEYS)):
            return [Found(name, value, repaired)]
    if isinstance(value, list):
        return _calls_in_list(value, names, loose=loose, repaired=repaired)
    if not isinstance(value, dict):
        return []
    if repaired and value.keys() - call_words.KEYS:
        raise ValueError("torn apart by the repair")
    if not loose and value.keys() - call_words.KEYS:
        return _named_by_key(value, names, repaired)
    for key in call_words.NESTED_KEYS:
        if isinstance(value.get(key), list | dict):
            return calls_in(value[key], "", names, loose=loose, repaired=repaired)
    given = [value[key] for key in call_words.ARGUMENT_KEYS if key in value]
    written = next((value[k] for k in call_words.NAME_KEYS if isinstance(value.get(k), str)), "")
    if not written:
        return _named_by_key(value, names, repaired)
    if "description" in value and (not given or is_schema(given[0])):
        raise NoCall
    if not given and loose:
        given = [{k: v for k, v in value.items() if k not in (*call_words.NAME_KEYS, "id", "type")}]
    return [Found(written, given[0], repaired)] if given else []


def _calls_in_list(value: list[Any], names: Names, *, loose: bool, repaired: bool) -> list[Found]:
    calls = []
    for item in value:
        found = calls_in(item, "", names, loose=loose, repaired=repaired)
        if not found and not loose:
            raise NoCall
        calls += found
    return calls


def _named_by_key(value: dict[str, Any], names: Names, repaired: bool) -> list[Found]:
    """`{"read_file": {"path": "a"}}`: the name is the only key."""
    if len(value) != 1:
        return []
    (key, arguments), *_ = value.items()
    known = names.find(key) and isinstance(arguments, dict)
    return [Found(key, arguments, repaired)] if known else []


def is_schema(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("properties"), dict)


def is_definition(arguments: Any, tool: Tool) -> bool:
    """Whether this is the offer of a tool and no call: a schema where arguments should be."""
    return is_schema(arguments) and "properties" not in properties(tool)


def holds_placeholder(text: str) -> bool:
    """Whether broken JSON or Python has dots where a value should be."""
    return bool(_PLACEHOLDER.search(STRING.sub('""', text)))


def is_placeholder(arguments: Any) -> bool:
    """Whether all that was given is dots."""
    if isinstance(arguments, dict) and arguments:
        return all(isinstance(v, str) and v.strip() in _PLACEHOLDERS for v in arguments.values())
    return isinstance(arguments, str) and arguments.strip() in _PLACEHOLDERS


def with_lone_backslashes(text: str) -> str:
    r"""Broken JSON in which a backslash that escapes nothing stands for itself, and so do all of
    a Windows path (`D:\new\x`)."""
    return _JSON_ESCAPE.sub(_json_literal, _DRIVE.sub(_literal_path, text))


def with_plain_quotes(text: str) -> str:
    """JSON text in which other marks stood for quotes."""
    text = _TOKENS_AS_QUOTES.sub(lambda string: compact(string[2]), text)
    return _BACK_QUOTED.sub(lambda string: string[1] + compact(string[2]), text)


def with_quoted_keys(text: str) -> str:
    """JSON text whose keys lacked their quotes."""
    return _BARE_KEY.sub(_quoted_key, text)


def _quoted_key(found: re.Match[str]) -> str:
    return found[0] if found["string"] else f'{found["gap"]}"{found["key"]}"'


def _json_literal(escape: re.Match[str]) -> str:
    return "'" if escape[0] == "\\'" else literal(escape)


def _literal_path(path: re.Match[str]) -> str:
    return path[0] if "\\\\" in path[0] else path[0].replace("\\", "\\\\")


def unwrapped(values: dict[str, Any], tool: Tool) -> dict[str, Any]:
    """The arguments themselves, where they came as one argument that is called `arguments`."""
    if len(values) != 1:
        return values
    (name, inner), *_ = values.items()
    if name not in call_words.ARGUMENT_KEYS or name in properties(tool):
        return values
    if isinstance(inner, str) and inner.lstrip().startswith("{"):
        inner = read_json(inner, strict=False)
    return inner if isinstance(inner, dict) else values


def from_tags(values: list[Value], body: str, tool: Tool) -> dict[str, Any]:
    """Arguments in tags, typed by the tool's schema; ValueError where they have no names."""
    rules, root = properties(tool), tool.parameters or {}
    found: dict[str, Any] = {}
    for name, text, sort in _texts(values, body):
        rule = rules.get(name)
        as_text = tool.custom or (sort == "true" and not kinds_of(rule, root))
        value = text if as_text else typed(text, rule, root, literal=sort == "false")
        if name in found and "array" in kinds_of(rule, root):  # an item in each tag
            value = [*_listed(found[name]), *_listed(value)]
        found[name] = value
    if values and not found:
        raise ValueError("no values for the names, or no names for the values")
    return unwrapped(found, tool)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _texts(values: list[Value], body: str) -> Iterator[tuple[str, str, str]]:
    """Name, text and what the tag itself says of the type (`string="false"`)."""
    key = ""
    for value in values:
        word = plain(value.word)
        given = value.given["name"] or value.given.get("key", "")
        name = key if word == "arg_value" else given or value.word
        text = body[value.start : value.end]
        if not value.closed:
            text = _without_wrong_end(text, name)
        text = value_text(text, closed=value.closed)
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
