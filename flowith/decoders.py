"""What the bytes of Flowith's web and knowledge APIs mean: blocks of bytes in, events out.

A decoder knows what the proper end of an answer looks like; what it does not know is an error.
Nothing here does I/O or knows of OpenAI.
"""

import codecs
import re
from typing import Any, Protocol

from errors import DOCTOR, UpstreamCut, UpstreamError
from events import Citation, Done, Event, Reasoning, Silence, Text
from flowith.lines import LineDecoder, check_parts, flat, is_error, to_object, unknown
from flowith.refusal import to_refusal

STEPS = ("searching", "seeds")  # tags of the knowledge API before its answer
CONTENT_TYPES = {
    "", "text/plain", "text/event-stream", "text/markdown", "application/json",
    "application/x-ndjson", "application/jsonl", "application/octet-stream",
}  # fmt: skip
JSON_TYPES = ("application/json", "application/x-ndjson", "application/jsonl")
PAGE = (
    "A web page came in place of an answer: a captive portal or a firewall is in the way, or"
    f" Flowith's address has moved. {DOCTOR}"
)
LONGEST_ERROR = 65_536  # characters of an object that may be one
SSE_LINE = re.compile(r"(data|event|id|retry)?:")
SSE_NAME = 6  # characters of the longest of these
NO_WORD = "\ufeff \t\r\n"


def to_content_type(value: str) -> str:
    """A Content-Type header without its parameters. Raises UpstreamError where no answer of these
    APIs has it."""
    name = value.partition(";")[0].strip().lower()
    if name in ("text/html", "application/xhtml+xml"):
        raise UpstreamError(PAGE)
    if name not in CONTENT_TYPES:
        raise UpstreamError("Flowith's answer is of a kind that is not known here.")
    return name


class Decoder(Protocol):
    """Makes events of the bytes of one answer."""

    def decode(self, block: bytes) -> list[Event]:
        """Raises UpstreamError for what is no answer."""

    def flush(self) -> list[Event]:
        """The body has ended. Raises UpstreamError where the answer had not."""


class WebDecoder:
    """The body is the answer itself, UTF-8 text without any frame; its end is the end.

    Under a JSON type an object may be an error all the same, and `text/event-stream` must
    not hold frames, which nobody here would read.
    """

    def __init__(self, content_type: str = "") -> None:
        self._rest = b""  # of a character that came in part
        self._type = content_type
        self._begun = False  # whether what comes is known to be text
        self._is_object = False
        self._held: list[str] = []  # until then

    def decode(self, block: bytes) -> list[Event]:
        """Raises UpstreamError for what is no text."""
        if self._rest:
            block = self._rest + block
        text, used = codecs.utf_8_decode(block, "replace")
        self._rest = block[used:]
        if not self._begun:
            text = self._begin(text)
        return [Text(text)] if text else []

    def flush(self) -> list[Event]:
        """The body has ended. Raises UpstreamError."""
        if self._rest:
            raise UpstreamCut("Flowith's answer ended in the middle of a character.")
        text = "".join(self._held).removeprefix("\ufeff")
        if self._is_object and len(text) <= LONGEST_ERROR:
            said = to_object(text)
            if is_error(said):
                raise to_refusal(None, said)
        return [Text(text), Done()] if text else [Done()]

    def _begin(self, text: str) -> str:
        """The text so far, once it is known to be text."""
        self._held.append(text)
        if self._is_object or not text.strip(NO_WORD):
            return ""
        text = "".join(self._held)
        start = text.lstrip(NO_WORD)
        if self._type in JSON_TYPES and start.startswith("{"):
            self._is_object = True  # only its end tells what it is
            return ""
        if self._type == "text/event-stream":
            if SSE_LINE.match(start):
                raise UpstreamError("Flowith sent frames where plain text was to come.")
            if len(start) < SSE_NAME:
                return ""
        self._begun, self._held = True, []
        return text.removeprefix("\ufeff")


class KnowledgeDecoder(LineDecoder):
    """`{"tag","content"}` frames; `final` is a delta."""

    _finish = "stop"  # nothing but the end of the body tells the end of the answer for certain

    def _read_frame(self, frame: dict[str, Any], events: list[Event]) -> None:
        tag, content = frame.get("tag") or frame.get("type"), frame.get("content")
        if tag == "final" and content == "[DONE]":
            self._end(events)
        elif tag == "final":
            self._say(Text, content, events)
        elif tag == "thinking":
            self._say(Reasoning, flat(content), events)
        elif tag == "seeds" and isinstance(content, list):
            check_parts(content)
            events.extend(_to_citation(seed) for seed in content if isinstance(seed, dict))
        elif tag == "error":
            raise to_refusal(None, content)
        elif tag in STEPS:
            events.append(Silence())
        else:
            raise unknown("frame")


def _to_citation(seed: dict[str, Any]) -> Citation:
    def text(*keys: str) -> str:
        return next((v for k in keys if isinstance(v := seed.get(k), str) and v), "")

    title = text("source_title", "title")
    url = text("url", "source_url", "link")
    url = url or (title if title.startswith(("http://", "https://")) else "")
    return Citation(title, url, text("content"), text("source_id", "id"))
