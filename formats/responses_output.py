"""What a response is made of: its items and their parts, and the object around them.

Knows nothing of events or of streams.
"""

import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from events import Citation, Usage
from formats.responses_tools import Called

NOT_KEPT = "not-kept"  # for callers who ask for encrypted thoughts, which they have to send back


class Kind(NamedTuple):
    """A kind of item that comes in pieces: the name that its id begins with, its events, the type
    of its one part and the field that counts parts."""

    prefix: str
    part: str
    text: str
    part_type: str
    counter: str


MESSAGE = Kind("msg", "content_part", "output_text", "output_text", "content_index")
THOUGHT = Kind(
    "rs", "reasoning_summary_part", "reasoning_summary_text", "summary_text", "summary_index"
)


def to_id(prefix: str) -> str:
    """A new id for an item."""
    return f"{prefix}_{random.getrandbits(160):040x}"


def to_note(source: Citation) -> dict[str, Any]:
    """A source as an annotation; it has no place in the text."""
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
    """A message or a thought while its pieces come; `notes` are the annotations of a message,
    which go on growing in its part when that is made."""

    kind: Kind
    index: int
    id: str
    encrypted: bool
    said: list[str] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)

    def place(self) -> dict[str, Any]:
        """The place of its part in the response."""
        return {"item_id": self.id, "output_index": self.index, self.kind.counter: 0}

    def to_part(self) -> dict[str, Any]:
        """The part that holds all of its text."""
        part = {"type": self.kind.part_type, "text": "".join(self.said)}
        if self.kind is MESSAGE:
            return {**part, "annotations": self.notes, "logprobs": []}
        return part

    def to_json(self, status: str) -> dict[str, Any]:
        """The item as it stands; one that is in progress has no part yet."""
        parts = [] if status == "in_progress" else [self.to_part()]
        if self.kind is MESSAGE:
            head = {"id": self.id, "type": "message", "status": status, "role": "assistant"}
            return {**head, "content": parts}
        thought: dict[str, Any] = {"id": self.id, "type": "reasoning", "summary": parts}
        return thought | ({"encrypted_content": NOT_KEPT} if self.encrypted else {})
