"""What callers get when things go wrong: fault x dialect x mode, over real sockets.

Each row also asserts that every connection and descriptor is given back. docs/reliability.md says
which promise each test keeps.
"""

import gzip
import json
import os
import resource
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from typing import Any

import pytest
from conftest import HELLO, KEY, Serve, Server, chunks, deltas
from fake_flowith import (
    CUT,
    DROP,
    HANG,
    FakeFlowith,
    Raw,
    Reply,
    Script,
    Wait,
    error,
    knowledge,
    llm,
    web,
)

from flowith.client import SPARE_FILES, fitting

KINDS = {"web": web, "llm": llm, "knowledge": knowledge}
OK_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
SETTINGS = {"RETRY_ATTEMPTS": "2", "RETRY_SECONDS": "5", "HOLD": "3"}
# only where a time has to run out: on a busy machine other faults must not, nor other times
HASTY = {"FIRST_TOKEN_TIMEOUT": "0.5"}
HASTY_ONCE_BEGUN = {"IDLE_TIMEOUT": "0.5", "TOTAL_TIMEOUT": "1.5"}


@dataclass
class Fault:
    """What goes wrong, what the caller gets, and how many calls Flowith sees.

    `begun`: after the first word, so that a stream tells the error inside and nothing is retried.
    """

    reply: Any
    status: int
    code: str
    calls: int = 2
    begun: bool = False
    only: tuple[str, ...] = ("web", "llm", "knowledge")


def spoken(*pieces: Any, **options: Any) -> Any:
    return lambda kind: KINDS[kind](*pieces, **options)


def same(reply: Script) -> Any:
    return lambda kind: reply


UNFINISHED: dict[str, Any] = {"llm": {"done": False, "finish": None}, "knowledge": {"done": None}}
FAULTS = {
    "reset before headers": Fault(same(Raw([DROP])), 502, "upstream_cut"),
    "closed before headers": Fault(same(Raw([])), 502, "upstream_cut"),
    "not http": Fault(same(Raw([b"SSH-2.0-x\r\n"])), 502, "upstream_cut"),
    "endless headers": Fault(
        same(Raw([OK_HEAD + b"X-A: b\r\n" * 400, CUT])), 502, "upstream_cut"
    ),
    "an endless header line": Fault(
        same(Raw([OK_HEAD + b"X-A: " + b"b" * 200_000, CUT])), 502, "upstream_cut"
    ),
    "no chunk size": Fault(same(Raw([OK_HEAD + b"\r\nzz\r\n", CUT])), 502, "upstream_cut"),
    "server error": Fault(same(error(500)), 502, "upstream_error"),
    "unavailable, as html": Fault(same(error(503, html=True)), 502, "upstream_error"),
    "rejected": Fault(same(error(400)), 400, "", calls=1),
    "not found": Fault(same(error(404)), 424, "upstream_not_found", calls=1),
    "redirected": Fault(
        same(Reply(302, {"Location": "http://127.0.0.1:9/"})), 424, "upstream_not_found", calls=1
    ),
    "empty": Fault(spoken(), 502, "empty_response"),
    "nothing but white space": Fault(spoken(" \n", "\n"), 502, "empty_response"),
    "a web page": Fault(
        same(Reply(200, {"Content-Type": "text/html"}, [b"<!DOCTYPE html><p>Log in"])),
        502, "upstream_error",
    ),
    "a page about the words": Fault(
        same(error(403, html=True)), 400, "content_policy_violation", calls=1
    ),
    "no credits": Fault(same(error(402)), 402, "insufficient_quota", calls=1),
    "a model that is not allowed": Fault(same(error(403)), 424, "upstream_auth_error"),
    "a part of an answer": Fault(spoken("half", status=206), 502, "upstream_error"),
    "no content": Fault(same(Raw([b"HTTP/1.1 204 No Content\r\n\r\n"])), 502, "upstream_error"),
    "length and chunks": Fault(
        same(Raw([OK_HEAD + b"Content-Length: 3\r\n\r\n0\r\n\r\n"])), 502, "upstream_cut"
    ),
    "an encoding nobody asked for": Fault(
        spoken("half", headers={"Content-Encoding": "br"}), 502, "upstream_error"
    ),
    "a refusal whose body does not end": Fault(
        same(Reply(402, steps=[b'{"error": "no', HANG])), 402, "insufficient_quota", calls=1
    ),
    "a refusal whose body drips": Fault(
        same(Reply(402, steps=[b"x", 0.2] * 100)), 402, "insufficient_quota", calls=1
    ),
    "a flood of hints": Fault(
        same(Raw([b"HTTP/1.1 103 Hint\r\nLink: x\r\n\r\n" * 20_000, HANG])), 502, "upstream_cut"
    ),
    "silent before headers": Fault(spoken("x", delay=HANG), 504, "timeout"),
    "silent after headers": Fault(spoken(HANG), 504, "timeout"),
    "reset in the answer": Fault(spoken("half", 0.05, DROP), 502, "upstream_cut", 1, begun=True),
    "closed in the answer": Fault(spoken("half", 0.05, CUT), 502, "upstream_cut", 1, begun=True),
    "short of its length": Fault(
        spoken("half", 0.05, CUT, framing="length"), 502, "upstream_cut", 1, begun=True
    ),
    "silent in the answer": Fault(spoken("half", HANG), 504, "timeout", 1, begun=True),
    "too slow in all": Fault(spoken(*["half", 0.2] * 20), 504, "timeout", 1, begun=True),
    "an error in the answer": Fault(
        spoken("half", 0.05, b'data: {"error": {"message": "no"}}\n\n'),
        502, "upstream_error", 1, begun=True, only=("llm", "knowledge"),
    ),
    "an endless line": Fault(
        spoken("half", 0.05, *[b"x" * 500_000] * 12),
        502, "upstream_error", 1, begun=True, only=("llm", "knowledge"),
    ),
    "no end of the answer": Fault(
        lambda kind: KINDS[kind]("half", **UNFINISHED[kind]),
        502, "upstream_cut", 1, begun=True, only=("llm",),
    ),
}  # fmt: skip


