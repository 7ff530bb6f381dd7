"""OpenAI's legacy completions: each prompt becomes a conversation, each answer a bare text.

The request is checked as chat's is. Pure, like every format.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from chat_request import ChatRequest, Message
from events import Event, Tally
from formats import chat
from formats.chat_answer import (
    ChunkWriter,
    Envelope,
    error,
    read,
    to_opening,
    to_reason,
    to_usage,
)
from formats.fields import bad_value, expect, missing, parse_json, too_many, wrong_type
from formats.sse import Frame, pieces, to_bytes, written
from settings import Settings

__all__ = ["ID_HEADERS", "NAME", "error", "parse", "stream", "to_envelope", "whole"]

NAME = "completions"
ID_HEADERS = chat.ID_HEADERS
OBJECT = "text_completion"  # of chunks and of whole completions
WITHOUT = ("logprobs", "tools", "functions", "response_format")  # chat's, or of another form there


def parse(raw: bytes, settings: Settings) -> ChatRequest:
    """Check a legacy completion request. Raises InvalidRequest that names the field."""
    body = parse_json(raw)
    prompts = body.pop("prompt", None)
    if prompts is None:
        raise missing("prompt")
    if isinstance(prompts, str):
        prompts = [prompts]
    if not isinstance(prompts, list) or not all(isinstance(one, str) for one in prompts):
        raise wrong_type("prompt", "a string or an array of strings", prompts)
    if not prompts:
        raise bad_value("prompt", "expected at least one prompt", "empty_array")
    if len(prompts) > settings.max_choices:
        raise too_many("prompt", len(prompts), settings.max_choices)
    echo = expect("echo", body.pop("echo", False), bool)
    unused = [name for name in WITHOUT if body.pop(name, None) is not None]
    conversations = [[Message("user", one)] for one in prompts]
    request = chat.to_request(body, conversations, settings)
    before = tuple(str(one[0].content) for one in request.conversations) if echo else ()
    said_again = {**request.echo, "before": before}
    ignored = (*request.ignored, *unused)
    return replace(request, words_in="prompt", echo=said_again, ignored=ignored)


def to_envelope(request: ChatRequest, settings: Settings, request_id: str) -> Envelope:
    envelope = chat.to_envelope(request, settings, request_id)
    id = envelope.id.removeprefix("chat")
    return replace(envelope, id=id, before=request.echo["before"])


class _CompletionWriter(ChunkWriter):
    """Chunks that have text alone: thoughts, calls and sources have no place in them."""

    kind, nothing = OBJECT, '"text":""'

    def opening(self) -> bytes:
        echoes = zip(self.heads, self.envelope.before, strict=False)  # none, or one for each choice
        return b"".join([pieces(f'{head}"text":', prompt, self.tail()) for head, prompt in echoes])

    def to_frames(self, head: str) -> tuple[Frame, Frame | None]:
        return (f'{head}"text":', self.tail()), None


def stream(events: Iterator[Event], envelope: Envelope, tally: Tally) -> Iterator[bytes]:
    """Events as bytes of whole chunks."""
    return written(events, _CompletionWriter(envelope), tally)


def whole(events: Iterable[Event], envelope: Envelope, tally: Tally) -> bytes:
    """Events as one completion."""
    choices = []
    for i, answer in enumerate(read(events, envelope, tally)):
        text = "".join([*envelope.before[i : i + 1], *answer.said])
        # what a model calls behind its words is not passed on: tools have no place in this API
        reason = to_reason(envelope, answer.reason, called=False)
        choices.append({"index": i, "text": text, "logprobs": None, "finish_reason": reason})
    usage = to_usage(tally.usage)
    completion = {**to_opening(envelope, OBJECT), "choices": choices, "usage": usage}
    return to_bytes(completion)
