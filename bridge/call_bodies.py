"""The three kinds of bodies a tool call may have, each found in text that comes in pieces.

A scanner is given all text from the body's first character on; `take` says where the body ends.
Knows nothing of tools, and does not read what the body holds.
"""

import re
from collections.abc import Collection
from typing import NamedTuple, Protocol

from bridge.call_tags import (
    CDATA,
    CDATA_END,
    TAG,
    Role,
    given_in,
    is_closing,
    may_be_tag,
    name_in,
    plain,
    role_of,
)
from jsontools.text import JsonScan

_LOOK_AHEAD = 400  # a tag and the white space before it are never longer
_MOST_TAGS = 40_000  # of a body that is looked at once more, at 4 us each
_CLOSING = re.compile(r"</[^<>]{0,100}(?:>|\Z)")
_THOUGHT_END = "<|end|>"
_CALLS = (Role.OPEN, Role.WRAP)
_OTHERS = (Role.OPEN, Role.END, Role.RESULT)  # what may stand behind the last argument
_ENDS = (*_OTHERS, Role.WRAP)


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

    def take(self, piece: str) -> int:
        window = self._kept + piece
        start = self._size - len(self._kept)
        self._size += len(piece)
        self._kept = ""
        at = self._scan.end(window)
        while at >= 0 and self._scan.depth:
            tag = _tag_at(window, at)
            role = role_of(tag) if tag else None
            if role in _ENDS or (tag and role and is_closing(tag)):
                break
            if not tag and _may_grow(window, at):
                self._kept = window[at:]
                return -1
            at = self._scan.end(window, at + 1)
        return start + at if at >= 0 else -1

    def finish(self, text: str) -> int:
        """A value that lacks its last bracket alone is as good as whole; what ended inside a
        value, or with values missing, is not."""
        whole = not self._scan.quoted and self._scan.depth == 1 and text.rstrip()[-1:] in "]}"
        return len(text) if whole else -1


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


class Value(NamedTuple):
    """An argument in tags: its tag's word and attributes, where in the body its text is, and
    whether its own closing tag ended it."""

    word: str
    given: dict[str, str]
    start: int
    end: int
    closed: bool = True


