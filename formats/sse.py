"""Server-sent events as bytes: framing, signs of life, and pieces that no reader chokes on.

Knows nothing of what the events say.
"""

import json
import re
from collections.abc import Iterator
from json.encoder import encode_basestring  # the C function; 5 times faster than dumps
from typing import Any

__all__ = ["DONE", "LONGEST_PIECE", "PING", "dumps", "pieces", "quoted", "slices"]

PING = b": ping\n"  # a comment line with one newline: safe in every client and hop tested
DONE = b"data: [DONE]\n\n"
LONGEST_PIECE = 8_000  # characters; keeps each line below 60 KB, escaped (readers cut at 64 KB)
# Line ends to readers that take a stream for text, as httpx and requests do; legal in JSON.
SEPARATOR = re.compile("[\x85\u2028\u2029]")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dumps(value: Any) -> str:
    """A value as JSON in one line, whatever its reader takes for a line end."""
    text = _encode(value)
    return text if text.isascii() else SEPARATOR.sub(_escaped, text)


def quoted(text: str) -> str:
    """Text as a JSON string in one line."""
    written = encode_basestring(text)
    return written if written.isascii() else SEPARATOR.sub(_escaped, written)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def pieces(head: str, text: str, tail: str) -> bytes:
    """`text` as JSON strings between head and tail: one event, or several where it is long."""
    if len(text) <= LONGEST_PIECE:
        # `quoted` by hand: every token passes here, and a call more is a tenth of what it costs
        written = encode_basestring(text)
        if not written.isascii():
            written = SEPARATOR.sub(_escaped, written)
        return (head + written + tail).encode("utf-8", "replace")
    return b"".join([pieces(head, piece, tail) for piece in slices(text)])


def slices(text: str) -> Iterator[str]:
    """`text` in parts of at most LONGEST_PIECE characters."""
    for start in range(0, len(text), LONGEST_PIECE):
        yield text[start : start + LONGEST_PIECE]
