"""JSON on lines, with `data:` in front or without, as two of Flowith's APIs send it.

What is not known here is an error: nothing is skipped in silence but what server-sent events let
one skip. Does no I/O.
"""

import json
import re
from typing import Any

from errors import UpstreamCut, UpstreamError
from events import Done, Event, Reasoning, Silence, Text
from flowith.refusal import to_refusal

LONGEST_LINE = 4_194_304  # bytes of one upstream line; a longer one is a fault, not an answer
MOST_PARTS = 10_000  # of one list in a frame; to read more would hold all others up
MOST_LEVELS = 16  # of lists and objects in one another that hold a thought
BOM = b"\xef\xbb\xbf"
SURROGATES = re.compile("[\ud800-\udfff]")
# What says nothing: members or types of frames, names of events, bare words in place of a frame.
SIGNS_OF_LIFE = frozenset({"heartbeat", "ping", "pong", "keepalive", "keep-alive", "keep_alive"})
Said = type[Text] | type[Reasoning]
# Members that an object may be an error by; nearly every frame has none of them.
OF_ERRORS = frozenset({"error", "success", "ok", "type", "message", "msg", "detail"})


class LineDecoder:
    """Common to the two APIs that send JSON on lines, with `data:` in front or without."""

    _finish: str | None = None

    def __init__(self, content_type: str = "") -> None:
        self._rest: list[bytes] = []  # of a line that is not whole
        self._size = 0
        self._at_start = True
        self._after_cr = False  # whether a line end that comes next belongs to the one before
        # high surrogates whose other half comes with the next piece of their kind
        self._halves: dict[Said, str] = {}
        self._event = ""  # what the event under way is called
        self._held: list[bytes] = []  # lines of JSON that is laid out over several
        self._held_size = 0
        self._ended = False

    def decode(self, block: bytes) -> list[Event]:
        """Raises UpstreamError when the bytes say so."""
        if b"\r" in block or self._after_cr:
            block = self._with_line_feeds(block)
        self._rest.append(block)
        events: list[Event] = []
        if b"\n" in block:
            lines = b"".join(self._rest).split(b"\n")
            self._rest, self._size = [lines.pop()], 0
            if self._at_start:
                lines[0], self._at_start = lines[0].removeprefix(BOM), False
            for line in lines:
                if not self._ended:
                    self._read_line(line.strip(), events)
        self._size += len(self._rest[-1])
        if self._size > LONGEST_LINE:
            raise UpstreamError("Flowith sent an endless line.")
        return events

    def _with_line_feeds(self, block: bytes) -> bytes:
        """The block with LF alone in place of CRLF and CR, which end a line of server-sent events
        as well (WHATWG HTML, 9.2.5). A CRLF may come in two blocks."""
        if self._after_cr:
            block = block.removeprefix(b"\n")
        self._after_cr = block.endswith(b"\r")
        return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def flush(self) -> list[Event]:
        """The body has ended. Raises UpstreamCut when the answer had not."""
        try:
            events = self.decode(b"\n") if any(self._rest) else []
            self._end_event(events)
        except _NotJson:
            raise UpstreamCut("Flowith's answer ended in the middle of a frame.") from None
        if not self._ended:
            if self._finish is None:
                raise UpstreamCut("Flowith's answer ended before it was complete.")
            self._end(events)
        return events

    def _read_line(self, line: bytes, events: list[Event]) -> None:
        """One line of server-sent events (WHATWG HTML, 9.2.6), or of bare JSON."""
        is_data = line.startswith(b"data:")
        if is_data:
            line = line[5:].strip()
        elif line.startswith(b"event:"):
            self._event = line[6:].strip().lower().decode("utf-8", "replace")
            return
        elif not line:
            self._end_event(events)
            return
        elif line.startswith((b":", b"id:", b"retry:")):
            return
        if self._held:
            self._hold(line)
        elif line == b"[DONE]":
            self._end(events)
        elif self._event and self._event in SIGNS_OF_LIFE:
            events.append(Silence())
        elif line:
            try:
                self._read_json(line, events)
            except _NotJson:
                # an object may be laid out over lines, and so may an event, each with its `data:`
                if line == b"{" or (is_data and line.startswith(b"{")):
                    self._hold(line)
                elif line.decode("utf-8", "replace").strip("[]").lower() in SIGNS_OF_LIFE:
                    events.append(Silence())
                else:
                    raise

    def _hold(self, line: bytes) -> None:
        self._held.append(line)
        self._held_size += len(line)
        if self._held_size > LONGEST_LINE:
            raise UpstreamError("Flowith sent an endless frame.")

    def _end_event(self, events: list[Event]) -> None:
        """The end of an event, or of the body: what was held is JSON now or never, and an error
        that had no data is one all the same."""
        if self._held:
            line = b"\n".join(self._held)
            self._held, self._held_size = [], 0
            self._read_json(line, events)
        if self._event == "error" and not self._ended:
            raise to_refusal(None, "")
        self._event = ""

    def _read_json(self, line: bytes, events: list[Event]) -> None:
        try:
            frame = json.loads(line)
        except (ValueError, RecursionError):
            raise _NotJson("Flowith sent a frame that is not JSON.") from None
        if not isinstance(frame, dict):
            if self._event == "error":
                raise to_refusal(None, frame)
            raise UpstreamError("Flowith sent a frame of a kind that is not known here.")
        if self._event == "error" or is_error(frame):
            raise to_refusal(None, frame)
        kind = frame.get("type")
        if not SIGNS_OF_LIFE.isdisjoint(frame) or (isinstance(kind, str) and kind in SIGNS_OF_LIFE):
            events.append(Silence())
        else:
            self._read_frame(frame, events)

    def _say(self, kind: Said, said: object, events: list[Event]) -> None:
        """Add a JSON string. Surrogate pairs that were split over two frames are joined."""
        if said is not None and not isinstance(said, str):
            raise unknown("text")
        if not said:
            return
        text = self._halves.pop(kind, "") + said if self._halves else said
        if SURROGATES.search(text):
            if "\ud800" <= text[-1] <= "\udbff":
                text, self._halves[kind] = text[:-1], text[-1]
            text = with_whole_pairs(text)
        if text:
            _add(kind, text, events)

    def _give_up_halves(self, events: list[Event]) -> None:
        """No other half comes: what waited for it is a character that cannot be read."""
        for kind, half in self._halves.items():
            _add(kind, with_whole_pairs(half), events)
        self._halves.clear()

    def _read_frame(self, frame: dict[str, Any], events: list[Event]) -> None:
        raise NotImplementedError

    def _end(self, events: list[Event]) -> None:
        self._give_up_halves(events)
        self._ended = True
        events.append(Done(self._finish or "stop"))


