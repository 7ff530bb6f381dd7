"""The answer of OpenAI chat completions: events as chunks, or as one completion.

Pure: what all chunks of an answer share is an `Envelope`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, assert_never

from errors import ProxyError
from events import (
    Answering,
    Citation,
    Done,
    Event,
    Picture,
    Reasoning,
    Tally,
    Text,
    ToolCall,
    Usage,
    joined,
)
from formats import ErrorReply
from formats.sse import DONE, Frame, Writer, dumps, slices, to_bytes, written

CHUNK = "chat.completion.chunk"  # the `object` of a chunk
CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all chunks of one answer share. `choices` is how many answers it has, `thoughts` the
    field that thoughts go into, `legacy` whether calls leave as `function_call`, `pictures` whether
    a stream shows pictures in a field of their own, besides the link in the text. `before` is what
    legacy completions say before the text of each choice."""

    request_id: str
    id: str
    created: int
    model: str
    choices: int = 1
    usage: bool = False
    thoughts: str = "reasoning_content"
    legacy: bool = False
    pictures: bool = False
    before: tuple[str, ...] = ()


class ChunkWriter(Writer):
    """The chunks of a stream, each a part of one choice. `kind` is their `object`, `nothing` what
    the last one of a choice adds to it; `heads` has what those of each choice begin with, `index`
    is the choice that what comes belongs to. Calls and sources are counted, for each choice and
    kind."""

    kind, nothing = CHUNK, '"delta":{}'

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.answers = envelope.choices
        self.counts: Counter[tuple[int, str]] = Counter()
        opening = dumps(to_opening(envelope, self.kind))[:-1]
        self.heads = [
            f'data: {opening},"choices":[{{"index":{index},' for index in range(envelope.choices)
        ]
        self.turn_to(0)

    def to_frames(self, head: str) -> tuple[Frame, Frame | None]:
        """Those of words and of thoughts in one choice."""
        raise NotImplementedError

    def turn_to(self, index: int) -> None:
        """What comes belongs to this choice."""
        self.index = index
        self.said, self.thought = self.to_frames(self.heads[index])

    def chunk(self, told: str, reason: str = "null") -> str:
        """One chunk; `reason` is JSON."""
        return self.heads[self.index] + told + self.tail(reason)

    def tail(self, reason: str = "null") -> str:
        """What each chunk ends with; `reason` is JSON."""
        usage = ',"usage":null' if self.envelope.usage else ""
        return f',"logprobs":null,"finish_reason":{reason}}}]{usage}}}\n\n'

    def take(self, event: Event) -> bytes:
        if isinstance(event, Answering):
            self.turn_to(event.index)
        return b""

    def finish(self, done: Done) -> bytes:
        reason = to_reason(self.envelope, done.reason, called=self.counts[self.index, CALLS] > 0)
        return self.chunk(self.nothing, dumps(reason)).encode()

    def end(self, usage: Usage | None) -> bytes:
        if not self.envelope.usage:
            return DONE
        last = {**to_opening(self.envelope, self.kind), "choices": [], "usage": to_usage(usage)}
        return f"data: {dumps(last)}\n\n".encode() + DONE

    def failed(self, wrong: ProxyError, usage: Usage | None) -> bytes:
        return b"data: " + error(wrong, self.envelope.request_id).body + b"\n\n" + DONE


class _ChatWriter(ChunkWriter):
    """Chat's chunks."""

    def opening(self) -> bytes:
        """The role chunks of all choices, in order, or `.stream()` of OpenAI's own Python package
        fails."""
        role = '"delta":{"role":"assistant","content":""}' + self.tail()
        return "".join([head + role for head in self.heads]).encode()

    def to_frames(self, head: str) -> tuple[Frame, Frame | None]:
        begin, end = head + '"delta":{', "}" + self.tail()
        return (f'{begin}"content":', end), (f'{begin}"{self.envelope.thoughts}":', end)

    def take(self, event: Event) -> bytes:
        match event:
            case ToolCall():
                deltas = _deltas(event, self._next_of(CALLS), self.envelope)
            case Citation():
                kind, told = _to_source(event)
                # OpenAI's Python package fails without its place
                deltas = [{kind: [{"index": self._next_of(kind), **told}]}]
            case Picture() if self.envelope.pictures:
                deltas = [{"images": [_to_image(event)]}]
            case _:
                return super().take(event)
        chunks = [self.chunk(f'"delta":{dumps(delta)}') for delta in deltas]
        return "".join(chunks).encode("utf-8", "replace")

    def _next_of(self, kind: str) -> int:
        self.counts[self.index, kind] += 1
        return self.counts[self.index, kind] - 1


def stream(events: Iterator[Event], envelope: Envelope, tally: Tally) -> Iterator[bytes]:
    """Events as bytes of whole chunks, from the role chunk to the end of the stream."""
    return written(events, _ChatWriter(envelope), tally)


