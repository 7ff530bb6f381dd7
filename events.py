"""The vocabulary of a stream: what an answer is made of, whichever side it came from.

Knows nothing of HTTP, of OpenAI's chunks or of Flowith's dialects.
"""

from dataclasses import dataclass


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
class Done:
    """The proper end of an answer; `reason` is one of OpenAI's finish reasons."""

    reason: str = "stop"


Event = Text | Reasoning | ToolCall | Citation | Usage | Silence | Working | Done
