"""The service as it runs: what a caller sees byte by byte, and what Flowith sees of the caller."""

import json
import socket
import threading
import time
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection

import pytest
from conftest import KEY, Serve, chunks, deltas
from fake_flowith import (
    CUT,
    DROP,
    HANG,
    FakeFlowith,
    Framing,
    Marker,
    Wait,
    error,
    llm,
    think,
    web,
    words,
)

from chat_request import Prompt
from errors import CallerLeft
from events import Text
from flowith import client
from settings import Model, Settings

LLM = {"FLOWITH_API": "llm", "FLOWITH_AUTH_TOKEN": "flo_0123456789abcdef0123"}


def read_event(response: object) -> bytes:
    lines = []
    while (line := response.readline()) not in (b"\n", b""):  # type: ignore[attr-defined]
        lines.append(line)
    return b"".join(lines)


def read_pings(response: object, count: int) -> bytes:
    """What comes until so many signs of life have come."""
    said = b""
    while said.count(b": ping\n") < count:
        line = response.readline()  # type: ignore[attr-defined]
        assert line, said
        said += line
    return said


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
def test_each_piece_is_passed_on_before_the_next_one_comes(
    share: Serve, flowith: FakeFlowith, framing: Framing
) -> None:
    waits = [Wait(), Wait()]
    flowith.reply(web("one ", waits[0], "two ", waits[1], "three", framing=framing))
    server = share()
    connection, response = server.post({"stream": True})
    assert "assistant" in read_event(response).decode()
    for wait, word in zip(waits, ("one ", "two "), strict=True):
        assert word in read_event(response).decode()
        wait.go()
    assert deltas(response.read()) == "three"
    connection.close()


def test_a_stream_is_what_openai_sends(share: Serve, flowith: FakeFlowith) -> None:
    flowith.reply(web("<think>\nHm", "m\n\n</thi", "nk>\nHel", 0.05, "lo \xe4"))
    connection, response = share().post({"stream": True, "stream_options": {"include_usage": True}})
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache, no-transform"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["X-Request-ID"]
    body = response.read()
    found = chunks(body)
    assert found[-1] == "[DONE]"
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert found[-3]["choices"][0] == {
        "index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop",
    }  # fmt: skip
    assert found[-2]["choices"] == []
    assert found[-2]["usage"]["total_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in found[:-2])
    assert deltas(body) == "Hello ä"
    assert deltas(body, "reasoning_content") == "Hmm"
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in found[:-1]}) == 1
    assert sum(c["choices"][0]["finish_reason"] is not None for c in found[:-2]) == 1
    connection.close()


def test_silence_is_filled_with_comments_after_the_hold(serve: Serve, fake: FakeFlowith) -> None:
    waits = [Wait(), Wait()]
    fake.reply(web(waits[0], "late", waits[1], " end"))
    connection, response = serve(HOLD="0.3", HEARTBEAT="0.3").post({"stream": True})
    before = read_pings(response, 2)
    waits[0].go()
    after = read_pings(response, 2)
    waits[1].go()
    body = before + after + response.read()
    assert body.startswith(b"data: ")
    assert b"late" in after
    assert b": ping\n\n" not in body
    assert deltas(body) == "late end"
    connection.close()


def test_hidden_thoughts_do_not_put_the_first_sign_of_life_off(
    serve: Serve, fake: FakeFlowith
) -> None:
    wait = Wait()
    fake.reply(web(0.1, think("Hm"), wait, "late"))
    server = serve(HOLD="0.5", HEARTBEAT="60", REASONING_FORMAT="hide")
    connection, response = server.post({"stream": True})
    read_pings(response, 1)
    wait.go()
    rest = response.read()
    assert b"late" in rest
    assert b": ping\n" not in rest
    connection.close()


def test_a_refusal_within_the_hold_keeps_its_status(serve: Serve, fake: FakeFlowith) -> None:
    fake.reply(replace(error(429, headers={"Retry-After": "7"}), delay=0.4))
    connection, response = serve(HOLD="5").post({"stream": True})
    assert response.status == 429
    assert response.headers["Retry-After"] == "7"
    assert json.loads(response.read())["error"]["code"] == "rate_limit_exceeded"
    connection.close()


def test_a_refusal_after_the_hold_is_told_in_the_stream(serve: Serve, fake: FakeFlowith) -> None:
    wait = Wait()
    fake.reply(replace(error(402), delay=wait))
    connection, response = serve(HOLD="0.2").post({"stream": True})
    assert response.status == 200
    wait.go()
    found = chunks(response.read())
    assert found[-1] == "[DONE]"
    assert found[-2]["error"]["code"] == "insufficient_quota"
    assert "choices" not in found[-2]
    connection.close()


