"""OpenAI's side of an answer: events to chunks, or to one completion.

Pure: what all chunks of an answer share is an `Envelope`. Knows nothing of HTTP or of Flowith.
"""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from json.encoder import encode_basestring as quoted  # the C function; 5 times faster than dumps
from typing import Any, Literal, assert_never

from chat import ChatRequest
from errors import ProxyError
from events import Citation, Done, Event, Reasoning, Silence, Text, ToolCall, Usage, Working

PING = b": ping\n"  # a comment line with one newline: safe in every client and hop tested
DONE = b"data: [DONE]\n\n"
ROLE = '{"role":"assistant","content":""}'
LONGEST_PIECE = 8_000  # characters; keeps each line below 60 KB, escaped (readers cut at 64 KB)
Shape = Literal["chat", "text"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all chunks of one answer share. `reasoning` is the field that thoughts go into,
    `legacy` whether calls leave as `function_call`."""

    id: str
    created: int
    model: str
    index: int = 0
    usage: bool = False
    reasoning: str = "reasoning_content"
    legacy: bool = False
    shape: Shape = "chat"

    def at(self, index: int) -> "Envelope":
        """The same answer's choice `index`."""
        return replace(self, index=index) if index else self

    @classmethod
    def new(cls, chat: ChatRequest, reasoning: str, shape: Shape) -> "Envelope":
        prefix = "chatcmpl-" if shape == "chat" else "cmpl-"
        return cls(
            id=f"{prefix}{random.getrandbits(112):028x}",
            created=int(time.time()),
            model=chat.asked,
            usage=chat.include_usage,
            reasoning="reasoning" if reasoning == "reasoning" else "reasoning_content",
            legacy=chat.tools is not None and chat.tools.legacy,
            shape=shape,
        )


@dataclass(slots=True)
class Tally:
    """What one or more answers came to, for the usage chunk, the log and the metrics."""

    usage: Usage | None = None
    heartbeats: int = 0
    finish: list[str] = field(default_factory=list)

    def add(self, usage: Usage) -> None:
        """Count one choice; the prompt they share counts once, as it does at OpenAI."""
        old = self.usage or Usage(0, 0)
        self.usage = Usage(
            max(old.prompt, usage.prompt),
            old.completion + usage.completion,
            old.reasoning + usage.reasoning,
            old.cached + usage.cached,
        )


def to_chunks(
    events: Iterator[Event], envelope: Envelope, tally: Tally, alone: bool = True
) -> Iterator[bytes]:
    """One choice of a stream, as server-sent events, up to its finish chunk; where it is `alone`,
    from the role chunk to the end of the stream.

    Only the delta is encoded for each piece; everything around it is made once per answer.
    """
    head, tail = _head(envelope), _tail(envelope)
    chat = envelope.shape == "chat"
    said, after = (head + '{"content":', "}" + tail) if chat else (head, tail)
    thought = f'{head}{{"{envelope.reasoning}":'
    pending = f"{head}{ROLE}{tail}".encode() if alone and chat else b""
    calls, quiet = 0, True
    for event in events:
        match event:
            case Text(text=text):
                block = _pieces(said, text, after)
            case Reasoning(text=text):
                block = _pieces(thought, text, after) if chat else b""
            case ToolCall():
                deltas = _deltas(event, calls, envelope)
                block = "".join(head + delta + tail for delta in deltas).encode()
                calls += 1
            case Citation():
                block = f'{head}{{"annotations":[{_dumps(_to_annotation(event))}]}}{tail}'.encode()
            case Silence():
                block = PING
                tally.heartbeats += 1
            case Working():
                block = PING if quiet else b""
                tally.heartbeats += int(quiet)
                quiet = True
            case Usage():
                tally.add(event)
                continue
            case Done(reason=reason):
                tally.finish.append(reason)
                finish = _tail(envelope, f'"{_reason(envelope, reason)}"')
                last = head + ("{}" if chat else '""') + finish
                end = to_tail(envelope, tally) if alone else b""
                yield pending + last.encode() + end
                return
            case _:
                assert_never(event)
        if pending or block:
            quiet = quiet and block == PING
            yield pending + block
            pending = b""


def to_role(envelope: Envelope) -> bytes:
    """The role chunk; those of all choices come first, in order, or `.stream()` of OpenAI's own
    Python package fails."""
    if envelope.shape == "text":
        return b""
    return f"{_head(envelope)}{ROLE}{_tail(envelope)}".encode()


def to_tail(envelope: Envelope, tally: Tally) -> bytes:
    """The end of a stream, after the finish chunk of each choice."""
    if not envelope.usage:
        return DONE
    whole = {**_opening(envelope, "chat.completion.chunk"), "choices": []}
    whole["usage"] = _to_usage(tally.usage)
    return f"data: {_dumps(whole)}\n\n".encode() + DONE


def to_error(wrong: ProxyError, request_id: str) -> bytes:
    """An error after the stream has begun: an event without `choices`, then the end."""
    return f"data: {_dumps(wrong.body(request_id))}\n\n".encode() + DONE


def to_choice(
    events: Iterator[Event], envelope: Envelope, tally: Tally
) -> Iterator[dict[str, Any]]:
    """One choice of an answer in one piece: an empty object for each sign of life, then that."""
    said, thought, reason = list[str](), list[str](), "stop"
    calls, notes = list[dict[str, Any]](), list[dict[str, Any]]()
    for event in events:
        match event:
            case Text(text=text):
                said.append(text)
            case Reasoning(text=text):
                thought.append(text)
            case ToolCall():
                calls.append(_to_call(event))
            case Citation():
                notes.append(_to_annotation(event))
            case Silence() | Working():
                yield {}
            case Usage():
                tally.add(event)
            case Done(reason=reason):
                tally.finish.append(reason)
            case _:
                assert_never(event)
    ending = {"logprobs": None, "finish_reason": _reason(envelope, reason)}
    if envelope.shape == "text":
        yield {"index": envelope.index, "text": "".join(said), **ending}
        return
    message: dict[str, Any] = {"role": "assistant", "content": "".join(said), "refusal": None}
    if thought:
        message[envelope.reasoning] = "".join(thought)
    if notes:
        message["annotations"] = notes
    if calls:
        message["content"] = message["content"] or None
        if envelope.legacy:
            message["function_call"] = calls[0]["function"]
        else:
            message["tool_calls"] = calls
    yield {"index": envelope.index, "message": message, **ending}


def to_completion(choices: list[dict[str, Any]], envelope: Envelope, tally: Tally) -> bytes:
    """A whole answer that is not streamed."""
    whole = _opening(envelope, "chat.completion")
    whole["choices"] = sorted(choices, key=lambda choice: choice["index"])
    whole["usage"] = _to_usage(tally.usage)
    return _dumps(whole).encode("utf-8", "replace")


def _opening(envelope: Envelope, kind: str) -> dict[str, Any]:
    kind = kind if envelope.shape == "chat" else "text_completion"
    fixed = {"id": envelope.id, "object": kind, "created": envelope.created}
    return {**fixed, "model": envelope.model}


def _head(envelope: Envelope) -> str:
    """What stands before the delta in each chunk."""
    opening = _dumps(_opening(envelope, "chat.completion.chunk"))[:-1]
    field = "delta" if envelope.shape == "chat" else "text"
    return f'data: {opening},"choices":[{{"index":{envelope.index},"{field}":'


def _tail(envelope: Envelope, reason: str = "null") -> str:
    """What stands after it."""
    usage = ',"usage":null' if envelope.usage else ""
    return f',"logprobs":null,"finish_reason":{reason}}}]{usage}}}\n\n'


def _pieces(head: str, text: str, tail: str) -> bytes:
    if len(text) <= LONGEST_PIECE:
        return (head + quoted(text) + tail).encode("utf-8", "replace")
    starts = range(0, len(text), LONGEST_PIECE)
    return b"".join(_pieces(head, text[i : i + LONGEST_PIECE], tail) for i in starts)


def _reason(envelope: Envelope, reason: str) -> str:
    return "function_call" if envelope.legacy and reason == "tool_calls" else reason


def _deltas(call: ToolCall, index: int, envelope: Envelope) -> Iterator[str]:
    """The deltas of one call: first who is called, then with what."""
    kind, field = ("custom", "input") if call.custom else ("function", "arguments")
    parts = [_to_call(replace(call, arguments=""))]
    for i in range(0, len(call.arguments), LONGEST_PIECE):
        parts.append({kind: {field: call.arguments[i : i + LONGEST_PIECE]}})
    for part in parts:
        if envelope.legacy:
            yield _dumps({"function_call": part[kind]})
        else:
            yield _dumps({"tool_calls": [{"index": index, **part}]})


def _to_call(call: ToolCall) -> dict[str, Any]:
    kind, field = ("custom", "input") if call.custom else ("function", "arguments")
    return {"id": call.id, "type": kind, kind: {"name": call.name, field: call.arguments}}


def _to_annotation(source: Citation) -> dict[str, Any]:
    """OpenAI's url_citation; for a passage without URL our own kind with what is known of it."""
    if source.url:
        url = {"url": source.url, "title": source.title, "start_index": 0, "end_index": 0}
        return {"type": "url_citation", "url_citation": url}
    passage = {"source_id": source.source_id, "title": source.title, "text": source.text[:2000]}
    return {"type": "knowledge_citation", "knowledge_citation": passage}


def _to_usage(usage: Usage | None) -> dict[str, Any]:
    usage = usage or Usage(0, 0)
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
