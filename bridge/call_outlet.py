"""What goes on to the caller while an answer is searched for calls.

White space waits for the words behind it, text for the call that is required, and it is known
whether the model can still be asked again. Knows nothing of what a call looks like.
"""

from dataclasses import dataclass

from bridge.tool_prompt import FORM
from errors import Unmet
from events import Event, PromptSize, Reasoning, Silence, Text, ToolCall, Usage, Working

HELD_CHARS = 1024 * 1024  # no real answer comes near it
MOST_SPACES = 1000
_RECENT_CHARS = 2000
# What may pass before there is an answer; thoughts are none.
QUIET = (Silence, Working, Usage, PromptSize, Reasoning)


@dataclass(slots=True)
class UnknownCall:
    """A call of a tool that is not offered, which is text if anything else follows."""

    call: ToolCall
    text: str


class Held:
    """Text that waits, in the pieces that it came in."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[str] = []

    def add(self, text: str) -> None:
        self._pieces.append(text)
        self.size += len(text)

    def take(self) -> str:
        """All of it, which is held no longer."""
        text = "".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return text


class Outlet:
    """The way out of one answer; `out` is what goes on now.

    `streamed`: what goes on leaves for the caller at once. `waiting`: a call is required, and
    text is kept until it comes.
    """

    def __init__(self, *, last_try: bool, streamed: bool, waiting: bool) -> None:
        self.streamed, self.waiting = streamed, waiting
        self.out: list[Event] = []
        self.may_retry = not last_try
        self.sent = False
        self.said: list[str] = []  # all the model wrote, as long as it may be asked again
        self.recent: list[str] = []  # the text since the last call
        self.gap = ""  # white space that is text if words follow
        self.after_call = False  # nothing but white space has come since the last call
        self.spoken = False
        self.made = 0  # calls
        self.unknown: UnknownCall | None = None
        self._kept = Held()

    def note_sent(self) -> None:
        """Something has gone on to the caller."""
        if self.streamed:
            self.may_retry, self.sent = False, True
            self.said.clear()

    def note_code(self) -> None:
        """A code block is over: what it says, comments too, introduces no call."""
        self.recent[1:] = ["\n```\n"]

    def last_words(self) -> str:
        """What was said last since the last call."""
        words = "".join(self.recent)[-_RECENT_CHARS:]
        self.recent = [words]
        return words

    def release(self, text: str) -> None:
        """Pass text on; white space at its end waits until words follow."""
        words = text.rstrip()
        if not words:
            self.gap += text
            if len(self.gap) >= MOST_SPACES:
                gap, self.gap = self.gap, ""
                self.say(gap)
            return
        gap = "" if self.made and not self.spoken else self.gap
        self.gap = text[len(words) :]
        self.after_call, self.spoken = False, True
        self.recent.append(gap + words)
        self.say(gap + words)

    def drop_unknown(self) -> None:
        """It was text after all."""
        unknown, self.unknown = self.unknown, None
        if unknown:
            self.release(unknown.text)

    def say(self, text: str) -> None:
        if not self.waiting:
            self.note_sent()
            self.out.append(Text(text))
            return
        self._kept.add(text)
        if self._kept.size > HELD_CHARS:
            raise self.unmet("The model wrote on and on without the call that is required.")

    def flush(self) -> None:
        """Let go what was kept until the required call came."""
        self.waiting = False
        if text := self._kept.take():
            self.say(text)

    def unmet(self, message: str) -> Unmet:
        return Unmet(message, said="".join(self.said), form=FORM)
