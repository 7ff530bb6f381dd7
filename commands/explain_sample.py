"""What a sample says, in words: how each API speaks, what is settled, what to change.

Pure: a checked sample in, lines out. The text of a sample is somebody else's: only its printable
characters are shown, and few of them.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from commands.recording import to_decoded
from commands.sample_file import Exchange, Sample
from flowith.dialects import DIALECTS
from flowith.llm_decoder import is_json
from settings import APIS

SHOWN = 160  # characters of a body in a line
AT_ONCE = 0.05  # seconds between first and last block, below which nothing was streamed
HONOURED = {"system message": r"\bblue\b", "image": r"\bdic?es?\b|\bcubes?\b"}
THOUGHT = re.compile(
    r'"(reasoning(?:_content|_text)?|thinking|thoughts?|cot)"\s*:\s*(?:"[^"]|\{|\[)'
)
FINISH = re.compile(r'"finish_reason"\s*:\s*"([^"]{1,40})"')
MISREAD = {"upstream_error", "upstream_cut"}  # what a decoder says that does not understand
NAMES = {"web": "the web API", "llm": "the LLM API", "knowledge": "the knowledge API"}
EXPECTED = {
    "web": "bare text",
    "llm": "data: lines with OpenAI's chunks",
    "knowledge": "data: lines with a tag",
}


def explain(sample: Sample) -> list[str]:
    """The whole explanation, line by line."""
    lines = [f"Made {sample.date} by version {sample.service}: {len(sample.exchanges)} calls.", ""]
    lines += map(_row, sample.exchanges)
    for api in APIS:
        here = [exchange for exchange in sample.exchanges if exchange.api == api]
        if here:
            lines += ["", f"How {NAMES[api]} speaks:", *_bullets(_manner(here))]
    lines += ["", "Open questions that it answers:", *_bullets(_answers(sample))]
    changes = list(dict.fromkeys(_changes(sample)))
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


def _decoded(exchange: Exchange) -> dict[str, Any]:
    """What today's decoder makes of it, which may be better than the one that made the sample."""
    return to_decoded(exchange.api, exchange.status, exchange.blocks, exchange.end == "clean")


def _find(exchanges: Iterable[Exchange], call: str) -> Exchange | None:
    """The call of that name, one that was answered if there is one."""
    found = (exchange for exchange in exchanges if exchange.call == call)
    return min(found, key=lambda exchange: exchange.status, default=None)


def _worked(exchange: Exchange | None) -> bool:
    return exchange is not None and exchange.status < 300 and _decoded(exchange)["error"] is None


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
    """Dialect, framing, thoughts, errors and usage of one API."""
    plain = _find(here, "plain")
    if plain is None:
        yield "the plain call is missing"
        return
    yield f"address: {plain.host}{plain.path}, {plain.form} token (a {plain.token})"
    yield f"the plain call: {plain.status}, {body_form(plain)}; expected: {EXPECTED[plain.api]}"
    yield f"it begins: {_shown(_text(plain)) or 'nothing'}"
    yield f"framing: {_framing(plain)}"
    yield f"pace: {_pace(plain)}"
    yield f"the end: {_end(plain)}"
    yield f"thoughts: {_thoughts(here)}"
    usage = [e.call for e in here if e.status < 300 and _decoded(e)["usage"]]
    yield f"usage: comes with {', '.join(usage)}" if usage else "usage: never comes"
    finish = {word for e in here for word in FINISH.findall(_text(e))}
    yield f"why it ends: finish_reason {', '.join(sorted(map(_shown, finish))) or 'never comes'}"
    refused = [e for e in here if e.status >= 300]
    yield from (f"error of '{e.call}' ({e.form} {e.token}): {_error(e)}" for e in refused)
    if not refused:
        yield "errors: none came as a status"


