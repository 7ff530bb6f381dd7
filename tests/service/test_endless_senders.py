"""Who sends as fast as it is taken in, without end: nobody else has to wait for that.

Under gevent only a wait lets others run, and a socket that always has bytes is never waited for.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection

import pytest
from conftest import KEY, Server

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
WITH_KEY = HEAD + b"Authorization: Bearer " + KEY.encode() + b"\r\n"
CHUNK = b"100000\r\n" + b"x" * 1_048_576 + b"\r\n"
IN_CHUNKS, VERY_LONG = b"Transfer-Encoding: chunked\r\n\r\n", b"Content-Length: 1000000000\r\n\r\n"
# what comes first, and what comes again and again
ENDLESS = {
    "a body without a key": (HEAD + IN_CHUNKS, CHUNK),
    "a body in chunks": (WITH_KEY + IN_CHUNKS, CHUNK),
    "a body with a length": (WITH_KEY + VERY_LONG, CHUNK),
    "requests without a key": (b"", (HEAD + b"Content-Length: 2\r\n\r\n{}") * 1000),
    "requests": (b"", (WITH_KEY + b"Content-Length: 2\r\n\r\n{}") * 1000),
    "requests for health": (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 1000),
}


class Sender:
    """Sends until `over` or until the service ends the connection, and reads what comes back."""

    def __init__(self, server: Server, first: bytes, again: bytes) -> None:
        self.over = threading.Event()
        self.sent = 0  # bytes
        self._first, self._again = first, again
        self._sock = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self._threads = [threading.Thread(target=work) for work in (self._send, self._read)]

    def __enter__(self) -> "Sender":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *wrong: object) -> None:
        self.over.set()
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._sock.close()

    def _send(self) -> None:
        with suppress(OSError):
            self._sock.sendall(self._first)
            while not self.over.is_set():
                self._sock.sendall(self._again)
                self.sent += len(self._again)
        self.over.set()

    def _read(self) -> None:
        with suppress(OSError):
            while self._sock.recv(1_048_576):
                pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("endless") / "log"
    server = Server(log, {"FLOWITH_API_URL": "http://127.0.0.1:9", "LOG_LEVEL": "debug"})
    yield server
    server.stop()


@pytest.mark.parametrize("kind", ENDLESS)
def test_who_sends_without_end_holds_nobody_up(server: Server, kind: str) -> None:
    with Sender(server, *ENDLESS[kind]) as sender:
        while not sender.sent:
            assert not sender.over.wait(0.01)
        for _ in range(3):
            connection = HTTPConnection("127.0.0.1", server.port, timeout=8)
            connection.request("GET", "/health")
            assert connection.getresponse().status == 200
            connection.close()


def test_requests_in_a_row_take_turns_with_others(server: Server) -> None:
    """One batch fits into one read, so that no wait for more bytes lets the other one in."""
    line = "GET /health HTTP/1.1\r\nHost: x\r\nX-Request-ID: {}-{}\r\n\r\n"
    batches = ["".join(line.format(name, i) for i in range(100)).encode() for name in ("a", "b")]
    with ExitStack() as stack:
        address = "127.0.0.1", server.port
        socks = [
            stack.enter_context(socket.create_connection(address, timeout=30)) for _ in batches
        ]
        for sock, batch in zip(socks, batches, strict=True):
            sock.sendall(batch)
        server.wait_for_log("a-99")
        server.wait_for_log("b-99")
    assert server.log().index("b-0") < server.log().index("a-99")
