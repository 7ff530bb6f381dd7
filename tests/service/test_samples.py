"""Each sample of Flowith's wire in tests/data, replayed by the stand-in: the service gives the
whole text or an honest error, in every format; and the stand-in started on a sample."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from conftest import HELLO, ROOT, MakeApi
from fake_flowith import FakeFlowith
from sample_player import to_reply

from commands.recording import record
from commands.sample_file import Exchange, read_sample

SAMPLES = sorted((ROOT / "tests" / "data").glob("*.jsonl"))


@dataclass(frozen=True)
class Caller:
    """How a client of one format asks, and what it makes of an answer; `text` joins the words of
    all events of a stream, or of the one object. `tool` is one on offer, if the format has them."""

    path: str
    body: dict[str, Any]
    text: Callable[[list[Any]], str]
    tool: dict[str, Any] | None = None


def chat_text(events: list[Any]) -> str:
    parts = [choice for event in events for choice in event.get("choices") or ()]
    said = [part.get("delta") or part.get("message") or {} for part in parts]
    return "".join(one.get("content") or "" for one in said)


def completion_text(events: list[Any]) -> str:
    parts = [choice for event in events for choice in event.get("choices") or ()]
    return "".join(part.get("text") or "" for part in parts)


def responses_text(events: list[Any]) -> str:
    deltas = [e["delta"] for e in events if e.get("type") == "response.output_text.delta"]
    items = [item for event in events for item in event.get("output") or ()]
    parts = [part for item in items for part in item.get("content") or ()]
    return "".join([*deltas, *(part.get("text") or "" for part in parts)])


def anthropic_text(events: list[Any]) -> str:
    deltas = [event["delta"] for event in events if event.get("type") == "content_block_delta"]
    blocks = [block for event in events for block in event.get("content") or ()]
    texts = [one for one in (*deltas, *blocks) if one.get("type") in ("text_delta", "text")]
    return "".join(one["text"] for one in texts)


def compaction_text(events: list[Any]) -> str:
    items = [item for event in events for item in event.get("output") or ()]
    summaries = [item["encrypted_content"].partition(":")[2] for item in items]
    return "".join(base64.b64decode(summary).decode() for summary in summaries)


NAME, SCHEMA = "get_weather", {"type": "object", "properties": {"city": {"type": "string"}}}
CALLERS = {
    "chat": Caller(
        "/v1/chat/completions",
        {"messages": HELLO},
        chat_text,
        {"type": "function", "function": {"name": NAME, "parameters": SCHEMA}},
    ),
    "legacy_completions": Caller("/v1/completions", {"prompt": "Hello"}, completion_text),
    "responses": Caller(
        "/v1/responses",
        {"input": "Hello"},
        responses_text,
        {"type": "function", "name": NAME, "parameters": SCHEMA},
    ),
    "responses_compaction": Caller("/v1/responses/compact", {"input": "Hello"}, compaction_text),
    "anthropic": Caller(
        "/v1/messages",
        {"messages": HELLO, "max_tokens": 9000},
        anthropic_text,
        {"name": NAME, "input_schema": SCHEMA},
    ),
}
NOT_TEXT = {"images"}  # its answers are pictures
FORMATS = sorted(
    path.stem
    for path in (ROOT / "formats").glob("*.py")
    if path.stem not in NOT_TEXT and hasattr(import_module(f"formats.{path.stem}"), "parse")
    and hasattr(import_module(f"formats.{path.stem}"), "NAME")
)  # fmt: skip


def events_of(body: str) -> list[Any]:
    """The events of a stream, or one for an object: an error, or an answer that is not streamed."""
    if body.lstrip().startswith("{"):
        return [json.loads(body)]
    lines = [line[6:] for line in body.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def failed(status: int, events: list[Any]) -> bool:
    """Whether the caller was told of an error, as a status or in the stream."""
    told = [event.get("error") or event.get("type") == "response.failed" for event in events]
    return status >= 400 or any(told)


def expected_text(exchange: Exchange) -> str:
    """What the decoder said when the sample was made, without thoughts written in the text."""
    return re.sub(r"<think>.*?</think>\s*", "", str(exchange.decoded["text"]), flags=re.DOTALL)


def replayed(path: Path) -> list[Exchange]:
    exchanges = read_sample(path).exchanges
    return [one for one in exchanges if not one.withheld and one.call != "picture"]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_gives_the_whole_text_or_an_honest_error(
    api: MakeApi, fake: FakeFlowith, path: Path, name: str, stream: bool
) -> None:
    caller = CALLERS[name]
    given = {"RETRY_ATTEMPTS": "1", "FIRST_TOKEN_TIMEOUT": "2", "IDLE_TIMEOUT": "2"}
    apis = {one.api for one in replayed(path)}
    services = {one: api(FLOWITH_API=one, **given) for one in apis}
    for exchange in replayed(path):
        where = f"{exchange.api}, {exchange.call}, {exchange.status}, {exchange.end}"
        calls = exchange.decoded["calls"]
        if calls and caller.tool is None:
            continue  # nobody who speaks this format can have asked for that
        more = {"tools": [caller.tool]} if calls else {}
        fake.reset()
        fake.reply(to_reply(exchange, longest_pause=0.0))
        service = services[exchange.api]
        if exchange.status >= 300:  # a refused account rests: nobody else is to be told of it
            service = api(FLOWITH_API=exchange.api, **given)
        answer = service.post(caller.path, stream=stream, **caller.body, **more)
        told = events_of(answer.get_data(as_text=True))
        if exchange.decoded["error"] is not None:
            assert failed(answer.status_code, told), where
            continue
        assert not failed(answer.status_code, told), where
        assert caller.text(told).strip() == expected_text(exchange).strip(), where
        assert all(call in json.dumps(told) for call in calls), where


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_what_is_played_is_what_was_recorded(fake: FakeFlowith, path: Path) -> None:
    for exchange in replayed(path):
        fake.reply(to_reply(exchange, longest_pause=0.01))
        found = record(f"{fake.url}{exchange.path}", {}, b"{}", 5, 5, 10)
        where = f"{exchange.api}, {exchange.call}"
        assert b"".join(block for _, block in found.blocks) == exchange.body, where
        assert (found.status, found.framing) == (exchange.status, exchange.framing), where
        assert found.end == exchange.end, where
        assert dict(exchange.headers).items() <= dict(found.headers).items(), where
        if exchange.framing == "chunked":
            assert len(found.blocks) == len(exchange.blocks), where


def test_every_sample_has_something_to_replay_and_every_format_has_a_caller() -> None:
    assert len(SAMPLES) >= 2
    assert all(replayed(path) for path in SAMPLES)
    assert set(FORMATS) <= set(CALLERS)
    ends = {one.end for path in SAMPLES for one in replayed(path)}
    assert {"clean", "cut", "reset"} <= ends


def test_the_stand_in_started_on_a_sample_gives_its_answers() -> None:
    good = next(path for path in SAMPLES if "good" in path.stem)
    command = [sys.executable, str(ROOT / "tests" / "fake_flowith.py"), "--quiet"]
    with subprocess.Popen(
        [*command, "--sample", str(good)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(":")[2])
            with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
                asked = {"messages": [*HELLO, {"role": "system", "content": "x"}], "tools": []}
                said = post(connection, "/external/use/llm", {"models": ["a"], **asked})
                assert b"Bl" in said
                assert said.endswith(b"data: [DONE]\n\n")
                unknown = {"models": ["no-such-model"], "messages": HELLO}
                assert b"Model not found" in post(connection, "/external/use/llm", unknown)
                assert b"holds no answer" in post(connection, "/image_gen", asked)
        finally:
            process.terminate()


def post(connection: HTTPConnection, path: str, body: dict[str, Any]) -> bytes:
    connection.request("POST", path, json.dumps(body))
    return connection.getresponse().read()


def test_the_stand_in_refuses_a_bad_sample_with_its_line(tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(SAMPLES[0].read_bytes()[:-5])
    command = [sys.executable, str(ROOT / "tests" / "fake_flowith.py"), "--sample", str(cut)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30)  # noqa: PLW1510
    assert ran.returncode == 1
    assert (
        f"line {len(cut.read_bytes().splitlines())}: not JSON, and it has no end: the file was cut"
        in ran.stderr
    )
    assert "Traceback" not in ran.stderr
