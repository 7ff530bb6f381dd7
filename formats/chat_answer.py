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
    PromptSize,
    Reasoning,
    Silence,
    Tally,
    Text,
    ToolCall,
    Usage,
    Working,
)
from formats import ErrorReply
from formats.sse import DONE, PING, dumps, pieces, slices

CHUNK = "chat.completion.chunk"  # the `object` of a chunk
PASSAGE_CHARS = 2_000  # of a passage that an answer rests on


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all chunks of one answer share. `choices` is how many answers it has, `thoughts` the
    field that thoughts go into, `legacy` whether calls leave as `function_call`, `pictures` whether
    a stream shows pictures in a field of their own, besides the link in the text."""

    request_id: str
    id: str
    created: int
    model: str
    choices: int = 1
    usage: bool = False
    thoughts: str = "reasoning_content"
    legacy: bool = False
    pictures: bool = False


class _Choice:
    """One choice of a streamed answer: the fixed text around its deltas, made once."""

    __slots__ = ("calls", "head", "said", "sources", "tail", "tail_said", "thought")

    def __init__(self, envelope: Envelope, index: int) -> None:
        opening = dumps(to_opening(envelope, CHUNK))[:-1]
        self.head = f'data: {opening},"choices":[{{"index":{index},"delta":'
        self.tail = to_tail(envelope)
        self.said = self.head + '{"content":'
        self.thought = f'{self.head}{{"{envelope.thoughts}":'
        self.tail_said = "}" + self.tail
        self.calls = 0
        self.sources: Counter[str] = Counter()

    def role(self) -> bytes:
        return f'{self.head}{{"role":"assistant","content":""}}{self.tail}'.encode()

    def source_out(self, source: Citation) -> bytes:
        """With its place among those of its kind: OpenAI's Python package fails without."""
        kind, told = _to_source(source)
        told = {"index": self.sources[kind], **told}
        self.sources[kind] += 1
        return f"{self.head}{dumps({kind: [told]})}{self.tail}".encode("utf-8", "replace")

    def calls_out(self, call: ToolCall, envelope: Envelope) -> bytes:
        deltas = _deltas(call, self.calls, envelope)
        self.calls += 1
        events = [self.head + delta + self.tail for delta in deltas]
        return "".join(events).encode("utf-8", "replace")


def stream(events: Iterator[Event], envelope: Envelope, tally: Tally) -> Iterator[bytes]:
    """Events as bytes of whole chunks, from the role chunk to the end of the stream.

    Only the delta is encoded for each piece. The role chunks of all choices come first, in order,
    or `.stream()` of OpenAI's own Python package fails.
    """
    choices = [_Choice(envelope, index) for index in range(envelope.choices)]
    choice, left = choices[0], len(choices)
    pending = b"".join([one.role() for one in choices])
    quiet = True
    try:
        for event in events:
            match event:
                case Text(text=text):
                    block = pieces(choice.said, text, choice.tail_said)
                case Reasoning(text=text):
                    block = pieces(choice.thought, text, choice.tail_said)
                case ToolCall():
                    block = choice.calls_out(event, envelope)
                case Citation():
                    block = choice.source_out(event)
                case Picture():
                    if not envelope.pictures:
                        continue
                    shown = f'{{"images":[{dumps(_to_image(event))}]}}'
                    block = (choice.head + shown + choice.tail).encode()
                case Silence():
                    block = PING
                    tally.heartbeats += 1
                case Working():
                    if not quiet:
                        quiet = True
                        continue
                    block = PING
                    tally.heartbeats += 1
                case Usage():
                    tally.add(event)
                    continue
                case Answering(index=index):
                    choice = choices[index]
                    continue
                case PromptSize():
                    continue
                case Done(reason=reason):
                    finish = to_tail(envelope, f'"{_reason(envelope, reason)}"')
                    block = f"{choice.head}{{}}{finish}".encode()
                    left -= 1
                    if not left:
                        yield pending + block + to_end(envelope, CHUNK, tally)
                        return
                case _:
                    assert_never(event)
            quiet = quiet and block == PING
            if pending:
                block, pending = pending + block, b""
            yield block
    except ProxyError as wrong:
        if not pending:
            yield b"data: " + error(wrong, envelope.request_id).body + b"\n\n" + DONE
        raise


def whole(events: Iterable[Event], envelope: Envelope, tally: Tally) -> bytes:
    """Events as one completion."""
    messages = [_Message() for _ in range(envelope.choices)]
    message = messages[0]
    for event in events:
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
            case Usage():
                tally.add(event)
            case Answering(index=index):
                message = messages[index]
            case Done(reason=reason):
                message.reason = reason
            case Silence() | Working() | PromptSize():
                pass
            case _:
                assert_never(event)
    completion = to_opening(envelope, "chat.completion")
    completion["choices"] = [one.to_choice(i, envelope) for i, one in enumerate(messages)]
    completion["usage"] = to_usage(tally.usage)
    return dumps(completion).encode("utf-8", "replace")


class _Message:
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
        ending = {"logprobs": None, "finish_reason": _reason(envelope, self.reason)}
        return {"index": index, "message": message, **ending}


def error(wrong: ProxyError, request_id: str) -> ErrorReply:
    """OpenAI's error object with all four keys, as its OpenAPI document requires."""
    detail = {"message": wrong.told(request_id), "type": wrong.type, "param": wrong.param}
    body = {"error": {**detail, "code": wrong.code}}
    return ErrorReply(wrong.status, dumps(body).encode("utf-8", "replace"))


def to_opening(envelope: Envelope, kind: str) -> dict[str, Any]:
    """The members that each chunk and a whole completion begin with; `kind` is its `object`."""
    fixed = {"id": envelope.id, "object": kind, "created": envelope.created}
    return {**fixed, "model": envelope.model}


def to_tail(envelope: Envelope, reason: str = "null") -> str:
    """What stands after the delta, or the text, of a chunk; `reason` is JSON."""
    usage = ',"usage":null' if envelope.usage else ""
    return f',"logprobs":null,"finish_reason":{reason}}}]{usage}}}\n\n'


def to_end(envelope: Envelope, kind: str, tally: Tally) -> bytes:
    """The end of a stream, after the finish chunk of each choice."""
    if not envelope.usage:
        return DONE
    last = {**to_opening(envelope, kind), "choices": [], "usage": to_usage(tally.usage)}
    return f"data: {dumps(last)}\n\n".encode() + DONE


def _reason(envelope: Envelope, reason: str) -> str:
    return "function_call" if envelope.legacy and reason == "tool_calls" else reason


def _deltas(call: ToolCall, index: int, envelope: Envelope) -> Iterator[str]:
    """The deltas of one call: first who is called, then with what."""
    kind, field = ("custom", "input") if call.custom else ("function", "arguments")
    parts = [_to_call(replace(call, arguments=""))]
    parts += [{kind: {field: piece}} for piece in slices(call.arguments)]
    for part in parts:
        if envelope.legacy:
            yield dumps({"function_call": part[kind]})
        else:
            yield dumps({"tool_calls": [{"index": index, **part}]})


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
    return "knowledge_citations", {**told, "text": source.text[:PASSAGE_CHARS]}


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
