"""One exchange with Flowith written down: head, blocks with their times, framing, and how it ended.

It comes over the same connections as the service's own. Knows nothing of samples and masks nothing.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import urllib3

from commands.sample_file import Blocks, End, Framing, Recording
from errors import ProxyError
from events import Done, Event, Reasoning, Text, ToolCall, Usage
from flowith.dialects import DIALECTS
from flowith.http_answer import HttpAnswer
from flowith.refusal import to_refusal
from flowith.transport import FOREIGN, asked_alone, causes
from settings import Api

LONGEST_BODY = 131_072  # bytes of a body that are read; our questions have short answers


def record(
    url: str, headers: Mapping[str, str], body: bytes, connect: float, patience: float, whole: float
) -> Recording:
    """POST and write down what comes. `connect`, `patience` (for each byte) and `whole` (for all
    of it) are seconds. Raises what FOREIGN holds when not even a head came."""
    started = time.monotonic()
    with asked_alone("POST", url, headers, body, connect, patience) as (_, exchange):
        head_at, answer = time.monotonic() - started, exchange.answer
        assert answer is not None  # there is a head
        blocks, end = _read(answer, started, whole)
    return Recording(
        status=answer.status,
        http=answer.version,
        headers=tuple(answer.headers.items()),
        head_at=head_at,
        framing=_framing(answer.headers),
        blocks=blocks,
        end=end,
    )


def _read(answer: HttpAnswer, started: float, whole: float) -> tuple[Blocks, End]:
    """The body's blocks, as they are, and how it ended."""
    blocks: list[tuple[float, bytes]] = []
    received = 0
    try:
        while not answer.is_whole():
            answer.wait()
            if not answer.pieces:
                break
            now = time.monotonic() - started
            blocks += [(now, piece) for piece in answer.pieces]
            received += len(answer.read1())
            if received > LONGEST_BODY or now > whole:
                return tuple(blocks), "stopped"
    except FOREIGN as wrong:
        return tuple(blocks), _to_end(wrong)
    return tuple(blocks), "clean"


def _to_end(wrong: Exception) -> End:
    beneath = list(causes(wrong))
    if any(isinstance(one, (TimeoutError, urllib3.exceptions.TimeoutError)) for one in beneath):
        return "silent"
    return "reset" if any(isinstance(one, ConnectionError) for one in beneath) else "cut"


def _framing(headers: Mapping[str, str]) -> Framing:
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        return "chunked"
    return "length" if "Content-Length" in headers else "close"


def to_decoded(api: Api, status: int, blocks: Blocks, whole: bool) -> dict[str, Any]:
    """What our decoder makes of a body: `text`, `reasoning`, `calls` (names of tools), `finish` and
    `usage` (None without), and `error`, the code that a caller would get (None without)."""
    events: list[Event] = []
    error = None if whole else "upstream_cut"
    try:
        if not 200 <= status < 300:
            raise to_refusal(status, b"".join(block for _, block in blocks))
        decoder = DIALECTS[api].decoder("")
        for _, block in blocks:
            events += decoder.decode(block)
        if whole:
            events += decoder.flush()
    except ProxyError as wrong:
        error = wrong.ending
    text = "".join(event.text for event in events if isinstance(event, Text))
    reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
    calls = [event.name for event in events if isinstance(event, ToolCall)]
    if not (text.strip() or reasoning or calls):
        error = error or "empty_response"
    finish = next((event.reason for event in events if isinstance(event, Done)), None)
    usage = next((asdict(event) for event in events if isinstance(event, Usage)), {})
    usage.pop("cached", None)
    return {
        "text": text,
        "reasoning": reasoning,
        "calls": calls,
        "finish": finish,
        "usage": usage or None,
        "error": error,
    }
