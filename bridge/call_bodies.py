"""The kinds of bodies a tool call may have, each found in text that comes in pieces.

Each is given all text from the body's first character on; `take` says where the body ends.
`call_xml` has the one for tags. Knows nothing of tools, and does not read what the body holds.
"""

import re
from typing import ClassVar

from bridge.call_tags import Role, is_closing, may_grow, role_of, tag_at
from jsontools.text import JsonScan

# Gemma's and Gemini's tokens in place of quotes; what stands between two of them is no JSON.
QUOTE_TOKENS = ('<|"|>', "<escape>", "<ctrl46>")
_FENCES = ("```", "~~~")
_BRACKET = re.compile(r"[\]}]\s{0,20}(?=</)")
_ENDS = (Role.OPEN, Role.END, Role.RESULT, Role.WRAP)


class Body:
    """A body that has begun, and how much of it was looked at."""

    def __init__(self) -> None:
        self._size = 0
        self._kept = ""  # what is looked at again together with what comes next

    def take(self, piece: str) -> int:
        """Where the body ends, counted from its first character; -1 when it goes on."""
        window = self._kept + piece
        start = self._size - len(self._kept)
        self._size += len(piece)
        self._kept = ""
        end = self._end_in(window)
        return start + end if end >= 0 else -1

    def finish(self, text: str) -> int:
        """The same for the whole `text` of a body when nothing more comes; -1: it broke off."""
        return -1

    def _end_in(self, window: str) -> int:
        """Where it ends in the text that is looked at; -1: not there."""
        raise NotImplementedError


class NoBody(Body):
    """For heads that are a whole call."""

    def take(self, piece: str) -> int:
        return 0

    def finish(self, text: str) -> int:
        return 0


WHOLE = NoBody()


class _TokenScan(JsonScan):
    """JSON in which tokens may stand in place of quotes."""

    marks = re.compile("|".join((*map(re.escape, QUOTE_TOKENS), "[`~]", JsonScan.marks.pattern)))
    strings: ClassVar[dict[str, re.Pattern[str]]] = {
        **JsonScan.strings,
        **{token: re.compile(re.escape(token)) for token in QUOTE_TOKENS},
    }


class JsonBody(Body):
    """JSON, to its last bracket, or to the tag or fence that closes it where it lacks brackets."""

    def __init__(self) -> None:
        super().__init__()
        self._scan = _TokenScan()

    def _end_in(self, window: str) -> int:
        at = self._scan.end(window)
        while at >= 0 and self._scan.depth:
            tag = tag_at(window, at)
            role = role_of(tag) if tag else None
            if role in _ENDS or (tag and role and is_closing(tag)):
                break
            if window.startswith(_FENCES, at):
                break
            begun = any(token.startswith(window[at:]) for token in (*_FENCES, *QUOTE_TOKENS))
            if not tag and (begun or may_grow(window, at)):
                self._kept = window[at:]
                return -1
            at = self._scan.end(window, at + 1)
        if self._scan.quoted in QUOTE_TOKENS:
            self._kept = window[-len(self._scan.quoted) + 1 :]
        return at

    def finish(self, text: str) -> int:
        """A value that lacks its last bracket alone is as good as whole; what ended inside a
        value, or with values missing, is not."""
        whole = not self._scan.quoted and self._scan.depth == 1 and text.rstrip()[-1:] in "]}"
        return len(text) if whole else _closed_at(text)


class SecondBody(JsonBody):
    """An object that may follow the one which says the name; empty where something else does."""

    def take(self, piece: str) -> int:
        first = piece.lstrip()[:1]
        if first not in ("", "{") and not self._scan.depth:
            return 0
        return super().take(piece)

    def finish(self, text: str) -> int:
        return super().finish(text) if self._scan.depth else 0


class LineBody(Body):
    """Plain text, to the end of its line."""

    def _end_in(self, window: str) -> int:
        return window.find("\n")

    def finish(self, text: str) -> int:
        return len(text)


def _closed_at(text: str) -> int:
    """Where a tag closes JSON whose quotes are out of step, so that it seemed to stand in a string;
    -1: nowhere."""
    for bracket in _BRACKET.finditer(text):
        tag = tag_at(text, bracket.end())
        if tag and is_closing(tag) and role_of(tag) in (Role.OPEN, Role.WRAP):
            return bracket.end()
    return -1


class PythonBody(Body):
    """The arguments of a call in Python, from the opening bracket to its closing one."""

    _MARKS = re.compile(r"[()\[\]{}]|\"\"\"|'''|[\"']")

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._quote = ""
        self._final = False

    def _end_in(self, window: str) -> int:
        at = 0
        while mark := (_IN_QUOTES[self._quote] if self._quote else self._MARKS).search(window, at):
            found, at = mark[0], mark.end()
            if len(window) - mark.start() < 3 and found[0] in "\"'\\" and not self._final:
                self._kept = window[mark.start() :]
                return -1
            if found[0] == "\\":
                continue
            if self._quote or found[0] in "\"'":
                self._quote = "" if self._quote else found
                continue
            self._depth += 1 if found in "([{" else -1
            if self._depth == 0:
                return at
        if len(self._quote) == 3:  # its end may be cut into pieces
            rest = window[at:]
            self._kept = rest[len(rest.rstrip(self._quote[0])) :][-2:]
        return -1

    def finish(self, text: str) -> int:
        self._final = True
        return self.take("")


_IN_QUOTES = {quote: re.compile(rf"\\.?|{quote}", re.DOTALL) for quote in ("'", '"', "'''", '"""')}
