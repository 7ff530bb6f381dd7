"""The kinds of bodies a tool call may have, each found in text that comes in pieces.

A scanner is given all text from the body's first character on; `take` says where the body ends.
`call_markup` has the one for tags. Knows nothing of tools, and does not read what the body holds.
"""

import re
from typing import Protocol

from bridge.call_tags import Role, is_closing, may_grow, role_of, tag_at
from jsontools.text import JsonScan

# Gemma's and Gemini's tokens in place of quotes; what stands between two of them is no JSON.
QUOTE_TOKENS = ('<|"|>', "<escape>", "<ctrl46>")
_BRACKET = re.compile(r"[\]}]\s{0,20}(?=</)")
_THOUGHT_END = "<|end|>"
_ENDS = (Role.OPEN, Role.END, Role.RESULT, Role.WRAP)


class Body(Protocol):
    def take(self, piece: str) -> int:
        """Where the body ends, counted from its first character; -1 when it goes on."""

    def finish(self, text: str) -> int:
        """The same for the whole `text` of a body when nothing more comes; -1: it broke off."""


class NoBody:
    """For heads that are a whole call."""

    def take(self, piece: str) -> int:
        return 0

    def finish(self, text: str) -> int:
        return 0


WHOLE = NoBody()


class ThoughtBody:
    """A thought that stands before a call; it ends at a token of its own."""

    def __init__(self) -> None:
        self._last, self._size = "", 0

    def take(self, piece: str) -> int:
        window = self._last + piece
        found = window.find(_THOUGHT_END)
        start = self._size - len(self._last)
        self._size += len(piece)
        self._last = window[-len(_THOUGHT_END) + 1 :]
        return -1 if found < 0 else start + found + len(_THOUGHT_END)

    def finish(self, text: str) -> int:
        return -1


class JsonBody:
    """JSON, to its last bracket, or to the tag that closes a value which lacks brackets."""

    def __init__(self) -> None:
        self._scan = JsonScan()
        self._size = 0
        self._kept = ""  # from a `<` outside of strings on, until it is seen what it begins
        self._token = ""  # what opened a string in place of a quote

    def take(self, piece: str) -> int:
        window = self._kept + piece
        start = self._size - len(self._kept)
        self._size += len(piece)
        self._kept = ""
        at = self._next(window, 0)
        while at >= 0 and self._scan.depth:
            tag = tag_at(window, at)
            role = role_of(tag) if tag else None
            if role in _ENDS or (tag and role and is_closing(tag)):
                break
            begun = any(token.startswith(window[at:]) for token in QUOTE_TOKENS)
            if not tag and (begun or may_grow(window, at)):
                self._kept = window[at:]
                return -1
            at = self._next(window, at + 1)
        return start + at if at >= 0 else -1

    def _next(self, window: str, at: int) -> int:
        """Where the scan stops: at the end, or at a `<` outside of strings; -1: neither came."""
        while True:
            if self._token:
                end = window.find(self._token, at)
                if end < 0:
                    self._kept = window[max(at, len(window) - len(self._token) + 1) :]
                    return -1
                at, self._token = end + len(self._token), ""
            at = self._scan.end(window, at)
            if at < 0 or not self._scan.depth:
                return at
            self._token = next((one for one in QUOTE_TOKENS if window.startswith(one, at)), "")
            if not self._token:
                return at
            at += len(self._token)

    def finish(self, text: str) -> int:
        """A value that lacks its last bracket alone is as good as whole; what ended inside a
        value, or with values missing, is not."""
        inside = self._scan.quoted or self._token
        whole = not inside and self._scan.depth == 1 and text.rstrip()[-1:] in "]}"
        return len(text) if whole else _closed_at(text)


def _closed_at(text: str) -> int:
    """Where a tag closes JSON whose quotes are out of step, so that it seemed to stand in a string;
    -1: nowhere."""
    for bracket in _BRACKET.finditer(text):
        tag = tag_at(text, bracket.end())
        if tag and is_closing(tag) and role_of(tag) in (Role.OPEN, Role.WRAP):
            return bracket.end()
    return -1


class PythonBody:
    """The arguments of a call in Python, from the opening bracket to its closing one."""

    _MARKS = re.compile(r"[()\[\]{}]|\"\"\"|'''|[\"']")

    def __init__(self) -> None:
        self._depth = 0
        self._quote = ""
        self._kept = ""  # quotes or a backslash at the end of a piece, of which more may come
        self._size = 0

    def take(self, piece: str, *, final: bool = False) -> int:
        window = self._kept + piece
        start = self._size - len(self._kept)
        self._size += len(piece)
        self._kept = ""
        at = 0
        while mark := (_IN_QUOTES[self._quote] if self._quote else self._MARKS).search(window, at):
            found, at = mark[0], mark.end()
            if len(window) - mark.start() < 3 and found[0] in "\"'\\" and not final:
                self._kept = window[mark.start() :]
                return -1
            if found[0] == "\\":
                continue
            if self._quote or found[0] in "\"'":
                self._quote = "" if self._quote else found
                continue
            self._depth += 1 if found in "([{" else -1
            if self._depth == 0:
                return start + at
        if len(self._quote) == 3:  # its end may be cut into pieces
            rest = window[at:]
            self._kept = rest[len(rest.rstrip(self._quote[0])) :][-2:]
        return -1

    def finish(self, text: str) -> int:
        return self.take("", final=True)


_IN_QUOTES = {quote: re.compile(rf"\\.?|{quote}", re.DOTALL) for quote in ("'", '"', "'''", '"""')}
