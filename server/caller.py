"""The caller's connection: notice that it is gone, read its body in bounded time, break it off.

Knows gunicorn's socket and nothing else; behind any other server (Flask's test client, say) it
knows of no departure. Measured: without a watch a silent answer runs on to its end for nobody.
"""

import socket
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.wsgi import get_content_length, get_input_stream

from clock import Clock
from errors import Encoded, InvalidRequest, TooLarge

# TCP states CLOSE and CLOSE_WAIT. In the latter is also a caller who has closed for sending alone
# and still reads: nothing tells the two apart before something is sent, and a silent answer would
# run on to its end for nobody. So a half-closed caller counts as gone.
GONE = (7, 8)
# Content codings and zlib's numbers for them: 16 means gzip, a negative one no header at all
GZIP, ZLIB, BARE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
CODINGS: dict[str, tuple[int, ...]] = {
    "identity": (), "gzip": (GZIP,), "x-gzip": (GZIP,), "deflate": (ZLIB, BARE),
}  # fmt: skip
BROKE_OFF = "The request body broke off or came too slowly."
PAUSES = 8  # times the pause a sender is allowed, which the whole body may take


class Caller:
    """One caller, for one request; `close` it before the server uses the socket again."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self._environ = environ
        self._socket: Any = environ.get("gunicorn.socket")
        self._left = False
        self._body_by = float("inf")  # monotonic seconds
        self._late = False  # whether the body took too long
        self._watcher: Any = None

    def watch(self, on_left: Callable[[], None]) -> None:
        """Call `on_left` once the caller has closed the connection. It must not block; where no
        event loop can tell, `left` has to be asked."""
        if self._socket is None or not _gevent_runs():
            return
        import gevent

        self._watcher = gevent.get_hub().loop.io(self._socket.fileno(), 1)

        def look() -> None:
            self.close()  # it would fire for ever: the socket stays readable
            if _is_gone(self._socket):
                self._left = True
                on_left()
            # else there are bytes behind the request: a line end, or the next request. They hide
            # the caller's departure from the event loop, so from now on `left` looks for itself

        self._watcher.start(look)

    def left(self) -> bool:
        """Whether the caller is known to have gone."""
        if not self._left and self._watcher is None and self._socket is not None:
            self._left = _is_gone(self._socket)
        return self._left

    def close(self) -> None:
        """Stop watching; may be called more than once."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
            watcher.close()

    def break_off(self) -> None:
        """Cut the connection, so that an unfinished answer is seen as such."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(how)

    def tick(self, now: float) -> None:
        """Called by the clock while the body is read: when its time is over it has broken off."""
        if now >= self._body_by:
            self._late = True
            self._shut(socket.SHUT_RD)

    def read_body(self, limit: int, pause: float, clock: Clock) -> bytes:
        """The whole body, at most `limit` bytes before and after it is unpacked. Raises TooLarge,
        Encoded or InvalidRequest.

        The sender may pause for `pause` seconds, and take eight times as long in all.

        The length is compared by hand: werkzeug cuts a chunked body at its limit and takes a
        short one for whole, both without a word (measured).
        """
        environ = self._environ
        coding = environ.get("HTTP_CONTENT_ENCODING", "").lower().strip() or "identity"
        if coding not in CODINGS:
            raise _unknown_coding(coding)
        declared = get_content_length(environ)
        if declared is not None and declared > limit:
            raise _too_large(limit)
        kept = self._socket.gettimeout() if self._socket is not None else None
        self._body_by = time.monotonic() + PAUSES * pause
        clock.add(self, PAUSES * pause)
        try:
            if self._socket is not None:
                self._socket.settimeout(pause)
            body = get_input_stream(environ).read(limit + 1)
        except (ParseException, OSError):
            raise InvalidRequest(BROKE_OFF) from None
        finally:
            self._body_by = float("inf")
            clock.drop(self)
            if self._socket is not None:
                self._socket.settimeout(kept)
        if len(body) > limit:
            raise _too_large(limit)
        if declared is not None and len(body) != declared:
            if self._late:
                raise InvalidRequest(BROKE_OFF)
            raise InvalidRequest(
                f"The request body has {len(body)} bytes, but Content-Length says {declared}."
            )
        if CODINGS[coding]:
            body = _unpacked(body, CODINGS[coding], limit)
        return body


def _unknown_coding(coding: str) -> Encoded:
    text = "The request body is compressed in a way that is not known here"
    known = "send it uncompressed, or as gzip or deflate"
    hint = " In Codex set features.enable_request_compression=false." if coding == "zstd" else ""
    return Encoded(
        f"{text} (Content-Encoding: {coding[:40]!r}): {known}.{hint}",
        headers={"Accept-Encoding": "gzip, deflate"},
    )


def _unpacked(body: bytes, codings: tuple[int, ...], limit: int) -> bytes:
    """What was compressed; no more of it is made than `limit` bytes, whatever it would become.

    "deflate" is zlib's form by RFC 9110, and bare in what many send. Raises TooLarge or
    InvalidRequest.
    """
    for coding in codings:
        unpacker = zlib.decompressobj(coding)
        try:
            unpacked = unpacker.decompress(body, limit + 1)
        except zlib.error:
            continue
        if len(unpacked) > limit:
            raise _too_large(limit)
        if unpacker.eof and not unpacker.unused_data:
            return unpacked
    raise InvalidRequest("The request body is not what its Content-Encoding says, or broke off.")


def _too_large(limit: int) -> TooLarge:
    size = f"{limit / 1_048_576:g} MB"
    return TooLarge(f"The request body is larger than {size}, this service's limit (MAX_BODY_MB).")


def _gevent_runs() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def _is_gone(sock: Any) -> bool:
    """Whether the other side has closed, told by the kernel without reading (Linux only)."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in GONE
    except (AttributeError, OSError):
        return False
