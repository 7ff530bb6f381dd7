"""What a sample says, in words: how each API speaks and takes what it is sent, what to change.

Pure: a checked sample in, lines out. The text of a sample is somebody else's: only its printable
characters are shown, and few of them.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from commands.recording import to_decoded
from commands.sample_file import Exchange, Sample
from flowith.llm_decoder import is_json
from settings import APIS

SHOWN = 160  # characters of a body in a line
AT_ONCE = 0.05  # seconds between first and last block, below which nothing was streamed
THOUGHT = re.compile(
    r'"(reasoning(?:_content|_text)?|thinking|thoughts?|cot)"\s*:\s*(?:"[^"]|\{|\[)'
)
FINISH = re.compile(r'"finish_reason"\s*:\s*"([^"]{1,40})"')
MISREAD = {"upstream_error", "upstream_cut"}  # what a decoder says that does not understand
SHOWS: dict[str, Callable[[dict[str, Any]], object]] = {  # that what was asked for was honoured
    "system message": lambda said: re.search(r"\bblue\b", said["text"], re.I),
    "image": lambda said: re.search(r"\bdic?es?\b|\bcubes?\b", said["text"], re.I),
    "tool": lambda said: "get_weather" in said["calls"],
    "max_tokens": lambda said: not re.search(r"\b30\b", said["text"]),
}
NAMES = {"web": "the web API", "llm": "the LLM API", "knowledge": "the knowledge API"}
EXPECTED = {
    "web": "bare text",
    "llm": "data: lines with OpenAI's chunks",
    "knowledge": "data: lines with a tag",
}


def explain(sample: Sample) -> list[str]:
    """The whole explanation, line by line."""
    read = [replace(one, decoded=_decoded(one)) for one in sample.exchanges]
    lines = [f"Made {sample.date} by version {sample.service}: {len(read)} calls.", ""]
    lines += map(_row, read)
    changes: list[str] = []
    for api in APIS:
        here = [exchange for exchange in read if exchange.api == api]
        if here:
            lines += ["", f"How {NAMES[api]} speaks:", *_bullets(_manner(here))]
            changes += _row_changes(here)
    for before, now in zip(sample.exchanges, read, strict=True):
        changes += _decoder_change(before, now)
    lines += ["", "What to change:", *_bullets(changes or ["nothing that this sample shows"])]
    return lines


def _bullets(lines: Iterable[str]) -> Iterator[str]:
    return (f"  - {line}" for line in lines)


def _row(exchange: Exchange) -> str:
    took = f"{exchange.blocks[-1][0]:.2f} s" if exchange.blocks else "-"
    return (
        f"  {exchange.api:10}{exchange.call:18}{exchange.status}  {exchange.framing:8}"
        f"{len(exchange.blocks):4} blocks {took:>9}  {exchange.end}"
    )


def _decoded(exchange: Exchange) -> dict[str, Any]:
    """What today's decoder makes of it, which may be better than the one that made the sample."""
    return to_decoded(exchange.api, exchange.status, exchange.blocks, exchange.end == "clean")


def _shown(text: str) -> str:
    """Some of a body, on one line and harmless to a terminal."""
    flat = " ".join(text[: 4 * SHOWN].split())
    clean = "".join(c for c in flat if c.isprintable())
    return clean if len(clean) <= SHOWN else f"{clean[:SHOWN]}..."


def _text(exchange: Exchange) -> str:
    return exchange.body.decode("utf-8", "replace")


def _header(exchange: Exchange, name: str) -> str:
    found = (value for key, value in exchange.headers if key.lower() == name)
    return next(found, "none")


def _find(exchanges: Iterable[Exchange], call: str) -> Exchange | None:
    """The call of that name, one that was answered if there is one."""
    found = (exchange for exchange in exchanges if exchange.call == call)
    return min(found, key=lambda exchange: exchange.status, default=None)


def _worked(exchange: Exchange) -> bool:
    return exchange.status < 300 and exchange.decoded["error"] is None


def body_form(exchange: Exchange) -> str:
    """What a body is made of, in words."""
    text = _text(exchange).lstrip("\ufeff \r\n\t")
    if exchange.withheld:
        return f"left out ({exchange.withheld})"
    if not text:
        return "empty"
    if text.startswith("<") and not text.startswith("<think"):
        return "a web page"
    if re.match(r"(data|event|id|retry|:)", text) and "data:" in text:
        kind = "OpenAI's chunks" if '"choices"' in text else "a tag" if '"tag"' in text else "JSON"
        return f"data: lines with {kind}"
    if text.startswith("{"):
        return "one JSON object" if is_json(text) else "a JSON object on each line"
    return "bare text"


