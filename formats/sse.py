"""Server-sent events as bytes: framing, signs of life, and pieces that no reader chokes on; and
the one way in which the events of an answer become those of a stream.

Knows nothing of what they say.
"""

import json
import re
from collections.abc import Iterator
from json.encoder import encode_basestring  # the C function; 5 times faster than dumps
from typing import Any, assert_never

import orjson

from errors import ProxyError
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

PING = b": ping\n"  # a comment line with one newline: safe in every client and hop tested
DONE = b"data: [DONE]\n\n"
LONGEST_PIECE = 8_000  # characters; keeps each line below 60 KB, escaped (readers cut at 64 KB)
# Line ends to readers that take a stream for text, as httpx and requests do; legal in JSON.
SEPARATOR = re.compile("[\x85\u2028\u2029]")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dumps(value: Any) -> str:
    """A value as JSON in one line, whatever its reader takes for a line end."""
    try:
        text = orjson.dumps(value).decode()  # in a tenth of the time (measured)
    except TypeError:  # what UTF-8 or 64 bits cannot hold, and many levels
        text = _encode(value)
    return text if text.isascii() else SEPARATOR.sub(_escaped, text)


def to_bytes(value: Any) -> bytes:
    """The same in UTF-8, which cannot hold half a surrogate pair."""
    return dumps(value).encode("utf-8", "replace")


def quoted(text: str) -> str:
    """Text as a JSON string in one line."""
    written = encode_basestring(text)
    return written if written.isascii() else SEPARATOR.sub(_escaped, written)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def pieces(head: str, text: str, tail: str) -> bytes:
    """`text` as JSON strings between head and tail: one event, several where it is long, none where
    it is empty."""
    events = [f"{head}{quoted(piece)}{tail}" for piece in slices(text)]
    return "".join(events).encode("utf-8", "replace")


def slices(text: str) -> list[str]:
    """`text` in parts of at most LONGEST_PIECE characters."""
    return [text[at : at + LONGEST_PIECE] for at in range(0, len(text), LONGEST_PIECE)]


def named(event: dict[str, Any]) -> bytes:
    """An event whose line `event:` says the `type` that its data has, too."""
    return f"event: {event['type']}\ndata: {dumps(event)}\n\n".encode("utf-8", "replace")


Frame = tuple[str, str]  # what stands before and behind the words of an event


class Writer:
    """Writes one answer as an API's server-sent events. Each method returns whole ones, or nothing.

    `answers` is how many answers have to end before the stream does. `said` and `thought` are the
    frames of words and of thoughts, as long as these do no more than add to what is open.
    """

    answers = 1
    said: Frame | None = None
    thought: Frame | None = None

    def opening(self) -> bytes:
        """What stands before the first block that `take` gives, or before a sign of life."""
        return b""

    def take(self, event: Event) -> bytes:
        """What an event adds to the answer."""
        raise NotImplementedError

    def alive(self) -> bytes:
        """A sign of life."""
        return PING

    def finish(self, done: Done) -> bytes:
        """The end of one answer."""
        return b""

    def end(self, usage: Usage | None) -> bytes:
        """The end of the stream, behind that of the last answer."""
        return b""

    def failed(self, wrong: ProxyError, usage: Usage | None) -> bytes:
        """The end of a stream that cannot go on: clients take a bare one for a whole answer."""
        raise NotImplementedError


def written(events: Iterator[Event], writer: Writer, tally: Tally) -> Iterator[bytes]:
    """`Format.stream`, for what the writer makes of each event.

    `Working` is a sign of life only where nothing has been said since the one before it.
    """
    begun, quiet, left = False, True, writer.answers
    try:
        for event in events:
            match event:
                case Text(text=text) | Reasoning(text=text):
                    frame = writer.said if type(event) is Text else writer.thought
                    if frame is None:
                        block = writer.take(event)
                    elif 0 < len(text) <= LONGEST_PIECE:
                        # `pieces` by hand: every token passes here, and each function more is a
                        # tenth of what it costs
                        words = encode_basestring(text)
                        if not words.isascii():
                            words = SEPARATOR.sub(_escaped, words)
                        block = f"{frame[0]}{words}{frame[1]}".encode("utf-8", "replace")
                    else:
                        block = pieces(frame[0], text, frame[1])
                case ToolCall() | Citation() | Picture() | Answering() | PromptSize():
                    block = writer.take(event)
                case Usage():
                    tally.add(event)
                    continue
                case Working() if not quiet:
                    quiet = True
                    continue
                case Silence() | Working():
                    tally.heartbeats += 1
                    yield writer.alive() if begun else writer.opening() + writer.alive()
                    begun = True
                    continue
                case Done():
                    block = writer.finish(event)
                    left -= 1
                    if not left:
                        block += writer.end(tally.usage)
                case _:
                    assert_never(event)
            if block:
                quiet = False
                yield block if begun else writer.opening() + block
                begun = True
            if not left:
                return
    except ProxyError as wrong:
        if begun:
            yield writer.failed(wrong, tally.usage)
        raise
