"""One request over requests; a kept connection that turned out dead is replaced once.

The adapter is used without a Session: no cookies, netrc entries or redirects, and a third of the
cost per call (docs/performance.md). Knows nothing of what the bytes mean.
"""

import logging
import ssl
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from errors import DOCTOR, UpstreamCut, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from flowith.connection import CONNECTIONS, Exchange, current
from flowith.encoding import UnknownEncoding
from flowith.tls import decrypt_in_memory

FOREIGN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
PROXY = (
    requests.exceptions.ProxyError,
    requests.exceptions.InvalidProxyURL,
    requests.exceptions.InvalidSchema,  # of a proxy: the addresses have been checked
)
TIMEOUTS = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
CUT = (UpstreamCut, "Flowith ({host}) broke off the connection before the answer was complete.")
UNREACHABLE = (UpstreamUnreachable, "Flowith ({host}) cannot be reached. " + DOCTOR)
# What callers are told of each trouble on the way.
TOLD: Mapping[str, tuple[type[UpstreamError], str]] = {
    "encoding": (UpstreamError, "Flowith encoded its answer in a way nobody asked for."),
    "tls": (UpstreamUnreachable, "No secure connection to Flowith ({host}): TLS failed. " + DOCTOR),
    "proxy": (
        UpstreamUnreachable,
        "The HTTP proxy on the way to Flowith ({host}) refused. " + DOCTOR,
    ),
    "slow_connection": (
        UpstreamTimeout,
        "Flowith ({host}) did not accept a connection in time. " + DOCTOR,
    ),
    "no_dns": UNREACHABLE,
    "no_connection": UNREACHABLE,
    "timeout": CUT,
    "cut": CUT,
}
ERROR_BODY = 65_536  # bytes read of an error's body
ERROR_TIME = 1.0  # seconds for it: its status has said the most of it
SENT = requests.PreparedRequest()  # what a response keeps of its request
SENT.method = "POST"
log = logging.getLogger("flowith")


@dataclass(slots=True)
class _Way:
    """How to reach one URL: what requests would work out anew for each call. `host` goes into the
    header of that name, `target` into the first line."""

    url: str
    verify: bool | str
    proxies: dict[str, str]
    host: str
    pool: Any = None
    target: str = ""


class _Response(requests.Response):
    """Without what each of them makes for itself: a cookie jar, a history, a clock."""

    def __init__(self) -> None:
        pass


class Transport(HTTPAdapter):
    """Sends requests; safe for all threads and greenlets of one process.

    Overrides what requests documents for subclasses, so that proxies, certificates and the pool
    are worked out once per URL: of 650 us for a call, a third is left (docs/performance.md).
    Connects alone are retried by urllib3, which is safe for a POST.
    """

    def __init__(self, connect_timeout: float, pool_size: int, more_connects: int = 1) -> None:
        retries = urllib3.Retry(
            total=None, connect=more_connects, read=False, redirect=0, status=0, other=0
        )
        super().__init__(pool_connections=64, pool_maxsize=pool_size, max_retries=retries)
        self._connect_timeout = connect_timeout
        self._ways: dict[str, _Way] = {}

    def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        exchange: Exchange,
        patience: float | None = None,
    ) -> requests.Response:
        """POST and return the response, body unread.

        `patience` is how many seconds a read may wait; without it, whoever owns the exchange
        cancels it in time. A POST is sent again only if it went out on a kept connection that died
        without a byte of an answer: most likely the server had closed it before our request
        arrived. Raises UpstreamError.
        """
        while True:
            try:
                return self.send_once("POST", url, headers, body, exchange, patience)
            except FOREIGN as wrong:
                if not _met_dead_connection(wrong, exchange):
                    raise to_error(wrong, url) from None
                forget_frames(wrong)
            name = headers.get("X-Request-ID", "-")
            log.warning("%s sent again: its kept connection was dead", name)
            exchange.fresh, exchange.reused = True, False  # so this happens once

    def send_once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        exchange: Exchange,
        patience: float | None,
    ) -> requests.Response:
        """As `post`, but never a second time. Raises what FOREIGN holds."""
        way = self._way(url)
        request = requests.PreparedRequest()
        request.method, request.url, request.body = method, way.url, body
        plain = {"Host": way.host, "Accept-Encoding": "identity", **headers}
        if body is not None:
            plain["Content-Length"] = str(len(body))
        request.headers = plain  # type: ignore[assignment]  # whose case nobody asks for
        current.exchange = exchange
        try:
            if exchange.cancelled:
                raise OSError("cancelled")
            exchange.response = response = self.send(
                request,
                stream=True,
                timeout=(self._connect_timeout, patience),  # type: ignore[arg-type]
                verify=way.verify,
                proxies=way.proxies,
            )
            return response
        finally:
            current.exchange = None

    def _way(self, url: str) -> _Way:
        if url not in self._ways:
            with requests.Session() as session:
                found = session.merge_environment_settings(url, {}, True, None, None)
            prepared = requests.Request("POST", url).prepare().url or url
            host = urlsplit(prepared).netloc.rpartition("@")[2]
            self._ways[url] = _Way(prepared, found["verify"] or False, dict(found["proxies"]), host)
            self._ways[prepared] = self._ways[url]
        return self._ways[url]

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> HTTPConnectionPool:
        way = self._ways[request.url or ""]
        if way.pool is None:
            way.pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            way.pool.ConnectionCls = CONNECTIONS[way.pool.scheme]
            way.target = super().request_url(request, proxies)
            super().cert_verify(way.pool, way.url, verify, cert)  # type: ignore[no-untyped-call]
            if way.pool.scheme == "https":
                _share_context(way.pool)
        pool: HTTPConnectionPool = way.pool
        return pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Done once for each pool."""

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        return self._ways[request.url or ""].target

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Status, headers and raw body; no cookies, no redirects, no guess of an encoding."""
        response = _Response()
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        response.request = SENT  # `req` has the whole prompt, which a long answer must not keep
        return response


