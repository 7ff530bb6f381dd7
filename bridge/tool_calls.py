"""Finds tool calls in a model's text while it streams, and passes the rest on.

Reads the form that `tool_prompt.instructions` asks for and those that models write out of habit;
`call_tags` has the table of their words. What is quoted is not called, what broke off is not
mended, and what is no call comes out as it came in. Knows nothing of HTTP.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from bridge.call_candidates import Candidate, Fenced, Unit, loose_ends, may_begin
from bridge.call_json import Found, NoCall
from bridge.call_outlet import HELD_CHARS, MOST_SPACES, QUIET, Held, Outlet, UnknownCall
from bridge.call_reader import MOST_CALLS, OPENED, UNKNOWN, Reader, Unknown, Unusable
from bridge.call_tags import is_result, may_be_result
from bridge.markdown import Markdown, Spot
from chat_request import ToolUse
from errors import Unmet
from events import Done, Event, Text, ToolCall
from jsontools.budget import Budget

# In most pieces of prose no call can begin; `to=` may, and its letters come one by one.
_PLAIN = re.compile(r"[^<`\[\n=+]*[^<`\]\[\n=+\s](?<!\st)(?<!\sto)[^\S\n]*")
_CODE_END = re.compile("[`~]")
_LETTERS = re.compile(r"\S+")
_AT_ONCE = 2_048  # characters; the rest of them is copied behind each head that came to nothing
# What comes to nothing is looked at again, for what may begin behind its first character: without
# a limit a hostile answer takes quadratic time, and no real one comes near this one.
_MOST_AGAIN = 120_000  # characters; behind them all the rest counts as text
_SHORT = 4_096  # characters; so many may stand behind a mark when it is seen that it begins nothing
_LOOK = 6  # characters that a look at what may be a head counts as; it takes 20 to 150 us


def find_calls(
    events: Iterator[Event],
    use: ToolUse,
    *,
    last_try: bool,
    streamed: bool = True,
    budget: Budget | None = None,
) -> Iterator[Event]:
    """Turn calls in the text into `ToolCall`s while the rest flows on.

    Other events may overtake text that is held; text never overtakes text. Ends early, and the
    rest of the answer is lost, after the one call of a caller without parallel calls and where
    the model goes on to invent results. What broke off ends with `length` and without a call.
    Raises `Unmet` when the answer does not do what is asked of it and the model can be asked
    again: on a try that is not the `last_try`, while nothing has left for the caller, which
    without `streamed` nothing does. `budget` is the request's, for schemas and repairs.
    """
    if use.choice == "none" or not use.tools:
        yield from events
        return
    finder = _Finder(use, Reader(use, budget or Budget()), last_try=last_try, streamed=streamed)
    for event in events:
        try:
            finder.take(event)
        except Unmet:
            yield from finder.out
            raise
        yield from finder.out
        if finder.over:
            return
        finder.out.clear()


class _Finder(Outlet):
    """The state of one answer: what is held, and what has gone out."""

    def __init__(self, use: ToolUse, reader: Reader, *, last_try: bool, streamed: bool) -> None:
        super().__init__(last_try=last_try, streamed=streamed, waiting=use.choice == "required")
        self.use, self.reader = use, reader
        self.over = False
        self.markdown = Markdown()
        self.held = ""  # the beginning of what may become a mark
        self.unit: Unit | None = None
        self.aside = Held()  # from a call on in an element that, once it is closed, but showed it
        self.trusted = False  # such an element was never closed: what stands in one is called
        self.again = 0  # characters that were looked at in vain
        self.ids: set[str] = set()  # of native calls: some servers give all of them the same
        self._run = ""  # the white space that has come since the last mark behind a call
        self._fences = 0  # opened by the head of the last call, still to be closed

    def take(self, event: Event) -> None:
        """Take the next event; what goes on is in `out` then. Raises Unmet."""
        if isinstance(event, Text):
            self._feed(event, event.text)
        elif isinstance(event, ToolCall):
            self._adopt(event)
        elif isinstance(event, Done):
            self._finish(event.reason, whole=event.is_own)
        else:
            if not isinstance(event, QUIET):
                self.note_sent()
            self.out.append(event)

    def _feed(self, event: Text, piece: str) -> None:
        """Most of an answer passes at once: nothing is held, and no call can begin in it."""
        if self.may_retry or self.waiting:
            self.said.append(piece)
        if not (self.held or self.unit or self.after_call or self.waiting):
            markdown = self.markdown
            if markdown.flowing and _PLAIN.fullmatch(self.gap + piece):
                markdown.before = piece[-1]
                if self.gap or piece[-1].isspace():
                    self.release(piece)
                else:
                    self.recent.append(piece)
                    self.out.append(event)
                return
            if markdown.in_code and piece and not self.gap and not _CODE_END.search(piece):
                markdown.pass_code(piece)
                self.out.append(event)
                return
        self._read(piece)

    def _read(self, text: str) -> None:
        ahead = [text]
        while ahead and not self.over:
            piece = ahead.pop()
            if len(piece) > _AT_ONCE and self.again <= _MOST_AGAIN:  # as it might have come
                begins = range(0, len(piece), _AT_ONCE)
                ahead += [piece[at : at + _AT_ONCE] for at in reversed(begins)]
            elif rest := self._fill(self.unit, piece) if self.unit else self._scan(piece):
                ahead.append(rest)

    def _scan(self, piece: str) -> str:
        """Pass text on up to where a call may begin; returns what is left for the call."""
        text, self.held = self.held + piece, ""
        if self.unknown or self.after_call:
            text, settled = self._behind_call(text)
            if not settled:
                self.held = text
                return ""
            if is_result(text):
                self._take_unknown()
                self._end("tool_calls")
                return ""
        return self._advance(text, 0)

    def _advance(self, text: str, at: int) -> str:
        """The same for text of which all before `at` is no call."""
        if self.again > _MOST_AGAIN:
            self._release(text)
            return ""
        names = self.reader.names
        spot, at = self.markdown.walk(text, at)
        while spot in (Spot.LINE, Spot.INLINE) and not may_begin(text, at, names):
            spot, at = self.markdown.walk(text, at + 1)
        self._release(text[:at])
        if spot is Spot.CODE_END:
            self.note_code()
            return text[at:]
        if spot is Spot.NONE:
            self.held = text[at:]
            return ""
        self.again += _LOOK
        said = self.last_words()
        if spot is Spot.FENCE:
            self.unit = Fenced(names, said)
        else:
            self.unit = Candidate(names, said, line=spot is Spot.LINE)
        return text[at:]

    def _behind_call(self, text: str) -> tuple[str, bool]:
        """What is left of `text` without that which only closes the last call, and whether it is
        sure what that begins."""
        at, settled = loose_ends(text, self.reader.names)
        if self.unknown:
            self.unknown.text += text[:at]
            return text[at:], settled and not may_be_result(text[at:])
        if self._fences and text.startswith("```", at):
            self._fences -= 1
            more, settled = loose_ends(text[at + 3 :], self.reader.names)
            at += 3 + more
        runs = _LETTERS.split(text[:at])
        runs[0] = (self._run + runs[0])[:MOST_SPACES]
        self._run = runs[-1]
        self.gap = max((self.gap, *runs), key=lambda run: (run.count("\n"), len(run)))
        rest = text[at:]
        fence = self._fences and "```".startswith(rest)
        return rest, settled and not (fence or may_be_result(rest))

    def _fill(self, unit: Unit, piece: str) -> str:
        """Add to what may be a call; returns what stands behind its end."""
        if not unit.feed(piece):
            if unit.size <= HELD_CHARS:
                return ""
            unit.calls.clear()
        self.unit = None
        return self._settle(unit)

    def _settle(self, unit: Unit) -> str:
        """Make calls of what was read, or pass it on as text; returns what stands behind it."""
        if unit.calls and self._doubts():
            self.aside.add(unit.own_text)
            self.markdown.begin_anew(self.markdown.aside)
            return unit.rest
        try:
            calls = self.reader.read(unit.calls)
        except NoCall:
            calls = []
        except Unknown as unknown:
            if isinstance(unit, Fenced):
                return self._pass(unit)
            self.drop_unknown()
            self.again += _SHORT
            self.unknown = UnknownCall(unknown.call, unit.own_text)
            self.markdown.begin_anew()
            return unit.rest
        except Unusable as wrong:
            calls = self._instead_of(wrong)
        if not calls:
            return self._pass(unit)
        still_open = self._fences if self.after_call else 0
        self._emit(calls)
        self._fences = still_open + unit.calls[-1].head.fences
        return unit.rest

    def _doubts(self) -> bool:
        """Whether calls may be but shown by the element they stand in, which is not named as a tool
        on offer is."""
        opener = self.markdown.aside
        return bool(opener) and not (self.trusted or self.reader.names.find(opener[1:]))

    def _instead_of(self, wrong: Unusable) -> list[ToolCall]:
        """What is passed on for a call that should not be as it is."""
        if self.may_retry or (wrong.strict and not self.sent):
            raise self.unmet(str(wrong))
        return [wrong.instead] if wrong.instead else []

    def _pass(self, unit: Unit) -> str:
        """It was no call: pass on what surely is none, and look at the rest again."""
        text, skip = unit.text, unit.skip
        if self.made and is_result(text):
            self._end("tool_calls")
            return ""
        again = len(text) - skip
        self.again += unit.looked
        if unit.head or again >= _SHORT:  # what looked like a whole call counts, however short
            self.again += max(again, _SHORT)
        if isinstance(unit, Fenced):
            self.markdown.open_fence(text[:skip])
        elif unit.line and text[0] in "[{" and skip < 2:
            self.markdown.open_data()
            skip = 0
        return self._advance(text, skip)

    def _adopt(self, call: ToolCall) -> None:
        """A call that came natively, held to the same rules; it ends the text before it."""
        if self.aside.size:
            self._look_again(whole=True)
        try:
            checked = self.reader.to_call(Found(call.name, call.arguments))
        except NoCall:
            raise self.unmet(UNKNOWN) from None
        except Unusable as wrong:
            if self.may_retry or not (self.sent and wrong.instead):
                raise self.unmet(str(wrong)) from None
            checked = wrong.instead
        if call.id and call.id not in self.ids:
            checked = replace(checked, id=call.id)
        self.ids.add(checked.id)
        self._emit([checked])

    def _emit(self, calls: list[ToolCall]) -> None:
        if self.unknown:
            calls, self.unknown = [self.unknown.call, *calls], None
        self.flush()
        self.note_sent()
        self.after_call, self._fences, self._run = True, 0, ""
        self.recent.clear()
        self.markdown.begin_anew()
        for call in calls:
            self.out.append(call)
            self.made += 1
            if not self.use.parallel or self.made == MOST_CALLS:
                self._end("tool_calls")
                return

    def _look_again(self, whole: bool) -> None:
        """Nothing has closed what calls stand in: they were meant, unless the answer was cut."""
        text = self.aside.take() + (self.unit.text if self.unit else self.held)
        self.unit, self.held = None, ""
        self.markdown.begin_anew()
        self.trusted = True
        if whole:
            self._read(text)
        else:
            self._release(text)

    def _release(self, text: str) -> None:
        """Pass text on."""
        if self.aside.size:
            self.aside.add(text)
            if not self.markdown.closed and self.aside.size < HELD_CHARS:
                return
            text = self.aside.take()
        if self.unknown and text.strip():
            self.drop_unknown()
        self.release(text)

    def _take_unknown(self) -> None:
        """Nothing came behind it: it is a call, and the caller says that there is no such tool."""
        if self.unknown and self.may_retry:
            raise self.unmet(UNKNOWN)
        if self.unknown:
            self._emit([])

    def _finish(self, reason: str, *, whole: bool) -> None:
        broken = False
        while not broken:
            hides_end = self.unit and self.markdown.ends_in(self.unit.text)
            if not hides_end and (self.aside.size or self._doubts()):
                self._look_again(whole)
            unit, self.unit = self.unit, None
            if unit is None:
                break
            unit.finish(whole=whole)
            if self.after_call and OPENED.fullmatch(unit.text):
                break  # an opening tag in place of the closing one
            broken = unit.broken and self.reader.is_meant(unit, whole=whole)
            if not broken:
                self._read(self._settle(unit))
        if self.after_call:
            self.held = ""  # the beginning of what only closes the call
        if not self.held.strip():
            self._take_unknown()
        if self.held:
            self._release(self.held)
        if self.gap and not (self.after_call or broken):
            self.say(self.gap)
        if self.waiting and whole and not broken:
            names = ", ".join(tool.name for tool in self.use.tools[:5])
            raise self.unmet(f"The answer must call a tool ({names}), but calls none.")
        if reason == "tool_calls" and not (self.made or broken):
            raise self.unmet("The answer ends in the call of a tool, but the call did not come.")
        self.flush()
        if broken and whole:
            reason = "length"
        self._end("tool_calls" if self.made and reason == "stop" else reason)

    def _end(self, reason: str) -> None:
        if not self.over:
            self.out.append(Done(reason))
        self.over = True
