"""What may be a tool call, from its first character on, while it comes in.

A `Candidate` is one head and its body; a `Fenced` one is a code block that holds nothing but
calls. Both end with `calls`, or without any: then the text is the caller's. Knows nothing of
events, and does not judge names or arguments.
"""

import re
from typing import NamedTuple

from bridge import call_words
from bridge.call_bodies import JsonBody, LineBody, SecondBody
from bridge.call_head_tags import Head, Verdict, wait_if
from bridge.call_heads import read_head
from bridge.call_names import Names
from bridge.call_tags import ROLES, TAG, Role, is_closing, may_be_tag, may_open, plain, role_of
from bridge.markdown import is_shown

_LOOSE_ENDS = re.compile(
    r"(?i)(?:\]\]>|\]<\]minimax\[>\[|</(?:s|answer|assistant|response)>|\](?!\]?\Z|<(?:\]|\Z))|"
    r"[\s}),;]|>(?=</)|\[(?:/|END_|\|end)[A-Z_]{3,20}\|?\])+"
)
_LOOSE_PART = re.compile(
    r"(?i)(?:><?|\](?:\]|<(?:\][minax]{0,7}\[?>?)?)?|"
    r"\[(?:[/|][A-Z_]{0,20}\|?|E(?:N(?:D(?:_[A-Z_]{0,20})?)?)?)?)\Z"
)
_SPACES = re.compile(r"\s*")
_MARKS = re.compile(r"`+|~+")
_CODE_FENCES = ("", "json", "xml", "text", "txt", "plaintext", "jsonc", "json5")
_FENCE = re.compile(r"(`{3,}|~{3,})[ \t]*([\w-]{0,30})s?[ \t]*(?=[\n{\[<]|\Z)\n?")
# In a block of a programming language only such names are calls of tools.
_PREFIXED = re.compile(r"(?:print\(\s*)?(?:default_api|functions)\.")
_PREFIX_CHARS = 40
# Around the calls in a block of `tool_code`: comments, imports, a name for the result.
_ASIDE = re.compile(
    r"(?:(?:#|//|import )[^\n]{0,200}\n|print\(\w{1,40}\)|[A-Za-z_]\w{0,40} ?= ?(?=[\w.]+\())\s*"
)
_ASIDE_PART = re.compile(
    r"(?:(?:#|//?|import )[^\n]{0,200}|[\w(]{0,50}\)?(?: ?=? ?[\w.]{0,80})?)\Z"
)
_WORD = re.compile(r"[\w.:-]{1,100}")
# Words behind a call that explain nothing: more calls follow them, or they stand around calls.
_CALLING = {"tool_code", "assistant", "commentary", "action:", "observation:", "print"}
_GAP_CHARS = 1000  # of white space and brackets behind a call, behind which nothing is waited for
_OPENING_CHARS = 200  # of the line that opens a block


class Written(NamedTuple):
    """A call as it stands in the text: its head, and the text of its body, which is whole."""

    head: Head
    text: str


def may_begin(text: str, at: int, names: Names) -> bool:
    """Whether a call may begin at `at`: a quick look, since every line of prose begins with some
    word and every page has tags."""
    if text[at] == "<":
        return may_open(text, at, names)
    if text[at] == "*":
        return bool(call_words.BOLD.match(text, at))
    word = call_words.WORD.match(text, at)
    if not word or call_words.ACTION.match(text, at):
        return True
    known = word[0].lower()
    if word.end() < len(text) and known not in call_words.FIRST_WORDS:
        return names.find(word[0]) is not None
    return known in call_words.FIRST_PARTS or names.may_begin(word[0])


