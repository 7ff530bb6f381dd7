"""One exchange with Flowith written down: head, blocks with their times, framing, and how it ended.

A small client of its own on urllib3's connections, so that nothing stands between the socket and
the record. Knows nothing of samples and masks nothing.
"""

import io
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from errors import ProxyError
from events import Done, Reasoning, Text, ToolCall, Usage
from flowith.dialects import DIALECTS
from flowith.reach import open_session
from flowith.refusal import to_refusal
from flowith.sample_file import End, Framing
from flowith.transport import FOREIGN, causes
from settings import Api

BLOCK = 65_536  # bytes of one read
LONGEST_BODY = 131_072  # bytes of a body that are read; our questions have short answers
LAST_LOOK = 1.0  # seconds to wait for the end of a connection that was announced

Blocks = tuple[tuple[float, bytes], ...]
Watched = tuple[Any, io.RawIOBase]  # a connection's socket, and a file on it


@dataclass(frozen=True, slots=True)
class Recording:
    """What came. All times are seconds since the request went out.

    `http` is "1.0" or "1.1". `end` is clean (whole by its framing), cut (ended before that), reset,
    silent (nothing came in time) or stopped (longer than anybody needs). `close_notify` tells
    whether TLS was ended as it should be; None where the connection stayed open or has no TLS.
    """

    status: int
    http: str
    headers: tuple[tuple[str, str], ...]
    head_at: float
    framing: Framing
    blocks: Blocks
    end: End
    close_notify: bool | None


def record(
    url: str, headers: Mapping[str, str], body: bytes, connect: float, patience: float, whole: float
) -> Recording:
    """POST and write down what comes. `connect`, `patience` (for each byte) and `whole` (for all
    of it) are seconds. Raises what requests raises when not even a head came."""
    watched: list[Watched] = []
    try:
        with open_session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, _Adapter(watched))
            how: dict[str, Any] = {"headers": dict(headers), "timeout": (connect, patience)}
            started = time.monotonic()
            answer = session.post(url, body, stream=True, **how)
            return _to_recording(answer, started, whole, watched)
    finally:
        for _, file in watched:
            file.close()


def _to_recording(
    answer: requests.Response, started: float, whole: float, watched: list[Watched]
) -> Recording:
    raw, head_at = answer.raw, time.monotonic() - started
    blocks, end, close_notify = _read(raw, started, whole)
    if close_notify is None and watched:
        close_notify = _look_at_end(watched[-1], answer, end)
    has_tls = any(isinstance(sock, ssl.SSLSocket) for sock, _ in watched)
    return Recording(
        status=answer.status_code,
        http="1.0" if raw.version == 10 else "1.1",
        headers=tuple(raw.headers.items()),
        head_at=head_at,
        framing=_framing(raw),
        blocks=blocks,
        end=end,
        close_notify=close_notify if has_tls else None,
    )


class _Adapter(HTTPAdapter):
    """Opens connections that keep their socket in `watched`, and see how TLS ends."""

    def __init__(self, watched: list[Watched]) -> None:
        super().__init__(max_retries=0)
        self._watched = watched

    def get_connection_with_tls_context(self, *what: Any, **how: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*what, **how)
        pool.ConnectionCls = _watching(pool.ConnectionCls, self._watched)
        return pool


def _watching(kind: Any, watched: list[Watched]) -> Any:
    class Watching(kind):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            if hasattr(self.sock, "suppress_ragged_eofs"):
                # else Python takes an end of TLS without close_notify for a proper one
                self.sock.suppress_ragged_eofs = False
            # the second file keeps the socket open when urllib3 has done with it
            watched.append((self.sock, self.sock.makefile("rb", buffering=0)))

    return Watching


def _read(raw: Any, started: float, whole: float) -> tuple[Blocks, End, bool | None]:
    """The body's blocks, how it ended, and whether TLS was ended well, where reading shows it."""
    blocks: list[tuple[float, bytes]] = []
    received = 0
    try:
        while block := raw.read1(BLOCK, decode_content=False):
            now = time.monotonic() - started
            blocks.append((now, block))
            received += len(block)
            if received > LONGEST_BODY or now > whole:
                return tuple(blocks), "stopped", None
    except FOREIGN as wrong:
        end, close_notify = _to_end(wrong)
        return tuple(blocks), end, close_notify
    to_its_end = _framing(raw) == "close"
    return tuple(blocks), "clean", True if to_its_end else None


def _to_end(wrong: Exception) -> tuple[End, bool | None]:
    beneath = list(causes(wrong))
    if any(isinstance(one, ssl.SSLEOFError) for one in beneath):
        return "cut", False
    if any(isinstance(one, (TimeoutError, urllib3.exceptions.TimeoutError)) for one in beneath):
        return "silent", None
    if any(isinstance(one, ConnectionError) for one in beneath):
        return "reset", False
    return "cut", None


def _look_at_end(watched: Watched, answer: requests.Response, end: End) -> bool | None:
    """Whether a connection that is to be closed after a framed answer, is closed well."""
    sock, file = watched
    announced = answer.headers.get("Connection", "").lower() == "close"
    if end != "cut" and not (end == "clean" and announced):
        return None
    try:
        sock.settimeout(LAST_LOOK)
        return file.read(1) == b""
    except ssl.SSLEOFError:
        return False
    except (OSError, ValueError):
        return None


def _framing(raw: Any) -> Framing:
    if "chunked" in raw.headers.get("Transfer-Encoding", "").lower():
        return "chunked"
    return "length" if "Content-Length" in raw.headers else "close"


def to_decoded(api: Api, status: int, blocks: Blocks, whole: bool) -> dict[str, Any]:
    """What our decoder makes of a body: `text`, `reasoning`, `calls` (names of tools), `finish` and
    `usage` (None without), and `error`, the code that a caller would get (None without)."""
    told: dict[str, Any] = {"text": "", "reasoning": "", "calls": []}
    told |= {"finish": None, "usage": None, "error": None}
    body = b"".join(block for _, block in blocks)
    if not 200 <= status < 300:
        told["error"] = to_refusal(status, body).ending
        return told
    decoder = DIALECTS[api].decoder("")
    try:
        for _, block in blocks:
            _add(told, decoder.decode(block))
        if whole:
            _add(told, decoder.flush())
        else:
            told["error"] = "upstream_cut"
    except ProxyError as wrong:
        told["error"] = wrong.ending
    if told["error"] is None and not (told["text"].strip() or told["reasoning"] or told["calls"]):
        told["error"] = "empty_response"
    return told


def _add(told: dict[str, Any], events: list[Any]) -> None:
    for event in events:
        match event:
            case Text(text):
                told["text"] += text
            case Reasoning(text):
                told["reasoning"] += text
            case ToolCall(name=name):
                told["calls"].append(name)
            case Usage(prompt, completion, reasoning):
                told["usage"] = {"prompt": prompt, "completion": completion, "reasoning": reasoning}
            case Done(reason):
                told["finish"] = reason
