"""What a sample says, in words: how each call was answered, what is made of it, what to change.

Pure: a checked sample in, lines out. The text of a sample is somebody else's: only its printable
characters are shown, and few of them.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from commands.recording import to_decoded
from commands.sample_file import Exchange, Sample
from flowith.llm_decoder import is_json
from settings import APIS

SHOWN = 160  # characters of a body in a line
MISREAD = {"upstream_error", "upstream_cut"}  # what a decoder says that does not understand
REFUSED = {"system message": '"system_role": false', "image": '"images": false'}  # by call
MEMBER = re.compile(r'"([A-Za-z_]{1,40})"\s*:')
# Of each call that asks for something, whether what was read shows that it was honoured.
SHOWS: dict[str, Callable[[dict[str, Any]], object]] = {
    "system message": lambda read: re.search(r"\bblue\b", read["text"], re.I),
    "image": lambda read: re.search(r"\bdic?es?\b|\bcubes?\b", read["text"], re.I),
    "tool": lambda read: "get_weather" in read["calls"],
    "max_tokens": lambda read: not re.search(r"\b30\b", read["text"]),
}


def explain(sample: Sample) -> list[str]:
    """The whole explanation, line by line."""
    lines = [f"Made {sample.date} by version {sample.service}: {len(sample.exchanges)} calls."]
    changes: list[str] = []
    for one in sample.exchanges:
        lines += ["", f"{one.api}, {one.call}, {one.form} {one.token}: {one.status}, {one.end}"]
        lines += _bullets(_answer(one))
        changes += _decoder_change(one)
    for api in APIS:
        changes += _row_changes([one for one in sample.exchanges if one.api == api])
    lines += ["", "What to change:", *_bullets(changes or ["nothing that this sample shows"])]
    return lines


def _bullets(lines: Iterable[str]) -> Iterator[str]:
    return (f"  - {line}" for line in lines)


def _answer(exchange: Exchange) -> Iterator[str]:
    """One answer: its way, its pace, its form, and what this version makes of it."""
    kinds = [value for name, value in exchange.headers if name.lower() == "content-type"]
    way = f"HTTP/{exchange.http}, {exchange.framing}, {''.join(kinds[:1]) or 'no Content-Type'}"
    yield f"{exchange.host}{exchange.path}: {way}"
    pace = f"head after {exchange.head_at:.2f} s, {len(exchange.blocks)} blocks"
    if exchange.blocks:
        pace += f" from {exchange.blocks[0][0]:.2f} s to {exchange.blocks[-1][0]:.2f} s"
    yield pace
    text = exchange.body.decode("utf-8", "replace")
    members = ", ".join(sorted(set(MEMBER.findall(text))))
    yield body_form(exchange) + (f" with {_shown(members)}" if members else "")
    if text:
        yield f"it begins: {_shown(text)}"
    if exchange.withheld or exchange.call == "picture":
        return
    read = _decoded(exchange)
    told = [f"{name} {_shown(_json(value))}" for name, value in read.items() if value]
    yield f"read as: {', '.join(told) or 'nothing'}"
    if exchange.call in SHOWS and read["error"] is None:
        yield f"what it asks for is honoured: {'yes' if SHOWS[exchange.call](read) else 'no'}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _shown(text: str) -> str:
    """Some of a body, on one line and harmless to a terminal."""
    flat = " ".join(text[: 4 * SHOWN].split())
    clean = "".join(c for c in flat if c.isprintable())
    return clean if len(clean) <= SHOWN else f"{clean[:SHOWN]}..."


def body_form(exchange: Exchange) -> str:
    """What a body is made of, in words."""
    text = exchange.body.decode("utf-8", "replace").lstrip("\ufeff \r\n\t")
    if exchange.withheld:
        return f"left out ({exchange.withheld})"
    if not text:
        return "empty"
    if text.startswith("<") and not text.startswith("<think"):
        return "a web page"
    if re.match(r"(data|event|id|retry|:)", text) and "data:" in text:
        return "data: lines"
    if text.startswith("{"):
        return "one JSON object" if is_json(text) else "a JSON object on each line"
    return "bare text"


def _decoded(exchange: Exchange) -> dict[str, Any]:
    """What today's decoder makes of it, which may be better than the one that made the sample."""
    return to_decoded(exchange.api, exchange.status, exchange.blocks, exchange.end == "clean")


def _decoder_change(exchange: Exchange) -> Iterator[str]:
    if exchange.withheld or exchange.call == "picture" or exchange.status >= 300:
        return
    where, read = f"'{exchange.call}' at {exchange.api}", _decoded(exchange)
    if any(exchange.decoded.get(name) != read[name] for name in ("text", "error")):
        yield f"nothing: this version reads {where} otherwise than the one that made the sample"
    elif exchange.end == "clean" and read["error"] in MISREAD and b'"error"' not in exchange.body:
        yield f"this service: {where} was whole, and it reads it as {read['error']}: report it"


def _row_changes(here: list[Exchange]) -> Iterator[str]:
    """What the answers of one API mean for the rows of models.json, where it answers at all."""
    best = {one.call: one for one in sorted(here, key=lambda one: -one.status)}
    if "plain" not in best or not _worked(best["plain"]):
        return
    asked = {_json(one.request.get("models") or one.request.get("model")) for one in here}
    rows = ", ".join(sorted(_shown(one.strip("[]")) for one in asked if "no-such" not in one))
    for call, field in REFUSED.items():
        if call in best and best[call].status in (400, 415, 422):
            yield f"models.json: rows for {rows}: {field}"
    tool = best.get("tool")
    if tool and tool.api == "llm" and _worked(tool) and _decoded(tool)["calls"]:
        yield f'models.json: rows for {rows}: "api": "llm", "native_tools": true'


def _worked(exchange: Exchange) -> bool:
    return exchange.status < 300 and _decoded(exchange)["error"] is None