class Unit:
    """Text that may hold calls, as it comes in, and what it turned out to be.

    `line`: a form without a mark may stand in it; `before` is what was said since the last call.
    `calls` are those it holds; where there are none, so much of it as `skip` says is surely no
    call. `rest` is what came behind it, `broken`: it ended in the middle of a call.
    """

    def __init__(self, names: Names, before: str, *, line: bool, skip: int) -> None:
        self.names, self.before, self.line, self.skip = names, before, line, skip
        self.size = 0
        self.looked = 0  # characters that were read of a head which came to nothing
        self.head: Head | None = None  # of the call that is being read
        self.calls: list[Written] = []
        self.rest = ""
        self.broken = False
        self._parts: list[str] = []
        self._behind: str | None = None  # what has come behind the last call

    @property
    def text(self) -> str:
        self._parts = ["".join(self._parts)]
        return self._parts[0]

    @property
    def own_text(self) -> str:
        """Its text without what came behind it."""
        return self.text[: self.size - len(self.rest)]

    def feed(self, piece: str) -> bool:
        """Take the next piece; whether it is decided now."""
        self._parts.append(piece)
        self.size += len(piece)
        return self._take(piece) if self._behind is None else self._look_behind(piece)

    def finish(self, *, whole: bool) -> None:
        """Nothing more comes; `whole`: the answer ended by itself and was not cut."""
        if self._behind is None:
            self._end(whole)
        else:
            self._look_behind("", final=True)

    def _take(self, piece: str) -> bool:
        """Take text that stands before the end of the last call."""
        raise NotImplementedError

    def _end(self, whole: bool) -> None:
        """Nothing more comes, and that end has not come."""
        raise NotImplementedError

    def _is_shown(self, words: str) -> bool:
        """Whether `words` behind the calls, and those before, show them as an example."""
        raise NotImplementedError

    def _look_behind(self, piece: str, *, final: bool = False) -> bool:
        self._behind = (self._behind or "") + piece
        words = words_behind(self._behind, self.names, final=final)
        if words is None:
            return False
        if self._is_shown(words):
            self.calls.clear()
        self.rest = self._behind
        return True


class Candidate(Unit):
    """One call: a head, a body, and where no mark vouches for it what comes behind it."""

    def __init__(
        self, names: Names, before: str = "", *, line: bool = True, fenced: bool = False
    ) -> None:
        super().__init__(names, before, line=line, skip=1)
        self.fenced = fenced
        self._began = 0  # where what is being read begins: a head, or the body behind it

    def _take(self, piece: str) -> bool:
        return self._fill(self.head, piece) if self.head else self._look_at_head()

    def _look_at_head(self) -> bool:
        text = self.text[self._began :]
        verdict, head = read_head(text, self.names, line=self.line)
        if verdict is not Verdict.BODY:
            self.looked = head.at
            return verdict is Verdict.NO
        self.head = head
        self._began += head.at
        return self._fill(head, text[head.at :])

    def _fill(self, head: Head, piece: str) -> bool:
        end = head.body.take(piece)
        return end >= 0 and self._end_body(head, end)

    def _end_body(self, head: Head, end: int) -> bool:
        begin, self._began = self._began, self._began + end
        if self._is_name(head, self.text[begin : self._began]):
            return self._fill(head, self.text[self._began :])
        self.calls.append(Written(head, self.text[begin : self._began]))
        self.skip = self._began
        rest = self.text[self._began :]
        if self.fenced or (head.vouched and not head.name_tag):
            self.rest = rest
            return True
        return self._look_behind(rest)

    def _is_name(self, head: Head, text: str) -> bool:
        """Whether an object says the name alone, so that its arguments may come in another."""
        named = call_words.NAME_ALONE.fullmatch(text) if head.vouched and not head.tool else None
        head.tool = self.names.find(named[1]) if named else head.tool
        if named and head.tool:
            head.body = SecondBody()
        return bool(named and head.tool)

    def _is_shown(self, words: str) -> bool:
        """A form without a mark counts only where its line holds nothing else, too. Where plain
        text ends, nothing tells but what comes behind it."""
        line = (self._behind or "").partition("\n")[0].strip(" \t\r;])},")
        plain_text = self.head and isinstance(self.head.body, LineBody)
        return bool(words and (line or plain_text)) or is_shown(self.before, words)

    def _end(self, whole: bool) -> None:
        if self.head is None:
            self.broken = not whole
            return
        body = self.head.body
        end = body.finish(self.text[self._began :]) if whole else -1
        if end < 0:
            self.broken = True
            self.skip = self.size if isinstance(body, JsonBody) else self._began
        elif not self._end_body(self.head, end):
            self._look_behind("", final=True)


def words_behind(behind: str, names: Names, *, final: bool) -> str | None:
    """The words behind a call, empty where another call or nothing comes; None: not known yet."""
    rest = behind.lstrip(" \t\r\n])},;*")
    if not rest:
        return "" if final or len(behind) > _GAP_CHARS else None
    if rest[0] in "<{[`~":
        return ""
    if call_words.ACTION.match(rest):
        return ""
    if not final and any(phrase.startswith(rest.lower()) for phrase in call_words.ACTIONS):
        return None
    word = _WORD.match(rest)
    if word and word.end() == len(rest) and not final:
        return None
    known = word and (names.find(word[0]) or word[0].lower() in _CALLING)
    known = known or rest.startswith("to=")
    return "" if known else rest[:100]


