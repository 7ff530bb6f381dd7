"""JSON as text: found, read strictly, mended when it is broken, written.

Every failure is a ValueError. Knows nothing of schemas or of what the JSON is for.
"""

import json
import math
import re
from typing import Any

from jsontools.budget import Budget

REPAIR_CHARS = 262_144  # of the longest text that is mended
_SURROGATES = re.compile("[\ud800-\udfff]")
# A line end that a string ends with; the library takes all that stand there away.
_LAST_LINE_END = re.compile(r"(?<!\\)((?:\\\\){0,50})\\n(?=[\"'“”])|\n(?=\"\s{0,20}[,}\]])")
_KEPT_LINE_END = "\ue000"  # stands for one meanwhile
_MARKS = re.compile(r'["{}\[\]<]')
_MARKS_IN_STRING = re.compile(r'\\.?|"', re.DOTALL)


class JsonScan:
    """Finds the end of a JSON value in text that comes in pieces, without parsing it."""

    def __init__(self) -> None:
        self.depth = 0
        self.quoted = False
        self.escaped = False

    def end(self, text: str, start: int = 0) -> int:
        """Where in `text`, read from `start` on, the value ends; -1 when it goes on.

        A `<` outside strings is no JSON: there a tag closes a value that lacks its brackets.
        """
        at = start + 1 if self.escaped and text else start
        self.escaped = self.escaped and not text
        while mark := (_MARKS_IN_STRING if self.quoted else _MARKS).search(text, at):
            at, found = mark.end(), mark[0]
            if found == '"':
                self.quoted = not self.quoted
            elif found[0] == "\\":
                self.escaped = len(found) == 1
            elif found == "<":
                return mark.start()
            else:
                self.depth += 1 if found in "{[" else -1
                if self.depth == 0:
                    return at
        return -1


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
    """Text that can be encoded: lone surrogates, which JSON may smuggle in, become U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


def compact(value: Any) -> str:
    """A value as JSON without white space. Raises ValueError for what JSON cannot hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return clean(text)


def repair(text: str, budget: Budget | None = None) -> Any:
    """What broken JSON probably meant; raises `ValueError` when that is hopeless."""
    import json_repair  # not with the service: 3 MB and 20 ms, and few answers need it

    if len(text) > REPAIR_CHARS:
        raise ValueError("too large to be repaired")
    budget = budget or Budget()
    kept = _LAST_LINE_END.sub(rf"\1{_KEPT_LINE_END}", text)
    if _KEPT_LINE_END in text:
        kept = text
    try:
        value = budget.watch(lambda: json_repair.loads(kept, skip_json_loads=True))
        return value if kept == text else json.loads(_with_line_ends(value))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _with_line_ends(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace(_KEPT_LINE_END, "\\n")