@pytest.mark.parametrize("marker", [CUT, DROP], ids=["fin", "rst"])
@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_an_answer_that_breaks_off_says_so(
    share: Serve, flowith: FakeFlowith, marker: Marker, framing: Framing
) -> None:
    flowith.reply(web("half an ", 0.2, marker, framing=framing))
    connection, response = share().post({"stream": True})
    body = response.read()
    assert deltas(body) == "half an "
    assert chunks(body)[-2]["error"]["code"] == "upstream_cut"
    assert 'finish_reason":"stop' not in body.decode()
    connection.close()


def test_an_sse_answer_without_its_end_is_not_taken_for_whole(
    share: Serve, flowith: FakeFlowith
) -> None:
    flowith.reply(llm("half", 0.1, CUT, framing="close"))
    connection, response = share(**LLM).post({"stream": True})
    assert chunks(response.read())[-2]["error"]["code"] == "upstream_cut"
    connection.close()


PHASES = {
    "before headers": web("x", delay=HANG),
    "silent": web("x", HANG),
    "streaming": web(*words("x " * 400, 0.05)),
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("phase", PHASES)
def test_hanging_up_closes_the_upstream_call(
    share: Serve, flowith: FakeFlowith, phase: str, stream: bool
) -> None:
    """Within 0.2 s on a quiet machine; the bound here only excludes waiting for a heartbeat."""
    flowith.reply(PHASES[phase])
    server = share(HOLD="30", HEARTBEAT="30")
    connection = server.send({"stream": stream})
    (seen,) = flowith.wait_for(1)
    time.sleep(0.3)
    left = time.monotonic()
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    assert seen.wait_hung_up(5)
    assert time.monotonic() - left < 2
    assert 'end="caller left"' in server.wait_for_log("caller left")


def test_who_is_told_of_a_departure_does_not_wait_for_the_next_look(
    fake: FakeFlowith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LOOK", 60)
    fake.reply(web("Hello ", 30.0, "world"))
    given = {"FLOWITH_API_URL": fake.url, "FLOWITH_AUTH_TOKEN": "x", "HOLD": "30"}
    ours = client.Flowith(Settings.from_env({**given, "HEARTBEAT": "30"}))
    prompt = Prompt([{"role": "user", "content": "Hello"}])
    with closing(ours.open(prompt, Model("m", ("m",)))) as answer:
        events = answer.events()
        assert next(events) == Text("Hello ")
        time.sleep(0.3)  # the first look comes at once
        answer.caller_left = lambda: True
        threading.Timer(0.3, answer.interrupt).start()
        with pytest.raises(CallerLeft):
            next(events)


def test_one_call_makes_one_upstream_call_and_reuses_the_connection(
    share: Serve, flowith: FakeFlowith
) -> None:
    flowith.reply(web("Hello"))
    server = share()
    for _ in range(3):
        connection, response = server.post({"stream": True})
        assert deltas(response.read()) == "Hello"
        connection.close()
    assert len(flowith.requests) == 3
    assert len({seen.connection for seen in flowith.requests}) == 1


def test_a_slow_reader_holds_upstream_back(share: Serve, flowith: FakeFlowith) -> None:
    flowith.reply(web(*["x" * 60_000] * 600))
    server = share()
    connection = server.send({"stream": True})
    (seen,) = flowith.wait_for(1)
    assert not seen.wait_finished(4)
    connection.close()
    assert seen.wait_hung_up(5)


def test_a_stopped_service_lets_streams_end_with_a_word(serve: Serve, fake: FakeFlowith) -> None:
    fake.reply(web("begun ", HANG))
    server = serve(HEARTBEAT="0.5", GRACEFUL_TIMEOUT="4")
    connection, response = server.post({"stream": True})
    read_event(response)
    server.process.terminate()
    found = chunks(response.read())
    assert found[-1] == "[DONE]"
    assert found[-2]["error"]["code"] == "overloaded"
    connection.close()
    assert server.process.wait(20) == 0


def test_a_request_is_answered_whatever_the_base_url(share: Serve, flowith: FakeFlowith) -> None:
    flowith.reply(web("Hi"))
    server = share()
    for path in ("/v1/v1/chat/completions", "//v1//chat/completions/", "/chat/completions",
                 "/api/v1/chat/completions", "/openai/v1/chat/completions"):  # fmt: skip
        connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
        body = json.dumps({"model": "gpt-4.1", "messages": [{"role": "user", "content": "x"}]})
        connection.request("POST", path, body, {"Authorization": f"bearer {KEY}"})
        answer = json.loads(connection.getresponse().read())
        assert answer["choices"][0]["message"]["content"] == "Hi", path
        connection.close()


def test_reasoning_of_the_llm_api_arrives(share: Serve, flowith: FakeFlowith) -> None:
    flowith.reply(llm(think("Hmm"), "Hello", usage={"prompt_tokens": 3, "completion_tokens": 5}))
    connection, response = share(**LLM).post({})
    answer = json.loads(response.read())
    assert answer["choices"][0]["message"]["reasoning_content"] == "Hmm"
    assert answer["usage"]["total_tokens"] == 8
    connection.close()
