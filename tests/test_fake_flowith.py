"""The stand-in itself, over plain sockets: what the other tests rely on must hold here first."""

import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from typing import Any

import fake_flowith as stand_in
import pytest
from fake_flowith import CUT, DROP, HANG, FakeFlowith, Part, Raw, Reply, error, think, web

GET = b"GET / HTTP/1.1\r\n\r\n"


@pytest.fixture
def fake() -> Iterator[FakeFlowith]:
    with FakeFlowith() as fake:
        yield fake


@pytest.fixture
def caller(fake: FakeFlowith) -> Iterator[HTTPConnection]:
    with closing(HTTPConnection(fake.host, fake.port, timeout=5)) as caller:
        yield caller


def call(caller: HTTPConnection, path: str, payload: Any = None, **headers: str) -> HTTPResponse:
    method = "GET" if payload is None else "POST"
    caller.request(method, path, payload and json.dumps(payload), headers)
    return caller.getresponse()


def ask(caller: HTTPConnection, text: str = "Hi", path: str = "/completion", **more: Any) -> bytes:
    messages = [{"role": "user", "content": text}]
    return call(caller, path, {"model": "gpt-5.5", "messages": messages, **more}).read()


def raw_exchange(fake: FakeFlowith, request: bytes) -> bytes:
    """All bytes that come back, up to the end of the connection."""
    with socket.create_connection((fake.host, fake.port), timeout=5) as caller:
        caller.sendall(request)
        return b"".join(iter(lambda: caller.recv(65536), b""))


@pytest.mark.parametrize(
    ("framing", "wire"),
    [
        ("chunked", b"Transfer-Encoding: chunked|Connection: close||3|Hel|2|lo|0||"),
        ("length", b"Content-Length: 5|Connection: close||Hello"),
        ("close", b"Connection: close||Hello"),
    ],
)
def test_each_framing_has_exactly_these_bytes(
    fake: FakeFlowith, framing: stand_in.Framing, wire: bytes
) -> None:
    fake.reply(Reply(steps=[b"Hel", b"", b"lo"], framing=framing))
    answer = raw_exchange(fake, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer == b"HTTP/1.1 200 OK\r\n" + wire.replace(b"|", b"\r\n")


def test_raw_bytes_go_out_as_they_are(fake: FakeFlowith) -> None:
    fake.reply(Raw([b"HTTP/9 what?\n", 0.01, b"zz\r\n"]))
    assert raw_exchange(fake, GET) == b"HTTP/9 what?\nzz\r\n"


def test_a_part_splits_a_code_point_inside_one_chunk(fake: FakeFlowith) -> None:
    fake.reply(Reply(steps=[Part("é".encode(), pause=0.2)]))
    with socket.create_connection((fake.host, fake.port), timeout=5) as caller:
        caller.sendall(GET)
        arrived = b""
        while b"\xc3" not in arrived:
            arrived += caller.recv(65536)
        assert arrived.endswith(b"\r\n\r\n2\r\n\xc3")
        assert caller.recv(65536).startswith(b"\xa9\r\n")


def test_each_dialect_has_its_own_frames(fake: FakeFlowith, caller: HTTPConnection) -> None:
    fake.reply(web(think("Hm"), "Hé", b"\xff"))
    assert ask(caller) == b"<think>\nHm\n\n</think>\nH\xc3\xa9\xff"

    fake.reply(stand_in.knowledge("a", seeds=[], done="plain"))
    assert ask(caller) == (
        b'data: {"tag": "searching", "content": "..."}\n\ndata: {"tag": "seeds", "content": []}\n\n'
        b'data: {"tag": "final", "content": "a"}\n\ndata: [DONE]\n\n'
    )

    fake.reply(stand_in.llm(think("Hm"), "a", {"error": "x"}, usage={"total_tokens": 3}))
    *frames, done, rest = ask(caller).split(b"\n\n")
    thought, text, failure, end = (json.loads(frame.removeprefix(b"data: ")) for frame in frames)
    assert thought["choices"][0]["delta"] == {"reasoning_content": "Hm"}
    assert text["choices"][0]["delta"] == {"content": "a"}
    assert failure == {"error": "x"}
    assert (end["choices"][0]["finish_reason"], end["usage"]) == ("stop", {"total_tokens": 3})
    assert (done, rest) == (b"data: [DONE]", b"")


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_cut_answer_is_not_whole_and_no_reset(
    fake: FakeFlowith, caller: HTTPConnection, framing: stand_in.Framing
) -> None:
    fake.reply(web("Hel", CUT, framing=framing))
    with pytest.raises(IncompleteRead):
        ask(caller)


def test_a_dropped_answer_is_a_reset(fake: FakeFlowith, caller: HTTPConnection) -> None:
    fake.reply(web("Hel", 0.05, DROP))
    answer = call(caller, "/completion")
    assert answer.read1() == b"Hel"
    with pytest.raises(ConnectionResetError):
        answer.read1()
    assert fake.requests[0].wait_finished()


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize(
    "script",
    [
        web("late", delay=30),
        web("never", delay=HANG),
        web("Hel", 30, "lo"),
        web("Hel", HANG),
        web(b"more than a socket holds " * 800_000),
        Raw([HANG]),
    ],
    ids=["delay", "no headers", "wait", "hang", "write", "raw"],
)
def test_a_hang_up_is_seen_in_every_phase(
    fake: FakeFlowith, script: stand_in.Script, how: str
) -> None:
    fake.reply(script)
    with socket.create_connection((fake.host, fake.port), timeout=5) as caller:
        caller.sendall(GET)
        seen = fake.wait_for(1)[0]
        if how == "rst":
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, stand_in.LINGER_0)
        left = time.monotonic()
    assert seen.wait_hung_up()
    assert seen.hung_up_at is not None
    assert 0 <= seen.hung_up_at - left < 2
    assert seen.finished_at is None
    assert fake.wait_until(lambda: fake.open_connections == 0)


