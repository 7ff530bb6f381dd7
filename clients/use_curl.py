"""curl, as in every README: status codes, server-sent events as they come, hanging up."""

import json
import re
import subprocess
import time
from typing import Any

from cases import BASE_URL, FINAL, HELLO, KEY, PARIS, REFUSALS, WEATHER, assert_hung_up, case, run

CHAT = "/chat/completions"


def curl(
    words: str, *options: str, path: str = CHAT, key: str = KEY, **body: Any
) -> tuple[int, str]:
    """The exit or HTTP status, and the body."""
    given = {"model": "gpt-4.1", "messages": [{"role": "user", "content": words}], **body}
    order = ["curl", "-sS", *options, "-w", "\n%{http_code}", f"{BASE_URL}{path}"]
    order += ["-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json"]
    order += ["-d", "@-"]
    data = json.dumps(given).encode()
    done = subprocess.run(order, input=data, capture_output=True, timeout=60, check=False)
    text, _, status = done.stdout.decode().rpartition("\n")
    return done.returncode or int(status), text


def events(text: str) -> list[Any]:
    """The data of each event; there is nothing else in the stream but comments."""
    lines = [line for line in text.split("\n") if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines), lines
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def content(text: str) -> str:
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events(text))


@case("whole: text")
def _() -> None:
    status, text = curl("hello")
    assert (status, json.loads(text)["choices"][0]["message"]["content"]) == (200, HELLO)


@case("stream: text")
def _() -> None:
    status, text = curl("hello", "-N", stream=True)
    assert (status, content(text)) == (200, HELLO)
    assert [e["choices"][0]["finish_reason"] for e in events(text)][-1] == "stop"


@case("stream: pieces come when they are said")
def _() -> None:
    body = json.dumps({"model": "gpt-4.1", "stream": True,
                       "messages": [{"role": "user", "content": "wait for curl"}]})  # fmt: skip
    order = ["curl", "-sN", f"{BASE_URL}{CHAT}", "-H", f"Authorization: Bearer {KEY}", "-d", body]
    with subprocess.Popen(order, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"begun" in line:
                break
        process.kill()
    assert_hung_up("wait for curl")


@case("stream: heartbeats in silence")
def _() -> None:
    started = time.monotonic()
    status, text = curl("silence", "-N", stream=True)
    assert (status, content(text)) == (200, "late, but here")
    assert text.count(": ping\n") >= 3
    assert ": ping\n\n" not in text
    assert time.monotonic() - started > 3


@case("stream: tools")
def _() -> None:
    _, text = curl("two tools please", "-N", stream=True, tools=[WEATHER])
    deltas = [e["choices"][0]["delta"] for e in events(text)]
    parts = [part for delta in deltas for part in delta.get("tool_calls", ())]
    assert [part["index"] for part in parts if "id" in part] == [0, 1]
    assert "tool_call>" not in content(text)


@case("whole: tool result")
def _() -> None:
    call = {"id": "call_1", "type": "function"}
    call["function"] = {"name": "weather", "arguments": "{}"}  # type: ignore[assignment]
    history = [
        {"role": "user", "content": "tool please"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"},
    ]
    _, text = curl("", messages=history, tools=[WEATHER])
    assert json.loads(text)["choices"][0]["message"]["content"] == FINAL


@case("whole: json_object")
def _() -> None:
    _, text = curl("json please", response_format={"type": "json_object"})
    assert json.loads(json.loads(text)["choices"][0]["message"]["content"]) == PARIS


for stream in (False, True):
    way = "stream" if stream else "whole"
    for words, wanted in REFUSALS.items():

        @case(f"{way}: {words}")
        def _(words: str = words, wanted: int = wanted, stream: bool = stream) -> None:
            status, text = curl(words, stream=stream)
            assert status == wanted
            assert set(json.loads(text)["error"]) == {"message", "type", "param", "code"}

    @case(f"{way}: --fail tells a refusal")
    def _(stream: bool = stream) -> None:
        assert curl("error 429", "--fail-with-body", stream=stream)[0] == 22

    @case(f"{way}: wrong key, unknown model")
    def _(stream: bool = stream) -> None:
        assert curl("hello", key="wrong", stream=stream)[0] == 401
        assert curl("hello", model="no", stream=stream)[0] == 404


@case("stream: cut")
def _() -> None:
    status, text = curl("cut", "-N", stream=True)
    assert status == 200
    *_, half, last = events(text)
    assert half["choices"][0]["delta"] == {"content": "half an "}
    assert last["error"]["code"] == "upstream_cut"
    assert '"finish_reason":"stop"' not in text


@case("whole: cut")
def _() -> None:
    assert curl("cut")[0] == 502


@case("a large request with Expect: 100-continue")
def _() -> None:
    words = "hello " + "x" * 2_000_000
    assert curl(words, "-H", "Expect: 100-continue")[0] == 200


@case("a preflight, as a browser sends it")
def _() -> None:
    order = [
        "curl",
        "-sSi",
        "-X",
        "OPTIONS",
        f"{BASE_URL}{CHAT}",
        "-H",
        "Origin: https://a.example",
    ]
    order += ["-H", "Access-Control-Request-Headers: authorization, x-stainless-os"]
    text = subprocess.run(order, capture_output=True, text=True, check=True).stdout
    assert re.match(r"HTTP/1.1 20[04]", text)
    assert re.search(
        r"(?i)^access-control-allow-headers: authorization, x-stainless-os", text, re.M
    )


@case("a redirect never answers a POST")
def _() -> None:
    for path in (f"/{CHAT}", f"{CHAT}/", f"/v1{CHAT}"):
        assert curl("hello", path=path)[0] == 200, path


run()
