"""One POST over requests; a kept connection that turned out dead is replaced once.

The adapter is used without a Session: no cookies, netrc entries or redirects, and a third of the
cost per call (docs/performance.md). Knows nothing of what the bytes mean.
"""

import http.client
import ssl
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from errors import DOCTOR, UpstreamCut, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from flowith.connection import POOLS, Exchange, current

FOREIGN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    http.client.HTTPException,
)


@dataclass(slots=True)
class _Way:
    """How to reach one URL: what requests would work out anew for each call."""

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
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = POOLS
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
        plain = {"Host": way.host, "Accept-Encoding": "identity", **headers}
        plain["Content-Length"] = str(len(body))
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
        current.exchange = exchange
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


def forget_frames(wrong: BaseException) -> None:
    """Let go of what the functions held that an exception came through: the prompt, in several
    forms. urllib3 keeps exceptions in local variables, which makes circles that live until some
    late garbage collection (measured: 16 MB for each refused prompt of 10 MB)."""
    for one in causes(wrong):
        traceback.clear_frames(one.__traceback__)


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