def test_a_connection_is_used_again_unless_one_side_objects(
    fake: FakeFlowith, caller: HTTPConnection
) -> None:
    fake.reply(web("a"), stand_in.llm_json("b"), web("c", framing="close"), web("d"))
    for _ in range(3):
        ask(caller)
    call(caller, "/completion", Connection="close").read()
    ask(caller)
    assert [seen.connection for seen in fake.requests] == [1, 1, 1, 2, 3]


def test_connections_can_be_closed_under_the_callers_feet(
    fake: FakeFlowith, caller: HTTPConnection
) -> None:
    ask(caller, "#empty")
    fake.close_connections()
    with pytest.raises(ConnectionError):
        ask(caller)


def test_replies_come_in_order_and_the_last_repeats(
    fake: FakeFlowith, caller: HTTPConnection
) -> None:
    fake.reply(error(429, "slow down", {"Retry-After": "2"}), lambda seen: web(seen.json["model"]))
    fake.reply(web("[]"), path="/models")
    refusal = call(caller, "/completion")
    assert (refusal.status, refusal.headers["retry-after"]) == (429, "2")
    assert json.load(refusal) == {"error": "slow down"}
    assert [ask(caller), ask(caller), call(caller, "/models").read()] == 2 * [b"gpt-5.5"] + [b"[]"]
    fake.reply(web("queued later"))
    assert ask(caller) == b"queued later"
    fake.reset()
    assert fake.requests == []
    assert b"demo answer" in ask(caller, "#long 9")


def test_a_request_is_recorded_whole(fake: FakeFlowith, caller: HTTPConnection) -> None:
    fake.reply(web())
    body = iter([b'{"mo', b'del": "x"}'])
    caller.request("POST", "/completion?mode=general", body, {"X-Key": "1"}, encode_chunked=True)
    caller.getresponse().read()
    seen = fake.wait_for(1)[0]
    assert (seen.method, seen.path, seen.query) == ("POST", "/completion", "mode=general")
    assert (seen.headers["x-key"], seen.json) == ("1", {"model": "x"})
    assert seen.wait_finished()
    assert seen.hung_up_at is None


def test_a_script_that_fails_is_raised_at_the_end() -> None:
    fake = FakeFlowith()
    fake.reply(lambda seen: web(seen.json["model"]))
    with pytest.raises(KeyError, match="model"), fake:
        assert raw_exchange(fake, b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}") == b""


def test_it_goes_away_and_comes_back_on_the_same_port(
    fake: FakeFlowith, caller: HTTPConnection
) -> None:
    fake.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(caller)
    caller.close()
    fake.start()
    assert json.load(call(caller, "/external/use/knowledge-base/models"))["count"] == 6


