"""The answer of Anthropic's Messages: events as its stream, or as one message; its errors.

Pure. Every event of a stream has its `event:` line, for Anthropic's own packages see none without.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from errors import ContextTooLong, Overloaded, ProxyError
from events import Done, Event, PromptSize, Reasoning, Silence, Tally, Text, Usage, Working
from formats import ErrorReply
from formats.anthropic_blocks import Blocks, Delta, Start, Step, Stop
from formats.sse import LONGEST_PIECE, dumps, pieces

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
DELTA = 'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
WORDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}
TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    424: "api_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all parts of one answer share. `query`: what the web is searched for, None where the
    request has no such tool."""

    request_id: str
    id: str
    model: str
    query: str | None = None


class _Encoder:
    """Steps as bytes of a stream. The fixed text before a block's words is made once for each."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.blocks = Blocks(envelope.id.removeprefix("msg_"), envelope.query)
        self.index = -1
        # of the open block, by the events that do no more than add their words to it
        self.heads: dict[type[Event], str] = {}

    def start(self, prompt_tokens: int) -> bytes:
        """The event before all blocks."""
        usage = to_usage(Usage(prompt_tokens, 0), 0)
        message = to_message(self.envelope, [], None, None, usage)
        return _event("message_start", {"message": message})

    def say(self, event: Text | Reasoning) -> bytes:
        """What words add to the content; empty when that is nothing yet."""
        head, text = self.heads.get(type(event)), event.text
        if not head or len(text) > LONGEST_PIECE:
            return self.add(event)
        return pieces(head, text, "}}\n\n") if text else b""

    def add(self, event: Event) -> bytes:
        """The same for any event."""
        return b"".join([self._encode(step) for step in self.blocks.take(event)])

    def finish(self, done: Done, usage: Usage | None) -> bytes:
        """What is left to send: ends of blocks, the reason, the usage."""
        steps = [self._encode(step) for step in self.blocks.finish()]
        reason, stop = to_reason(done, self.blocks.called)
        delta = {"stop_reason": reason, "stop_sequence": stop}
        told = {"delta": delta, "usage": to_usage(usage, self.blocks.searches)}
        return b"".join([*steps, _event("message_delta", told), _event("message_stop", {})])

    def _encode(self, step: Step) -> bytes:
        match step:
            case Start(block):
                self.index += 1
                head = DELTA % self.index
                if block["type"] == "thinking":
                    self.heads = {Reasoning: head + '{"type":"thinking_delta","thinking":'}
                elif block["type"] == "text" and self.envelope.query is None:  # else it is noted
                    self.heads = {Text: head + '{"type":"text_delta","text":'}
                return _event("content_block_start", {"index": self.index, "content_block": block})
            case Delta(delta):
                return _event("content_block_delta", {"index": self.index, "delta": delta})
            case Stop():
                self.heads = {}
                return _event("content_block_stop", {"index": self.index})


def stream(events: Iterator[Event], envelope: Envelope, tally: Tally) -> Iterator[bytes]:
    """Events as bytes of whole server-sent events, from message_start to message_stop.

    A stream that cannot go on ends in an `error` event: a bare end is taken for a whole answer.
    """
    encoder = _Encoder(envelope)
    size, quiet, begun = 0, True, False
    try:
        for event in events:
            match event:
                case Text() | Reasoning():
                    block = encoder.say(event)
                    quiet = quiet and not block
                case PromptSize(tokens=tokens):
                    size = tokens
                    continue
                case Usage():
                    tally.add(event)
                    continue
                case Working() if not quiet:
                    quiet = True
                    continue
                case Silence() | Working():
                    block = PING
                    tally.heartbeats += 1
                case Done():
                    block = encoder.finish(event, tally.usage)
                    yield block if begun else encoder.start(size) + block
                    return
                case _:
                    block = encoder.add(event)
                    quiet = quiet and not block
            if block:
                yield block if begun else encoder.start(size) + block
                begun = True
    except ProxyError as wrong:
        if begun:
            yield b"event: error\ndata: " + error(wrong, envelope.request_id).body + b"\n\n"
        raise


def whole(events: Iterable[Event], envelope: Envelope, tally: Tally) -> bytes:
    """Events as one message."""
    blocks = Blocks(envelope.id.removeprefix("msg_"), envelope.query)
    content = _Content()
    ending = Done()
    for event in events:
        match event:
            case Usage():
                tally.add(event)
            case Done():
                ending = event
            case _:
                content.add(blocks.take(event))
    content.add(blocks.finish())
    reason, stop = to_reason(ending, blocks.called)
    usage = to_usage(tally.usage, blocks.searches)
    message = to_message(envelope, content.blocks, reason, stop, usage)
    return dumps(message).encode("utf-8", "replace")


class _Content:
    """The blocks of a whole answer, as their steps come together."""

    def __init__(self) -> None:
        self.blocks: list[dict[str, Any]] = []
        self._words: list[str] = []

    def add(self, steps: Iterable[Step]) -> None:
        for step in steps:
            match step:
                case Start(block):
                    self.blocks.append(block)
                case Delta(delta):
                    self._add(delta)
                case Stop():
                    self._close()

    def _add(self, delta: dict[str, Any]) -> None:
        match delta["type"]:
            case "citations_delta":
                self.blocks[-1].setdefault("citations", []).append(delta["citation"])
            case "signature_delta":
                self.blocks[-1]["signature"] = delta["signature"]
            case kind:
                self._words.append(delta[WORDS[kind]])

    def _close(self) -> None:
        words, self._words = "".join(self._words), []
        block = self.blocks[-1]
        if "input" in block:
            block["input"] = json.loads(words)
        elif block["type"] in ("text", "thinking"):
            block[block["type"]] = words


def error(wrong: ProxyError, request_id: str) -> ErrorReply:
    """Anthropic's error object. The message names the place first; a conversation that is too long
    is told in the words that its programs know, and shorten it upon."""
    status = 529 if isinstance(wrong, Overloaded) else wrong.status
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    message = wrong.told(request_id)
    if isinstance(wrong, ContextTooLong):
        message = _too_long(wrong)
    elif wrong.param:
        message = _placed(message, wrong.param)
    detail = {"type": kind, "message": message}
    body = {"type": "error", "error": detail, "request_id": request_id}
    return ErrorReply(status, dumps(body).encode("utf-8", "replace"))


def _placed(message: str, place: str) -> str:
    """A message with the place in front instead of inside."""
    for told in (f"Invalid '{place}': ", f" for '{place}'", f": '{place}'"):
        message = message.replace(told, "", 1)
    return f"{place}: {message}"


def _too_long(wrong: ContextTooLong) -> str:
    if wrong.tokens is None:
        return f"prompt is too long: {wrong.message}"
    return f"prompt is too long: {wrong.tokens} tokens > {wrong.most} maximum"


def to_usage(usage: Usage | None, searches: int) -> dict[str, Any]:
    """Anthropic's usage object: what was read from a cache does not count as input."""
    usage = usage or Usage(0, 0)
    told: dict[str, Any] = {
        "input_tokens": max(0, usage.prompt - usage.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
    }
    if usage.reasoning:
        told["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if searches:
        told["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
    return told


def to_reason(done: Done, called: bool) -> tuple[str, str | None]:
    """Why the answer ended, and the stop sequence that ended it."""
    if done.reason == "length":
        return "max_tokens", None
    if done.reason == "content_filter":
        return "refusal", None
    if called:
        return "tool_use", None
    return ("stop_sequence", done.stop) if done.stop else ("end_turn", None)


def to_message(
    envelope: Envelope,
    content: list[dict[str, Any]],
    reason: str | None,
    stop: str | None,
    usage: dict[str, Any],
) -> dict[str, Any]:
    """Anthropic's message object."""
    opening = {"id": envelope.id, "type": "message", "role": "assistant", "model": envelope.model}
    ending = {"stop_reason": reason, "stop_sequence": stop, "usage": usage}
    return {**opening, "content": content, **ending}


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    data = dumps({"type": kind, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode("utf-8", "replace")
