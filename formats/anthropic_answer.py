"""The answer of Anthropic's Messages: events as its stream, or as one message; its errors."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from errors import ContextTooLong, Overloaded, ProxyError, ThreadNotStored
from events import Done, Event, PromptSize, Tally, Usage, joined
from formats import ErrorReply
from formats.anthropic_output import Blocks, Step
from formats.sse import Writer, named, to_bytes, written

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
DELTA = 'event: content_block_delta\ndata: {"type":"content_block_delta","index":'
Ending = dict[str, str | None]
UNENDED: Ending = {"stop_reason": None, "stop_sequence": None}
CUT_OFF = {"length": "max_tokens", "content_filter": "refusal"}
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


class _MessageWriter(Writer):
    """Writes the events of one message. Every event has its `event:` line, for Anthropic's own
    packages see none without."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.blocks = Blocks(envelope.id.removeprefix("msg_"), envelope.query)
        self.prompt = 0
        self.done = Done()

    def opening(self) -> bytes:
        usage = to_usage(Usage(self.prompt, 0), 0)
        message = to_message(self.envelope, [], UNENDED, usage)
        return named({"type": "message_start", "message": message})

    def take(self, event: Event) -> bytes:
        if isinstance(event, PromptSize):
            self.prompt = event.tokens
            return b""
        return self._written(self.blocks.take(event))

    def _written(self, steps: list[Step]) -> bytes:
        head = f'{DELTA}{self.blocks.index},"delta":'
        self.said = self.thought = None
        if self.blocks.open == "thinking":
            self.thought = (head + '{"type":"thinking_delta","thinking":', "}}\n\n")
        elif self.blocks.open == "text" and self.envelope.query is None:  # else it is noted
            self.said = (head + '{"type":"text_delta","text":', "}}\n\n")
        return b"".join([named(step) for step in steps])

    def alive(self) -> bytes:
        return PING

    def finish(self, done: Done) -> bytes:
        self.done = done
        return self._written(self.blocks.finish())

    def end(self, usage: Usage | None) -> bytes:
        delta = to_ending(self.done, self.blocks.called)
        told = {"delta": delta, "usage": to_usage(usage, self.blocks.searches)}
        return named({"type": "message_delta", **told}) + named({"type": "message_stop"})

    def failed(self, wrong: ProxyError, usage: Usage | None) -> bytes:
        return b"event: error\ndata: " + error(wrong, self.envelope.request_id).body + b"\n\n"


def stream(events: Iterator[Event], envelope: Envelope, tally: Tally) -> Iterator[bytes]:
    """Events as bytes of whole server-sent events, from message_start to message_stop."""
    return written(events, _MessageWriter(envelope), tally)


def whole(events: Iterable[Event], envelope: Envelope, tally: Tally) -> bytes:
    """Events as one message."""
    blocks = Blocks(envelope.id.removeprefix("msg_"), envelope.query)
    steps: list[Step] = []
    done = Done()
    for event in joined(events, tally):
        if isinstance(event, Done):
            done = event
        else:
            steps += blocks.take(event)
    steps += blocks.finish()
    usage = to_usage(tally.usage, blocks.searches)
    message = to_message(envelope, _to_content(steps), to_ending(done, blocks.called), usage)
    return to_bytes(message)


def _to_content(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """The blocks of a whole answer, out of the steps in which they came."""
    content: list[dict[str, Any]] = []
    words: list[str] = []
    for step in steps:
        match step:
            case {"content_block": block}:
                content.append(block)
            case {"delta": {"citation": source}}:
                content[-1].setdefault("citations", []).append(source)
            case {"delta": {"signature": signature}}:
                content[-1]["signature"] = signature
            case {"delta": {"text": said} | {"thinking": said} | {"partial_json": said}}:
                words.append(said)
            case {"type": "content_block_stop"}:
                _fill(content[-1], "".join(words))
                words.clear()
    return content


def _fill(block: dict[str, Any], words: str) -> None:
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
    detail: dict[str, Any] = {"type": kind, "message": message}
    if isinstance(wrong, ThreadNotStored):  # by this clients know to send the whole conversation
        detail["details"] = {"error_code": wrong.code}
    body = {"type": "error", "error": detail, "request_id": request_id}
    return ErrorReply(status, to_bytes(body))


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


def to_ending(done: Done, called: bool) -> Ending:
    """Why the answer ended, and the stop sequence that ended it."""
    if not done.is_own:
        return {"stop_reason": CUT_OFF[done.reason], "stop_sequence": None}
    if called:
        return {"stop_reason": "tool_use", "stop_sequence": None}
    reason = "stop_sequence" if done.stop else "end_turn"
    return {"stop_reason": reason, "stop_sequence": done.stop or None}


def to_message(
    envelope: Envelope,
    content: list[dict[str, Any]],
    ending: Ending,
    usage: dict[str, Any],
) -> dict[str, Any]:
    """Anthropic's message object."""
    opening = {"id": envelope.id, "type": "message", "role": "assistant", "model": envelope.model}
    return {**opening, "content": content, **ending, "usage": usage}
