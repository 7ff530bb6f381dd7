"""The answer of OpenAI's Responses API: events as its stream, or as one response.

Pure: what all parts of an answer share is an `Envelope`, its items are an `Output`.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, assert_never

from errors import ProxyError, UpstreamError
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
from formats.chat_answer import error
from formats.responses_output import CALLS, MESSAGE, THOUGHT, Envelope, Kind, Output, to_usage
from formats.sse import dumps, quoted, slices

__all__ = ["Envelope", "Output", "error", "stream", "to_usage", "whole"]

# The codes that a failed response may have beside `server_error`: OpenAI's, and two more that
# Codex knows not to repeat a request for.
CODES = ("rate_limit_exceeded", "context_length_exceeded", "insufficient_quota")


def stream(events: Iterator[Event], envelope: Envelope, tally: Tally) -> Iterator[bytes]:
    """Events as bytes of whole server-sent events, from `response.created` to the last.

    A sign of life is an event, `response.in_progress` at first: Codex does not count comments.
    """
    writer = _Writer(envelope)
    pending = writer.created() + writer.alive()
    quiet = True
    try:
        for event in events:
            match event:
                case Text(text=text):
                    block = writer.say(MESSAGE, text)
                case Reasoning(text=text):
                    block = writer.say(THOUGHT, text)
                case ToolCall():
                    block = writer.call(event)
                case Citation():
                    block = writer.cite(event)
                case Working() if not quiet:
                    quiet = True
                    continue
                case Silence() | Working():
                    tally.heartbeats += 1
                    yield pending + writer.alive()
                    pending = b""
                    continue
                case Usage():
                    tally.add(event)
                    continue
                case Picture() | Answering() | PromptSize():
                    continue
                case Done(reason=reason):
                    yield pending + writer.end(reason, tally)
                    return
                case _:
                    assert_never(event)
            if block:
                quiet = False
                yield pending + block
                pending = b""
    except ProxyError as wrong:
        if not pending:
            yield writer.failed(wrong, tally)
        raise


class _Writer:
    """Writes the events of one stream and numbers them; the text around deltas is made once."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.output = Output(envelope)
        self.number = 0
        self._delta = self._place = self._tail = ""

    def event(self, kind: str, **fields: Any) -> bytes:
        data = dumps({"type": kind, "sequence_number": self.number, **fields})
        self.number += 1
        return f"event: {kind}\ndata: {data}\n\n".encode("utf-8", "replace")

    def created(self) -> bytes:
        return self.event("response.created", response=self.envelope.to_response("in_progress"))

    def alive(self) -> bytes:
        """An event that says nothing new: an empty piece of the item that is open, else the
        response under way. That holds the items so far, or openai-node 6 forgets them."""
        if self.output.open is None:
            response = self.envelope.to_slim_response(self.output.items)
            return self.event("response.in_progress", response=response)
        return self._pieces([""])

    def _pieces(self, texts: Iterable[str]) -> bytes:
        """Pieces of the item that is open."""
        events = []
        for text in texts:
            events.append(f"{self._delta}{self.number}{self._place}{quoted(text)}{self._tail}")
            self.number += 1
        return "".join(events).encode("utf-8", "replace")

    def say(self, kind: Kind, text: str) -> bytes:
        """A piece of a message or of a thought."""
        block = b""
        if not text or self.output.hidden:
            self.output.add(kind, text)
            return block
        if self.output.switches_to(kind):
            block = self.close() + self._open(kind)
        self.output.add(kind, text)
        return block + self._pieces(slices(text))

    def _open(self, kind: Kind) -> bytes:
        item = self.output.begin(kind)
        added = self.event(
            "response.output_item.added", output_index=item.index, item=item.to_json("in_progress")
        )
        place = {"item_id": item.id, "output_index": item.index, kind.counter: 0}
        part = self.event(f"response.{kind.part}.added", **place, part=kind.to_part(""))
        name = f"response.{kind.text}.delta"
        self._delta = f'event: {name}\ndata: {{"type":"{name}","sequence_number":'
        self._place = f',{dumps(place)[1:-1]},"delta":'
        self._tail = ',"logprobs":[]}\n\n' if kind is MESSAGE else "}\n\n"
        return added + part + self._noted(item.notes)

    def close(self, status: str = "completed") -> bytes:
        """The end of the item that is open, if there is one."""
        item = self.output.close(status)
        if item is None:
            return b""
        kind = item.kind
        place = {"item_id": item.id, "output_index": item.index, kind.counter: 0}
        said: dict[str, Any] = {"text": item.text()}
        if kind is MESSAGE:
            said["logprobs"] = []
        part = kind.to_part(item.text(), item.notes)
        made = item.to_json(status)
        return (
            self.event(f"response.{kind.text}.done", **place, **said)
            + self.event(f"response.{kind.part}.done", **place, part=part)
            + self.event("response.output_item.done", output_index=item.index, item=made)
        )

    def call(self, call: ToolCall) -> bytes:
        if self.output.hidden:
            return b""
        block = self.close()
        index = len(self.output.items)
        item = self.output.add_call(call)
        kind, field = CALLS[call.custom]
        place = {"item_id": item["id"], "output_index": index}
        opening = {**item, field: ""}
        done = {field: item[field]}
        if not call.custom:
            opening["status"] = "in_progress"
            done["name"] = item["name"]
        block += self.event("response.output_item.added", output_index=index, item=opening)
        for piece in slices(item[field]):
            block += self.event(f"response.{kind}.delta", **place, delta=piece)
        block += self.event(f"response.{kind}.done", **place, **done)
        return block + self.event("response.output_item.done", output_index=index, item=item)

    def cite(self, source: Citation) -> bytes:
        """A source; it waits where no message is open."""
        return self._noted(self.output.cite(source))

    def _noted(self, notes: list[dict[str, Any]]) -> bytes:
        """The last annotations of the last message."""
        message = self.output.message
        if message is None:
            return b""
        place: dict[str, Any] = {"item_id": message.id, "output_index": message.index}
        place["content_index"] = 0
        kind = "response.output_text.annotation.added"
        first = len(message.notes) - len(notes)
        return b"".join(
            self.event(kind, **place, annotation_index=i, annotation=note)
            for i, note in enumerate(notes, first)
        )

    def end(self, reason: str, tally: Tally) -> bytes:
        """The last events of a proper answer."""
        block = self._noted(self.output.cite_late())
        block += self.say(MESSAGE, self.output.untold())
        block += self.close(self.output.last_status(reason))
        if made := self.output.finish(reason):
            block += self.event("response.output_item.added", output_index=0, item=made)
            block += self.event("response.output_item.done", output_index=0, item=made)
        response = self.output.to_response(tally.usage)
        return block + self.event(f"response.{response['status']}", response=response)

    def failed(self, wrong: ProxyError, tally: Tally) -> bytes:
        """The last event of an answer that failed after it had begun."""
        response = self.envelope.to_response("failed")
        response["output"] = self.output.items
        response["usage"] = to_usage(tally.usage) if tally.usage else None
        response["error"] = to_failure(wrong, self.envelope.request_id)
        return self.event("response.failed", response=response)


def to_failure(wrong: ProxyError, request_id: str) -> dict[str, str]:
    """The error of a failed response. Its code tells whether to try again: what cannot heal by
    repeating is an `invalid_prompt`."""
    message = wrong.told(request_id)
    if wrong.code in CODES:
        kind = wrong.code
    else:
        kind = "invalid_prompt" if wrong.status < 500 else "server_error"
    if kind == "rate_limit_exceeded" and isinstance(wrong, UpstreamError) and wrong.retry_after:
        message += f" Please try again in {math.ceil(wrong.retry_after)}s."
    return {"code": kind, "message": message}


def whole(events: Iterable[Event], envelope: Envelope, tally: Tally) -> bytes:
    """Events as one response."""
    output = Output(envelope)
    output.read(events, tally)
    return dumps(output.to_response(tally.usage)).encode("utf-8", "replace")
