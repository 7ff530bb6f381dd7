"""JSON as models write it: read, mended where it is broken, and the calls in it.

Knows nothing of heads, of tags or of streams.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bridge import call_words
from bridge.call_bodies import QUOTE_TOKENS
from bridge.call_names import Names, fold
from bridge.call_python import STRING, from_python, is_dense, literal, python_value
from bridge.call_tags import ARGUMENT_WORDS
from bridge.tool_schemas import lone_text, properties
from chat_request import Tool
from jsontools.budget import Budget
from jsontools.text import compact, ends_in_string, read_json, repair

_MOST_REPAIRS = 4
_PLACEHOLDERS = {"...", "…"}
_PLACEHOLDER = re.compile(r"[{:,(=\[]\s{0,50}(?:\.\.\.|…|<[\w ./-]{1,40}>)\s{0,50}(?:[}\]),]|\Z)")
_ANGLES = re.compile(r"<([\w -]{1,40})>")
_JSON_ESCAPE = re.compile(r"\\(?:[\"\\/bfnrt']|u[0-9a-fA-F]{4})|\\")
# Those tokens, and JavaScript's back-quotes behind a key.
_TOKENS_AS_QUOTES = re.compile(rf"({'|'.join(map(re.escape, QUOTE_TOKENS))})(.*?)\1", re.DOTALL)
_BACK_QUOTED = re.compile(r"(?<=:)(\s{0,20})`([^`]*)`(?=\s{0,20}[,}])")
# JavaScript's keys without quotes, behind which no quotes are missing.
_BARE_KEY = re.compile(
    rf"(?P<string>{STRING.pattern})|(?<=[{{,])(?P<gap>\s{{0,50}})(?P<key>[A-Za-z_$][\w$-]{{0,63}})(?=\s{{0,20}}:)",
    re.DOTALL,
)
_QUOTE = re.compile(r"\\.|\"(?P<closing>(?=\s{0,50}[,:}\]]))?", re.DOTALL)
_NO_LETTERS = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)|[^A-Za-z0-9]+", re.DOTALL)
_NO_VALUE = re.compile(r":\s{0,200}(?:[,}\]]|\Z)")
_WORDS = re.compile(r"\s*[^\s{\[\"'\\]")
_COMMENT = re.compile(r"//|/\*|#")
_CODE = re.compile(
    r"\s*(?:print\((?P<printed>[\w.]{1,150})(?P<inner>\(.*\))\)|"
    r"(?P<name>[\w.]{1,150})(?P<arguments>\(.*\)))\s*",
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


class JsonReader:
    """Reads the JSON of one answer, of which `budget` limits what is mended."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._repairs = 0

    def read(self, text: str) -> tuple[Any, bool]:
        """The value of JSON text, and whether that took a guess. Raises ValueError."""
        with suppress(ValueError):
            return read_json(text, strict=False), False
        if is_dense(text):
            raise ValueError("too much to mend")
        if holds_placeholder(text):
            raise ValueError("an example")
        with suppress(ValueError):
            return read_json(_with_lone_backslashes(text), strict=False), False
        with suppress(ValueError):
            return python_value(text.replace("\\/", "/")), False
        plain = _with_plain_quotes(text)
        if plain != text:
            return self.read(plain)
        with suppress(ValueError):
            return read_json(_with_inner_quotes(text), strict=False), True
        keyed = _BARE_KEY.sub(_quoted_key, text)
        with suppress(ValueError):
            return read_json(keyed, strict=False), True
        with suppress(ValueError):
            return python_value(keyed), True
        if ends_in_string(text):
            raise ValueError("a string without end")
        if _NO_VALUE.search(STRING.sub('""', text)):
            raise ValueError("a value is missing")
        self._repairs += 1
        if self._repairs > _MOST_REPAIRS:
            raise ValueError("too much to repair")
        mended = repair(text, self._budget)
        if _letters(text) != _letters(compact(mended)) and not _COMMENT.search(text):
            raise ValueError("the repair loses or repeats a part")
        return mended, True


def holds_placeholder(text: str) -> bool:
    """Whether broken JSON or Python has dots where a value should be."""
    return bool(_PLACEHOLDER.search(STRING.sub('""', text)))


def _letters(text: str) -> str:
    """All that a repair has to keep, which moves or adds marks alone."""
    return _NO_LETTERS.sub("", text)


def _with_inner_quotes(text: str) -> str:
    """Broken JSON in which only those quotes close a string behind which JSON goes on. Where some
    of a string's quotes are escaped and others are not, it is unclear what was meant."""
    parts, copied = [], 0
    inside = escaped = bare = False
    for mark in _QUOTE.finditer(text):
        if mark[0][0] == "\\":
            escaped = escaped or mark[0] == '\\"'
        elif inside and mark["closing"] is None:
            parts.append(text[copied : mark.start()] + "\\")
            copied, bare = mark.start(), True
        else:
            inside, escaped, bare = not inside, False, False
        if escaped and bare:
            return text
    return text if inside else "".join((*parts, text[copied:]))


def _with_lone_backslashes(text: str) -> str:
    r"""Broken JSON in which a backslash that escapes nothing stands for itself, and so do all of
    a Windows path (`D:\new\x`)."""
    return _JSON_ESCAPE.sub(_json_literal, _DRIVE.sub(_literal_path, text))


