"""Where in Markdown a text stands: what is quoted there is not called.

Knows nothing of tools or of the forms of calls.
"""

import re
from collections.abc import Iterable
from enum import Enum, auto

from jsontools.text import JsonScan

_SPACES = re.compile(r"\s*")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_LINE_END = re.compile(r"\n[ \t]*\Z")
_RUN = re.compile(r"`+|~+")
_FENCE = 3  # so many of them open or close a code block
_WORDS = r"(?<!\S)(?:t(?:o(?:=|\Z)|\Z)|\+(?:#|\Z))"  # what GPT puts before the name of a tool
# MiniMax begins a call with `]<]minimax[>[`.
_MARKS = rf"\n|`+|<(?=[A-Za-z|｜‖ \t]|\Z)|\](?=<\]|<?\Z)|\[(?=TOOL_|T?O?O?L?\Z)|{_WORDS}"
_MARK = re.compile(rf"{_MARKS}|<(?=!(?:--|-?\Z))")
_MARK_ASIDE = re.compile(rf"{_MARKS}|</|-(?=->|-?\Z)")
# Elements and comments that show what they hold: how each begins, and how it ends.
_ELEMENTS = ("think", "thinking", "thought", "pre", "code")
_ASIDES = {**{f"<{word}": f"</{word}" for word in _ELEMENTS}, "<!--": "-->"}
_ASIDE = re.compile(rf"(?i)<(?:!--|(?:{'|'.join(_ELEMENTS)})(?=[\s>]))")
_ASIDE_CHARS = max(map(len, _ASIDES)) + 1
_UNSURE = ("", "!", "!-", "<")  # behind a mark: only what follows tells what that begins
_QUOTING = (">", "|", "+<", "-<")  # a quotation, a table, a diff
_QUOTES = "\"'“‘«„"
_TAG_AT_END = re.compile(r"<[^<>/\n][^<>\n]*>[ \t\r]*\n")
_TAG_CHARS = 100
_CITED_END = re.compile(r"[\n\"'”’»“]")
_SHOWN = "<{["
_CODE_INDENT = 4
_SHOWING = re.compile(
    r"(?i)\b(?:example|e\.g\.|for instance|looks? like|would|syntax|placeholder|template|usage|"
    r"as follows|you (?:can|could|may|might) (?:use|call|write|run|try|send|invoke|make|do)|"
    r"sample|snippet|illustrat\w+|demonstrat\w+|"
    r"how to|forms?|format(?:ted|s)?|schema|such as|like (?:this|so)|"
    r"Beispiel|z\. ?B\.|ejemplo|exemple|esempio|exemplo|voorbeeld|przykład\w*|örne[kğ]\w*|"
    r"exempel|eksempel|esimerk\w+|contoh|ví dụ)\b|"
    r"пример|приклад|の例|例えば|例如|示例|比如|예시|예를|مثال|उदाहरण|"
    r"(?<!I )\b(?:use|write|type)\b[^.:\n]{0,20}:\s{0,5}\Z"
)
_DOCUMENT = re.compile(r"(?m)^#{1,6} ")
_ANNOUNCED = re.compile(
    r"(?im)\b(?:I(?:'|’)?(?:ll|m| will| am| need)|let me|let(?:'|’)s|we(?:'|’)ll)\b"
    r"(?! (?:show|give|demonstrate|illustrate|explain|document|describe|write (?:you|an example)))"
    r"|^\W{0,4}(?:first|then|next|now|finally)\b(?!.*\b(?:example|form\w*|like|so|this)\b)"
    r"[^.:\n]{0,20}[.:]?\s{0,5}\Z"
)
# ReAct's, which is part of a call or of one that is shown.
_THOUGHT = re.compile(r"(?im)^\W{0,4}thought\W{0,2}:")
# A line that does nothing but name what comes; an exchange that is shown has it too.
_LABEL = re.compile(r"(?im)^\W{0,4}(?:tool|function) calls?\b\W{0,6}\Z")


class Spot(Enum):
    """What may begin at a place in the text."""

    NONE = auto()  # nothing in what has come; from this place on it has to be held
    FENCE = auto()
    LINE = auto()  # any form of a call
    INLINE = auto()  # a form that a tag or token marks
    CODE_END = auto()  # nothing, but a code block has ended here


