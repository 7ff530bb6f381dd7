"""What callers speak: one module, or a pair, for each API. Each is a `Format`.

A format is pure: bytes and events in, bytes and objects out. Knows nothing of HTTP's life, of
Flask, of the bridge or of Flowith; formats do not know each other.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from chat_request import ChatRequest
from errors import ProxyError
from events import Event, Tally
from settings import Settings


class ErrorReply(NamedTuple):
    """An error as an API puts it: HTTP status and JSON body."""

    status: int
    body: bytes


class Format(Protocol):
    """The mirror of a dialect; a module with these names is one.

    `NAME` stands in the log and in /metrics; `ID_HEADERS` are the response headers that carry the
    request's id in this API.
    """

    @property
    def NAME(self) -> str: ...  # noqa: N802 - a module's constant

    @property
    def ID_HEADERS(self) -> tuple[str, ...]: ...  # noqa: N802 - a module's constant

    def parse(self, raw: bytes, settings: Settings) -> ChatRequest:
        """Check a request's body. Raises InvalidRequest that names the field."""

    def to_envelope(self, chat: ChatRequest, settings: Settings, request_id: str) -> Any:
        """What all parts of one answer share: id, time, model, what is echoed."""

    def stream(self, events: Iterator[Event], envelope: Any, tally: Tally) -> Iterator[bytes]:
        """Events as this API's server-sent events, from the first byte to the last; each block
        holds whole ones. The usage goes into `tally`.

        A ProxyError out of `events` is raised on; where a block has gone out before, this API's
        error event goes out first.
        """

    def whole(self, events: Iterable[Event], envelope: Any, tally: Tally) -> bytes:
        """Events as one JSON object, in UTF-8."""

    def error(self, wrong: ProxyError, request_id: str) -> ErrorReply:
        """An error before the first byte of an answer."""
