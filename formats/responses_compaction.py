"""OpenAI's `/responses/compact`: a conversation made short, as one item to go on with.

The request is checked as that for a response is; the answer is never streamed. Pure, like every
format.
"""

from collections.abc import Iterable
from dataclasses import replace

from chat_request import ChatRequest
from events import Event, Tally
from formats import responses
from formats.fields import parse_json
from formats.responses import error, stream, to_envelope
from formats.responses_answer import Envelope, read, to_usage
from formats.sse import to_bytes
from settings import Settings

__all__ = ["ID_HEADERS", "NAME", "error", "parse", "stream", "to_envelope", "whole"]

NAME = responses.NAME
ID_HEADERS = responses.ID_HEADERS


def parse(raw: bytes, settings: Settings) -> ChatRequest:
    """Check a request for a summary. Raises InvalidRequest that names the field."""
    return replace(responses.to_request(parse_json(raw), compact=True), stream=False)


def whole(events: Iterable[Event], envelope: Envelope, tally: Tally) -> bytes:
    """Events as one compaction."""
    items = read(events, envelope, tally).items
    made = {"id": envelope.id, "object": "response.compaction", "created_at": envelope.created}
    made |= {"output": items, "usage": to_usage(tally.usage)}
    return to_bytes(made)