class XmlBody:
    """Arguments in tags, up to the tag that closes the call.

    A value may name any tag: it ends at its own closing tag only where a next argument, the end of
    the call or nothing follows, and when as many of its tags were closed as were opened in it.
    Where that leads to no end (`loose`), it also ends where the tool's next argument begins a line
    or the call is closed. Where a tag's word is the name of its argument, one that the tool does
    not have may follow on a line of its own. `closers` are the words that close the call,
    `arguments` those that the tool has, `required` those that the call needs.
    """

    def __init__(
        self,
        closers: set[str],
        arguments: Collection[str],
        required: Collection[str] = (),
        *,
        loose: bool = False,
    ) -> None:
        self._closers, self._arguments = closers, arguments
        self._required, self._loose = required, loose
        self._size = 0
        self._window = ""  # what has come and has not been looked at
        self._final = self._cdata = False
        self._by_name = False  # the tags are called as their arguments are
        self._open: Value | None = None
        self._nesting = 0
        self.inner = 0  # where what the body holds ends: at the tag that closes it
        self.values: list[Value] = []

    def take(self, piece: str) -> int:
        self._window += piece
        self._size += len(piece)
        return self._look()

    def finish(self, text: str) -> int:
        self._final = True
        end = self._look()
        if self._open is None:
            return end if end >= 0 else self._unclosed(text)
        if text.count("<") > _MOST_TAGS:
            return -1
        other = XmlBody(self._closers, self._arguments, loose=True)
        other._final = True
        end = other.take(text)
        self.values, self.inner = other.values, other.inner
        return end

    def _unclosed(self, text: str) -> int:
        """Where a call without its closing tag is whole all the same: behind its last argument,
        if that makes all it needs."""
        given = {value.given["name"] or value.word for value in self.values}
        given |= {text[value.start : value.end].strip() for value in self.values}  # <arg_key>
        last = max((text.find(">", value.end) + 1 for value in self.values), default=0)
        rest = _CLOSING.sub("", text[last:])
        whole = self.values and not rest.strip() and given.issuperset(self._required)
        self.inner = len(text)
        return len(text) if whole else -1

    def _look(self) -> int:
        """Look at all tags whose meaning is settled by what has come."""
        base = self._size - len(self._window)
        at = 0
        while (spot := self._next(at)) >= 0:
            tag = _tag_at(self._window, spot)
            at = tag.end() if tag else spot + 1
            if tag is None and not _may_grow(self._window, spot):
                continue
            end = self._tag(tag, base) if tag else None
            if end is None:
                break
            if end >= 0 and tag:
                self.inner = base + tag.start()
                return base + end
        self._window = self._window[spot:] if spot >= 0 else self._window[-2:]
        return -1

    def _next(self, at: int) -> int:
        """The next `<` that may matter; one inside of CDATA does not."""
        if not self._cdata:
            at = self._window.find("<", at)
            first = self._open and self._open.start == self._size - len(self._window) + at
            if not first or not self._window.startswith(CDATA, at):
                return at
            self._cdata = True
        end = self._window.find(CDATA_END, at)
        if end < 0:
            return -1
        self._cdata = False
        return self._window.find("<", end)

    def _tag(self, tag: re.Match[str], base: int) -> int | None:
        """Where in the window the call ends by this tag; -1: it does not; None: what follows
        has to come before that can be told."""
        if self._open:
            return self._tag_in_value(self._open, tag, base)
        if is_closing(tag):
            word = plain(tag["word"])
            ends = word in self._closers or (self.values and role_of(tag) in _CALLS)
            return tag.end() if ends else -1
        if self._bears_value(tag) or (self._by_name and role_of(tag) is None):
            self._by_name = self._by_name or role_of(tag) is None
            value = Value(tag["word"], _named(tag), base + tag.end(), base + tag.end())
            self._nesting = 1
            if tag["alone"]:
                self.values.append(value)
            else:
                self._open = value
            return -1
        return tag.start() if role_of(tag) in _OTHERS else -1

    def _bears_value(self, tag: re.Match[str]) -> bool:
        return tag["word"] in self._arguments or role_of(tag) is Role.PARAMETER

    def _tag_in_value(self, value: Value, tag: re.Match[str], base: int) -> int | None:
        word, same = plain(tag["word"]), plain(tag["word"]) == plain(value.word)
        if not is_closing(tag):
            self._nesting += same and not tag["alone"]
            if self._loose and self._is_next(tag):
                self._close(value, base + tag.start(), closed=False)
                return self._tag(tag, base)
            return -1
        if not same and not (self._loose and word in self._closers):
            return -1
        follows = self._follows(tag.end())
        if follows is None:
            return None
        self._nesting -= same
        if follows and (self._nesting <= 0 or self._loose):
            self._close(value, base + tag.start(), closed=same)
            return -1 if same else tag.end()
        return -1

    def _is_next(self, tag: re.Match[str]) -> bool:
        """Whether a tag begins a line and bears an argument that the tool has."""
        at = tag.start()
        before = self._window[max(0, at - _LOOK_AHEAD) : at].rstrip(" \t")
        return before.endswith("\n") and (name_in(tag) or tag["word"]) in self._arguments

    def _follows(self, at: int) -> bool | None:
        """Whether what comes at `at` may come behind an argument; None: it has not come yet."""
        behind = self._window[at : at + _LOOK_AHEAD]
        rest = behind.lstrip()
        if not rest:
            waiting = not self._final and len(behind) < _LOOK_AHEAD
            return None if waiting else self._final
        begun = at + len(behind) - len(rest)
        tag = _tag_at(self._window, begun)
        if tag is None:
            waiting = not self._final and rest[0] == "<" and _may_grow(self._window, begun)
            return None if waiting else False
        role = role_of(tag)
        if is_closing(tag):
            return plain(tag["word"]) in self._closers or role in (*_CALLS, Role.ARGUMENTS)
        if role is None and self._by_name and "\n" in self._window[at:begun]:
            return True
        return self._bears_value(tag) or role in _OTHERS

    def _close(self, value: Value, end: int, *, closed: bool) -> None:
        self.values.append(value._replace(end=end, closed=closed))
        self._open = None


def _named(tag: re.Match[str]) -> dict[str, str]:
    """The attributes of an argument's tag, its name among them."""
    return {"name": name_in(tag)} | given_in(tag)


def _tag_at(text: str, at: int) -> re.Match[str] | None:
    """The tag that begins there, however much of the text has come."""
    return TAG.match(text, at, at + _LOOK_AHEAD)


def _may_grow(text: str, at: int) -> bool:
    """Whether what begins with the `<` at `at` may still become a tag, or begin such a section."""
    rest = text[at : at + _LOOK_AHEAD]
    return len(rest) < _LOOK_AHEAD and (CDATA.startswith(rest) or may_be_tag(rest, 0, None))