def whole(events: Iterable[Event], envelope: Envelope, tally: Tally) -> bytes:
    """Events as one completion."""
    messages = read(events, envelope, tally)
    completion = to_opening(envelope, "chat.completion")
    completion["choices"] = [one.to_choice(i, envelope) for i, one in enumerate(messages)]
    completion["usage"] = to_usage(tally.usage)
    return to_bytes(completion)


def read(events: Iterable[Event], envelope: Envelope, tally: Tally) -> "list[Gathered]":
    """A whole answer as the messages of its choices."""
    messages = [Gathered() for _ in range(envelope.choices)]
    message = messages[0]
    for event in joined(events, tally):
        match event:
            case Text(text=text):
                message.said.append(text)
            case Reasoning(text=text):
                message.thought.append(text)
            case ToolCall():
                message.calls.append(_to_call(event))
            case Citation():
                kind, told = _to_source(event)
                message.sources.setdefault(kind, []).append(told)
            case Picture():
                message.images.append(_to_image(event))
            case Answering(index=index):
                message = messages[index]
            case Done(reason=reason):
                message.reason = reason
            case _:
                assert_never(event)
    return messages


class Gathered:
    """One choice of a whole answer, as its events come together."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.thought: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.sources: dict[str, list[dict[str, Any]]] = {}
        self.images: list[dict[str, Any]] = []
        self.reason = "stop"

    def to_choice(self, index: int, envelope: Envelope) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.said)}
        message["refusal"] = None
        if self.thought:
            message[envelope.thoughts] = "".join(self.thought)
        message |= self.sources
        if self.images:
            message["images"] = self.images
        if self.calls:
            message["content"] = message["content"] or None
            if envelope.legacy:
                message["function_call"] = self.calls[0]["function"]
            else:
                message["tool_calls"] = self.calls
        reason = to_reason(envelope, self.reason, called=bool(self.calls))
        ending = {"logprobs": None, "finish_reason": reason}
        return {"index": index, "message": message, **ending}


def error(wrong: ProxyError, request_id: str) -> ErrorReply:
    """OpenAI's error object with all four keys, as its OpenAPI document requires."""
    detail = {"message": wrong.told(request_id), "type": wrong.type, "param": wrong.param}
    body = {"error": {**detail, "code": wrong.code}}
    return ErrorReply(wrong.status, to_bytes(body))


def to_opening(envelope: Envelope, kind: str) -> dict[str, Any]:
    """The members that each chunk and a whole completion begin with; `kind` is its `object`."""
    fixed = {"id": envelope.id, "object": kind, "created": envelope.created}
    return {**fixed, "model": envelope.model}


def to_reason(envelope: Envelope, reason: str, *, called: bool) -> str:
    """Clients run the calls of an answer only where its reason says that it has some, whatever
    ended it, be it a stop string behind them."""
    if reason not in ("stop", "tool_calls"):
        return reason
    if not called:
        return "stop"
    return "function_call" if envelope.legacy else "tool_calls"


def _deltas(call: ToolCall, index: int, envelope: Envelope) -> list[dict[str, Any]]:
    """The deltas of one call: first who is called, then with what."""
    kind, field = ("custom", "input") if call.custom else ("function", "arguments")
    parts = [_to_call(replace(call, arguments=""))]
    parts += [{kind: {field: piece}} for piece in slices(call.arguments)]
    if envelope.legacy:
        return [{"function_call": part[kind]} for part in parts]
    return [{"tool_calls": [{"index": index, **part}]} for part in parts]


def _to_call(call: ToolCall) -> dict[str, Any]:
    kind, field = ("custom", "input") if call.custom else ("function", "arguments")
    return {"id": call.id, "type": kind, kind: {"name": call.name, field: call.arguments}}


def _to_source(source: Citation) -> tuple[str, dict[str, Any]]:
    """A source, and the member that it belongs to: a page is one of OpenAI's annotations, a passage
    without an address stands under a name of ours, as OpenAI's types take no other annotation."""
    if source.url:
        url = {"url": source.url, "title": source.title, "start_index": 0, "end_index": 0}
        return "annotations", {"type": "url_citation", "url_citation": url}
    told = {"source_id": source.source_id, "title": source.title}
    return "knowledge_citations", {**told, "text": source.text}


def _to_image(picture: Picture) -> dict[str, Any]:
    """A part as OpenRouter has it, which UIs read: OpenAI's chat completions know no pictures."""
    return {"type": "image_url", "image_url": {"url": picture.url}}


def to_usage(usage: Usage | None) -> dict[str, Any]:
    """OpenAI's usage object; zeros where nothing is known."""
    usage = usage or Usage(0, 0)
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
