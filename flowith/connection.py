"""urllib3's connections, made for one thing: a POST whose answer is read as it comes.

An `Exchange` is one POST under way, which can be cancelled in every phase. urllib3 connects, keeps
and decodes; a request is written and the head of its answer read here, and one read of the body
takes all that has arrived, over plain TCP and TLS alike. Knows nothing of what the bytes mean.
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
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import requests
import urllib3
from urllib3 import HTTPHeaderDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

ESTABLISHED = 1  # the TCP state
BLOCK = 65_536  # bytes
PIECE = 8_192  # bytes per read of chunks; to make room for more each time costs a crowd a third
KEPT = 20.0  # seconds a kept connection may idle; older ones are often dropped in silence
LONGEST_LINE, MOST_HEADERS = 65_536, 100  # of an answer's head: bytes, and lines; http.client's
# the end of the chunk before, and a chunk's size
_CHUNK = re.compile(rb"\r?\n([0-9a-fA-F]{1,8})[ \t]*(?:;[^\n]*)?\r?\n")
_END = re.compile(rb"(?:[^\n]+\n)*?\r?\n")  # trailers, and the empty line that ends them
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
    """Takes all of a body in chunks that has arrived at once, where http.client takes one chunk at
    a time, which makes a burst ten times as dear (docs/performance.md)."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # Not yet taken apart: the end of a chunk and the size of the next, or what follows the last
        # one. It begins as if a chunk had just ended, so that none goes without that end.
        self._rest = b"\r\n"
        self._left = 0  # bytes that the current chunk still has to bring
        self._over = False  # whether the last chunk, of size 0, has come
        if exchange := getattr(current, "exchange", None):
            exchange.body = self
        if isinstance(sock, ssl.SSLSocket):
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_Records(raw, sock), BLOCK)

    def begin(self) -> HTTPHeaderDict:  # type: ignore[override]
        """Read the head as http.client does, but without its e-mail parser, which costs as much as
        ten tokens (docs/performance.md). A head that breaks off is an error here."""
        while True:
            version, status, reason = self._read_status()  # type: ignore[attr-defined]
            headers = self._read_headers()
            if status >= http.HTTPStatus.OK:  # the others only announce something
                break
        if not version.startswith("HTTP/1."):
            raise http.client.UnknownProtocol(version)
        self.version = 10 if version == "HTTP/1.0" else 11
        self.status = status
        self.reason = reason.strip()
        self.headers = headers  # type: ignore[assignment]
        codings = headers.get("Transfer-Encoding", "").lower().split(",")
        length = headers.get("Content-Length", "").split(",")[0].strip()
        self.chunked, self.chunk_left = codings[-1].strip() == "chunked", None
        self.length = int(length) if length.isdecimal() and not self.chunked else None
        if status in (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED):
            self.length = 0
        keeps = self.chunked or self.length is not None
        self.will_close = self._check_close() or not keeps  # type: ignore[attr-defined]
        return headers

    def _read_headers(self) -> HTTPHeaderDict:
        headers, name = HTTPHeaderDict(), ""
        for _ in range(MOST_HEADERS):
            line = self.fp.readline(LONGEST_LINE + 1)
            if line in (b"\r\n", b"\n"):
                return headers
            if len(line) > LONGEST_LINE:
                raise http.client.LineTooLong("header line")
            if not line.endswith(b"\n"):
                raise http.client.IncompleteRead(line)
            text = line.decode("latin-1")
            folded = text[0] in " \t"
            if not folded:
                name, colon, text = text.partition(":")
                name = name.strip() if colon else ""
            if name:
                headers.add(name, text.strip(), combine=folded)
        raise http.client.HTTPException(f"more than {MOST_HEADERS} headers")

    def read1(self, n: int = -1) -> bytes:
        """What has arrived of the body; waits for the first byte of it, b"" is the end. Raises
        IncompleteRead where the body breaks off or is not made of chunks."""
        if not self.chunked:
            return super().read1(n)
        block = b""
        while not block and self.fp is not None:
            unread = self._rest
            if len(unread) > LONGEST_LINE or (b"\n" in unread[2:] and not self._over):
                raise http.client.IncompleteRead(b"")
            data = self.fp.read1(PIECE)
            if self._over:
                self._rest += data
            else:
                block = self._unchunk(unread + data)
            if self._over and (not data or _END.match(self._rest)):
                self._close_conn()  # type: ignore[attr-defined]
            elif not data:
                raise http.client.IncompleteRead(b"")
        return block

    def _unchunk(self, data: bytes) -> bytes:
        end = self._left
        blocks = [data[:end]]
        while found := _CHUNK.match(data, end):
            start = found.end()
            end = start + int(found[1], 16)
            if start == end:
                self._over = True
                break
            blocks.append(data[start:end])
        self._left, self._rest = max(0, end - len(data)), data[end:]
        return b"".join(blocks)


class _Recorded:
    """Mixin for urllib3's connections: tells the exchange which connection it runs on, and does
    without http.client's way of a request."""

    sock: Any
    timeout: Any
    exchange: Exchange | None = None
    calls = 0
    used = 0.0
    _response: GreedyResponse | None = None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        exchange: Exchange | None = getattr(current, "exchange", None)
        if exchange is not None:
            # http.client forgets the socket of a `Connection: close` answer that is still read
            exchange.socket = self.sock
            if exchange.cancelled:
                self.close()
                raise OSError("cancelled")

    def request(
        self,
        method: str,
        url: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        **_how: Any,
    ) -> None:
        """Send head and body in one piece; http.client makes two, which wakes the other side twice,
        and checks each header by itself. Raises ValueError for one that holds a line break."""
        if self._response is not None and not self._response.isclosed():
            raise http.client.CannotSendRequest
        exchange: Exchange | None = getattr(current, "exchange", None)
        self.exchange = exchange
        if exchange is not None:
            exchange.connection, exchange.reused = self, self.calls > 0
            exchange.socket = self.sock
        self.calls += 1
        self.used = time.monotonic()
        lines = [f"{method} {url} HTTP/1.1", *map(": ".join, (headers or {}).items())]
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        if not head.count(b"\r") == head.count(b"\n") == len(lines) + 1:
            raise ValueError("a header holds a line break")
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.timeout)
        self.sock.sendall(head + body)

    def getresponse(self) -> urllib3.HTTPResponse:
        """The answer's head, with its body unread."""
        self.sock.settimeout(self.timeout)
        response = GreedyResponse(self.sock, method="POST")
        try:
            headers = response.begin()
        except BaseException:
            response.close()
            self.close()
            raise
        if response.will_close:
            self.close()  # the response holds the socket
        else:
            self._response = response
        return urllib3.HTTPResponse(
            body=response,
            headers=headers,
            status=response.status,
            version=response.version,
            reason=response.reason,
            preload_content=False,
            original_response=response,
            request_method="POST",
        )

    def close(self) -> None:
        self.calls = 0
        self._response = None
        super().close()  # type: ignore[misc]

    @property
    def is_connected(self) -> bool:
        exchange: Exchange | None = getattr(current, "exchange", None)
        sock = self.sock
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


class Plain(_Recorded, HTTPConnection):  # type: ignore[misc]  # request() takes less
    pass


class Secure(_Recorded, HTTPSConnection):  # type: ignore[misc]
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = Plain  # type: ignore[assignment]


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = Secure  # type: ignore[assignment]


POOLS = {"http": _HTTPPool, "https": _HTTPSPool}
