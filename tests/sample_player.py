"""Plays a sample of Flowith's wire: each answer with its blocks, its framing and its end.

For the stand-in (`tests/fake_flowith.py --sample FILE`) and for the test that replays samples.
Standard library only, like the stand-in, and the module that reads samples.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent))

from fake_flowith import CUT, DROP, HANG, Reply, Seen, Step, error  # noqa: E402

from commands.sample_file import Exchange, Sample, SampleError, read_sample  # noqa: E402

__all__ = ["Player", "SampleError", "read_sample", "to_reply"]

FRAMED = {"content-length", "transfer-encoding"}  # what the stand-in writes by the framing


def to_reply(exchange: Exchange, longest_pause: float = 3600.0) -> Reply:
    """The answer as it came; no pause is longer than `longest_pause` seconds."""
    pauses, before = [], 0.0
    for at in [exchange.head_at, *(at for at, _ in exchange.blocks)]:
        pauses.append(min(at - before, longest_pause))
        before = at
    steps: list[Step] = []
    for pause, (_, block) in zip(pauses[1:], exchange.blocks, strict=True):
        steps += [pause, block] if block else [pause]
    steps += _to_end(exchange)
    framing: Any = exchange.framing
    headers = {name: value for name, value in exchange.headers if name.lower() not in FRAMED}
    if exchange.framing == "length":
        headers |= {
            name: value for name, value in exchange.headers if name.lower() == "content-length"
        }
    return Reply(exchange.status, headers, steps, framing, delay=pauses[0])


def _to_end(exchange: Exchange) -> list[Step]:
    """A close-delimited body that was cut is reset here: without TLS its end would look good."""
    if exchange.end == "silent":
        return [HANG]
    if exchange.end == "reset" or (exchange.end != "clean" and exchange.framing == "close"):
        return [DROP]
    return [] if exchange.end == "clean" else [CUT]


class Player:
    """A script for the stand-in: for each request the recorded answer that fits it best."""

    def __init__(self, sample: Sample, longest_pause: float = 3600.0) -> None:
        self._exchanges = [one for one in sample.exchanges if not one.withheld]
        self._longest_pause = longest_pause

    def __call__(self, seen: Seen) -> Reply:
        api = _api_of(seen.path)
        here = [one for one in self._exchanges if one.api == api]
        wanted = next((one for call in _calls(seen) for one in here if one.call == call), None)
        if wanted is None:
            return error(404, f"The sample holds no answer to a call of this kind at {seen.path}.")
        return to_reply(wanted, self._longest_pause)


def _api_of(path: str) -> str:
    if "/external/use/llm" in path or "/image/generate" in path:
        return "llm"
    return "knowledge" if "knowledge" in path else "web"


def _calls(seen: Seen) -> Iterator[str]:
    """The names of recorded calls that fit a request, the best first."""
    try:
        payload = seen.json
        messages = list(payload["messages"])
    except (ValueError, LookupError, TypeError):
        payload, messages = {}, []
    if "image" in seen.path:
        yield "picture"
        return
    yield from _by_content(payload, messages)
    yield "plain"


def _by_content(payload: dict[str, Any], messages: Iterable[Any]) -> Iterator[str]:
    known = [one for one in messages if isinstance(one, dict)]
    if "no-such-model" in str(payload.get("models") or payload.get("model")):
        yield "unknown model"
    if payload.get("stream") is False:
        yield "not streamed"
    if payload.get("tools"):
        yield "tool"
    if any("image_url" in str(one.get("content")) for one in known):
        yield "image"
    if any(one.get("role") == "system" for one in known):
        yield "system message"
    if payload.get("thinking") is True:
        yield "thinking"
