"""What the bytes of Flowith's web API mean, which are plain text. Does no I/O."""

import codecs
import re

from errors import UpstreamCut, UpstreamError
from events import Done, Event, Text
from flowith.line_decoder import is_error, to_object
from flowith.refusal import to_refusal

JSON_TYPES = ("application/json", "application/x-ndjson", "application/jsonl")
LONGEST_ERROR = 65_536  # characters of an object that may be one
SSE_LINE = re.compile(r"(data|event|id|retry)?:")
SSE_NAME = 6  # characters of the longest of these
NO_WORD = "\ufeff \t\r\n"


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
