"""The answer of OpenAI's Responses API: events as its stream, or as one response.

Pure: what all parts of an answer share is an `Envelope`.
"""

import math
import time
from collections.abc import Iterable, Iterator
from typing import Any

from errors import EmptyAnswer, ProxyError, UpstreamError
from events import Citation, Done, Event, Reasoning, Tally, Text, ToolCall, Usage, joined
from formats.chat_answer import error
from formats.responses_items import to_summary
from formats.responses_output import (
    MESSAGE,
    THOUGHT,
    Envelope,
    Item,
    Kind,
    to_id,
    to_note,
    to_usage,
)
from formats.responses_tools import Called
from formats.sse import LONGEST_PIECE, Writer, dumps, named, quoted, slices, to_bytes, written

__all__ = ["Envelope", "error", "read", "stream", "to_usage", "whole"]

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
# By whether the tool is a custom one: the events of a call, and the field of what it is given.
CALLS = {
    False: ("function_call_arguments", "arguments"),
    True: ("custom_tool_call_input", "input"),
}
# The codes that a failed response may have beside `server_error`: OpenAI's, and two more that
# Codex knows not to repeat a request for.
CODES = ("rate_limit_exceeded", "context_length_exceeded", "insufficient_quota")


class ResponseWriter(Writer):
    """Writes one response: `items` are those that are done, in their order, `open` is the one that
    grows, `message` the last message, open or done."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.items: list[dict[str, Any]] = []
        self.open: Item | None = None
        self.message: Item | None = None
        self._waiting: list[Citation] = []  # sources that came while no message was open
        # of a summary: it is shown when it is whole, and nothing else is
        self._summary: list[str] | None = [] if envelope.compact else None
        self._reason = "stop"
        self._number = 0
        self._frame = ("", "", "")  # around the number and the text of the next piece
        begun = envelope.to_response("in_progress")
        self._opening = self._tell("response.created", response=begun) + self.alive()

    def _tell(self, kind: str, **fields: Any) -> bytes:
        """An event, with its number."""
        number, self._number = self._number, self._number + 1
        return named({"type": kind, "sequence_number": number, **fields})

    def _grow(self, text: str) -> bytes:
        """A piece of the item that is open, or several where it is long; what stands around it was
        made once."""
        if len(text) > LONGEST_PIECE:
            return b"".join([self._grow(piece) for piece in slices(text)])
        head, middle, tail = self._frame
        number, self._number = self._number, self._number + 1
        return f"{head}{number}{middle}{quoted(text)}{tail}".encode("utf-8", "replace")

    def opening(self) -> bytes:
        opening, self._opening = self._opening, b""
        return opening

    def alive(self) -> bytes:
        """An event that says nothing new, as Codex does not count comments: an empty piece of the
        item that is open, else the response under way. That holds the items so far, or openai-node
        6 forgets them."""
        if self.open is not None:
            return self._grow("")
        response = self.envelope.to_slim_response(self.items)
        return self._tell("response.in_progress", response=response)

    def take(self, event: Event) -> bytes:
        if self._summary is not None:
            if isinstance(event, Text):
                self._summary.append(event.text)
            return b""
        match event:
            case Text(text=text):
                return self._say(MESSAGE, text)
            case Reasoning(text=text):
                return self._say(THOUGHT, text)
            case ToolCall():
                return self._close() + self._call(event)
            case Citation() if event.url:  # there is no annotation for one without an address
                self._waiting.append(event)
                if self.open is not None and self.open is self.message:
                    return self._cite(self.open)
        return b""

    def _say(self, kind: Kind, text: str) -> bytes:
        """A piece of a message or of a thought."""
        if not text:
            return b""
        block, item = b"", self.open
        if item is None or item.kind is not kind:
            block = self._close()
            item = Item(kind, len(self.items), to_id(kind.prefix), self.envelope.encrypted)
            block += self._begin(item)
        item.said.append(text)
        return block + self._grow(text)

    def _begin(self, item: Item) -> bytes:
        kind, place = item.kind, item.place()
        self.open = item
        block = self._tell(
            "response.output_item.added", output_index=item.index, item=item.to_json("in_progress")
        )
        block += self._tell(f"response.{kind.part}.added", **place, part=item.to_part())
        name = f"response.{kind.text}.delta"
        self._frame = (
            f'event: {name}\ndata: {{"type":"{name}","sequence_number":',
            f',{dumps(place)[1:-1]},"delta":',
            ',"logprobs":[]}\n\n' if kind is MESSAGE else "}\n\n",
        )
        if kind is MESSAGE:
            self.message = item
            block += self._cite(item)
        return block

    def _cite(self, message: Item) -> bytes:
        """The sources that wait, as annotations of a message that is open, or done."""
        sources, self._waiting = self._waiting, []
        events = []
        for source in sources:
            note = to_note(source)
            place = {**message.place(), "annotation_index": len(message.notes)}
            message.notes.append(note)
            name = "response.output_text.annotation.added"
            events.append(self._tell(name, **place, annotation=note))
        return b"".join(events)

    def _close(self, status: str = "completed") -> bytes:
        """The end of the item that is open, if there is one."""
        item, self.open = self.open, None
        if item is None:
            return b""
        kind, place, part = item.kind, item.place(), item.to_part()
        said = {"text": part["text"]}
        if kind is MESSAGE:
            said["logprobs"] = []
        made = item.to_json(status)
        self.items.append(made)
        return (
            self._tell(f"response.{kind.text}.done", **place, **said)
            + self._tell(f"response.{kind.part}.done", **place, part=part)
            + self._tell("response.output_item.done", output_index=item.index, item=made)
        )

    def _call(self, call: ToolCall) -> bytes:
        """A call as an item, with the caller's own names; nothing is open."""
        index = len(self.items)
        events, field = CALLS[call.custom]
        name, namespace = self.envelope.names.get(call.name, Called(call.name))
        item: dict[str, Any] = {"id": to_id("ctc"), "type": "custom_tool_call"}
        if not call.custom:
            item = {"id": to_id("fc"), "type": "function_call", "status": "completed"}
        item |= {"call_id": call.id, "name": name, field: call.arguments}
        if namespace:
            item["namespace"] = namespace
        self.items.append(item)
        begun, done = {**item, field: ""}, {field: call.arguments}
        if not call.custom:
            begun["status"], done["name"] = "in_progress", name
        place = {"item_id": item["id"], "output_index": index}
        return b"".join([
            self._tell("response.output_item.added", output_index=index, item=begun),
            *(self._tell(f"response.{events}.delta", **place, delta=piece)
              for piece in slices(call.arguments)),
            self._tell(f"response.{events}.done", **place, **done),
            self._tell("response.output_item.done", output_index=index, item=item),
        ])  # fmt: skip

    def finish(self, done: Done) -> bytes:
        self._reason = done.reason
        if self._summary is not None:
            return self._show("".join(self._summary))
        if self.message is not None:
            block = self._cite(self.message)
        else:
            block = self._say(MESSAGE, "\n".join(source.words for source in self._waiting))
        return block + self._close("incomplete" if done.reason in INCOMPLETE else "completed")

    def _show(self, summary: str) -> bytes:
        """The one item of a summary. Raises EmptyAnswer where there is none, as after a call of a
        tool, which is not passed on."""
        if not summary.strip():
            raise EmptyAnswer("The model wrote no summary.")
        content = to_summary(summary)
        made = {"id": to_id("cmp"), "type": "compaction", "encrypted_content": content}
        self.items = [made]
        added = self._tell("response.output_item.added", output_index=0, item=made)
        return added + self._tell("response.output_item.done", output_index=0, item=made)

    def end(self, usage: Usage | None) -> bytes:
        response = self.to_response(usage)
        return self._tell(f"response.{response['status']}", response=response)

    def to_response(self, usage: Usage | None) -> dict[str, Any]:
        """The response when its answer is over."""
        why = INCOMPLETE.get(self._reason)
        response = self.envelope.to_response("incomplete" if why else "completed")
        response |= {"output": self.items, "usage": to_usage(usage)}
        if why:
            return {**response, "incomplete_details": {"reason": why}}
        return {**response, "completed_at": int(time.time())}

    def failed(self, wrong: ProxyError, usage: Usage | None) -> bytes:
        """An `error` and the failed response, as OpenAI sends them: there are clients that read
        only one of the two, and take what came before it for a whole answer."""
        failure = to_failure(wrong, self.envelope.request_id)
        response = self.envelope.to_response("failed")
        response["output"] = self.items
        response["usage"] = to_usage(usage) if usage else None
        response["error"] = failure
        # Its schema has the fields flat and OpenAI sends them in `error`: SDKs look in both places.
        detail = {**failure, "param": wrong.param}
        told = self._tell("error", **detail, error={"type": wrong.type, **detail})
        return told + self._tell("response.failed", response=response)


def stream(events: Iterator[Event], envelope: Envelope, tally: Tally) -> Iterator[bytes]:
    """Events as bytes of whole server-sent events, from `response.created` to the last."""
    return written(events, ResponseWriter(envelope), tally)


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


class _Unheard(ResponseWriter):
    """The same for an answer that is not streamed: what counts are its items."""

    def _tell(self, kind: str, **fields: Any) -> bytes:
        return b""

    def _grow(self, text: str) -> bytes:
        return b""


def read(events: Iterable[Event], envelope: Envelope, tally: Tally) -> ResponseWriter:
    """A whole answer, with its items."""
    writer = _Unheard(envelope)
    for event in joined(events, tally):
        if isinstance(event, Done):
            writer.finish(event)
        else:
            writer.take(event)
    return writer


def whole(events: Iterable[Event], envelope: Envelope, tally: Tally) -> bytes:
    """Events as one response."""
    response = read(events, envelope, tally).to_response(tally.usage)
    return to_bytes(response)