def _json_literal(escape: re.Match[str]) -> str:
    return "'" if escape[0] == "\\'" else literal(escape)


def _literal_path(path: re.Match[str]) -> str:
    return path[0] if "\\\\" in path[0] else path[0].replace("\\", "\\\\")


def _with_plain_quotes(text: str) -> str:
    """JSON text in which other marks stood for quotes."""
    text = _TOKENS_AS_QUOTES.sub(lambda string: compact(string[2]), text)
    return _BACK_QUOTED.sub(lambda string: string[1] + compact(string[2]), text)


def _quoted_key(found: re.Match[str]) -> str:
    return found[0] if found["string"] else f'{found["gap"]}"{found["key"]}"'


def calls_in(value: Any, name: str, names: Names, *, loose: bool, repaired: bool) -> list[Found]:
    """The calls in JSON of any shape that models give them.

    `name` is what stood before the JSON; `loose` where a tag vouches for it. Raises NoCall for a
    list of which a part is no call, unless loose.
    """
    if name and not _are_whole(value if isinstance(value, list) else [value]):
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
            sure = loose or key in call_words.LISTING_KEYS
            return calls_in(_nested(value, key), "", names, loose=sure, repaired=repaired)
    named_by = _name_key(value, names, loose=loose)
    if not named_by:
        return _named_by_key(value, names, repaired)
    given = [value[key] for key in ARGUMENT_WORDS if key in value]
    if "description" in value and (not given or is_schema(given[0])):
        raise NoCall
    if given and value[named_by].lower() == call_words.TOGETHER:
        return calls_in(given[0], "", names, loose=loose, repaired=repaired)
    if named_by == "tool_code" and not given and (code := _CODE.fullmatch(value[named_by])):
        return _called_in(code, names)
    if not given and loose:
        given = [_beside_name(value, named_by, names)]
    if given and isinstance(given[0], str) and not repaired:
        given = [in_words(given[0], names.find(value[named_by]))]
    return [Found(value[named_by], given[0], repaired)] if given else []


def _nested(value: dict[str, Any], key: str) -> Any:
    """What stands under a key, with the arguments that stand beside it where it has none."""
    inner = value[key]
    if not isinstance(inner, dict) or any(word in inner for word in ARGUMENT_WORDS):
        return inner
    return inner | {word: value[word] for word in ARGUMENT_WORDS if word in value}


def _are_whole(items: list[Any]) -> bool:
    """Whether what stands behind a name says again what is called, and all of it does."""
    arguments = set(ARGUMENT_WORDS)
    objects = [one for one in items if isinstance(one, dict) and "name" in one]
    whole = [one for one in objects if one.keys() <= call_words.KEYS and one.keys() & arguments]
    return len(whole) == len(items) > 0


def _name_key(value: dict[str, Any], names: Names, *, loose: bool) -> str:
    """The key under which an object says the name of its tool; empty where none does. Where calls
    are listed, Grok puts it into their type."""
    for key in call_words.NAME_KEYS:
        if isinstance(value.get(key), str):
            return key
    return "type" if loose and names.find(str(value.get("type"))) else ""


def _called_in(code: re.Match[str], names: Names) -> list[Found]:
    """The call that Gemini writes as Python in place of a name."""
    tool = names.find(code["name"] or code["printed"])
    arguments = code["arguments"] or code["inner"]
    return [Found(tool.name, from_python(arguments, tool))] if tool else []


def _beside_name(value: dict[str, Any], named_by: str, names: Names) -> dict[str, Any]:
    """The arguments that stand beside the name."""
    rules = properties(names.find(value[named_by]))
    known = {key for key in ("id", "type") if key not in rules} | {named_by}
    return {key: given for key, given in value.items() if key not in known}


def _calls_in_list(value: list[Any], names: Names, *, loose: bool, repaired: bool) -> list[Found]:
    calls = []
    for item in value:
        found = calls_in(item, "", names, loose=loose, repaired=repaired)
        if not found and not loose:
            raise NoCall
        calls += found
    return calls


def in_words(text: str, tool: Tool | None) -> Any:
    """Arguments that came as text and are no JSON: the one that the tool needs."""
    key = lone_text(tool)
    return {key: text} if key and _WORDS.match(text) else text


def _named_by_key(value: dict[str, Any], names: Names, repaired: bool) -> list[Found]:
    """`{"read_file": {"path": "a"}}`: the name is the only key."""
    if len(value) != 1:
        return []
    (key, arguments), *_ = value.items()
    known = names.find(key) and isinstance(arguments, dict)
    return [Found(key, arguments, repaired)] if known else []


def is_schema(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("properties"), dict)


def is_placeholder(arguments: Any) -> bool:
    """Whether all that was given is dots, or names of arguments in angles."""
    if isinstance(arguments, dict) and arguments:
        return all(_stands_for(key, value) for key, value in arguments.items())
    return isinstance(arguments, str) and arguments.strip() in _PLACEHOLDERS


def _stands_for(key: str, value: Any) -> bool:
    """Whether a value only tells what belongs there: `...`, or `<city name>` for `city`."""
    if not isinstance(value, str):
        return False
    named = _ANGLES.fullmatch(value.strip())
    return value.strip() in _PLACEHOLDERS or bool(named and fold(key) in fold(named[1]))