def _manner(here: list[Exchange]) -> Iterator[str]:
    """How one API speaks, and what it makes of what it is sent."""
    plain = _find(here, "plain")
    if plain is None:
        yield "the plain call is missing"
        return
    yield f"address: {plain.host}{plain.path}, {plain.form} token (a {plain.token})"
    yield f"the plain call: {_outcome(plain)}; expected: {EXPECTED[plain.api]}"
    yield f"it begins: {_shown(_text(plain)) or 'nothing'}"
    if whole := _find(here, "not streamed"):
        yield f"with stream false: {_outcome(whole)}"
    kind, coding = _header(plain, "content-type"), _header(plain, "content-encoding")
    way = f"HTTP/{plain.http}, {plain.framing}"
    yield f"framing: {way}, Content-Type {kind}, Content-Encoding {coding}"
    yield f"pace: {_pace(plain)}"
    yield f"the end: {plain.end}"
    yield f"thoughts: {_thoughts(here)}"
    usage = [e.call for e in here if e.status < 300 and e.decoded["usage"]]
    yield f"usage: comes with {', '.join(usage)}" if usage else "usage: never comes"
    finish = {word for e in here for word in FINISH.findall(_text(e))}
    yield f"why it ends: finish_reason {', '.join(sorted(map(_shown, finish))) or 'never comes'}"
    # only calls that differ in nothing but the token's form tell
    forms = [e for e in here if e.call in ("plain", "wrong token form")]
    told = [f"{e.form} {e.token}: {_token_taken(e.status)}" for e in forms]
    yield f"form of the token: {'; '.join(dict.fromkeys(told))}"
    if honours := list(_honours(here)):
        yield f"honours: {'; '.join(honours)}"
    refused = [e for e in here if e.status >= 300]
    for e in refused:
        yield f"error of '{e.call}' ({e.form} {e.token}): {_outcome(e)}: {_shown(_text(e))}"
    if not refused:
        yield "errors: none came as a status"
    for e in here:
        if e.call == "picture":
            kind = _header(e, "content-type")
            yield f"a picture: {e.path}, {_outcome(e)}, Content-Type {kind}: {_shown(_text(e))}"


def _outcome(exchange: Exchange) -> str:
    """Status and form of an answer, and what it is to the service where it is none."""
    told = f"{exchange.status}, {body_form(exchange)}"
    broken = exchange.status < 300 and exchange.call != "picture" and exchange.decoded["error"]
    return f"{told}, read as {broken}" if broken else told


def _pace(exchange: Exchange) -> str:
    if not exchange.blocks:
        return "no block came"
    first, last = exchange.blocks[0][0], exchange.blocks[-1][0]
    how = "all at once" if last - first < AT_ONCE else f"piece by piece for {last - first:.2f} s"
    return f"head after {exchange.head_at:.2f} s, first block after {first:.2f} s, then {how}"


def _thoughts(here: list[Exchange]) -> str:
    places: set[str] = set()
    for exchange in here:
        text = _text(exchange)
        places |= {f"member {name}" for name in THOUGHT.findall(text)}
        if re.search(r"<think", text, re.I):
            places.add("<think> in the text")
    return ", ".join(sorted(places)) or "none came"


def _token_taken(status: int) -> str:
    if status in (401, 403):
        return f"refused ({status})"
    return "taken" if status < 300 else f"not told ({status})"


def _honours(here: list[Exchange]) -> Iterator[str]:
    """Of each call that asks for something, whether its answer shows it."""
    for call, holds in SHOWS.items():
        exchange = _find(here, call)
        if exchange is None:
            continue
        if exchange.status >= 300:
            told = f"refused ({exchange.status})"
        elif exchange.withheld:
            told = "not told, as its body is left out"
        elif not _worked(exchange):
            told = f"failed ({exchange.decoded['error']})"
        elif holds(exchange.decoded):
            told = "yes"
        else:
            told = f"no, it said: {_shown(exchange.decoded['text']) or 'nothing'}"
        yield f"{call}: {told}"


def _row_changes(here: list[Exchange]) -> Iterator[str]:
    plain = _find(here, "plain")
    if plain is None or not _worked(plain):
        return
    asked = {json.dumps(e.request.get("models") or e.request.get("model")) for e in here}
    rows = ", ".join(sorted(_shown(one.strip("[]")) for one in asked if "no-such" not in one))
    system, image, tool = (_find(here, call) for call in ("system message", "image", "tool"))
    if system is not None and system.status in (400, 422):
        yield f'models.json: rows for {rows}: "system_role": false'
    if image is not None and image.status in (400, 415, 422):
        yield f'models.json: rows for {rows}: "images": false'
    if tool is not None and tool.api == "llm" and _worked(tool) and tool.decoded["calls"]:
        yield f'models.json: rows for {rows}: "api": "llm", "native_tools": true'


def _decoder_change(before: Exchange, now: Exchange) -> Iterator[str]:
    if now.withheld or now.call == "picture" or now.status >= 300:
        return
    where, wrong = f"'{now.call}' at {now.api}", now.decoded["error"]
    if any(before.decoded.get(name) != now.decoded[name] for name in ("text", "error")):
        yield f"nothing: this version reads {where} otherwise than the one that made the sample"
    elif now.end == "clean" and wrong in MISREAD and '"error"' not in _text(now):
        yield f"this service: {where} was whole, and it reads it as {wrong}: report it"
