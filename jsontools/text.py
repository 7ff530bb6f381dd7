"""JSON as text: found, read strictly, mended when it is broken, written.

Every failure is a ValueError. Knows nothing of schemas or of what the JSON is for.
"""

import json
import math
import re
from contextlib import suppress
from typing import Any, ClassVar, SupportsIndex

from jsontools.budget import Budget

REPAIR_CHARS = 262_144  # of the longest text that is mended
_SURROGATES = re.compile("[\ud800-\udfff]")
# What the library for repairs would change: it takes the escape behind an escaped backslash for
# plain letters, and away all line ends that a string ends with.
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_LAST_LINE_END = re.compile(r"\\n(?=[\"'“”])|\n(?=\"\s{0,20}[,}\]])")
_KEPT_BACKSLASH, _KEPT_LINE_END = "\ue000", "\ue001"  # stand for them meanwhile
_NO_JSON = "<`~"
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}\[\]]', re.DOTALL)


class JsonScan:
    """Finds the end of a JSON value in text that comes in pieces, without parsing it.

    `marks` is what counts outside of strings, `strings` what does within them, by their quotes.
    """

    marks = re.compile(r'["{}\[\]<]')
    strings: ClassVar[dict[str, re.Pattern[str]]] = {'"': re.compile(r'\\.?|"', re.DOTALL)}

    def __init__(self) -> None:
        self.depth = 0
        self.quoted = ""  # the quote that opened the string which is open
        self.escaped = False

    def end(self, text: str, start: int = 0) -> int:
        """Where in `text`, read from `start` on, the value ends; -1 when it goes on.

        A `<` outside strings is no JSON, nor is a back-quote or tilde, which only some scans
        mark: there a tag or a fence closes a value that lacks its brackets.
        """
        at = start + 1 if self.escaped and text else start
        self.escaped = self.escaped and not text
        while mark := (self.strings[self.quoted] if self.quoted else self.marks).search(text, at):
            at, found = mark.end(), mark[0]
            if found in self.strings:
                self.quoted = "" if self.quoted else found
            elif found[0] == "\\":
                self.escaped = len(found) == 1
            elif found in _NO_JSON:
                return mark.start()
            else:
                self.depth += 1 if found in "{[" else -1
                if self.depth == 0:
                    return at
        return -1


def ends_in_string(text: str) -> bool:
    """Whether JSON text ends within a string, so that nobody can say what was still to come."""
    scan = JsonScan()
    scan.end(text)
    return bool(scan.quoted)


def read_json(text: str, *, strict: bool = True) -> Any:
    """Like `json.loads`, but NaN and 1e999 are no JSON and every failure is a `ValueError`."""
    try:
        return json.loads(text, strict=strict, parse_constant=finite, parse_float=finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def finite(digits: str) -> float:
    """A number of JSON; ValueError for NaN, Infinity and 1e999, which Python alone reads."""
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is not JSON")
    return number


def clean(text: str) -> str:
    """Text that can be encoded: of surrogates, which JSON may smuggle in, pairs become their
    character and those that stand alone U+FFFD."""
    if not _SURROGATES.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def compact(value: Any) -> str:
    """A value as JSON without white space. Raises ValueError for what JSON cannot hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return clean(text)


class _Counted(str):
    """Text of which every look at a character is a step of the budget.

    The library for repairs has no limit of its own, and 8 KB of brackets and quotes keep it busy
    for 38 s (measured).
    """

    budget: Budget

    def __getitem__(self, at: SupportsIndex | slice) -> str:
        self.budget.step()
        return super().__getitem__(at)


def repair(text: str, budget: Budget | None = None) -> Any:
    """What broken JSON probably meant; raises `ValueError` when that is hopeless."""
    if len(text) > REPAIR_CHARS:
        raise ValueError("too large to be repaired")
    with suppress(ValueError):
        return read_json(text + _lacking_brackets(text), strict=False)
    import json_repair  # not with the service: 3 MB and 20 ms, and few answers need it

    plain = _KEPT_BACKSLASH in text or _KEPT_LINE_END in text
    kept = text if plain else _kept(text)
    counted = _Counted(kept)
    counted.budget = budget or Budget()
    try:
        with counted.budget.running():
            value = json_repair.loads(counted, skip_json_loads=True)
        return value if kept == text else json.loads(_with_kept(value))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _lacking_brackets(text: str) -> str:
    """Those that close what is open at the end of JSON text."""
    lacking: list[str] = []
    for mark in _STRING_OR_BRACKET.findall(text):
        if mark in ("{", "["):
            lacking.append("}" if mark == "{" else "]")
        elif mark in ("}", "]") and lacking:
            lacking.pop()
    return "".join(reversed(lacking))


def _kept(text: str) -> str:
    text = _ESCAPE.sub(lambda found: _KEPT_BACKSLASH if found[0] == r"\\" else found[0], text)
    return _LAST_LINE_END.sub(_KEPT_LINE_END, text)


def _with_kept(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text.replace(_KEPT_BACKSLASH, r"\\").replace(_KEPT_LINE_END, r"\n")
