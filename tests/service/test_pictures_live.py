"""Pictures from the service as gunicorn runs it: signs of life, departures, a crowd, its memory."""

import base64
import json
import threading
from contextlib import closing
from http.client import HTTPConnection, IncompleteRead, RemoteDisconnected
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY, Serve, Server
from fake_flowith import DROP, HANG, FakeFlowith, Reply, Seen
from fake_images import drawn, lines

MAKE = "/v1/images/generations"
PNG = drawn("a cat")
MB = 1_048_576


def ndjson(*steps: Any) -> Reply:
    return Reply(headers={"Content-Type": "application/x-ndjson"}, steps=steps)


def send(server: Server, body: Any, path: str = MAKE) -> HTTPConnection:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps({"prompt": "a cat", **body}), headers)
    return connection


def ask(server: Server, **body: Any) -> tuple[int, bytes]:
    with closing(send(server, body)) as connection, connection.getresponse() as response:
        return response.status, response.read()


def test_signs_of_life_come_while_a_picture_is_made(serve: Serve, fake: FakeFlowith) -> None:
    limits = {"FIRST_TOKEN_TIMEOUT": "0.5", "IDLE_TIMEOUT": "0.5"}  # of words, not of pictures
    server = serve(HOLD="0.2", HEARTBEAT="0.1", KEEP_ALIVE_AFTER="0.3", **limits)
    fake.reply(ndjson(1.0, *lines(f"{fake.url}/f/a.png")), path="/image_gen")
    fake.reply(Reply(steps=[PNG[:50], 0.5, PNG[50:]]), path="/f/a.png")
    status, body = ask(server, stream=True)
    assert status == 200
    assert body.count(b": ping\n") >= 3
    assert b"image_generation.completed" in body
    status, body = ask(server)
    assert status == 200
    assert body.startswith(b"  ")
    assert base64.b64decode(json.loads(body)["data"][0]["b64_json"]) == PNG


def test_a_picture_that_fails_after_a_sign_of_life_breaks_off(
    serve: Serve, fake: FakeFlowith
) -> None:
    server = serve(HOLD="0.1", HEARTBEAT="0.1", KEEP_ALIVE_AFTER="0.2")
    fake.reply(ndjson(0.6, lines("x")[0], DROP))
    with pytest.raises((IncompleteRead, RemoteDisconnected, ConnectionResetError)):
        ask(server)
    server.wait_for_log("broken off: upstream_cut")


def test_a_picture_that_takes_too_long_is_given_up(serve: Serve, fake: FakeFlowith) -> None:
    server = serve(IMAGE_TIMEOUT="0.5", FIRST_TOKEN_TIMEOUT="0.1")
    fake.reply(ndjson(*lines("x")[:1], HANG))
    status, body = ask(server)
    assert (status, json.loads(body)["error"]["code"]) == (504, "timeout")
    assert len(fake.requests) == 1, "a picture that may have been made was asked for again"
    assert fake.requests[0].wait_hung_up(5)


@pytest.mark.parametrize("path", ["/image_gen", "/f/a.png"])
def test_a_caller_who_leaves_ends_what_is_under_way(
    share: Serve, flowith: FakeFlowith, path: str
) -> None:
    server = share(HEARTBEAT="30")
    if path == "/f/a.png":
        flowith.reply(ndjson(*lines(f"{flowith.url}{path}")), path="/image_gen")
    flowith.reply(Reply(steps=[PNG[:50], HANG]), path=path)
    connection = send(server, {})
    assert flowith.wait_until(lambda: any(seen.path == path for seen in flowith.requests))
    connection.close()
    assert flowith.requests[-1].wait_hung_up(5)
    server.wait_for_log('end="caller left"')


def resident(server: Server) -> float:
    """MB of memory of the service and its workers."""
    ours = str(server.process.pid)
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(
                line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line
            )
        except OSError:  # it has just ended
            continue
        if ours in (status.parent.name, fields["PPid"].strip()):
            total += int(fields["VmRSS"].split()[0])
    return total / 1024


def test_twenty_pictures_at_once_leave_nothing_behind(serve: Serve, fake: FakeFlowith) -> None:
    """Each of 4 MB, three rounds: what the first has taken has to do for the others."""
    server = serve()
    large = PNG + bytes(4 * MB)
    fake.reply(ndjson(*lines(f"{fake.url}/f/a.png")), path="/image_gen")
    fake.reply(Reply(steps=[large], framing="length"))
    seen_by = [0.0]
    for _ in range(3):
        answers: list[tuple[int, int]] = []

        def one(answers: list[tuple[int, int]] = answers) -> None:
            status, body = ask(server)
            answers.append((status, len(body)))

        crowd = [threading.Thread(target=one) for _ in range(20)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        assert {status for status, _ in answers} == {200}
        assert min(size for _, size in answers) > 4 * MB * 4 / 3
        seen_by.append(resident(server))
    assert seen_by[3] - seen_by[1] < 40, seen_by


def test_others_are_served_while_a_large_picture_is_encoded(
    share: Serve, flowith: FakeFlowith
) -> None:
    """45 MB from this machine itself, so that reading never waits."""
    server = share()
    flowith.reply(ndjson(*lines(f"{flowith.url}/f/a.png")), path="/image_gen")
    flowith.reply(Reply(steps=[PNG, *[bytes(MB)] * 45]), path="/f/a.png")
    connection = send(server, {})
    assert flowith.wait_until(lambda: any(seen.path == "/f/a.png" for seen in flowith.requests))
    file: Seen = flowith.requests[-1]
    served = 0
    while not file.wait_finished(0):
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=5)) as other:
            other.request("GET", "/health")
            assert other.getresponse().status == 200
        served += 1
    assert served > 3
    response = connection.getresponse()
    assert response.status == 200
    assert len(response.read()) > 45 * MB
    connection.close()
