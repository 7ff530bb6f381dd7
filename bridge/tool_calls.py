"""Finds tool calls in a model's text while it streams, and passes the rest on.

Reads the form that `tool_prompt.instructions` asks for and those that models write out of habit;
`call_heads` has the table of them. What is quoted is not called, what broke off is not mended, and
what is no call comes out as it came in. Knows nothing of HTTP.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import replace

from bridge.call_candidates import Candidate, Context, Fenced, Written, loose_ends
from bridge.call_heads import TAG, ROLES, Role, plain
from bridge.call_quotes import Markdown, Spot
from bridge.call_reader import Reader, Unknown, Unusable
from bridge.call_values import Found, NoCall
from chat_request import ToolUse
from errors import Unmet
from events import Done, Event, Silence, Text, ToolCall, Usage, Working

# No real answer comes near these; without them a hostile one takes quadratic time.
_HELD_CHARS = 1024 * 1024
_MOST_SPACES = 1000
_MOST_CALLS = 128
_MOST_MISSES = 32
_RECENT_CHARS = 2000

# In most pieces of prose no call can begin; `to=` may, and its letters come one by one.
_PLAIN = re.compile(r"[^<`\[\n=]*[^<`\[\n=\s](?<!\st)(?<!\sto)")
_OBSERVATION = re.compile(r"\s*Observation:")


def find_calls(
    events: Iterator[Event], use: ToolUse, *, last_try: bool, streamed: bool = True
) -> Iterator[Event]:
    """Turn calls in the text into `ToolCall`s while the rest flows on.

    Other events may overtake text that is held; text never overtakes text. Ends early, and the
    rest of the answer is lost, after the one call of a caller without parallel calls and where
    the model goes on to invent results. What broke off ends with `length` and without a call.
    Raises `Unmet` when the answer does not do what is asked of it and the model can be asked
    again: on a try that is not the `last_try`, while nothing has left for the caller, which
    without `streamed` nothing does.
    """
    if use.choice == "none" or not use.tools:
        yield from events
        return
    finder = _Finder(use, last_try=last_try, streamed=streamed)
    found: Iterator[Event]
    for event in events:
        match event:
            case Text(text):
                found = finder.feed(text)
            case ToolCall():
                found = finder.adopt(event)
            case Done(reason):
                found = finder.finish(reason)
            case _:
                if not isinstance(event, Silence | Working | Usage):
                    finder.note_sent()
                found = iter((event,))
        for one in found:
            yield one
            if isinstance(one, Done):
                return


class _Finder:
    """The state of one answer: what is held, and what has gone out."""

    def __init__(self, use: ToolUse, *, last_try: bool, streamed: bool) -> None:
        self.use, self.streamed = use, streamed
        self.reader = Reader(use)
        self.markdown = Markdown()
        self.may_retry = not last_try
        self.sent = False
        self.waiting = use.choice == "required"
        self.kept: list[str] = []
        self.kept_chars = 0
        self.said: list[str] | None = []
        self.recent: list[str] = []  # the text since the last call
        self.gap = ""  # white space that is text if words follow
        self.held = ""
        self.fresh = True  # nothing but white space since the beginning or the last call
        self.fences = 0  # opened by the head of the last call, still to be closed
        self.unit: Candidate | Fenced | None = None
        self.unknown: tuple[str, ToolCall] | None = None
        self.made = self.misses = 0

    def note_sent(self) -> None:
        """Something has gone on to the caller."""
        if self.streamed:
            self.may_retry, self.sent, self.said = False, True, None

    def feed(self, piece: str) -> Iterator[Event]:
        """Most of an answer passes at once: nothing is held, and no call can begin in it."""
        if self.said is not None:
            self.said.append(piece)
        busy = self.held or self.unit or self.gap or self.fresh or self.waiting
        if not busy and self.markdown.flowing and _PLAIN.fullmatch(piece):
            self.markdown.before = piece[-1]
            self.recent.append(piece)
            yield Text(piece)
        else:
            yield from self._read(piece)

    def _read(self, piece: str) -> Iterator[Event]:
        while piece:
            piece = yield from self._fill(self.unit, piece) if self.unit else self._scan(piece)

    def _scan(self, piece: str) -> Generator[Event, None, str]:
        """Pass text on up to where a call may begin; returns what is left for the call."""
        text, self.held = self.held + piece, ""
        if self.fresh and self.made:
            text, over = self._after_call(text)
            if over:
                yield Done("tool_calls")
                return ""
        if self.misses > _MOST_MISSES:
            yield from self._release(text)
            return ""
        place = self.markdown.walk(text)
        return (yield from self._at(text, place.spot, place.at))

    def _at(self, text: str, spot: Spot, at: int) -> Generator[Event, None, str]:
        if spot is Spot.NONE:
            yield from self._release(text[:at])
            self.held = text[at:]
            return ""
        line = spot is Spot.LINE or (self.fresh and not text[:at].strip())
        yield from self._release(text[:at])
        context = Context(self.reader.names, line, "".join(self.recent))
        self.unit = Fenced(context) if spot is Spot.FENCE else Candidate(context)
        return text[at:]

    def _after_call(self, text: str) -> tuple[str, bool]:
        """What is left of `text` without that which only closes the last call, and whether the
        model goes on to invent results."""
        at, settled = loose_ends(text, self.reader.names)
        if self.fences and text.startswith("```", at):
            self.fences, at = self.fences - 1, at + 3
            at += loose_ends(text[at:], self.reader.names)[0]
        spaces = "".join(c if c.isspace() else "x" for c in text[:at]).split("x")
        self.gap = max((self.gap, *spaces), key=lambda s: (s.count("\n"), len(s)))
        rest = text[at:]
        tag = TAG.match(rest)
        invented = tag and ROLES.get(plain(tag["word"])) is Role.RESULT
        return rest, settled and bool(invented or _OBSERVATION.match(rest))

    def _fill(self, unit: Candidate | Fenced, piece: str) -> Generator[Event, None, str]:
        """Add to what may be a call; returns what stands behind its end."""
        decided = unit.feed(piece)
        if not decided and unit.size > _HELD_CHARS:
            self.misses, decided = _MOST_MISSES + 1, True
            unit.calls.clear()
        if not decided:
            return ""
        self.unit = None
        return (yield from self._settle(unit))

    def _settle(self, unit: Candidate | Fenced) -> Generator[Event, None, str]:
        """Make calls of what was read, or pass it on as text; returns what stands behind it."""
        if not unit.calls:
            return (yield from self._pass(unit))
        try:
            calls = [call for written in unit.calls for call in self.reader.read(written)]
        except NoCall:
            return (yield from self._pass(unit))
        except Unknown as unknown:
            if isinstance(unit, Fenced):
                return (yield from self._pass(unit))
            yield from self._drop_unknown()
            self.unknown = unit.text[: unit.size - len(unit.rest)], unknown.call
            self.fresh = True
            return unit.rest
        except Unusable as wrong:
            return (yield from self._mend(unit, wrong))
        yield from self._emit(calls, unit.calls)
        return unit.rest

    def _mend(self, unit: Candidate | Fenced, wrong: Unusable) -> Generator[Event, None, str]:
        """What is done with a call that should not be passed on as it is."""
        if self.may_retry or (wrong.strict and not self.sent):
            raise self._unmet(str(wrong))
        if wrong.instead:
            yield from self._emit([wrong.instead], unit.calls)
            return unit.rest
        return (yield from self._pass(unit))

    def _pass(self, unit: Candidate | Fenced) -> Generator[Event, None, str]:
        """It was no call: pass on what surely is none, and look at the rest again."""
        self.misses += bool(unit.head)
        text = unit.text
        if isinstance(unit, Fenced):
            self.markdown.open_fence(unit.marks)
            skip = unit.skip
        ...

    def adopt(self, call: ToolCall) -> Iterator[Event]:
        """A call that came natively, held to the same rules."""
        try:
            checked = self.reader.to_call(Found(call.name, call.arguments))
        except NoCall:
            raise self._unmet("The model called a tool that is not offered.") from None
        except Unusable as wrong:
            raise self._unmet(str(wrong)) from None
        yield from self._emit([replace(checked, id=call.id or checked.id)], [])
