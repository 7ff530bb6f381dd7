"""A file that Flowith's answer named, fetched as base64.

The address that was checked is the one that is connected to; no redirect is followed, no token is
sent, the first bytes tell what the file is. Knows nothing of what made it.
"""

import base64
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import requests

from errors import UpstreamCut, UpstreamError, UpstreamTimeout
from events import Picture
from flowith.connection import Exchange
from flowith.file_address import Forbidden, resolve, to_address
from flowith.transport import FOREIGN, Transport, forget_frames

LARGEST = 50_331_648  # bytes of a file
CODED = 196_608  # bytes that are encoded in one go: a multiple of 3, or padding comes in between
TRIES = 3  # the picture is paid for
PAUSE = 0.5  # seconds before the second try, and twice that before the third
PATIENCE = 60.0  # seconds for one try, however slowly the file drips
STALLED = 15.0  # seconds without a byte
MOST_ADDRESSES = 4  # of a host, that are tried
SLOTS = threading.BoundedSemaphore(8)  # downloads at a time in a process
# what the first bytes say, see each format's specification
SIGNATURE = 12  # bytes
KINDS = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "gif": re.compile(rb"GIF8[79]a"),
}
HEADERS = {"Accept": "image/*", "Connection": "close"}
BROKE_OFF = "The picture was made, but its file broke off."
TOO_LARGE = f"The picture was made, but its file is larger than {LARGEST // 1_048_576} MB."


class _Transport(Transport):
    """Goes to one host, where it expects the certificate of the name in the URL; once, as it is
    not the only one."""

    def __init__(self, host: str) -> None:
        super().__init__(STALLED, pool_size=1, more_connects=0)
        self._host = host

    def build_connection_pool_key_attributes(self, *what: Any) -> Any:
        place, tls = super().build_connection_pool_key_attributes(*what)
        return {**place, "host": self._host}, {**tls, "server_hostname": place["host"]}


class Download:
    """One file under way. `run` fetches it, in a thread of its own, and calls `tell` when it has
    set the end of a try, `until` (monotonic seconds), or the `outcome`; `close` ends it in any
    phase."""

    def __init__(self, url: str, origin: str, agent: str, tell: Callable[[], None]) -> None:
        self.outcome: Picture | Exception | None = None
        self.until = float("inf")
        self._url, self._origin, self._agent, self._tell = url, origin, agent, tell
        self._exchange = Exchange()
        self._closed = False
        self._slots: list[threading.Semaphore] = []  # where it has one

    def take(self) -> Picture:
        """What came of it, once: it may be large, and has been waited for. Raises UpstreamError."""
        outcome, self.outcome = self.outcome, None
        if isinstance(outcome, Picture):
            return outcome
        try:
            raise outcome or UpstreamCut(BROKE_OFF)
        finally:
            del outcome  # its traceback has this frame: a circle that would keep the prompt

    def look_at_clock(self) -> None:
        """End a try that takes too long."""
        if time.monotonic() >= self.until:
            self._exchange.cancel()

    def close(self) -> None:
        """Stop; may be called more than once, from anywhere. What waits for a name, or for a host
        to take the connection, goes on until that is over, but not in anybody's place."""
        self._closed = True
        self._exchange.cancel()
        self._leave()

    def _leave(self) -> None:
        """Let another download have its turn."""
        with suppress(IndexError):  # it has left
            self._slots.pop().release()

    def run(self) -> None:
        """Fetch the file. Never raises."""
        SLOTS.acquire()
        self._slots.append(SLOTS)
        try:
            self.outcome = self._fetch()
        except Exception as wrong:  # noqa: BLE001 - raised again by `take`, for whose it is
            self.outcome = wrong
        finally:
            self._leave()
            self._tell()

    def _fetch(self) -> Picture:
        """The file, after several tries where the first ones broke off. Raises UpstreamError."""
        failure: UpstreamError
        for tries in range(TRIES):
            time.sleep(PAUSE * tries)
            self.until = time.monotonic() + PATIENCE
            self._tell()
            try:
                self._still()
                return self._try()
            except FOREIGN as wrong:
                forget_frames(wrong)
                failure = UpstreamCut(BROKE_OFF)
            except UpstreamError as wrong:
                failure = wrong
            if not failure.retryable:
                break
        try:
            raise failure
        finally:
            del failure  # as in `take`

    def _try(self) -> Picture:
        """Raises UpstreamError, and what FOREIGN holds."""
        response = self._ask(to_address(self._url, self._origin))
        try:
            _check(response)
            data, kind = self._read(self._exchange.reader())
            return Picture(self._url, data, kind)
        finally:
            self._exchange.release()

    def _ask(self, address: str) -> requests.Response:
        """The answer of the first of its hosts that gives one. Raises UpstreamError and OSError."""
        headers = {**HEADERS, "User-Agent": self._agent}
        for host in resolve(address, self._origin)[:MOST_ADDRESSES]:
            exchange = self._exchange = Exchange()
            self._still()
            try:
                return _Transport(host).send_once("GET", address, headers, None, exchange, STALLED)
            except FOREIGN as wrong:
                forget_frames(wrong)
        raise UpstreamCut(BROKE_OFF)

    def _read(self, read: Callable[[], bytes]) -> tuple[bytes, str]:
        """The body in base64, and what it is. Raises UpstreamError, and what FOREIGN holds."""
        coded: list[bytes] = []
        rest, received, kind = bytearray(), 0, ""
        while block := read():
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
                del rest[:whole]
                time.sleep(0)  # others have their turn, however fast the file comes
        if not received:
            raise UpstreamCut(BROKE_OFF)
        kind = kind or to_kind(rest)
        return b"".join([*coded, base64.b64encode(rest)]), kind

    def _still(self) -> None:
        """Whether going on makes sense."""
        if self._closed:
            raise Forbidden("Nobody waits for the picture any more.")
        if time.monotonic() >= self.until:
            raise UpstreamTimeout("The picture was made, but its file came too slowly.")


def _check(response: requests.Response) -> None:
    """Whether the body is to be read at all. Raises UpstreamError."""
    if 300 <= response.status_code < 400:
        raise Forbidden("The picture was made, but its address leads elsewhere.")
    if response.status_code != 200:
        raise UpstreamError(f"The picture was made, but its host said {response.status_code}.")
    if int(response.headers.get("Content-Length", 0)) > LARGEST:
        raise Forbidden(TOO_LARGE)


def to_kind(begins: bytes | bytearray) -> str:
    """What a file is by its first bytes: png, jpeg, webp or gif. Raises Forbidden for all else."""
    kind = next((kind for kind, mark in KINDS.items() if mark.match(begins)), "")
    if not kind:
        raise Forbidden("What Flowith made is no PNG, JPEG, WebP or GIF.")
    return kind
