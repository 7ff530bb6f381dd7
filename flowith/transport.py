"""One POST over requests, and the three things requests leaves out.

An `Exchange` can be cancelled in every phase, a kept connection that turned out dead is replaced
once, and one read takes all that has arrived. Knows nothing of what the bytes mean.

The adapter is used without a Session: no cookies, netrc entries or redirects, and a third of the
cost per call (docs/performance.md).
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from errors import DOCTOR, UpstreamCut, UpstreamError, UpstreamTimeout, UpstreamUnreachable

FOREIGN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    http.client.HTTPException,
)
ESTABLISHED = 1  # the TCP state
BLOCK = 65_536  # bytes
KEPT = 20.0  # seconds a kept connection may idle; older ones are often dropped in silence
_NEXT_CHUNK = re.compile(rb"\r\n([0-9a-fA-F]{1,6})\r\n")
_current = threading.local()


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


class _GreedyResponse(http.client.HTTPResponse):
    """Reads all whole HTTP chunks that have arrived at once, where http.client reads only one.

    Only whole chunks that stand in the buffer between two chunks are taken, so http.client's own
    state stays true whatever follows. Without it a burst costs 3 us per token (measured).
    """

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._socket = sock
        if exchange := getattr(_current, "exchange", None):
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

    response_class: Any = _GreedyResponse
    exchange: Exchange | None = None
    calls = 0
    used = 0.0
    _head: bytes | None = None  # of a request that is being sent; empty before it is known

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        exchange: Exchange | None = getattr(_current, "exchange", None)
        if exchange is not None:
            # http.client forgets the socket of a `Connection: close` answer that is still read
            exchange.socket = self.sock  # type: ignore[attr-defined]
            if exchange.cancelled:
                self.close()
                raise OSError("cancelled")

    def request(self, *args: Any, **kwargs: Any) -> None:
        exchange: Exchange | None = getattr(_current, "exchange", None)
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
        exchange: Exchange | None = getattr(_current, "exchange", None)
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


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


@dataclass(slots=True)
class _Way:
    """How to reach one URL: what requests would work out anew for each call."""

    url: str
    verify: bool | str
    proxies: dict[str, str]
    pool: Any = None
    target: str = ""


class _Response(requests.Response):
    """Without what each of them makes for itself: a cookie jar, a history, a clock."""

    def __init__(self) -> None:
        pass


class Transport(HTTPAdapter):
    """Sends POSTs; safe for all threads and greenlets of one process.

    Overrides what requests documents for subclasses, so that proxies, certificates and the pool
    are worked out once per URL: of 650 us for a call, a third is left (docs/performance.md).
    Connects alone are retried by urllib3, which is safe for a POST.
    """

    def __init__(self, connect_timeout: float, pool_size: int) -> None:
        retries = urllib3.Retry(total=None, connect=1, read=0, redirect=0, status=0, other=0)
        super().__init__(pool_connections=64, pool_maxsize=pool_size, max_retries=retries)
        self._timeout = (connect_timeout, None)
        self._ways: dict[str, _Way] = {}

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def post(
        self, url: str, headers: Mapping[str, str], body: bytes, exchange: Exchange
    ) -> requests.Response:
        """POST and return the response, body unread.

        A POST is sent again only if it went out on a kept connection that died without a byte of
        an answer: the server had closed it before our request arrived. Raises UpstreamError.
        """
        way = self._way(url)
        request = requests.PreparedRequest()
        request.method, request.url, request.body = "POST", way.url, body
        plain = {**headers, "Content-Length": str(len(body))}
        request.headers = cast("CaseInsensitiveDict[str]", plain)
        try:
            return self._send(request, way, exchange)
        except FOREIGN as wrong:
            if exchange.cancelled or not (exchange.reused and _was_dropped(wrong)):
                raise to_error(wrong, url) from wrong
        exchange.fresh = True
        try:
            return self._send(request, way, exchange)
        except FOREIGN as wrong:
            raise to_error(wrong, url) from wrong

    def _send(
        self, request: requests.PreparedRequest, way: _Way, exchange: Exchange
    ) -> requests.Response:
        _current.exchange = exchange
        try:
            if exchange.cancelled:
                raise OSError("cancelled")
            return self.send(
                request,
                stream=True,
                timeout=self._timeout,
                verify=way.verify,
                proxies=way.proxies,
            )
        finally:
            _current.exchange = None

    def _way(self, url: str) -> _Way:
        if url not in self._ways:
            with requests.Session() as session:
                found = session.merge_environment_settings(url, {}, True, None, None)
            prepared = requests.Request("POST", url).prepare().url
            self._ways[url] = _Way(
                prepared or url, found["verify"] or False, dict(found["proxies"])
            )
            self._ways[prepared or url] = self._ways[url]
        return self._ways[url]

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> HTTPConnectionPool:
        way = self._ways[request.url or ""]
        if way.pool is None:
            way.pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            super().cert_verify(way.pool, way.url, verify, cert)  # type: ignore[no-untyped-call]
            if way.pool.scheme == "https":
                _share_context(way.pool)
        return cast("HTTPConnectionPool", way.pool)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Done once for each pool."""

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        way = self._ways[request.url or ""]
        if not way.target:
            way.target = super().request_url(request, proxies)
        return way.target

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Status, headers and raw body; no cookies, no redirects, no guess of an encoding."""
        response = _Response()
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        response.request = _SENT  # `req` has the whole prompt, which a long answer must not keep
        return response


_SENT = requests.PreparedRequest()
_SENT.method = "POST"


def _share_context(pool: Any) -> None:
    """One TLS context for all connections of a pool: to load the certificates anew for each costs
    15 ms (measured)."""
    context = create_urllib3_context()
    if pool.ca_certs or pool.ca_cert_dir:
        context.load_verify_locations(pool.ca_certs, pool.ca_cert_dir)
    pool.ca_certs = pool.ca_cert_dir = None
    pool.conn_kw["ssl_context"] = context


def _was_dropped(wrong: BaseException) -> bool:
    """Whether the root cause is a connection that the other side had closed."""
    dropped = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)  # RemoteDisconnected is one
    return any(isinstance(one, dropped) for one in causes(wrong))


def causes(wrong: BaseException | None) -> Iterator[BaseException]:
    """An exception and what lies beneath it, the outermost first."""
    for _ in range(10):
        if wrong is None:
            break
        yield wrong
        inner = [arg for arg in wrong.args if isinstance(arg, BaseException)]
        wrong = wrong.__cause__ or wrong.__context__ or (inner[0] if inner else None)


def to_error(wrong: Exception, url: str) -> UpstreamError:
    """Map what requests, urllib3 and the socket raise, in one place, sending and reading alike."""
    host = urllib3.util.parse_url(url).host
    if isinstance(wrong, requests.exceptions.SSLError):
        return UpstreamUnreachable(
            f"No secure connection to Flowith ({host}): TLS failed. {DOCTOR}"
        )
    if isinstance(wrong, requests.exceptions.ProxyError):
        return UpstreamUnreachable(
            f"The HTTP proxy on the way to Flowith ({host}) refused. {DOCTOR}"
        )
    if isinstance(wrong, requests.ConnectTimeout):
        return UpstreamTimeout(f"Flowith ({host}) did not accept a connection in time. {DOCTOR}")
    if isinstance(wrong, requests.ConnectionError) and _never_connected(wrong):
        return UpstreamUnreachable(f"Flowith ({host}) cannot be reached. {DOCTOR}")
    return UpstreamCut(f"Flowith ({host}) broke off the connection before the answer was complete.")


def _never_connected(wrong: requests.ConnectionError) -> bool:
    reason = getattr(wrong.args[0] if wrong.args else None, "reason", None)
    return isinstance(reason, urllib3.exceptions.NewConnectionError)
