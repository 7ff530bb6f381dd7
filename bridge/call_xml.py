"""Arguments in tags, found in text that comes in pieces: where each is, and where the call ends.

Knows nothing of tools but the names of their arguments, and does not read what a value says.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from bridge import call_words
from bridge.call_bodies import Body
from bridge.call_tags import (
    CDATA,
    CDATA_END,
    FILL,
    FILLER,
    LOOK_AHEAD,
    Role,
    given_in,
    is_closing,
    may_grow,
    name_in,
    plain,
    role_of,
    tag_at,
)

_MOST_TAGS = 40_000  # of a body that is looked at once more, at 4 us each
_KEY, _VALUE = "arg_key", "arg_value"  # of GLM, which parts names from values by tags
_KEY_TEXT = re.compile(r"\s{0,20}([\w.-]{1,100})\s{0,20}<")
_CLOSING = re.compile(r"</[^<>]{0,100}(?:>|\Z)")
_CALLS = (Role.OPEN, Role.WRAP)
_OTHERS = (Role.OPEN, Role.END, Role.RESULT)  # what may stand behind the last argument


class Value(NamedTuple):
    """An argument in tags: its tag's word and attributes, where in the body its text is, and
    whether its own closing tag ended it."""

    word: str
    given: dict[str, str]
    start: int
    end: int
    closed: bool = True


class XmlBody(Body):
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
        super().__init__()
        self._closers, self._arguments = closers, arguments
        self._required, self._loose = required, loose
        self._window = ""  # what is looked at
        self._final = self._cdata = False
        self._by_name = False  # the tags are called as their arguments are
        self._open: Value | None = None
        self._nesting = 0
        self._after = 0  # where the last tag of an argument ends
        self.inner = 0  # where what the body holds ends: at the tag that closes it
        self.values: list[Value] = []

    def finish(self, text: str) -> int:
        self._final = True
        end = self.take("")
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
        whole = not rest.strip() and given.issuperset(self._required)
        self.inner = len(text)
        return len(text) if whole else -1

    def _end_in(self, window: str) -> int:
        """Look at all tags whose meaning is settled by what has come."""
        self._window = window
        base = self._size - len(window)
        at = 0
        while (spot := self._next(at)) >= 0:
            tag = tag_at(window, spot)
            at = tag.end() if tag else spot + 1
            if tag is None and not may_grow(window, spot):
                continue
            end = self._tag(tag, base) if tag else None
            if end is None:
                break
            if end >= 0 and tag:
                self.inner = base + tag.start()
                return end
        self._kept = window[spot:] if spot >= 0 else window[-2:]
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
            if word in (_KEY, _VALUE):
                self._add_unopened(word, tag, base)
                return -1
            ends = word in self._closers or (self.values and role_of(tag) in _CALLS)
            return tag.end() if ends else -1
        if self._bears_value(tag) or (self._by_name and role_of(tag) is None):
            self._by_name = self._by_name or role_of(tag) is None
            value = Value(tag["word"], _named(tag), base + tag.end(), base + tag.end())
            self._nesting = 1
            self._after = base + tag.end()
            if tag["alone"]:
                self.values.append(value)
            else:
                self._open = value
            return -1
        return tag.start() if role_of(tag) in _OTHERS else -1

    def _add_unopened(self, word: str, tag: re.Match[str], base: int) -> None:
        """A key or its value whose opening tag is missing."""
        behind_key = bool(self.values) and plain(self.values[-1].word) == _KEY
        if behind_key is (word == _VALUE):
            start, end = self._after, base + tag.start()
            self.values.append(Value(word, {"name": ""}, start, end))
        self._after = base + tag.end()

    def _bears_value(self, tag: re.Match[str]) -> bool:
        return tag["word"] in self._arguments or role_of(tag) is Role.PARAMETER

    def _tag_in_value(self, value: Value, tag: re.Match[str], base: int) -> int | None:
        word, same = plain(tag["word"]), plain(tag["word"]) == plain(value.word)
        if plain(value.word) == _KEY:
            return self._end_key(value, tag, base)
        if not is_closing(tag):
            self._nesting += same and not tag["alone"]
            if self._loose and self._is_next(tag):
                self._close(value, base + tag.start(), closed=False)
                return self._tag(tag, base)
            return -1
        if not same and not (self._loose and word in self._closers):
            return -1
        follows = self._follows(value, tag.end())
        if follows is None:
            return None
        self._nesting -= same
        if follows and (self._nesting <= 0 or self._loose):
            self._close(value, base + tag.start(), closed=same)
            self._after = base + tag.end()
            return -1 if same else tag.end()
        return -1

    def _end_key(self, key: Value, tag: re.Match[str], base: int) -> int | None:
        """A key ends at any tag; it is but a name."""
        self._close(key, base + tag.start(), closed=True)
        if is_closing(tag) and role_of(tag) is Role.PARAMETER:
            self._after = base + tag.end()
            return -1
        return self._tag(tag, base)

    def _is_next(self, tag: re.Match[str]) -> bool:
        """Whether a tag begins a line and bears an argument that the tool has, or that stands as
        a key behind it."""
        at = tag.start()
        if plain(tag["word"]) == _KEY:
            key = _KEY_TEXT.match(self._window, tag.end())
            return bool(key and key[1] in self._arguments)
        before = self._window[max(0, at - LOOK_AHEAD) : at].rstrip(" \t")
        return before.endswith("\n") and (name_in(tag) or tag["word"]) in self._arguments

    def _follows(self, value: Value, at: int) -> bool | None:
        """Whether what comes at `at` may come behind a value; None: it has not come yet."""
        begun = FILL.match(self._window, at).end()  # type: ignore[union-attr]
        rest = self._window[begun : at + LOOK_AHEAD]
        if FILLER.startswith(rest):
            waiting = not self._final and len(self._window) < at + LOOK_AHEAD
            return None if waiting else self._final
        tag = tag_at(self._window, begun)
        if plain(value.word) == _VALUE:
            if call_words.KEY_PART.match(rest):
                return None if not self._final else False
            key = call_words.KEY.match(rest)
            if key and key[1] in self._arguments:
                return True
        if tag is None:
            waiting = not self._final and rest[0] == "<" and may_grow(self._window, begun)
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
