"""What a response is made of: its items, one open at a time, and the object around them.

Knows nothing of the stream, which shows the same items while they come.
"""

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, assert_never

from errors import EmptyAnswer
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
from formats.responses_items import to_summary
from formats.responses_tools import Called

NOT_KEPT = "not-kept"  # for callers who ask for encrypted thoughts, which they have to send back
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
# By whether the tool is a custom one: the events of a call, and the field of what it is given.
CALLS = {
    False: ("function_call_arguments", "arguments"),
    True: ("custom_tool_call_input", "input"),
}


class Kind(NamedTuple):
    """A kind of item that comes in pieces: the name that its id begins with, its events, the type
    of its one part and the field that counts parts."""

    prefix: str
    part: str
    text: str
    part_type: str
    counter: str

    def to_part(self, text: str, notes: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """The part that holds all of an item's text, and `notes` themselves: late ones follow."""
        part = {"type": self.part_type, "text": text}
        return part | {"annotations": notes, "logprobs": []} if self is MESSAGE else part


MESSAGE = Kind("msg", "content_part", "output_text", "output_text", "content_index")
THOUGHT = Kind(
    "rs", "reasoning_summary_part", "reasoning_summary_text", "summary_text", "summary_index"
)


def to_id(prefix: str) -> str:
    """A new id for an item."""
    return f"{prefix}_{random.getrandbits(160):040x}"


def _to_note(source: Citation) -> dict[str, Any]:
    note = {"type": "url_citation", "url": source.url, "title": source.title}
    return {**note, "start_index": 0, "end_index": 0}


def to_usage(usage: Usage | None) -> dict[str, Any]:
    """OpenAI's usage object, all of whose fields are required; zeros where nothing is known."""
    usage = usage or Usage(0, 0)
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all parts of one answer share. `created` is in seconds, `echo` what is said again of
    the request. `names` leads from the tools as the model was told of them to the caller's names;
    `compact`: the answer is a summary that only this service reads; `encrypted`: thoughts have to
    look as if they could be sent back."""

    request_id: str
    id: str
    created: int
    model: str
    echo: dict[str, Any]
    names: dict[str, Called] = field(default_factory=dict)
    compact: bool = False
    encrypted: bool = False

    def to_response(self, status: str) -> dict[str, Any]:
        """The response without what was answered."""
        head = {"id": self.id, "object": "response", "created_at": self.created, "status": status}
        answer = {"completed_at": None, "error": None, "incomplete_details": None}
        empty: dict[str, Any] = {"model": self.model, "output": [], "usage": None}
        return {**head, **answer, **empty, **self.echo}

    def to_slim_response(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """A response under way with the required fields alone: the request may be long."""
        head = {"id": self.id, "object": "response", "created_at": self.created}
        empty: dict[str, Any] = {"status": "in_progress", "model": self.model, "output": items}
        return {**head, **empty, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}


@dataclass(slots=True)
class Item:
    """A message or a thought while its pieces come; `notes` are the annotations of a message."""

    kind: Kind
    index: int
    encrypted: bool = False
    id: str = ""
    said: list[str] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)

    def text(self) -> str:
        return "".join(self.said)

    def to_json(self, status: str) -> dict[str, Any]:
        """The item as it stands; one that is in progress has no part yet."""
        begun = status != "in_progress"
        parts = [self.kind.to_part(self.text(), self.notes)] if begun else []
        if self.kind is MESSAGE:
            head = {"id": self.id, "type": "message", "status": status, "role": "assistant"}
            return {**head, "content": parts}
        thought: dict[str, Any] = {"id": self.id, "type": "reasoning", "summary": parts}
        return thought | ({"encrypted_content": NOT_KEPT} if self.encrypted else {})


class Output:
    """The items of an answer in their order: those that are done, and the one that is open."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        # A summary is shown when it is whole, and nothing else is.
        self.hidden = envelope.compact
        self.items: list[dict[str, Any]] = []
        self.open: Item | None = None
        self.message: Item | None = None  # the last one, open or done
        self._waiting: list[Citation] = []  # sources that came while no message was open
        self._summary: list[str] = []
        self._reason = "stop"

    def read(self, events: Iterable[Event], tally: Tally) -> None:
        """Take in a whole answer."""
        for event in events:
            match event:
                case Text(text=text):
                    self.add(MESSAGE, text)
                case Reasoning(text=text):
                    self.add(THOUGHT, text)
                case ToolCall():
                    if not self.hidden:
                        self.close("completed")
                        self.add_call(event)
                case Citation():
                    self.cite(event)
                case Usage():
                    tally.add(event)
                case Done(reason=reason):
                    self.cite_late()
                    self.add(MESSAGE, self.untold())
                    self.close(self.last_status(reason))
                    self.finish(reason)
                case Picture() | Silence() | Working() | Answering() | PromptSize():
                    pass
                case _:
                    assert_never(event)

    def switches_to(self, kind: Kind) -> bool:
        """Whether a piece of this kind begins a new item."""
        return self.open is None or self.open.kind is not kind

    def begin(self, kind: Kind) -> Item:
        """Open an item; the one before has been closed."""
        item = Item(kind, len(self.items), self.envelope.encrypted, to_id(kind.prefix))
        if kind is MESSAGE:
            self.message = item
            self.cite_late()
        self.open = item
        return item

    def add(self, kind: Kind, text: str) -> None:
        """Add a piece to the open item, or to a new one where it is of another kind."""
        if self.hidden:
            if kind is MESSAGE:
                self._summary.append(text)
        elif text:
            if self.open is None or self.open.kind is not kind:
                self.close("completed")
                self.begin(kind).said.append(text)
            else:
                self.open.said.append(text)

    def close(self, status: str) -> Item | None:
        """End the item that is open, and return it."""
        item, self.open = self.open, None
        if item is not None:
            self.items.append(item.to_json(status))
        return item

    def add_call(self, call: ToolCall) -> dict[str, Any]:
        """A call as an item, with the caller's own names; nothing may be open."""
        name, namespace = self.envelope.names.get(call.name, Called(call.name))
        item: dict[str, Any] = {"id": to_id("ctc"), "type": "custom_tool_call"}
        if not call.custom:
            item = {"id": to_id("fc"), "type": "function_call", "status": "completed"}
        item |= {"call_id": call.id, "name": name, CALLS[call.custom][1]: call.arguments}
        if namespace:
            item["namespace"] = namespace
        self.items.append(item)
        return item

    def cite(self, source: Citation) -> list[dict[str, Any]]:
        """A source that the open message rests on: its annotation, one more of `message`. It waits
        where none is open. This API has no annotation for a source without an address."""
        if not source.url or self.hidden:
            return []
        self._waiting.append(source)
        return self.cite_late() if self.open is not None and self.open is self.message else []

    def cite_late(self) -> list[dict[str, Any]]:
        """The same for the sources that wait, whether the last message is open or done."""
        if self.message is None:
            return []
        sources, self._waiting = self._waiting, []
        made = [_to_note(source) for source in sources]
        self.message.notes += made
        return made

    def untold(self) -> str:
        """At the end of an answer without a message: the words of one that holds its sources."""
        return "\n".join(source.words for source in self._waiting)

    def last_status(self, reason: str) -> str:
        """The status of the item that is open when an answer ends."""
        return "incomplete" if reason in INCOMPLETE else "completed"

    def finish(self, reason: str) -> dict[str, Any] | None:
        """Note how the answer ended. Returns the one item of a summary; raises EmptyAnswer where
        there is none, as after a call of a tool, which is not passed on."""
        self._reason = reason
        if not self.hidden:
            return None
        summary = "".join(self._summary)
        if not summary.strip():
            raise EmptyAnswer("The model wrote no summary.")
        content = to_summary(summary)
        made = {"id": to_id("cmp"), "type": "compaction", "encrypted_content": content}
        self.items = [made]
        return made

    def to_response(self, usage: Usage | None) -> dict[str, Any]:
        """The response when its answer is over."""
        why = INCOMPLETE.get(self._reason)
        response = self.envelope.to_response("incomplete" if why else "completed")
        response["output"], response["usage"] = self.items, to_usage(usage)
        if why:
            response["incomplete_details"] = {"reason": why}
        else:
            response["completed_at"] = int(time.time())
        return response
