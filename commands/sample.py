"""`flask doctor --sample`: which calls are made to Flowith, what they cost, and how they went.

What comes is masked here, before anything is written. Knows nothing of what a sample means.
"""

import os
import re
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import click
import orjson

from chat_request import Prompt
from commands.masking import Mask, find_secret
from commands.report import Report
from flowith.accounts import Account
from flowith.dialects import DIALECTS, Dialect
from flowith.probe import ALIVE, KNOWN, Asking, Probe
from flowith.reach import PATIENCE, UNSENT, to_said
from flowith.recording import Recording, record, to_decoded
from flowith.sample_file import Exchange, exchange_line, first_line, last_line
from flowith.transport import FOREIGN
from settings import Api

SILENCE = 90.0  # seconds without a byte; a model that thinks was seen to need 83
WHOLE = 180.0  # seconds for one answer
PICTURE_TIME = 300.0  # seconds for a picture, as Flowith's own programs wait
LONGEST_WAIT = 60.0  # seconds, when Flowith says that the rate limit is reached
SHORTEST_WAIT = 20.0
HEADERS = {"content-type", "content-encoding", "content-length", "transfer-encoding",
           "cache-control", "connection", "keep-alive", "retry-after", "server"}  # fmt: skip
FLOWITH_HOST = re.compile(r"(?:[\w-]+\.)*(?:flowith\.(?:io|net|ai|com|app)|flo\.ing)", re.ASCII)
UNKNOWN_MODEL = "no-such-model"
PICTURE = "https://upload.wikimedia.org/wikipedia/commons/4/47/PNG_transparency_demonstration_1.png"
PICTURE_MODEL = "gemini-3.1-flash-image"
PICTURE_PRICE = "30,000 to 100,000 credits"  # for one, as it was published in 2026
PICTURE_WORDS = "A red apple on a white table."
PICTURE_PATHS: Mapping[Api, str] = {"web": "/image_gen", "llm": "/external/use/image/generate"}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get today's weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
KNOWN_PATHS = {urlsplit(url).path for urls in KNOWN.values() for url in urls}
KNOWN_PATHS |= set(PICTURE_PATHS.values())


def _user(content: str | list[dict[str, Any]], system: str = "") -> list[dict[str, Any]]:
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": content}]


@dataclass(frozen=True, slots=True)
class Question:
    """One of the calls of a sample: always the same words. `more` is added to the payload as it
    is, whether that API is known to take it or not; `refused`: Flowith should say no."""

    name: str
    messages: list[dict[str, Any]]
    thinking: bool = False
    more: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    other_form: bool = False
    refused: bool = False