class Markdown:
    """The state of a text up to where it has been walked through."""

    def __init__(self) -> None:
        self.before = "\n"  # the last character that was walked over
        self._line = True  # nothing but white space stands in this line yet
        self._indent = 0
        self._fence = ""  # the marks that opened the code block which is open
        self._opening = False  # the line that opened it is not over
        self._ticks = 0  # the length of the back-quotes that opened inline code
        self._shows = False  # what those back-quotes hold begins as markup or JSON does
        self.aside = ""  # how the element or comment begins that is open
        self.closed = False  # whether one has ended
        self._quoted = ""  # the mark that the line begins with and that quotes it
        self._opened = False  # a tag was opened at the end of this quotation, or of the one before
        self._cited = False  # a tag stood behind a quotation mark that is still open
        self._spot = Spot.NONE
        self._data: JsonScan | None = None  # JSON that is no call; what it holds is none either

    @property
    def flowing(self) -> bool:
        """Whether a piece without marks leaves all as it is."""
        inside = self._fence or self._data or self._cited or self.aside
        return not (self._line or inside)

    @property
    def in_code(self) -> bool:
        """Whether a code block is open, so that only back-quotes and tildes matter."""
        return bool(self._fence) and not (self._opening or self.aside)

    def pass_code(self, text: str) -> None:
        """Walk over text of a code block without back-quotes and tildes."""
        _, end, last = text.rpartition("\n")
        blank = not last or last.isspace()
        self._line = blank and bool(end or self._line)
        self.before = text[-1]

    def begin_anew(self, aside: str = "") -> None:
        """Behind a call every form may begin, as at the start of a line; `aside` is still open."""
        self.__init__()  # type: ignore[misc]
        self.aside = aside

    def ends_in(self, text: str) -> bool:
        """Whether what ends the element or comment that is open stands in a text ahead."""
        return bool(self.aside) and _ASIDES[self.aside] in text.lower()

    def open_fence(self, marks: str) -> None:
        """The code block that begins here holds no call, and ends inline code."""
        self._fence, self._opening, self._ticks = marks, True, 0

    def open_data(self) -> None:
        """The bracket that comes next begins data."""
        self._data = JsonScan()

    def walk(self, text: str, at: int = 0) -> tuple[Spot, int]:
        """The next place from `at` on where a call may begin, and what."""
        self._spot = Spot.NONE
        while at < len(text):
            came = self._step(text, at)
            if came == at or self._spot is not Spot.NONE:
                at = came
                break
            at = came
        if at:
            self.before = text[at - 1]
        return self._spot, at

    def _found(self, spot: Spot, at: int) -> int:
        self._spot = spot
        return at

    def _step(self, text: str, at: int) -> int:
        """Walk on to the next mark; where it stands now. Standing still is waiting for more."""
        if self._data:
            end = self._skip_data(self._data, text, at)
            if self._data or end > at:
                return end
        if self._cited:
            return self._skip_citation(text, at)
        if self._line:
            return self._spaces(text, at) if text[at].isspace() else self._line_start(text, at)
        mark = (_MARK_ASIDE if self.aside else _MARK).search(text, at)
        return self._mark(text, mark) if mark else len(text)

    def _spaces(self, text: str, at: int) -> int:
        """White space at the start of a line, blank lines among it."""
        end = _SPACES.match(text, at).end()  # type: ignore[union-attr]
        _, blank, own = text[at:end].expandtabs(_CODE_INDENT).rpartition("\n")
        if blank:
            self._ticks = self._indent = 0
            self._opened = False
        self._indent += len(own)
        return end

    def _line_start(self, text: str, at: int) -> int:
        first = text[at]
        if run := _RUN.match(text, at):
            if run.end() == len(text):
                return at
            if len(run[0]) >= _FENCE:
                self._line, self._indent = False, 0
                return self._fence_mark(text, run)
        indented = self._indent >= _CODE_INDENT
        self._line, self._indent = False, 0
        if self._fence or text.startswith("</", at):
            return self._onward(text, at)
        if first in "+-" and at + 1 == len(text):
            self._line = True
            return at
        self._quoted = first if text.startswith(_QUOTING, at) else ""
        if first == "<" and not (self._ticks and self._shows):
            came = self._tag(text, at, Spot.LINE)
            self._line = came == at and self._spot is Spot.NONE
            return came
        hidden = self._ticks or indented or self._opened
        if (first.isalpha() or first in "_{[*") and not hidden:
            return self._found(Spot.LINE, at)
        return self._onward(text, at)

    def _onward(self, text: str, at: int) -> int:
        """Go on in the line, from its first character on, which may be a mark."""
        mark = (_MARK_ASIDE if self.aside else _MARK).match(text, at)
        return self._mark(text, mark) if mark else at + 1

    def _tag(self, text: str, at: int, spot: Spot) -> int:
        """A tag that is not quoted may begin a call, or what shows all that it holds."""
        if self.aside:
            waits = at + 1 == len(text)
        else:
            begun = _ASIDE.match(text, at)
            self.aside = begun[0].lower() if begun else ""
            waits = not begun and _is_part(text, at, _ASIDES)
        return at if waits else self._found(spot, at)

    def _aside_end(self, text: str, at: int) -> int:
        """What may end the element or comment that is open."""
        closer = _ASIDES[self.aside]
        if text[at : at + len(closer)].lower() == closer:
            self.aside, self.closed = "", True
            return at + len(closer)
        return at if _is_part(text, at, (closer,)) else at + 1

    def _fence_mark(self, text: str, fence: re.Match[str]) -> int:
        if not self._fence:
            return self._found(Spot.FENCE, fence.start())
        if fence[0].startswith(self._fence) and not text[fence.end()].isalnum():
            self._fence = ""
            return self._found(Spot.CODE_END, fence.end())
        return fence.end()

    def _mark(self, text: str, mark: re.Match[str]) -> int:
        first, at = mark[0][0], mark.start()
        if first == "\n":
            self._end_line()
            return mark.end()
        if first == "`":
            return self._back_quotes(text, mark)
        if self.aside and first == "<" and at + 1 == len(text):
            return at  # only what follows tells whether it closes something
        if mark[0] in ("</", "-"):
            return self._aside_end(text, at)
        if self._quoted == ">" and first == "<":
            return self._quoted_tag(text, at)
        if self._fence or self._ticks or self._quoted:
            return mark.end()
        before = text[at - 1] if at else self.before
        if first in "<]" and before in _QUOTES:
            return self._citation(text, mark)
        if first == "<":
            return self._tag(text, at, Spot.INLINE)
        free = first in "[]" or before.isspace()
        return self._found(Spot.INLINE, at) if free else mark.end()

    def _quoted_tag(self, text: str, at: int) -> int:
        """What a tag holds that is opened at the end of a quoted line is quoted, too."""
        rest = text[at : at + _TAG_CHARS]
        ends = _TAG_AT_END.match(rest)
        if "\n" not in rest and len(rest) < _TAG_CHARS:
            return at
        self._opened = bool(ends)
        return at + 1

    def _citation(self, text: str, mark: re.Match[str]) -> int:
        """A tag that stands behind a quotation mark, with all that the marks are around."""
        if text[mark.end() : mark.end() + len("!--")] in _UNSURE:
            return mark.start()
        self._cited = not text[mark.end()].isspace()
        return mark.end()

    def _skip_citation(self, text: str, at: int) -> int:
        """A citation of tags ends at a quotation mark behind a tag, or with its line."""
        end = _CITED_END.search(text, at)
        if end is None:
            return len(text)
        if end[0] == "\n":
            self._end_line()
        elif (text[end.start() - 1] if end.start() else self.before) == ">":
            self._cited = False
        return end.end()

    def _end_line(self) -> None:
        self._opened = self._opened and bool(self._quoted)
        self._line, self._opening, self._quoted, self._cited = True, False, "", False

    def _back_quotes(self, text: str, mark: re.Match[str]) -> int:
        if mark.end() == len(text):
            return mark.start()
        size = len(mark[0])
        if self._opening:
            self._fence, self._opening = "", False  # it was inline code between three marks
        elif self._fence:
            pass
        elif self._ticks:
            self._ticks = 0 if size == self._ticks else self._ticks
        elif size >= _FENCE and not self._quoted:
            return self._found(Spot.FENCE, mark.start())
        else:
            self._ticks = size
            self._shows = text[mark.end()] in _SHOWN
        return mark.end()

    def _skip_data(self, scan: JsonScan, text: str, at: int) -> int:
        """Where the data ends: at its last bracket, at a tag or at a blank line."""
        blank = _BLANK_LINE.search(text, at) or _LINE_END.search(text, at)
        stop = blank.start() if blank else len(text)
        end = scan.end(text[:stop], at)
        over = blank is not None and blank[0].endswith("\n", 1)
        if end >= 0 or over:
            self._data = None
        return end if end >= 0 else stop


def _is_part(text: str, at: int, words: Iterable[str]) -> bool:
    """Whether the text ends, from `at` on, in the beginning of one of the words."""
    rest = text[at : at + _ASIDE_CHARS].lower()
    return at + len(rest) == len(text) and any(word.startswith(rest) for word in words)


def _last_paragraph(said: str) -> str:
    return said[said.rfind("\n\n") + 1 :]


def is_shown(before: str, behind: str) -> bool:
    """Whether the words `before` and `behind` a form show it, rather than use it."""
    said = before.strip()
    last = _last_paragraph(said)
    while thought := _THOUGHT.search(last):
        said = said[: len(said) - len(last) + thought.start()].strip()
        last = _last_paragraph(said)
    if not said:
        return False
    if _ANNOUNCED.search(last):
        return False
    if _LABEL.search(last):
        return bool(_SHOWING.search(said) or _DOCUMENT.search(said))
    return bool(behind or _SHOWING.search(last) or _DOCUMENT.search(said))