def _framing(exchange: Exchange) -> str:
    kind, coding = _header(exchange, "content-type"), _header(exchange, "content-encoding")
    way = f"HTTP/{exchange.http}, {exchange.framing}"
    return f"{way}, Content-Type {kind}, Content-Encoding {coding}"


def _pace(exchange: Exchange) -> str:
    if not exchange.blocks:
        return "no block came"
    first, last = exchange.blocks[0][0], exchange.blocks[-1][0]
    how = "all at once" if last - first < AT_ONCE else f"piece by piece for {last - first:.2f} s"
    return f"head after {exchange.head_at:.2f} s, first block after {first:.2f} s, then {how}"


def _end(exchange: Exchange) -> str:
    tls = {True: ", TLS closed well", False: ", TLS not closed well", None: ""}
    return f"{exchange.end}{tls[exchange.close_notify]}"


def _thoughts(here: list[Exchange]) -> str:
    places: list[str] = []
    for exchange in here:
        text = _text(exchange)
        places += [f"member {name}" for name in THOUGHT.findall(text)]
        places += ["<think> in the text"] if re.search(r"<think", text, re.I) else []
    found = sorted(set(places))
    return ", ".join(found) if found else "none came"


def _error(exchange: Exchange) -> str:
    return f"{exchange.status}, {body_form(exchange)}: {_shown(_text(exchange))}"


def _answers(sample: Sample) -> Iterator[str]:
    """The open questions, each with what the sample says to it."""
    by_api = {api: [e for e in sample.exchanges if e.api == api] for api in APIS}
    yield f"Does the LLM API still answer? {_whether_there(by_api['llm'])}"
    yield f"What does the web API's body look like? {_web_body(by_api['web'])}"
    for api in APIS:
        yield f"Which form of the token does {NAMES[api]} take? {_forms(by_api[api])}"
    for api in APIS:
        yield f"Does {NAMES[api]} honour what it is sent? {_honours(by_api[api])}"
    yield f"How is a refusal told? {_refusals(sample.exchanges)}"
    yield f"Are pictures made, and what is the answer? {_pictures(sample.exchanges)}"


def _whether_there(llm: list[Exchange]) -> str:
    plain = _find(llm, "plain")
    if plain is None:
        return "was not asked"
    if _worked(plain):
        return "yes"
    if plain.status < 300:
        return f"yes, but not well: {_end(plain)}, read as {_decoded(plain)['error']}"
    return f"no: {_error(plain)}"


def _web_body(web: list[Exchange]) -> str:
    plain, whole = _find(web, "plain"), _find(web, "not streamed")
    if plain is None:
        return "was not asked"
    begins = plain.body[:16].decode("utf-8", "replace")
    kind = _header(plain, "content-type")
    text = f"Content-Type {kind}, {body_form(plain)}, first bytes {begins!r}"
    return f"{text}; with stream false: {body_form(whole)}" if whole else text


def _forms(here: list[Exchange]) -> str:
    """Only calls that differ in nothing but the token's form tell."""
    asked = (e for e in here if e.call in ("plain", "wrong token form"))
    told = [f"{e.form} {e.token}: {_token_taken(e.status)}" for e in asked]
    return "; ".join(dict.fromkeys(told)) or "was not asked"


def _token_taken(status: int) -> str:
    if status in (401, 403):
        return f"refused ({status})"
    return "taken" if status < 300 else f"not told ({status})"


def _honours(here: list[Exchange]) -> str:
    told = []
    for call, pattern in HONOURED.items():
        exchange = _find(here, call)
        if exchange is not None:
            told.append(f"{call}: {_honoured(exchange, pattern)}")
    if (tool := _find(here, "tool")) is not None:
        called = _worked(tool) and "get_weather" in _decoded(tool)["calls"]
        told.append(f"tools: {'called natively' if called else _how_not(tool)}")
    if (limited := _find(here, "max_tokens")) is not None:
        ended = _worked(limited) and not re.search(r"\b30\b", _decoded(limited)["text"])
        told.append(f"max_tokens: {'yes' if ended else _how_not(limited)}")
    return "; ".join(told) or "was not asked"