QUESTIONS = (
    Question("plain", _user("Say OK.")),
    Question(
        "thinking",
        _user("Which number is larger, 9.9 or 9.11? Answer with the number alone."),
        thinking=True,
    ),
    Question("not streamed", _user("Say OK."), more={"stream": False}),
    Question("unknown model", _user("Say OK."), model=UNKNOWN_MODEL, refused=True),
    Question("wrong token form", _user("Say OK."), other_form=True, refused=True),
    Question("system message", _user("Which colour?", "Answer with the word blue, nothing else.")),
    Question(
        "image",
        _user(
            [
                {"type": "text", "text": "What is on this picture? One word."},
                {"type": "image_url", "image_url": {"url": PICTURE}},
            ]
        ),
    ),
    Question(
        "tool", _user("What is the weather in Oslo today? Use the tool."), more={"tools": [TOOL]}
    ),
    Question("max_tokens", _user("Count from 1 to 30."), more={"max_tokens": 5}),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it goes out; its body holds fixed words of ours."""

    name: str
    probe: Probe
    url: str
    bearer: bool
    payload: dict[str, Any]
    refused: bool
    patience: float = SILENCE


def to_calls(probes: Collection[Probe], pictures: bool) -> list[Call]:
    """All calls of a sample. Where an API answers, each question; where it does not, one, which
    shows how it says no."""
    calls: list[Call] = []
    ways = dict.fromkeys((probe.account, probe.api) for probe in probes)
    for account, api in ways:
        here = [probe for probe in probes if (probe.account, probe.api) == (account, api)]
        sent = [probe for probe in here if probe.said.outcome not in UNSENT]
        alive = [probe for probe in sent if probe.said.outcome in ALIVE]
        if alive:
            calls += [_to_call(alive[0], question) for question in QUESTIONS]
            calls += _to_picture_calls(alive[0]) if pictures else []
        elif sent:
            calls.append(replace(_to_call(sent[0], QUESTIONS[0]), refused=True))
    return calls


def _to_call(probe: Probe, question: Question) -> Call:
    # its system role is part of the question, and the operator's knowledge bases are nobody's
    model = replace(probe.model, system_role=True, kb_list=())
    dialect = replace(DIALECTS[probe.api], takes_system=True)
    prompt = Prompt(question.messages, thinking=question.thinking)
    upstream = (question.model,) if question.model else model.upstream[:1]
    payload = dialect.payload(prompt, model, upstream) | question.more
    bearer = probe.bearer != question.other_form
    return Call(question.name, probe, probe.url, bearer, payload, question.refused)


def _to_picture_calls(probe: Probe) -> Iterator[Call]:
    """One small picture, the way that the API's kind of account has for it."""
    if probe.api not in PICTURE_PATHS:
        return
    parts = urlsplit(probe.url)
    url = f"{parts.scheme}://{parts.netloc}{PICTURE_PATHS[probe.api]}"
    payload: dict[str, Any] = {"model": PICTURE_MODEL, "aspect_ratio": "1:1", "image_size": "1k"}
    if probe.api == "web":
        empty = Prompt(_user(PICTURE_WORDS), thinking=False)
        payload |= DIALECTS["web"].payload(empty, probe.model, (PICTURE_MODEL,))
        payload["target_feature"] = "image_generation"
    else:
        payload["prompt"] = PICTURE_WORDS
    yield Call("picture", probe, url, probe.bearer, payload, False, PICTURE_TIME)


def price(calls: Collection[Call]) -> str:
    """How many calls, and what they may cost, in words."""
    pictures = sum(call.name == "picture" for call in calls)
    refused = sum(call.refused for call in calls)
    answers = len(calls) - pictures - refused
    text = f"Making the sample: {len(calls)} calls; {answers} of them are billed by Flowith as a"
    text += f" short answer each, {refused} should be refused and cost nothing"
    if pictures:
        text += f", {pictures} make a picture, each for {PICTURE_PRICE} by what was last published"
    return f"{text}."


class SampleFile:
    """A sample that is being written; what it is called is there when it is whole and was searched
    for secrets. In a `with` block; raises OSError."""

    def __init__(self, path: Path, secrets: Collection[str], service: str) -> None:
        self._path, self._secrets, self._service = path, secrets, service
        self.exchanges = 0
        self.leaked = 0  # the line in which a secret was found, after which nothing is kept

    def __enter__(self) -> Self:
        number, name = tempfile.mkstemp(dir=self._path.resolve().parent, prefix=".sample.")
        self._file, self._temporary = os.fdopen(number, "w+b"), Path(name)
        self._file.write(first_line(_now(), self._service))
        return self

    def add(self, exchange: Exchange) -> None:
        self._file.write(exchange_line(exchange))
        self.exchanges += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        wrong: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Keeps what there is after Ctrl-C too: the calls were paid for."""
        try:
            self._file.write(last_line(self.exchanges))
            self._file.seek(0)
            for number, line in enumerate(self._file, 1):
                if find_secret(line, self._secrets):
                    self.leaked = number
            self._file.close()
            if self.exchanges and not self.leaked:
                self._temporary.rename(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


def make_sample(
    report: Report,
    path: Path,
    asking: Asking,
    tokens: Mapping[Account, str],
    calls: Collection[Call],
    secrets: Collection[str],
) -> None:
    """Make all calls, one after the other, and write what came; a line for each."""
    mask, service = Mask(secrets), asking.agent.partition("/")[2]
    try:
        with SampleFile(path, secrets, service) as file:
            for number, call in enumerate(calls, 1):
                where = f"{number} of {len(calls)}: {call.probe.api}, {call.name}"
                _make(report, where, file, asking, tokens[call.probe.account], call, mask)
    except OSError as wrong:
        report.add("problem", "sample", f"{path} cannot be written ({wrong.strerror})")
        return
    if file.leaked:
        text = f"line {file.leaked} would have held a secret, so {path} was not written"
        report.add("problem", "sample", f"{text}: report this, without the secret")
    elif not file.exchanges:
        report.add("problem", "sample", f"nothing came, so {path} was not written")
    else:
        text = f"{path} holds {file.exchanges} calls. Read it before you give it away:"
        report.add("ok", "sample", f"{text} `flask doctor --read {path}` explains it")


def _make(
    report: Report,
    where: str,
    file: SampleFile,
    asking: Asking,
    token: str,
    call: Call,
    mask: Mask,
) -> None:
    """One call, made again after a while if it met the rate limit; both are kept."""
    for is_last in (False, True):
        report.sent += 1
        date = _now()
        try:
            recording = _send(asking, token, call)
        except FOREIGN as wrong:
            report.add("warning", "sample", f"{where}: no answer, it {to_said(wrong).words}")
            return
        exchange = to_exchange(call, recording, date, mask)
        file.add(exchange)
        report.add("ok", "sample", f"{where}: {_told(exchange)}")
        if is_last or recording.status != 429:
            return
        wait = _wait_after(recording)
        report.add("note", "sample", f"{where}: the rate limit; waiting {wait:.0f} seconds")
        time.sleep(wait)


def _send(asking: Asking, token: str, call: Call) -> Recording:
    dialect: Dialect = DIALECTS[call.probe.api]
    headers = {**dialect.headers, "User-Agent": asking.agent}
    headers["Authorization"] = f"Bearer {token}" if call.bearer else token
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
    return Exchange(
        call=call.name,
        api=probe.api,
        date=date,
        host=mark_host(parts.netloc),
        path=_mark_path(parts.path, parts.query, mask),
        token="key" if probe.account.kind == "llm" else "login",
        form="Bearer" if call.bearer else "bare",
        request=orjson.loads(mask.body(orjson.dumps(call.payload))),
        status=recording.status,
        http=recording.http,
        headers=tuple((name, _one_line(mask.text(value))) for name, value in headers),
        head_at=recording.head_at,
        framing=recording.framing,
        end=recording.end,
        close_notify=recording.close_notify,
        withheld=withheld,
        decoded={} if withheld or call.name == "picture" else decoded,
        blocks=() if withheld else blocks,
    )


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