class Fenced(Unit):
    """A code block whose first thing is a call. It is one only if calls are all it holds, and if
    the words around it do not show it as an example."""

    def __init__(self, names: Names, before: str) -> None:
        super().__init__(names, before, line=True, skip=0)
        self._marks = ""
        self._strong = False  # it is called as a tag is that opens a call
        self._gap = ""  # what has come since the last call, or of the opening line
        self._inner: Candidate | None = None

    def _take(self, piece: str) -> bool:
        while self._behind is None:
            if self._inner:
                decided = self._inner.feed(piece)
                self.head = self._inner.head
                if not decided:
                    return False
                if not self._inner.calls or self._is_markup(self._inner.calls[-1].head):
                    return self._is_none()
                self.calls += self._inner.calls
                piece, self._inner, self.head = self._inner.rest, None, None
                continue
            self._gap += piece
            verdict = self._between() if self._marks else self._open()
            if verdict is Verdict.MORE:
                return False
            if verdict is Verdict.NO:
                return self._is_none()
            piece, self._gap = self._gap, ""
        return self._look_behind(piece)

    def _is_markup(self, head: Head) -> bool:
        """Whether a tag is called as a tool is by chance, in code that is full of tags."""
        return head.name_tag and not (self.line or head.vouched)

    def _is_none(self) -> bool:
        self.calls.clear()
        return True

    def _open(self) -> Verdict:
        """Read the line that opens the block."""
        gap = self._gap
        fence = _FENCE.match(gap)
        if not fence:
            self.skip = _MARKS.match(gap).end()  # type: ignore[union-attr]
            return Verdict.NO
        if fence.end() == len(gap):
            return wait_if(len(gap) <= _OPENING_CHARS)
        self._marks, self.skip = fence[1], len(fence[1])
        info = plain(fence[2])
        self._strong = ROLES.get(info.removesuffix("s")) is Role.OPEN
        self.line = info in _CODE_FENCES or self._strong
        self._gap = gap[fence.end() :]
        return Verdict.ON

    def _between(self) -> Verdict:
        """Step over what stands before the next call, or before the end of the block."""
        gap = self._gap
        at, settled = self._step_over(gap)
        if at == len(gap) or not settled:
            self._gap = gap[at:]
            return Verdict.MORE
        if gap[at] == self._marks[0]:
            return self._close(gap, at)
        if not self.line and gap[at] != "<" and not _PREFIXED.match(gap, at):
            return wait_if("\n" not in gap[at:] and len(gap) - at < _PREFIX_CHARS)
        self._inner = Candidate(self.names, fenced=True)
        self._gap = gap[at:]
        return Verdict.ON

    def _close(self, gap: str, at: int) -> Verdict:
        """Read the marks that close the block."""
        end = len(gap) - len(gap[at:].lstrip(self._marks[0]))
        if end == len(gap):
            return Verdict.MORE
        if end - at < len(self._marks) or not self.calls:
            return Verdict.NO
        self._behind, self._gap = "", gap[end:]
        return Verdict.ON

    def _step_over(self, gap: str) -> tuple[int, bool]:
        """Where what closes the last call is over, and comments are; whether that is sure."""
        at, settled = 0, True
        while True:
            if self.calls:
                at, settled = loose_ends(gap, self.names, at)
            else:
                at = _SPACES.match(gap, at).end()  # type: ignore[union-attr]
            aside = _ASIDE.match(gap, at) if self._strong else None
            if not aside:
                return at, settled and not (self._strong and _ASIDE_PART.match(gap, at))
            at = aside.end()

    def _is_shown(self, words: str) -> bool:
        return is_shown(self.before, "" if self._strong else words)

    def _end(self, whole: bool) -> None:
        if self._inner:
            self._inner.finish(whole=whole)
            self.calls += self._inner.calls
            self.broken = self._inner.broken
        if self._is_shown(""):
            self.calls.clear()


def loose_ends(text: str, names: Names, at: int = 0) -> tuple[int, bool]:
    """Where what only closes a call is over, and whether that is sure before more comes."""
    while True:
        if ends := _LOOSE_ENDS.match(text, at):
            at = ends.end()
        tag = TAG.match(text, at)
        if not tag:
            part = text.startswith("<", at) and may_be_tag(text, at, names)
            return at, not (part or _LOOSE_PART.match(text, at))
        known = role_of(tag) or names.find(tag["word"])
        if not (role_of(tag) is Role.END or (is_closing(tag) and known)):
            return at, True
        at = tag.end()
