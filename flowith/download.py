"""A file that Flowith's answer named, fetched as base64.

The address that was checked is the one that is connected to; no redirect is followed, no token is
sent, the first bytes tell what the file is. Knows nothing of what made it.
"""

import base64
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import certifi
import requests
from requests.utils import select_proxy
from urllib3.util import make_headers

from clock import Clock
from errors import UpstreamCut, UpstreamError, UpstreamTimeout
from events import Event, Picture, Silence
from flowith.file_address import Forbidden, Place, resolve, to_place

LARGEST = 50_331_648  # bytes of a file
BLOCK = 65_536  # bytes a read
CODED = 196_608  # bytes that are encoded in one go: a multiple of 3, or padding comes in between
TRIES = 3  # the picture is paid for
PAUSE = 0.5  # seconds before the second try, and twice that before the third
PATIENCE = 60.0  # seconds for one try, however slowly the file drips
STALLED = 15.0  # seconds without a byte
MOST_ADDRESSES = 4  # of a host, that are tried
LOOK = 0.5  # seconds between two looks at whether anybody still waits
SLOTS = threading.BoundedSemaphore(8)  # downloads at a time in a process
# what the first bytes say, see each format's specification
SIGNATURE = 12  # bytes
KINDS = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "gif": re.compile(rb"GIF8[79]a"),
}
FOREIGN = (OSError, http.client.HTTPException)
TOO_LARGE = f"The picture was made, but its file is larger than {LARGEST // 1_048_576} MB."


