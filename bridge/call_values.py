"""What the body of a tool call says: names and arguments out of JSON, Python or tags.

Values in tags are text; the schema tells what they are. Knows nothing of streams.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bridge import call_keys
from bridge.call_bodies import Value
from bridge.call_names import Names
from bridge.call_tags import CDATA, CDATA_END, ROLES, Role, plain
from bridge.tool_schemas import kinds_of, properties
from chat_request import Tool
from jsontools.text import compact, read_json

_VALUE_ENDS = (Role.PARAMETER, Role.ARGUMENTS)
_PLACEHOLDERS = {"...", "…"}
_PLACEHOLDER = re.compile(r"[{:,(=\[]\s{0,50}(?:\.\.\.|…|<[\w ./-]{1,40}>)\s{0,50}(?:[}\]),]|\Z)")
_ESCAPE = re.compile(r"\\(?:[\\'\"abfnrtv\n0-7]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|N\{|U)|\\")
_JSON_ESCAPE = re.compile(r"\\(?:[\"\\/bfnrt']|u[0-9a-fA-F]{4})|\\")
_STRING = re.compile(
    r"(?:\b[rR])?"
    r"(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")",
    re.DOTALL,
)
# Gemma's and Gemini's tokens in place of quotes, and JavaScript's back-quotes behind a key.
_TOKENS_AS_QUOTES = re.compile(r"(<\|\"\|>|<escape>|<ctrl46>)(.*?)\1", re.DOTALL)
_BACK_QUOTED = re.compile(r"(?<=:)(\s{0,20})`([^`]*)`(?=\s{0,20}[,}])")
_DRIVE = re.compile(r'"[A-Za-z]:\\(?:[^"\\]|\\[^"])*"')
_CONSTANTS = {"true": True, "false": False, "null": None, "none": None}
_LAYOUT = re.compile(r"\r?\n(?:(.*?)\r?\n)?[ \t]*", re.DOTALL)


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
        whole = isinstance(value, dict) and value.keys() <= call_keys.ALL and "name" in value
        if not (whole and value.keys() & set(call_keys.ARGUMENTS)):
            return [Found(name, value, repaired)]
    if isinstance(value, list):
        return _calls_in_list(value, names, loose=loose, repaired=repaired)
    if not isinstance(value, dict):
        return []
    if repaired and value.keys() - call_keys.ALL:
        raise ValueError("torn apart by the repair")
    if not loose and value.keys() - call_keys.ALL:
        return _named_by_key(value, names, repaired)
    for key in call_keys.NESTED:
        if isinstance(value.get(key), list | dict):
            return calls_in(value[key], "", names, loose=loose, repaired=repaired)
    given = [value[key] for key in call_keys.ARGUMENTS if key in value]
    written = next((value[k] for k in call_keys.NAMES if isinstance(value.get(k), str)), "")
    if not written:
        return _named_by_key(value, names, repaired)
    if "description" in value and (not given or is_schema(given[0])):
        raise NoCall
    if not given and loose:
        given = [{k: v for k, v in value.items() if k not in (*call_keys.NAMES, "id", "type")}]
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
    return bool(_PLACEHOLDER.search(_STRING.sub('""', text)))


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


def _json_literal(escape: re.Match[str]) -> str:
    return "'" if escape[0] == "\\'" else _literal(escape)


def _literal(escape: re.Match[str]) -> str:
    return escape[0] if len(escape[0]) > 1 else "\\\\"


def _literal_path(path: re.Match[str]) -> str:
    return path[0] if "\\\\" in path[0] else path[0].replace("\\", "\\\\")


def from_python(text: str, tool: Tool) -> dict[str, Any]:
    """The arguments in `(a=1, b="x")`; ValueError where they are no plain values."""
    call = _parsed(f"f{text}")
    if not isinstance(call, ast.Call):
        raise ValueError("no call")
    given: dict[str, Any] = {}
    names = list(properties(tool)) or (["input"] if tool.custom else [])
    for name, node in zip(names, call.args, strict=False):
        given[name] = node
    if len(call.args) > len(given):
        raise ValueError("more arguments than the tool has")
    if len(call.args) == 1 and isinstance(call.args[0], ast.Dict):
        given = {"arguments": call.args[0]}
    for keyword in call.keywords:
        given[keyword.arg or "arguments"] = keyword.value
    values = {name: _value(node) for name, node in given.items()}
    return unwrapped(values, tool)


def unwrapped(values: dict[str, Any], tool: Tool) -> dict[str, Any]:
    """The arguments themselves, where they came as one argument that is called `arguments`."""
    if len(values) != 1:
        return values
    (name, inner), *_ = values.items()
    if name not in call_keys.ARGUMENTS or name in properties(tool):
        return values
    if isinstance(inner, str) and inner.lstrip().startswith("{"):
        inner = read_json(inner, strict=False)
    return inner if isinstance(inner, dict) else values


def python_value(text: str) -> Any:
    """A literal of Python, with JSON's names too; ValueError where it is none."""
    return _value(_parsed(text.strip()))


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(_STRING.sub(_tidy, text), mode="eval").body
    except (SyntaxError, MemoryError, RecursionError, ValueError):
        raise ValueError("no Python") from None


def _tidy(string: re.Match[str]) -> str:
    """A string with raw line ends or backslashes that Python alone would not take."""
    if string[0][0] in "rR":
        return string[0]
    text = _ESCAPE.sub(_literal, string[0])
    return text if text[:3] in ('"""', "'''") else text.replace("\n", "\\n")


def _value(node: ast.expr) -> Any:
    try:
        return _converted(node)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _converted(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() as text):
            # JSON writes one character as two halves, which Python does not join.
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case ast.Constant(value=bool() | int() | float() | None as value):
            return value
        case ast.Name(id=name) if name.lower() in _CONSTANTS:
            return _CONSTANTS[name.lower()]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            parts = [_converted(left), _converted(right)]
            if all(isinstance(part, str) for part in parts):
                return "".join(parts)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_converted(item) for item in items]
        case ast.Dict(keys=keys, values=values) if all(isinstance(k, ast.Constant) for k in keys):
            pairs = zip(keys, values, strict=True)
            return {str(k.value): _converted(v) for k, v in pairs if isinstance(k, ast.Constant)}
        case ast.Call(args=[], keywords=given) if all(k.arg for k in given):
            return {str(k.arg): _converted(k.value) for k in given}  # Gemini's nested objects
    raise ValueError("no plain value")


def from_tags(values: list[Value], body: str, tool: Tool) -> dict[str, Any]:
    """Arguments in tags, typed by the tool's schema; ValueError where they have no names."""
    rules, root = properties(tool), tool.parameters or {}
    found: dict[str, Any] = {}
    for name, text, sort in _texts(values, body):
        rule = rules.get(name)
        value: Any = text
        if not (tool.custom or sort == "true"):
            value = typed(text, rule, root, literal=sort == "false")
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
    try:
        return read_json(bare.lower() if "boolean" in kinds else bare, strict=False)
    except ValueError:
        pass
    try:
        return python_value(bare)
    except ValueError:
        return text
