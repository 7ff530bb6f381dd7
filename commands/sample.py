"""`flask doctor --sample`: the calls are made, what comes is masked and written, and it is told.

Knows nothing of what is asked, or of what a sample means.
"""

import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import click
import orjson

from commands.masking import Mask, find_secret
from commands.probe import KNOWN, Asking
from commands.questions import Call
from commands.reach import PATIENCE, to_said
from commands.recording import record, to_decoded
from commands.report import Report
from commands.sample_file import Exchange, Recording, exchange_line, first_line, last_line
from flowith.dialects import DIALECTS
from flowith.image_dialects import image_dialects
from flowith.transport import FOREIGN

WHOLE = 180.0  # seconds for one answer
LONGEST_WAIT = 60.0  # seconds, when Flowith says that the rate limit is reached
SHORTEST_WAIT = 20.0
HEADERS = {"content-type", "content-encoding", "content-length", "transfer-encoding",
           "cache-control", "connection", "keep-alive", "retry-after", "server"}  # fmt: skip
FLOWITH_HOST = re.compile(r"(?:[\w-]+\.)*(?:flowith\.(?:io|net|ai|com|app)|flo\.ing)", re.ASCII)
KNOWN_PATHS = {urlsplit(url).path for urls in KNOWN.values() for url in urls}
KNOWN_PATHS |= {urlsplit(dialect.url).path for dialect in image_dialects("").values()}


def make_sample(
    report: Report,
    path: Path,
    asking: Asking,
    calls: Collection[Call],
    secrets: Collection[str],
) -> None:
    """Make all calls, one after the other, a line for each, and write what came; after Ctrl-C too,
    as the calls were paid for."""
    lines = [first_line(_now(), asking.agent.partition("/")[2])]
    mask = Mask(secrets)
    try:
        for number, call in enumerate(calls, 1):
            where = f"{number} of {len(calls)}: {call.probe.api}, {call.name}"
            for exchange in _make(report, where, asking, call, mask):
                lines.append(exchange_line(exchange))
    finally:
        lines.append(last_line(len(lines) - 1))
        _write(report, path, lines, secrets)


def _write(report: Report, path: Path, lines: Collection[bytes], secrets: Collection[str]) -> None:
    """Write a sample, unless it is empty or holds a secret after all."""
    leaked = next((n for n, line in enumerate(lines, 1) if find_secret(line, secrets)), 0)
    exchanges = len(lines) - 2
    if leaked:
        text = f"line {leaked} would have held a secret, so {path} was not written"
        report.add("problem", "sample", f"{text}: report this, without the secret")
    elif not exchanges:
        report.add("problem", "sample", f"nothing came, so {path} was not written")
    else:
        try:
            path.touch(0o600, exist_ok=False)
            path.write_bytes(b"".join(lines))
        except OSError as wrong:
            report.add("problem", "sample", f"{path} cannot be written ({wrong.strerror})")
            return
        text = f"{path} holds {exchanges} calls. Read it before you give it away:"
        report.add("ok", "sample", f"{text} `flask doctor --read {path}` explains it")


def _make(report: Report, where: str, asking: Asking, call: Call, mask: Mask) -> Iterator[Exchange]:
    """What came of one call, which is made again after a while if it met the rate limit."""
    for is_last in (False, True):
        report.sent += 1
        date = _now()
        try:
            recording = _send(asking, call)
        except FOREIGN as wrong:
            report.add("warning", "sample", f"{where}: no answer, it {to_said(wrong).words}")
            return
        exchange = to_exchange(call, recording, date, mask)
        yield exchange
        report.add("ok", "sample", f"{where}: {_told(exchange)}")
        if is_last or recording.status != 429:
            return
        wait = _wait_after(recording)
        report.add("note", "sample", f"{where}: the rate limit; waiting {wait:.0f} seconds")
        time.sleep(wait)


def _send(asking: Asking, call: Call) -> Recording:
    headers = DIALECTS[call.probe.api].headers_for(call.probe.token, call.bearer)
    headers["User-Agent"] = asking.agent
    connect = min(asking.settings.connect_timeout, PATIENCE)
    patience = min(asking.settings.first_token_timeout, call.patience)
    whole = max(WHOLE, call.patience)
    return record(call.url, headers, orjson.dumps(call.payload), connect, patience, whole)


def _wait_after(recording: Recording) -> float:
    told = {name.lower(): value for name, value in recording.headers}.get("retry-after", "")
    return min(float(told), LONGEST_WAIT) if told.isdecimal() else SHORTEST_WAIT


def to_exchange(call: Call, recording: Recording, date: str, mask: Mask) -> Exchange:
    """What may be written of a call. Whatever is not named here is left out."""
    probe, parts = call.probe, urlsplit(call.url)
    headers = [(name, value) for name, value in recording.headers if name.lower() in HEADERS]
    blocks = tuple(mask.blocks(recording.blocks))
    withheld = _why_withheld(headers, b"".join(block for _, block in blocks), mask)
    whole = recording.end == "clean"
    decoded = to_decoded(probe.api, recording.status, blocks, whole)
    told = asdict(recording) | {
        "call": call.name,
        "api": probe.api,
        "date": date,
        "host": mark_host(parts.netloc),
        "path": _mark_path(parts.path, parts.query, mask),
        "token": "key" if probe.account.kind == "llm" else "login",
        "form": "Bearer" if call.bearer else "bare",
        "request": orjson.loads(mask.body(orjson.dumps(call.payload))),
        "headers": tuple((name, _one_line(mask.text(value))) for name, value in headers),
        "withheld": withheld,
        "decoded": {} if withheld or call.name == "picture" else decoded,
        "blocks": () if withheld else blocks,
    }
    return Exchange(**told)


def _why_withheld(headers: list[tuple[str, str]], body: bytes, mask: Mask) -> str:
    coding = {name.lower(): value for name, value in headers}.get("content-encoding", "identity")
    if coding.lower() != "identity":
        return "the body is compressed, and nothing can be masked in it"
    return "something personal could not be masked" if mask.rest(body) else ""


def mark_host(netloc: str) -> str:
    """A host that is Flowith's; of any other one only the length."""
    return netloc if FLOWITH_HOST.fullmatch(netloc) else re.sub(r"[^.]", "x", netloc)


def _mark_path(path: str, query: str, mask: Mask) -> str:
    if path not in KNOWN_PATHS:
        path = re.sub(r"[^/]", "x", path) or "/"
    return mask.text(f"{path}?{query}" if query else path)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:200]


def _told(exchange: Exchange) -> str:
    took = f" in {exchange.blocks[-1][0]:.1f} s" if exchange.blocks else ""
    said = f"{exchange.status}, {len(exchange.blocks)} blocks{took}, {exchange.end}"
    return f"{said} ({exchange.withheld})" if exchange.withheld else said


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def check_target(path: Path) -> None:
    """Before anything is asked and paid for. Raises click.BadParameter."""
    folder = path.resolve().parent
    if path.exists():
        raise click.BadParameter(f"{path} is there already.", None, None, "sample")
    if not os.access(folder, os.W_OK):
        raise click.BadParameter(f"{folder} cannot be written.", None, None, "sample")