class _NotJson(UpstreamError):
    pass


def _add(kind: Said, text: str, events: list[Event]) -> None:
    """Add text to the event before it, if that is of its kind: what arrives together leaves
    together."""
    if events and isinstance(last := events[-1], kind):
        events.pop()
        text = last.text + text
    events.append(kind(text))


def to_object(text: str | bytes) -> dict[str, Any]:
    """The JSON object that a text is, empty where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def with_whole_pairs(text: str) -> str:
    """Text of JSON strings that were cut anywhere: surrogates that make a pair are one character,
    those that stand alone become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def unknown(what: str) -> UpstreamError:
    """The error for what the lists here do not hold."""
    return UpstreamError(f"Flowith sent a {what} of a kind that is not known here.")


def check_parts(parts: list[Any]) -> None:
    """Raises UpstreamError for more than can be true."""
    if len(parts) > MOST_PARTS:
        raise UpstreamError("Flowith sent a frame of more parts than can be true.")


def is_error(said: dict[str, Any]) -> bool:
    """Whether an object that came with a good status is an error, by its members."""
    if OF_ERRORS.isdisjoint(said):
        return False
    if said.get("error"):
        return True
    told = "message" in said or "msg" in said or "detail" in said
    if said.get("success") is False or said.get("ok") is False or said.get("type") == "error":
        return told or "code" in said
    return told and any(said.get(name) for name in ("code", "status", "statusCode"))


def flat(thought: Any, levels: int = MOST_LEVELS) -> str:
    """Reasoning as text, whether it came as a string, an object or a list of either. Raises
    UpstreamError where they stand in one another deeper than `levels`, or are too many."""
    if isinstance(thought, str):
        return thought
    if not levels:
        raise unknown("thought")
    if isinstance(thought, dict):
        named = (thought.get(name) for name in ("text", "content", "thinking", "summary"))
        return flat(next((one for one in named if one), ""), levels - 1)
    if isinstance(thought, list):
        check_parts(thought)
        return "".join(flat(part, levels - 1) for part in thought)
    return ""
