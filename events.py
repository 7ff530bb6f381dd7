"""The vocabulary of a stream: what an answer is made of, whichever side it came from.

Knows nothing of HTTP, of OpenAI's chunks or of Flowith's dialects.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thought before it answered."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One complete call; `arguments` is JSON text (free text when `custom`)."""

    id: str
    name: str
    arguments: str
    custom: bool = False


@dataclass(frozen=True, slots=True)
class Citation:
    """A source the answer rests on. `url` is empty for passages of a knowledge base."""

    title: str
    url: str = ""
    text: str = ""
    source_id: str = ""

    @property
    def words(self) -> str:
        """The source as a text can name it."""
        name = self.title.strip() or self.url or self.source_id.strip() or "a source"
        return f"[{name}]({self.url})" if self.url else name


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was made. `url` is where it is; `data` is the file itself in base64 and `kind`
    its true type (png, jpeg, webp or gif), both empty where nobody asked for the file.

    A `Text` with a link to it follows, for APIs that know nothing but text.
    """

    url: str
    data: bytes = b""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. `reasoning` is part of `completion`, `cached` is part of `prompt`."""

    prompt: int
    completion: int
    reasoning: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing has come for a while: the moment for a sign of life to the caller."""


@dataclass(frozen=True, slots=True)
class Working:
    """Upstream talks, though perhaps nothing of it reaches the caller yet (a tool call, say)."""


@dataclass(frozen=True, slots=True)
class PromptSize:
    """How many tokens went up, estimated: for callers who are told before the first word."""

    tokens: int


@dataclass(frozen=True, slots=True)
class Answering:
    """What follows belongs to the answer of conversation number `index`; comes only where a
    request has several, which are answered side by side."""

    index: int


@dataclass(frozen=True, slots=True)
class Done:
    """The proper end of an answer.

    `reason` is "stop", "length", "tool_calls" or "content_filter" (OpenAI's finish reasons);
    `stop` is the caller's stop string that ended it, else empty.
    """

    reason: str = "stop"
    stop: str = ""

    @property
    def is_own(self) -> bool:
        """Whether the model ended the answer itself, and nothing cut it off."""
        return self.reason in ("stop", "tool_calls")


AnswerPart = Text | Reasoning | ToolCall | Citation | Picture | Answering | Done
Event = AnswerPart | Usage | Silence | Working | PromptSize


@dataclass(slots=True)
class Tally:
    """What the answers to one request came to, for the caller, the log and the metrics."""

    usage: Usage | None = None
    heartbeats: int = 0

    def add(self, usage: Usage) -> None:
        """Count one answer; the prompt they share counts once, as it does at OpenAI."""
        old = self.usage or Usage(0, 0)
        self.usage = Usage(
            max(old.prompt, usage.prompt),
            old.completion + usage.completion,
            old.reasoning + usage.reasoning,
            old.cached + usage.cached,
        )


def joined(events: Iterable[Event], tally: Tally) -> Iterator[AnswerPart]:
    """The parts of a whole answer, neighbouring pieces of its text as one; its usage goes into
    `tally`."""
    for kind, alike in groupby(events, type):
        if kind is Text:
            yield Text("".join([event.text for event in alike if isinstance(event, Text)]))
            continue
        for event in alike:
            if isinstance(event, Usage):
                tally.add(event)
            elif not isinstance(event, (Silence, Working, PromptSize)):
                yield event
