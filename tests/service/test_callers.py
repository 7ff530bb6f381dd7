"""Callers who do not behave: who never read, leave with bytes behind, close half, or dawdle."""

import json
import re
import socket
import time
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest
from anthropic.types import ErrorResponse
from conftest import HELLO, KEY, Serve, Server
from fake_flowith import HANG, FakeFlowith, web, words
from pydantic import TypeAdapter

BIG = ["x" * 60_000] * 600  # more than all buffers on the way can hold
BEHIND = {
    "a line end": b"\r\n",
    "a request": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "nonsense": b"\x00",
}
PHASES = {
    "before headers": web("x", delay=HANG),
    "silent": web("x", HANG),
    "streaming": web(*words("x " * 400, 0.05)),
}


def request(stream: bool, behind: bytes = b"") -> bytes:
    body = json.dumps({"model": "gpt-4.1", "messages": HELLO, "stream": stream}).encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body + behind  # fmt: skip


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def running(server: Server) -> int:
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", "/health")
        found: int = json.loads(connection.getresponse().read())["running"]
        return found


def read_all(sock: socket.socket) -> bytes:
    said = b""
    while block := sock.recv(65_536):
        said += block
    return said


@pytest.mark.parametrize("kind", ["gevent", "gthread"])
def test_who_never_reads_keeps_nothing_past_the_deadline(
    serve: Serve, fake: FakeFlowith, kind: str
) -> None:
    fake.reply(web(*BIG))
    server = serve(TOTAL_TIMEOUT="3", WORKER_CLASS=kind)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(request(stream=True))
        (seen,) = fake.wait_for(1)
        assert seen.wait_hung_up(30)
        server.wait_for_log('end="broken off: timeout"', 20)
        assert running(server) == 0
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("kind", ["gevent", "gthread"])
def test_the_time_limits_of_a_body_end_with_it(serve: Serve, fake: FakeFlowith, kind: str) -> None:
    """Who takes longer than them to read the answer gets all of it, and may ask again."""
    fake.reply(web(*BIG[:100]), web("again"))
    server = serve(BODY_TIMEOUT="0.1", WORKER_CLASS=kind)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.settimeout(30)
        sock.sendall(request(stream=True))
        time.sleep(1.5)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
        said = b""
        while not said.endswith(b"0\r\n\r\n"):
            block = sock.recv(1_000_000)
            assert block, "it was cut off"
            said += block
        sock.sendall(request(stream=False))
        assert b"200 OK" in sock.recv(65_536)


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("phase", PHASES)
def test_who_leaves_is_noticed_with_bytes_behind_the_request(
    share: Serve, flowith: FakeFlowith, phase: str, behind: str
) -> None:
    flowith.reply(PHASES[phase])
    server = share(HOLD="30", HEARTBEAT="30")
    with connect(server) as sock:
        sock.sendall(request(stream=phase != "silent"))
        (seen,) = flowith.wait_for(1)
        sock.sendall(BEHIND[behind])  # not with the request: gunicorn would have read them already
        time.sleep(0.2)
        assert not seen.hung_up_at
    assert seen.wait_hung_up(10)  # FIRST_TOKEN_TIMEOUT is 150 s
    server.wait_for_log('end="caller left"')


def test_who_leaves_is_noticed_with_threads_too(serve: Serve, fake: FakeFlowith) -> None:
    fake.reply(PHASES["silent"])
    server = serve(HOLD="30", HEARTBEAT="30", WORKER_CLASS="gthread")
    with connect(server) as sock:
        sock.sendall(request(stream=False))
        (seen,) = fake.wait_for(1)
    assert seen.wait_hung_up(10)


def test_a_second_request_behind_the_first_is_answered_too(
    share: Serve, flowith: FakeFlowith
) -> None:
    flowith.reply(web("one ", 0.5, "two"))
    with connect(share()) as sock:
        sock.sendall(request(stream=False, behind=BEHIND["a request"]))
        said = b""
        while said.count(b"HTTP/1.1 200") < 2:
            block = sock.recv(65_536)
            assert block, said
            said += block
    assert b"one two" in said