def environ_for(fault: Fault, kind: str) -> dict[str, str]:
    common = {"FLOWITH_API": kind, **SETTINGS}
    if fault.code != "timeout":
        return common
    return common | (HASTY_ONCE_BEGUN if fault.begun else HASTY)


# those together that share a service: a run in several processes starts few of them twice
ROWS = sorted(
    ((name, kind) for name, fault in FAULTS.items() for kind in fault.only),
    key=lambda row: str(environ_for(FAULTS[row[0]], row[1])),
)


def workers(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(w) for w in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def sockets(pid: int) -> int:
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed while we look
            found += str(entry.readlink()).startswith("socket")
    return found


def settled(server: Server, before: int) -> bool:
    """Whether all sockets but one kept upstream connection have been given back."""
    until = time.monotonic() + 8
    while sockets(workers(server)[0]) > before + 1:
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize(("name", "kind"), ROWS, ids=[f"{n}-{k}" for n, k in ROWS])
def test_a_fault_ends_in_one_honest_error(
    share: Serve, flowith: FakeFlowith, name: str, kind: str, stream: bool
) -> None:
    fault = FAULTS[name]
    server = share(**environ_for(fault, kind))
    flowith.reply(fault.reply(kind))
    before = sockets(workers(server)[0])
    connection, response = server.post({"stream": stream})
    body = response.read()
    connection.close()
    if fault.begun and stream:
        assert response.status == 200
        found = chunks(body)
        assert found[-1] == "[DONE]"
        assert deltas(body).startswith("half")
        assert not any(c.get("choices") and c["choices"][0]["finish_reason"] for c in found[:-1])
        wrong = found[-2]["error"]
    else:
        assert response.status == fault.status, body
        assert response.headers["Content-Type"] == "application/json"
        wrong = json.loads(body)["error"]
        assert response.headers["x-should-retry"] == "false"
    assert set(wrong) == {"message", "type", "param", "code"}
    assert (wrong["code"] or "") == fault.code
    assert "<" not in wrong["message"]
    assert len(flowith.requests) == fault.calls
    assert settled(server, before)


def test_flowith_away_and_back(serve: Serve, fake: FakeFlowith) -> None:
    server = serve(RETRY_ATTEMPTS="2")
    fake.stop()
    connection, response = server.post({})
    wrong = json.loads(response.read())["error"]
    assert (response.status, wrong["code"]) == (502, "upstream_unreachable")
    connection.close()
    fake.start()
    fake.reply(web("back"))
    connection, response = server.post({})
    assert json.loads(response.read())["choices"][0]["message"]["content"] == "back"
    connection.close()


def test_a_passing_fault_is_not_noticed(share: Serve, flowith: FakeFlowith) -> None:
    flowith.reply(error(500), web(), Raw([DROP]), web("Hello"))
    connection, response = share().post({"stream": True})
    assert deltas(response.read()) == "Hello"
    assert len(flowith.requests) == 4
    connection.close()


def test_a_kept_connection_that_died_costs_no_try(share: Serve, flowith: FakeFlowith) -> None:
    flowith.reply(web("one"), Raw([DROP]), web("two"))
    server = share(RETRY_ATTEMPTS="1")
    for said in ("one", "two"):
        connection, response = server.post({})
        assert json.loads(response.read())["choices"][0]["message"]["content"] == said
        connection.close()
    assert len({seen.connection for seen in flowith.requests}) == 2


def test_a_fresh_connection_that_dies_is_not_taken_for_a_stale_one(
    share: Serve, flowith: FakeFlowith
) -> None:
    flowith.reply(Raw([DROP]), web("two"))
    connection, response = share(RETRY_ATTEMPTS="1").post({})
    assert response.status == 502
    assert len(flowith.requests) == 1
    connection.close()


def test_cookies_of_one_answer_are_not_sent_with_the_next(
    share: Serve, flowith: FakeFlowith
) -> None:
    flowith.reply(web("x", headers={"Set-Cookie": "sid=one"}))
    server = share()
    for _ in range(2):
        connection, response = server.post({})
        assert "set-cookie" not in {name.lower() for name, _ in response.getheaders()}
        response.read()
        connection.close()
    assert ["cookie" in seen.headers for seen in flowith.requests] == [False, False]


def test_above_the_limit_of_streams_a_caller_is_told_at_once(
    serve: Serve, fake: FakeFlowith
) -> None:
    fake.reply(web("x", HANG))
    server = serve(MAX_STREAMS="3")
    held = [server.post({"stream": True}) for _ in range(3)]
    connection, response = server.post({})
    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    assert json.loads(response.read())["error"]["code"] == "overloaded"
    connection.close()
    for connection, _ in held:
        connection.close()
    fake.reply(web("room"))
    fake.wait_until(lambda: all(seen.hung_up_at for seen in fake.requests[:3]))
    connection, response = server.post({})
    assert response.status == 200
    response.read()
    connection.close()


def test_a_slow_plain_answer_is_kept_alive_with_white_space(
    share: Serve, flowith: FakeFlowith
) -> None:
    wait = Wait()
    flowith.reply(web(wait, "late"))
    server = share(KEEP_ALIVE_AFTER="0.5", HOLD="0.3", HEARTBEAT="0.3")
    connection, response = server.post({})
    assert response.read(1) == b" "
    wait.go()
    body = response.read()
    assert json.loads(body)["choices"][0]["message"]["content"] == "late"
    connection.close()


def test_a_kept_alive_answer_that_fails_is_broken_off(share: Serve, flowith: FakeFlowith) -> None:
    wait = Wait()
    flowith.reply(web("half", wait, CUT))
    server = share(KEEP_ALIVE_AFTER="0.5", HOLD="0.3", HEARTBEAT="0.3")
    connection, response = server.post({})
    assert response.status == 200
    wait.go()
    with pytest.raises((ConnectionError, IncompleteRead)):
        response.read()
    assert "broken off: upstream_cut" in server.wait_for_log("broken off")
    connection.close()


def test_a_killed_worker_takes_only_its_own_streams(serve: Serve, fake: FakeFlowith) -> None:
    killed = Wait()
    fake.reply(web("begun ", killed, "ended"))
    server = serve(WEB_CONCURRENCY="2")
    both = workers(server)
    idle = {pid: sockets(pid) for pid in both}

    def call() -> str:
        try:
            with closing(server.send({"stream": True})) as connection:
                body = connection.getresponse().read()
        except (OSError, HTTPException) as wrong:
            return type(wrong).__name__
        return "whole" if deltas(body) == "begun ended" else "cut"

    calls: list[Future[str]] = []
    with ThreadPoolExecutor(64) as pool:
        while not all(sockets(pid) >= idle[pid] + 2 for pid in both):
            assert len(calls) < 64, "one worker got them all"
            calls.append(pool.submit(call))
            fake.wait_for(len(calls), 20)
        os.kill(both[0], 9)
        killed.go()
        ends = [c.result() for c in calls]
    assert ends.count("whole") >= 1
    assert "cut" not in ends
    fake.reply(web("new"))
    connection, response = server.post({})
    assert response.status == 200
    response.read()
    connection.close()


def test_a_reload_refuses_nobody(serve: Serve, fake: FakeFlowith) -> None:
    fake.reply(web("one ", 0.3, "two"))
    server = serve()
    statuses = []
    with ThreadPoolExecutor(4) as pool:

        def call(i: int) -> int:
            time.sleep(i * 0.05)
            if i == 10:
                os.kill(server.process.pid, 1)
            connection, response = server.post({"stream": True})
            assert deltas(response.read()) == "one two"
            connection.close()
            return response.status

        statuses = list(pool.map(call, range(20)))
    assert statuses == [200] * 20
    assert "proxy: reloaded, " in server.log()


def raw_request(server: Server, *pieces: bytes | float) -> bytes:
    """Send bytes as they are, and read until the service closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        for piece in pieces:
            if isinstance(piece, float):
                time.sleep(piece)
            else:
                try:
                    sock.sendall(piece)
                except OSError:
                    break
        said = b""
        try:
            while block := sock.recv(65536):
                said += block
        except OSError:
            pass
        return said


HEAD = (
    f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    "Connection: close\r\n"
).encode()


@pytest.fixture
def plain(share: Serve) -> Server:
    return share()


def test_a_body_shorter_than_announced_is_refused(plain: Server) -> None:
    body = json.dumps({"model": "gpt-4.1", "messages": HELLO}).encode()
    with socket.create_connection(("127.0.0.1", plain.port), timeout=30) as sock:
        sock.sendall(HEAD + b"Content-Length: 500\r\n\r\n" + body)
        sock.shutdown(socket.SHUT_WR)
        said = sock.recv(65536)
    assert b" 400 " in said
    assert b"Content-Length" in said or b"broke off" in said


def test_a_chunked_body_over_the_limit_is_refused(serve: Serve) -> None:
    server = serve(MAX_BODY_MB="0.01")
    body = b"".join(b"1000\r\n" + b"x" * 4096 + b"\r\n" for _ in range(4)) + b"0\r\n\r\n"
    said = raw_request(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert b" 413 " in said.split(b"\r\n")[0]


def test_a_chunked_body_without_end_is_refused_at_the_limit(serve: Serve) -> None:
    server = serve(MAX_BODY_MB="0.01")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        sock.sendall(4 * (b"1000\r\n" + b"x" * 4096 + b"\r\n"))
        assert b" 413 " in sock.recv(65536).split(b"\r\n")[0]


def test_a_body_that_is_announced_too_large_is_refused_unread(plain: Server) -> None:
    said = raw_request(plain, HEAD + b"Content-Length: 40000000\r\n\r\n")
    assert b" 413 " in said.split(b"\r\n")[0]


TRICKS = {
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunked": b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown encoding": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "bad chunk size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "negative length": b"Content-Length: -1\r\n\r\n",
    "header bomb": b"".join(b"X-%d: y\r\n" % i for i in range(200)) + b"\r\n",
    "long header": b"X: " + b"y" * 20_000 + b"\r\n\r\n",
    "no colon": b"nonsense\r\n\r\n",
    "newline in header": b"X-Request-ID: a\nb\r\nContent-Length: 2\r\n\r\n{}",
    "nul in header": b"X-Request-ID: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("name", TRICKS)
def test_http_tricks_get_a_refusal_and_no_failure(plain: Server, name: str) -> None:
    status = raw_request(plain, HEAD + TRICKS[name])[:16].split(b" ")
    assert len(status) > 1
    assert status[1].startswith(b"4") or status[1] == b"501"
    connection, response = plain.post({"messages": []})
    assert response.status == 400
    response.read()
    connection.close()


def test_a_body_that_pauses_or_trickles_for_too_long_is_refused(serve: Serve) -> None:
    """A pause ends after BODY_TIMEOUT; a trickle without pauses after eight times as long."""
    server = serve(BODY_TIMEOUT="0.4")
    paused = raw_request(server, HEAD + b"Content-Length: 2\r\n\r\n", b"{", 1.2, b"}")
    bytes_and_waits: list[bytes | float] = [b"x", 0.1] * 60
    trickled = raw_request(server, HEAD + b"Content-Length: 60\r\n\r\n", *bytes_and_waits)
    for said in (paused, trickled):  # both would have been whole, and then said to be no question
        assert b" 400 " in said.split(b"\r\n")[0]
        assert b"too slowly" in said


def test_few_open_files_leave_room_for_fewer_answers() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (700, hard))
        wanted = (hard - SPARE_FILES) // 2 + 100
        assert fitting(10) == 10
        assert fitting(wanted) == wanted - 100
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


TRICKLE: list[bytes | float] = [b"X: y\r\n", 0.5] * 60


def test_headers_that_trickle_in_are_cut_off(plain: Server) -> None:
    started = time.monotonic()
    said = raw_request(plain, b"POST /v1/chat/completions HTTP/1.1\r\n", *TRICKLE)
    assert b"200 OK" not in said
    assert time.monotonic() - started < 25


def test_a_compressed_bomb_fills_no_memory(serve: Serve, fake: FakeFlowith) -> None:
    bomb = gzip.compress(b"a" * 200_000_000)
    fake.reply(web(bomb, headers={"Content-Encoding": "gzip"}))
    server = serve()
    connection, response = server.post({})
    assert response.status == 502
    assert "does not end" in json.loads(response.read())["error"]["message"]
    connection.close()
    peak = Path(f"/proc/{workers(server)[0]}/status").read_text().split("VmHWM:")[1].split()[0]
    assert int(peak) < 400_000
