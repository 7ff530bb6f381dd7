"""urllib3's connections, made for one thing: a request whose answer is read as it comes.

An `Exchange` is one request under way, which can be cancelled in every phase. urllib3 connects,
keeps connections and speaks TLS; a request leaves in one write here, and `http_answer.py` reads
what comes. Knows nothing of what the bytes mean.
"""

import fcntl
import socket
import ssl
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProtocolError

from flowith.encoding import to_reader
from flowith.http_answer import HttpAnswer
from flowith.tls import TlsSocket, take_over

ESTABLISHED = 1  # the TCP state
BLOCK = 65_536  # bytes of one read, and of a body that leaves in one piece with its head
KEPT = 20.0  # seconds a kept connection may idle; older ones are often dropped in silence
SHORTEST = 0.001  # seconds of a wait; 0 would mean none
current = threading.local()  # its `exchange` is the one that this thread is sending


class Exchange:
    """One request under way. `cancel` may be called from anywhere, at any time, more than once."""

    __slots__ = ("answer", "cancelled", "connection", "fresh", "response", "reused", "socket")

    def __init__(self) -> None:
        self.response: Any = None  # of requests
        self.answer: HttpAnswer | None = None  # what its body is read from
        self.cancelled = False
        self.fresh = False  # whether kept connections are to be passed over
        self.reused = False  # whether it went out on a kept connection
        self.connection: Any = None
        self.socket: Any = None

    def cancel(self) -> None:
        """Shut the socket down, so that whoever reads it stops at once, before headers too."""
        self.cancelled = True
        connection, sock, answer = self.connection, self.socket, self.answer
        if answer is not None:
            answer.spoil("cancelled")  # what ends so must not pass for a body without a frame
        if connection is not None and connection.exchange is self and sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def reader(self) -> Callable[[], bytes]:
        """A function that gives all of the body that has arrived, decoded, b"" at its end.

        It raises ProtocolError where the body breaks off, and OSError. Raises ProtocolError for a
        Content-Encoding that is not known.
        """
        if self.answer is not None:
            read = self.answer.read1  # past urllib3, which takes a tenth of a token (measured)
        else:
            read = partial(self.response.raw.read1, BLOCK, decode_content=False)
        return to_reader(self.response.headers.get("Content-Encoding", ""), read)

    def has_arrived(self) -> bool:
        """Whether all of the body is here, its end included."""
        return self.answer is None or self.answer.is_whole()

    def wait_at_most(self, seconds: float) -> None:
        """From now on a read that waits longer raises TimeoutError."""
        if self.socket is not None:
            self.socket.settimeout(max(SHORTEST, seconds))

    def release(self) -> None:
        """Let go of the connection: it may serve someone else from now on, unless its answer was
        left before its end. May be called more than once."""
        response, self.response = self.response, None
        if response is not None:
            if self.answer is None:  # nothing of ours sent it
                response.raw.release_conn()
            elif self.answer.is_whole():
                self.answer.close()
                response.raw.release_conn()
            else:  # back in the pool it would be the first to be given out
                response.raw.close()
        self.answer = self.connection = self.socket = None


class _Recorded:
    """Mixin for urllib3's connections: tells the exchange which connection it runs on, and does
    without http.client's way of a request."""

    sock: Any
    timeout: Any
    exchange: Exchange | None = None
    _answer: HttpAnswer | None = None  # the latest

    def _new_conn(self) -> socket.socket:
        """urllib3's, before any handshake: that must not outlast its exchange either."""
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        exchange: Exchange | None = getattr(current, "exchange", None)
        if exchange is not None:
            self.exchange, exchange.connection, exchange.socket = exchange, self, sock
            if exchange.cancelled:
                sock.close()
                raise OSError("cancelled")
        return sock

    def request(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **_how: Any,
    ) -> None:
        """Send head and body in one piece, but for a long body; http.client makes two, which wakes
        the other side twice, and checks each header by itself. Raises ValueError for one that holds
        a line break."""
        if self._answer is not None and not self._answer.isclosed():
            raise ProtocolError("the answer before has not been read")
        exchange: Exchange | None = getattr(current, "exchange", None)
        self.exchange = exchange
        if exchange is not None:
            exchange.connection, exchange.reused = self, self._answer is not None
            exchange.socket = self.sock
        lines = [f"{method} {url} HTTP/1.1", *map(": ".join, (headers or {}).items())]
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        if not head.count(b"\r") == head.count(b"\n") == len(lines) + 1:
            raise ValueError("a header holds a line break")
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        self.sock.settimeout(self.timeout)
        body = body or b""
        if len(body) <= BLOCK:
            self.sock.sendall(head + body)
        else:  # which must not be held once more
            self.sock.sendall(head)
            self.sock.sendall(body)

    def getresponse(self) -> urllib3.HTTPResponse:
        """The answer's head, with its body unread."""
        self.sock.settimeout(self.timeout)
        self._answer = answer = HttpAnswer(self, self.sock)
        if self.exchange is not None:
            self.exchange.answer = answer
        try:
            answer.begin()
        except BaseException as wrong:
            answer.close()
            if isinstance(wrong, ssl.SSLError):  # urllib3 would take it for a failed handshake
                raise ConnectionResetError("the TLS connection broke off") from wrong
            raise
        return urllib3.HTTPResponse(
            body=answer,  # type: ignore[arg-type]  # as much of a file as it asks for
            headers=answer.headers,
            status=answer.status,
            preload_content=False,
            original_response=answer,  # type: ignore[arg-type]
            request_method="POST",
        )

    def close(self) -> None:
        self._answer = None
        super().close()  # type: ignore[misc]

    @property
    def is_connected(self) -> bool:
        """Whether a kept connection may take another request; urllib3 asks before each."""
        exchange: Exchange | None = getattr(current, "exchange", None)
        if self.sock is None or self._answer is None:
            return False
        if time.monotonic() - self._answer.ended > KEPT or (exchange and exchange.fresh):
            return False
        return _is_quiet(self.sock)


def _is_quiet(sock: Any) -> bool:
    """Whether a kept connection is open and has said nothing unasked: two system calls, where
    urllib3's poll goes through gevent's loop (30 us, measured)."""
    if isinstance(sock, TlsSocket) and not sock.is_quiet():
        return False
    if not hasattr(socket, "TCP_INFO"):
        return not urllib3.util.wait_for_read(sock, timeout=0.0)
    waiting = int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0" * 4), sys.byteorder)
    return not waiting and sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED


class Plain(_Recorded, HTTPConnection):  # type: ignore[misc]  # request() takes less
    pass


class Secure(_Recorded, HTTPSConnection):  # type: ignore[misc]
    def connect(self) -> None:
        super().connect()
        self.sock = take_over(self.sock)  # of the kind that `decrypt_in_memory` makes


CONNECTIONS = {"http": Plain, "https": Secure}