@pytest.mark.parametrize("stream", [True, False])
def test_who_closes_for_sending_is_told_that_it_counts_as_leaving(
    share: Serve, flowith: FakeFlowith, stream: bool
) -> None:
    """And never gets an answer that looks whole and is not."""
    flowith.reply(web(1.0, "begun ", HANG))
    server = share(HOLD="0.2")
    with connect(server) as sock:
        sock.sendall(request(stream))
        (seen,) = flowith.wait_for(1)
        if stream:
            said = sock.recv(65_536)  # the hold is over: the head is out
            assert b"200 OK" in said
        sock.shutdown(socket.SHUT_WR)
        assert seen.wait_hung_up(10)
        rest = read_all(sock)
    if stream:
        assert not rest.endswith(b"0\r\n\r\n")  # broken off, as every client can see
    else:
        assert rest.startswith(b"HTTP/1.1 499")
        assert json.loads(rest.partition(b"\r\n\r\n")[2])["error"]["code"] == "caller_left"


def test_the_first_sign_of_life_after_a_word_comes_after_the_heartbeat(
    serve: Serve, fake: FakeFlowith
) -> None:
    fake.reply(web("first ", HANG))
    with connect(serve(HOLD="60", HEARTBEAT="0.3")) as sock:
        sock.settimeout(15)
        sock.sendall(request(stream=True))
        said = b""
        while b": ping\n" not in said:
            said += sock.recv(65_536)
        assert b"first" in said


def test_health_answers_while_a_crowd_dawdles_in_half_sent_heads(serve: Serve) -> None:
    """There are 501 places; a head may take ten seconds, and nobody is let in beyond the places."""
    server = serve(MAX_STREAMS="1")
    with ExitStack() as crowd:
        begun = time.monotonic()
        for _ in range(560):
            sock = crowd.enter_context(connect(server))
            sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
        assert running(server) == 0
        assert "Traceback" not in server.log()
        took = time.monotonic() - begun
    assert took < 9, "the dawdlers' own time was over, which proves nothing: a slow machine?"


GUNICORNS_OWN = {
    "no request": (b"nonsense\r\n\r\n", 400),
    "a version that is none": (b"GET / HTTP/7.1\r\nHost: x\r\n\r\n", 400),
    "a header without a colon": (b"GET / HTTP/1.1\r\nsecret-key\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    "too long an address": (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "too many headers": (b"GET / HTTP/1.1\r\n" + b"X: secret-key\r\n" * 200 + b"\r\n", 431),
    "too long a header": (b"GET / HTTP/1.1\r\nX: " + b"secret-key" * 4_000 + b"\r\n\r\n", 431),
    "an expectation": (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: secret-key\r\n\r\n", 417),
    "an encoding": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: br\r\n\r\n", 501),
}
BEHIND_PROXIES = (
    b"SCRIPT_NAME: /elsewhere\r\nPATH_INFO: /elsewhere\r\n",
    b"X-Forwarded-Proto: http\r\nX-Forwarded-Ssl: on\r\n",
    b"X-Forwarded-Proto: https\r\nX-Forwarded-Protocol: http\r\n",
    b"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n",
    b"Cookie: other-programs=" + b"x" * 12_000 + b"\r\n",  # on localhost browsers send them all
)


@pytest.mark.parametrize("kind", ["gevent", "gthread"])
def test_what_gunicorn_answers_by_itself_is_json_and_quotes_nothing(
    share: Serve, kind: str
) -> None:
    server = share(WORKER_CLASS=kind)
    for name, (sent, status) in GUNICORNS_OWN.items():
        with connect(server) as sock:
            sock.sendall(sent)
            head, _, body = read_all(sock).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status), name
        assert b"\r\nContent-Type: application/json\r\n" in head
        told = json.loads(body)
        error = told["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert TypeAdapter(ErrorResponse).validate_python(told).type == "error", "Anthropic's"
        assert "secret-key" not in error["message"]
        own = told["request_id"].encode()
        assert re.fullmatch(b"req_[a-z]{24}", own)
        assert b"\r\nX-Request-ID: " + own + b"\r\n" in head
        assert b"\r\nRequest-ID: " + own + b"\r\n" in head
        assert server.wait_for_log(f"{told['request_id']} refused before it was read")
    assert "secret-key" not in server.log()


def test_headers_of_proxies_and_browsers_do_no_harm(share: Serve) -> None:
    server = share()
    for headers in BEHIND_PROXIES:
        with connect(server) as sock:
            sock.sendall(
                b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + b"\r\n"
            )
            assert read_all(sock).startswith(b"HTTP/1.1 200 "), headers
