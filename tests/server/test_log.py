"""The log: every line in the format that is set, no secrets, and one id from caller to Flowith."""

import json
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import HELLO, KEY, WEB_TOKEN, Serve, Server, chunks
from fake_flowith import CUT, FakeFlowith, error, web

SECRET = f"{KEY}-that-nobody-may-see"
BAD_REQUESTS = [
    f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization Bearer {SECRET}\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\x00\r\n\r\n",
    f"{SECRET}\r\n\r\n",
    f"GET / HTTP/{SECRET}\r\n\r\n",
    f"get:{SECRET} / HTTP/1.1\r\n\r\n",
    f"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {SECRET}\r\n\r\n",
    f"POST / HTTP/1.1\r\nHost: x\r\nExpect: {SECRET}\r\n\r\n",
]


def send_raw(server: Server, text: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(text.encode())
        while sock.recv(65536):
            pass


def children(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(w) for w in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def live_through(server: Server, fake: FakeFlowith) -> str:
    """Whatever makes gunicorn, urllib3 or the service itself say something; the whole log."""
    for text in BAD_REQUESTS:
        send_raw(server, text)
    fake.reply(error(500), web("Hi"))
    connection, response = server.post({})
    response.read()
    connection.close()
    fake.stop()
    connection, response = server.post({})
    assert response.status == 502
    connection.close()
    (worker,) = children(server)
    os.kill(worker, signal.SIGKILL)
    server.wait_for_log("SIGKILL")
    server.wait_until_up()
    (worker,) = children(server)
    server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 15
    while worker in children(server):
        assert time.monotonic() < until
        time.sleep(0.05)
    server.wait_until_up()
    assert server.stop() == 0
    return server.log()


@pytest.mark.parametrize("level", ["info", "debug"])
def test_every_line_is_json_where_json_is_asked_for(
    serve: Serve, fake: FakeFlowith, level: str
) -> None:
    server = serve(
        LOG_FORMAT="json", LOG_LEVEL=level, RETRY_ATTEMPTS="2", API_KEY=f"{KEY},{SECRET}"
    )
    log = live_through(server, fake)
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.splitlines()]
    for line in lines:
        assert {"time", "level", "logger"} < set(line), line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", line["time"])
    loggers = {line["logger"].partition(".")[0] for line in lines}
    assert loggers == {"access", "flowith", "gunicorn", "proxy", "urllib3"}
    levels = {line["level"] for line in lines}
    assert ("debug" in levels) == (level == "debug")
    said = [line["message"] for line in lines if "Invalid request" in line.get("message", "")]
    assert "Invalid request from ip=127.0.0.1: Invalid HTTP Header" in said
    assert len(said) >= len(BAD_REQUESTS) - 1
    assert SECRET not in log
    assert WEB_TOKEN not in log


def test_in_text_gunicorn_s_lines_look_like_ours(serve: Serve, fake: FakeFlowith) -> None:
    server = serve(RETRY_ATTEMPTS="2")
    log = live_through(server, fake)
    assert f" info proxy: listening on 127.0.0.1:{server.port}\n" in log
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d (debug|info|warning|error|critical) [\w.]+: .+"
    for line in log.splitlines():
        assert re.fullmatch(form, line), line
    assert SECRET not in log


def test_a_key_in_an_address_is_not_logged(serve: Serve) -> None:
    server = serve(FLOWITH_API_URL="http://me:hidden-word@127.0.0.1:9/completion")
    keys = ("sk-hidden-word", "flo_hidden-word", "eyJhidden-word.x.y", "hidden0word0" * 3)
    for key in keys:
        send_raw(server, f"GET /v1/{key}/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    log = server.wait_for_log("path=/v1/***/models")
    assert log.count("/v1/***/models") == len(keys)
    assert "hidden" not in log


def test_gunicorn_is_as_quiet_as_the_level_says(serve: Serve) -> None:
    server = serve(LOG_LEVEL="error")
    send_raw(server, BAD_REQUESTS[0])
    server.stop()
    assert server.log() == ""


def test_one_id_goes_all_the_way(share: Serve, flowith: FakeFlowith) -> None:
    server = share(RETRY_ATTEMPTS="1")
    flowith.reply(web("Hi"), error(500), web("half", 0.05, CUT))
    connection, response = server.post({}, **{"X-Request-ID": "a-callers:id.1"})
    response.read()
    connection.close()
    assert response.headers["X-Request-ID"] == "a-callers:id.1"
    assert flowith.requests[0].headers["x-request-id"] == "a-callers:id.1"
    line = server.wait_for_log("end=done")
    assert "id=a-callers:id.1 " in line
    assert " status=200 format=chat model=gpt-4.1 " in line
    connection, response = server.post({}, **{"X-Request-ID": "second"})
    assert json.loads(response.read())["error"]["message"].endswith("(request second)")
    connection.close()
    connection, response = server.post({"stream": True}, **{"X-Request-ID": "third"})
    assert chunks(response.read())[-2]["error"]["message"].endswith("(request third)")
    connection.close()
    assert "id=third " in server.wait_for_log("id=third ")


def test_without_a_sane_id_of_the_caller_s_flowith_gets_ours(
    share: Serve, flowith: FakeFlowith
) -> None:
    flowith.reply(web("Hi"))
    connection, response = share().post({"messages": HELLO}, **{"X-Request-ID": "a b; c"})
    response.read()
    connection.close()
    ours = response.headers["X-Request-ID"]
    assert re.fullmatch("req_[a-z]{24}", ours), "no digits: some agents take 502 for a status"
    assert flowith.requests[0].headers["x-request-id"] == ours