@pytest.mark.parametrize(
    ("path", "streamed"),
    [
        ("/completion", r"<think>\n.+\n\n</think>\nThis.+"),
        ("/external/use/llm", r'data: \{.+"reasoning_content".+data: \[DONE\]\n\n'),
        ("/external/use/knowledge-base/seek", r'data: \{"tag": "final".+"\[DONE\]"\}\n\n'),
    ],
)
def test_the_demo_speaks_each_dialect(caller: HTTPConnection, path: str, streamed: str) -> None:
    wish = {"text": "#long 70", "path": path, "model": "deepseek-reasoner"}
    assert re.fullmatch(streamed, ask(caller, **wish).decode(), re.DOTALL)
    whole = ask(caller, **wish, stream=False).decode()
    assert "You asked deepseek-reasoner: “#long 70”" in whole
    assert "data:" not in whole


def test_the_demo_makes_trouble_on_demand(caller: HTTPConnection) -> None:
    assert ask(caller, "#empty") == b""
    assert len(ask(caller, "#long 3000").split()) == 3000
    assert b"told to fail" in ask(caller, "#error 402")
    quoted = ask(caller, "Hello").decode()
    assert "#error" in quoted
    assert b"demo answer" in ask(caller, f"A title for this, please: {quoted}")
    with pytest.raises(IncompleteRead):
        ask(caller, "#cut #long 10")


def test_the_demo_knows_its_paths_and_no_other(caller: HTTPConnection) -> None:
    assert "title" in json.load(call(caller, "/models?logo=1&desc=1"))["gpt-5.5"]
    assert json.load(call(caller, "/user/credits"))[0]["remain_quota"] == 900
    missing = call(caller, "/elsewhere")
    assert (missing.status, json.load(missing)) == (404, {"error": "Not Found"})


def test_the_demo_stores_a_file_under_its_digest(fake: FakeFlowith, caller: HTTPConnection) -> None:
    content = b"\r\n--almost\x00\xff\r\n"
    body = (
        b'--b\r\nContent-Disposition: form-data; name="type"\r\n\r\npng\r\n--b\r\nContent-Disposi'
        b'tion: form-data; name="file"; filename="a.png"\r\n\r\n' + content + b"\r\n--b--\r\n"
    )
    caller.request("POST", "/file/store", body, {"Content-Type": "multipart/form-data; boundary=b"})
    url = f"https://files.example/f/{hashlib.sha256(content).hexdigest()}.png"
    assert json.load(caller.getresponse()) == {"url": url}
    assert fake.files == {url: content}


def test_a_refresh_token_is_good_once_and_what_it_gives_is_accepted(
    fake: FakeFlowith, caller: HTTPConnection
) -> None:
    fake.require_auth = {"Bearer old"}

    def refresh(token: str) -> Any:
        path = "/auth/v1/token?grant_type=refresh_token"
        return json.load(call(caller, path, {"refresh_token": token}))

    def credit_status(token: str) -> int:
        answer = call(caller, "/user/credits", Authorization=token)
        answer.read()
        return answer.status

    renewed = refresh("first")
    assert refresh("first")["msg"] == "Invalid Refresh Token: Already Used"
    assert refresh(renewed["refresh_token"])["refresh_token"] != renewed["refresh_token"]
    tokens = ["Bearer old", renewed["access_token"], f"Bearer {renewed['access_token']}", "other"]
    assert [credit_status(token) for token in tokens] == [200, 200, 200, 401]
    fake.require_auth = "bare"
    assert [credit_status(token) for token in ("", "Bearer x", "x")] == [401, 401, 200]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_on_its_own_it_prints_its_url_and_ends_well(number: signal.Signals) -> None:
    command = [sys.executable, stand_in.__file__, "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as caller:
            assert ask(caller, "#empty") == b""
            process.send_signal(number)
            assert process.wait(5) == 0


def test_on_its_own_it_ends_with_its_parent() -> None:
    command = [sys.executable, stand_in.__file__, "--with-parent"]
    parent = f"from subprocess import *; print(Popen({command}, stdout=PIPE).stdout.readline())"
    with subprocess.Popen([sys.executable, "-c", parent], stderr=subprocess.PIPE) as process:
        # It holds the same stderr, so the pipe ends when both have ended.
        assert process.communicate(timeout=5)[1] is not None