def _share_context(pool: Any) -> None:
    """Have all connections of a pool use one TLS context."""
    context = _context(pool.ca_certs, pool.ca_cert_dir)
    pool.ca_certs = pool.ca_cert_dir = None
    pool.conn_kw["ssl_context"] = context
    if proxy := pool.conn_kw.get("proxy_config"):  # which may be spoken to over TLS itself
        pool.conn_kw["proxy_config"] = proxy._replace(ssl_context=context)


@cache
def _context(file: str | None, folder: str | None) -> ssl.SSLContext:
    """For certificates from there: to load them anew for each connection costs 15 ms (measured)."""
    context = create_urllib3_context()
    if file or folder:
        context.load_verify_locations(file, folder)
    decrypt_in_memory(context)
    return context


@contextmanager
def asked_alone(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    connect: float,
    patience: float,
) -> Iterator[tuple[requests.Response, Exchange]]:
    """The answer, body unread, to one request over a connection of its own. `connect` and
    `patience` (for a read) are seconds. Raises what FOREIGN holds."""
    exchange = Exchange()
    with closing(Transport(connect, pool_size=1, more_connects=0)) as transport:
        try:
            answer = transport.send_once(method, url, headers, body, exchange, patience)
            yield answer, exchange
        finally:
            exchange.release()


def _met_dead_connection(wrong: BaseException, exchange: Exchange) -> bool:
    """Whether the root cause is a kept connection that the other side closed without an answer."""
    dropped = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)
    heard = exchange.answer is not None and exchange.answer.heard
    if heard or exchange.cancelled or not exchange.reused:
        return False
    return any(isinstance(one, dropped) for one in causes(wrong))


def causes(wrong: BaseException | None) -> Iterator[BaseException]:
    """An exception and what lies beneath it, the outermost first."""
    for _ in range(10):
        if wrong is None:
            break
        yield wrong
        inner = [arg for arg in wrong.args if isinstance(arg, BaseException)]
        wrong = wrong.__cause__ or wrong.__context__ or (inner[0] if inner else None)


def read_whole(exchange: Exchange, url: str, limit: int, seconds: float = float("inf")) -> bytes:
    """A whole body of at most `limit` bytes that comes within so many seconds. Raises
    UpstreamError."""
    try:
        return b"".join(_blocks(exchange, limit, seconds))
    except FOREIGN as wrong:
        raise to_error(wrong, url) from None


def read_refusal(exchange: Exchange) -> bytes:
    """As much of an error's body as comes in a moment, decoded as far as that is known here."""
    blocks = []
    with suppress(*FOREIGN, UpstreamError):
        for block in _blocks(exchange, ERROR_BODY, ERROR_TIME):
            blocks.append(block)  # noqa: PERF402 - what came before an error counts
    return b"".join(blocks)


def _blocks(exchange: Exchange, limit: int, seconds: float) -> Iterator[bytes]:
    """A body, closed in any case. Raises TimeoutError, UpstreamError and what is FOREIGN."""
    until, size = time.monotonic() + seconds, 0
    try:
        read = exchange.reader()
        while size <= limit:
            if seconds < float("inf"):
                exchange.wait_at_most(until - time.monotonic())
            block = read()
            if not block:
                return
            yield block
            size += len(block)
        raise UpstreamError("Flowith's answer does not end.")
    finally:
        exchange.release()


def forget_frames(wrong: BaseException) -> None:
    """Let go of what the frames under an exception hold, the prompt above all: urllib3's refer to
    the exception in turn, so that all of it would stay until a collection of garbage."""
    for one in list(causes(wrong)):
        traceback.clear_frames(one.__traceback__)
        one.__traceback__ = None


def to_trouble(wrong: Exception) -> str:
    """What went wrong on the way, as a word of TOLD: requests, urllib3 and the socket have many."""
    if isinstance(wrong, UnknownEncoding):
        return "encoding"
    if isinstance(wrong, requests.exceptions.SSLError):
        return "tls"
    if isinstance(wrong, PROXY):
        return "proxy"
    if isinstance(wrong, requests.ConnectTimeout):
        return "slow_connection"
    reason = getattr(wrong.args[0] if wrong.args else None, "reason", None)
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return "no_dns"
    if isinstance(reason, urllib3.exceptions.NewConnectionError):
        return "no_connection"
    return "timeout" if any(isinstance(one, TIMEOUTS) for one in causes(wrong)) else "cut"


def to_error(wrong: Exception, url: str) -> UpstreamError:
    """What callers are told of a trouble, sending and reading alike. Forgets the frames of
    `wrong`."""
    trouble = to_trouble(wrong)
    forget_frames(wrong)
    kind, words = TOLD[trouble]
    return kind(words.format(host=urllib3.util.parse_url(url).host))