class _Response(http.client.HTTPResponse):
    """Nothing was announced that a 1xx could answer, and http.client would read them for ever."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        if status < http.HTTPStatus.OK:
            raise http.client.BadStatusLine(str(status))
        return version, status, reason


class _Connection(http.client.HTTPConnection):
    """Goes to one IP address, where it expects the certificate of one name."""

    response_class = _Response

    def __init__(self, address: str, port: int, name: str, context: ssl.SSLContext | None) -> None:
        super().__init__(address, port, timeout=STALLED)
        self._name, self._context = name, context
        self.kept: socket.socket | None = None  # http.client forgets it while the body is read

    def connect(self) -> None:
        super().connect()  # through a proxy's tunnel, where there is one
        self.kept = self.sock
        if self._context is not None:
            # else an answer that ends without TLS's own end would pass for whole
            self.sock = self.kept = self._context.wrap_socket(
                self.sock, server_hostname=self._name, suppress_ragged_eofs=False
            )


@cache
def _context(bundle: str) -> ssl.SSLContext:
    """To load the certificates takes 15 ms (measured)."""
    if Path(bundle).is_dir():
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)


def _connection(place: Place, address: str, url: str) -> _Connection:
    """Not yet connected; by way of a proxy where the environment names one for `url`."""
    if place.scheme != "https":
        return _Connection(address, place.port, place.host, None)
    with requests.Session() as session:
        found = session.merge_environment_settings(url, {}, True, None, None)
    bundle = found["verify"] if isinstance(found["verify"], str) else certifi.where()
    proxy = select_proxy(url, found["proxies"])
    if not proxy:
        return _Connection(address, place.port, place.host, _context(bundle))
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    way = _Connection(parts.hostname or "", parts.port or 80, place.host, _context(bundle))
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    way.set_tunnel(address, place.port, make_headers(proxy_basic_auth=login))
    return way


class Download:
    """One file under way, in a thread of its own; `events` may be asked for once, `close` ends it
    in any phase. `look` raises where going on makes no sense."""

    def __init__(
        self,
        url: str,
        origin: str,
        agent: str,
        heartbeat: float,
        clock: Clock,
        look: Callable[[], None],
    ) -> None:
        self._url, self._origin, self._agent = url, origin, agent
        self._heartbeat, self._clock, self._look = heartbeat, clock, look
        self._connection: _Connection | None = None
        self._until = float("inf")
        self._closed = False
        self._woken = threading.Event()
        self._outcome: Picture | Exception | None = None

    def events(self) -> Iterator[Event]:
        """`Silence` while it lasts, then the `Picture`. Raises UpstreamError, and what `look`
        raises."""
        threading.Thread(target=self._run, daemon=True).start()
        silent_at = time.monotonic() + self._heartbeat
        try:
            while self._outcome is None:
                self._woken.wait(min(LOOK, self._heartbeat))
                self._woken.clear()
                self._look()
                if time.monotonic() >= silent_at:
                    silent_at = time.monotonic() + self._heartbeat
                    yield Silence()
        finally:
            self.close()
        outcome, self._outcome = self._outcome, None  # which may be large, and has been waited for
        if isinstance(outcome, Picture):
            yield outcome
            return
        try:
            raise outcome
        finally:
            del outcome  # its traceback has this frame: a circle that would keep the prompt

    def wake(self) -> None:
        """Let `events` look up at once. Never blocks."""
        self._woken.set()

    def close(self) -> None:
        """Stop; may be called more than once, from anywhere."""
        self._closed = True
        self._cut()

    def tick(self, now: float) -> None:
        """Called by the clock."""
        if now >= self._until:
            self._cut()

    def _cut(self) -> None:
        """Shut the socket down, which ends whatever waits for it."""
        kept = self._connection.kept if self._connection else None
        if kept is not None:
            with suppress(OSError):
                kept.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            with SLOTS:
                self._outcome = self._fetch()
        except Exception as wrong:  # noqa: BLE001 - raised again by the consumer, whose it is
            self._outcome = wrong
        finally:
            self._woken.set()

    def _fetch(self) -> Picture:
        """The file, after several tries where the first ones broke off. Raises UpstreamError."""
        failure = UpstreamError("Nobody waits for the picture any more.")
        for tries in range(TRIES):
            time.sleep(PAUSE * tries)
            if self._closed:
                break
            self._until = time.monotonic() + PATIENCE
            self._clock.add(self)
            try:
                return self._try()
            except FOREIGN:
                failure = UpstreamCut("The picture was made, but its file broke off.")
            except UpstreamError as wrong:
                failure = wrong
            finally:
                self._clock.drop(self)
            if not failure.retryable:
                break
        try:
            raise failure
        finally:
            del failure  # as in `events`

    def _try(self) -> Picture:
        """Raises UpstreamError, and what FOREIGN holds."""
        place = to_place(self._url, self._origin)
        connection, response = self._reach(place), None
        try:
            headers = {"Host": place.name, "Accept-Encoding": "identity", "Connection": "close"}
            headers |= {"User-Agent": self._agent, "Accept": "image/*"}
            connection.request("GET", place.target, headers=headers)
            response = connection.getresponse()
            _check(response)
            data, kind = self._read(response)
            return Picture(self._url, data, kind)
        finally:
            if response is not None:
                response.close()  # it has the socket, as the connection is not to be kept
            connection.close()

    def _reach(self, place: Place) -> _Connection:
        """The first of the host's addresses that lets us in. Raises OSError."""
        failure: OSError = ConnectionError("no address")
        for address in resolve(place)[:MOST_ADDRESSES]:
            connection = self._connection = _connection(place, address, self._url)
            try:
                connection.connect()
                return connection
            except OSError as wrong:
                connection.close()
                failure = wrong
            self._still()
        try:
            raise failure
        finally:
            del failure  # as in `events`

    def _read(self, response: http.client.HTTPResponse) -> tuple[bytes, str]:
        """The body in base64, and what it is. Raises UpstreamError, and what FOREIGN holds."""
        coded: list[bytes] = []
        rest, received, kind = b"", 0, ""
        while block := response.read1(BLOCK):
            self._still()
            received += len(block)
            if received > LARGEST:
                raise Forbidden(TOO_LARGE)
            rest += block
            if not kind and len(rest) >= SIGNATURE:
                kind = to_kind(rest)
            if len(rest) >= CODED:
                whole = len(rest) - len(rest) % 3
                coded.append(base64.b64encode(rest[:whole]))
                rest = rest[whole:]
                time.sleep(0)  # others have their turn, however fast the file comes
        self._still()
        if response.length or not received:  # http.client takes half a head for a whole one
            raise http.client.IncompleteRead(b"")
        kind = kind or to_kind(rest)
        return b"".join([*coded, base64.b64encode(rest)]), kind

    def _still(self) -> None:
        """Whether going on makes sense. A socket that was shut down looks like a proper end."""
        if self._closed:
            raise Forbidden("Nobody waits for the picture any more.")
        if time.monotonic() >= self._until:
            raise UpstreamTimeout("The picture was made, but its file came too slowly.")


def _check(response: http.client.HTTPResponse) -> None:
    """Whether the body is to be read at all. Raises UpstreamError."""
    if 300 <= response.status < 400:
        raise Forbidden("The picture was made, but its address leads elsewhere.")
    if response.status != http.HTTPStatus.OK:
        raise UpstreamError(f"The picture was made, but its host said {response.status}.")
    if (response.length or 0) > LARGEST:
        raise Forbidden(TOO_LARGE)


def to_kind(begins: bytes) -> str:
    """What a file is by its first bytes: png, jpeg, webp or gif. Raises Forbidden for all else."""
    kind = next((kind for kind, mark in KINDS.items() if mark.match(begins)), "")
    if not kind:
        raise Forbidden("What Flowith made is no PNG, JPEG, WebP or GIF.")
    return kind
