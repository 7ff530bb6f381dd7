"""OpenAI's legacy completions: each prompt becomes a conversation, each answer a bare text.

The request is checked as chat's is. Pure, like every format.
"""

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from chat_request import ChatRequest, Message
from events import Answering, Done, Event, Tally, Text, Usage, joined
from formats import chat
from formats.chat_answer import ChunkWriter, Envelope, error, to_opening, to_usage
from formats.fields import bad_value, expect, missing, parse_json, wrong_type
from formats.sse import Frame, dumps, pieces, written
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
    _check_count(len(prompts), settings)
    echo = expect("echo", body.pop("echo", False), bool)
    unused = [name for name in WITHOUT if body.pop(name, None) is not None]
    conversations = [[Message("user", one)] for one in prompts]
    request = chat.to_request(body, conversations, settings)
    _check_count(len(request.conversations), settings)
    # the prompt of each answer, to be said again before it
    before = [str(one[0].content) for one in request.conversations] if echo else []
    return replace(request, echo={"before": before}, ignored=(*request.ignored, *unused))


def _check_count(answers: int, settings: Settings) -> None:
    if answers > settings.max_choices:
        wanted = f"at most {settings.max_choices} answers"
        raise bad_value("prompt", wanted, "array_above_max_length")


@dataclass(frozen=True, slots=True)
class Completions(Envelope):
    """What all chunks of one answer share; `before` is what stands before each choice's text."""

    before: tuple[str, ...] = ()


def to_envelope(request: ChatRequest, settings: Settings, request_id: str) -> Completions:
    """The envelope of an answer that begins now."""
    return Completions(
        request_id=request_id,
        id=f"cmpl-{random.getrandbits(112):028x}",
        created=int(time.time()),
        model=request.asked,
        choices=len(request.conversations),
        usage=request.include_usage,
        before=tuple(request.echo["before"]),
    )


class _CompletionWriter(ChunkWriter):
    """Chunks that have text alone: thoughts, calls and sources have no place in them."""

    kind = OBJECT

    def __init__(self, envelope: Completions) -> None:
        super().__init__(envelope)
        self.before = envelope.before

    def opening(self) -> bytes:
        echoes = zip(self.heads, self.before, strict=False)  # no echo, or one for each choice
        return b"".join([pieces(f'{head}"text":', prompt, self.tail()) for head, prompt in echoes])

    def to_frames(self, head: str) -> tuple[Frame, Frame | None]:
        return (f'{head}"text":', self.tail()), None

    def finish(self, done: Done) -> bytes:
        return self.chunk('"text":""', dumps(_reason(done.reason))).encode()


def stream(events: Iterator[Event], envelope: Completions, tally: Tally) -> Iterator[bytes]:
    """Events as bytes of whole chunks."""
    return written(events, _CompletionWriter(envelope), tally)


def whole(events: Iterable[Event], envelope: Completions, tally: Tally) -> bytes:
    """Events as one completion."""
    texts = [list[str](envelope.before[i : i + 1]) for i in range(envelope.choices)]
    reasons = ["stop"] * envelope.choices
    now = 0
    for event in joined(events):
        match event:
            case Text(text=text):
                texts[now].append(text)
            case Usage():
                tally.add(event)
            case Answering(index=index):
                now = index
            case Done(reason=reason):
                reasons[now] = _reason(reason)
    choices = [
        {"index": i, "text": "".join(said), "logprobs": None, "finish_reason": reason}
        for i, (said, reason) in enumerate(zip(texts, reasons, strict=True))
    ]
    usage = to_usage(tally.usage)
    completion = {**to_opening(envelope, OBJECT), "choices": choices, "usage": usage}
    return dumps(completion).encode("utf-8", "replace")


def _reason(reason: str) -> str:
    """Tools have no place in this API: what a model calls behind its words is not passed on."""
    return "stop" if reason == "tool_calls" else reason
