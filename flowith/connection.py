"""urllib3's connections, and the two things they leave out: cancelling, and reading all there is.

An `Exchange` is one POST under way, which can be cancelled in every phase; one read takes all that
has arrived, over plain TCP and TLS alike. Knows nothing of what the bytes mean.
"""

import fcntl
import http.client
import io
import re
import socket
import ssl
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import requests
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

ESTABLISHED = 1  # the TCP state
BLOCK = 65_536  # bytes
KEPT = 20.0  # seconds a kept connection may idle; older ones are often dropped in silence
_NEXT_CHUNK = re.compile(rb"\r\n([0-9a-fA-F]{1,6})\r\n")
current = threading.local()  # its `exchange` is the one that this thread is sending


class Exchange:
    """One POST under way. `cancel` may be called from anywhere, at any time, more than once."""

    __slots__ = ("body", "cancelled", "connection", "fresh", "reused", "socket")

    def __init__(self) -> None:
        self.body: Any = None  # http.client's response
        self.cancelled = False
        self.fresh = False  # whether kept connections are to be passed over
        self.reused = False
        self.connection: Any = None
        self.socket: Any = None

    def cancel(self) -> None:
        """Shut the socket down, so that whoever reads it stops at once, before headers too."""
        self.cancelled = True
        connection, sock = self.connection, self.socket
        if connection is not None and connection.exchange is self and sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def reader(self, response: requests.Response) -> Callable[[], bytes]:
        """A function that gives all of the body that has arrived, b"" at its end.

        A body in chunks that needs no decoding is read past urllib3, whose layers cost a tenth of
        what a token does (measured); it still sees the end and takes the connection back.
        """
        raw, body = response.raw, self.body
        through = partial(raw.read1, BLOCK, decode_content=True)
        coded = response.headers.get("Content-Encoding", "identity") != "identity"
        if body is None or coded or not body.chunked:
            return through
        return lambda: body.read1(BLOCK) or through()

    def release(self) -> None:
        """Let go of the connection, which may serve someone else from now on."""
        if self.connection is not None and self.connection.exchange is self:
            self.connection.exchange = None
        self.body = self.connection = self.socket = None


class _Records(io.RawIOBase):
    """All TLS records that have arrived, where a read of a TLS socket gives but one.

    A record is often one token: without this a crowd over TLS falls behind for ever (measured).
    """

    def __init__(self, raw: Any, sock: Any) -> None:
        self._raw, self._socket = raw, sock

    def readable(self) -> bool:
        return True

    def readinto(self, to: Any) -> int | None:
        got: int | None = self._raw.readinto(to)
        if not got:
            return got
        view, kept = memoryview(to), self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            while got < len(view) and (more := self._socket.recv_into(view[got:])):
                got += more
        except OSError:  # "want read": nothing more has come; a real fault shows at the next read
            pass
        finally:
            self._socket.settimeout(kept)
        return got

    def close(self) -> None:
        self._raw.close()
        super().close()


class GreedyResponse(http.client.HTTPResponse):
    """Reads all whole HTTP chunks that have arrived at once, where http.client reads only one.

    Only whole chunks that stand in the buffer between two chunks are taken, so http.client's own
    state stays true whatever follows. Without it a burst costs 3 us per token (measured).
    """

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._socket = sock
        if exchange := getattr(current, "exchange", None):
            exchange.body = self
        if isinstance(sock, ssl.SSLSocket):
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_Records(raw, sock), BLOCK)

    def read1(self, n: int = -1) -> bytes:
        block = super().read1(n)
        if not block or not self.chunked or self.chunk_left:
            return block
        waiting, position, blocks = self._waiting(), 0, [block]
        while found := _NEXT_CHUNK.match(waiting, position):
            start, size = found.end(), int(found[1], 16)
            if not size or start + size > len(waiting):
                break
            blocks.append(waiting[start : start + size])
            position = start + size
        if position:
            self.fp.read(position)
        return b"".join(blocks) if position else block

    def _waiting(self) -> bytes:
        kept = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            return self.fp.peek()
        except OSError:  # a TLS socket says "want read" by raising
            return b""
        finally:
            self._socket.settimeout(kept)


class _Recorded:
    """Mixin for urllib3's connections: tells the exchange which connection it runs on."""

    response_class: Any = GreedyResponse
    exchange: Exchange | None = None
    calls = 0
    used = 0.0
    _head: bytes | None = None  # of a request that is being sent; empty before it is known

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        exchange: Exchange | None = getattr(current, "exchange", None)
        if exchange is not None:
            # http.client forgets the socket of a `Connection: close` answer that is still read
            exchange.socket = self.sock  # type: ignore[attr-defined]
            if exchange.cancelled:
                self.close()
                raise OSError("cancelled")

    def request(self, *args: Any, **kwargs: Any) -> None:
        exchange: Exchange | None = getattr(current, "exchange", None)
        self.exchange = exchange
        if exchange is not None:
            exchange.connection, exchange.reused = self, self.calls > 0
            exchange.socket = self.sock  # type: ignore[attr-defined]
        self.calls += 1
        self.used = time.monotonic()
        self._head = b""
        super().request(*args, **kwargs)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        """Head and body in one piece, where http.client makes two: one wake-up less over there."""
        if self._head is None:
            super().send(data)  # type: ignore[misc]
        elif not self._head:
            self._head = data
        else:
            head, self._head = self._head, None
            super().send(head + data)  # type: ignore[misc]

    def close(self) -> None:
        self.calls = 0
        super().close()  # type: ignore[misc]

    @property
    def is_connected(self) -> bool:
        exchange: Exchange | None = getattr(current, "exchange", None)
        sock: Any = self.sock  # type: ignore[attr-defined]
        if sock is None or time.monotonic() - self.used > KEPT:
            return False
        return not (exchange is not None and exchange.fresh) and _is_quiet(sock)


def _is_quiet(sock: Any) -> bool:
    """Whether a kept connection is open and has said nothing unasked: two system calls, where
    urllib3's poll goes through gevent's loop (30 us, measured)."""
    if not hasattr(socket, "TCP_INFO"):
        return not urllib3.util.wait_for_read(sock, timeout=0.0)
    waiting = int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0" * 4), sys.byteorder)
    return not waiting and sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED


class _HTTP(_Recorded, HTTPConnection):
    pass


class _HTTPS(_Recorded, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS


POOLS = {"http": _HTTPPool, "https": _HTTPSPool}