def _honoured(exchange: Exchange, pattern: str) -> str:
    if not _worked(exchange):
        return _how_not(exchange)
    said = _decoded(exchange)["text"]
    return "yes" if re.search(pattern, said, re.I) else f"taken, but it said: {_shown(said)}"


def _how_not(exchange: Exchange) -> str:
    if exchange.status >= 300:
        return f"refused ({exchange.status})"
    if exchange.withheld:
        return "not told, as its body is left out"
    return "no" if _worked(exchange) else f"failed ({_decoded(exchange)['error']})"


def _refusals(exchanges: Iterable[Exchange]) -> str:
    told = [
        f"{e.call} at {e.api}: {e.status} as {body_form(e)}" for e in exchanges if e.status >= 300
    ]
    return "; ".join(dict.fromkeys(told)) or "nothing was refused"


def _pictures(exchanges: Iterable[Exchange]) -> str:
    told = [
        f"{e.path}: {e.status}, {body_form(e)}, Content-Type {_header(e, 'content-type')}:"
        f" {_shown(_text(e))}"
        for e in exchanges
        if e.call == "picture"
    ]
    return "; ".join(told) or "was not asked (--pictures)"


def _changes(sample: Sample) -> Iterator[str]:
    answered = [e for e in sample.exchanges if e.call == "plain" and _worked(e)]
    for exchange in answered:
        yield from _address_change(exchange)
    silent = {e.api for e in sample.exchanges} - {e.api for e in answered}
    if silent and answered:
        rest = " or ".join(sorted({e.api for e in answered}))
        gone = ", ".join(sorted(silent))
        yield f".env: what needs {gone} does not work; FLOWITH_API={rest} does"
    for api in sorted({e.api for e in answered}):
        yield from _row_changes([e for e in sample.exchanges if e.api == api])
    for exchange in sample.exchanges:
        yield from _decoder_change(exchange)


def _address_change(exchange: Exchange) -> Iterator[str]:
    usual = urlsplit(DIALECTS[exchange.api].url)
    if "x" in exchange.host and not re.search(r"flowith|flo\.ing", exchange.host):
        return  # the operator's own address, of which the sample holds marks alone
    if exchange.path != usual.path:
        yield f".env: FLOWITH_API_URL=https://{exchange.host}{exchange.path}"
    elif exchange.host != usual.netloc:
        yield f".env: FLOWITH_API_URL=https://{exchange.host}"


def _row_changes(here: list[Exchange]) -> Iterator[str]:
    asked = {json.dumps(e.request.get("models") or e.request.get("model")) for e in here}
    rows = ", ".join(sorted(_shown(one.strip("[]")) for one in asked if "no-such" not in one))
    system, image, tool = (_find(here, call) for call in ("system message", "image", "tool"))
    if system is not None and system.status in (400, 422):
        yield f'models.json: rows for {rows}: "system_role": false'
    if image is not None and image.status in (400, 415, 422):
        yield f'models.json: rows for {rows}: "images": false'
    if tool is not None and tool.api == "llm" and _worked(tool) and _decoded(tool)["calls"]:
        yield f'models.json: rows for {rows}: "api": "llm", "native_tools": true'


def _decoder_change(exchange: Exchange) -> Iterator[str]:
    if exchange.withheld or exchange.call == "picture" or exchange.status >= 300:
        return
    now = _decoded(exchange)
    where = f"'{exchange.call}' at {exchange.api}"
    if any(exchange.decoded.get(name) != now[name] for name in ("text", "error")):
        yield f"nothing: this version reads {where} otherwise than the one that made the sample"
    elif exchange.end == "clean" and now["error"] in MISREAD and '"error"' not in _text(exchange):
        yield f"this service: {where} was whole, and it reads it as {now['error']}: report it"
