"""A request as it leaves, and the head of its answer, beside what http.client makes of it."""

import http.client
import io
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowith.connection import BLOCK, MOST_HEADERS, GreedyResponse, Plain

HEADS = {
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n",
    "loud": b"HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: Chunked\r\n\r\n",
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
    "both": b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "neither": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n",
    "to close": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: Close\r\n\r\n",
    "1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n",
    "1.0, kept": b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "no reason": b"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n",
    "no headers": b"HTTP/1.1 404 Not Found\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 3\nX-A:  spaced \t\n\n",
    "announced": b"HTTP/1.1 100 Go on\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n",
    "latin-1": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-A: caf\xe9: a\r\n\r\n",
    "empty": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-A:\r\n\r\n",
}
WRONG = {
    "nothing": b"",
    "another protocol": b"SSH-2.0-x\r\n",
    "no number": b"HTTP/1.1 yes OK\r\n\r\n",
    "version 2": b"HTTP/2 200\r\n\r\n",
    "an endless line": b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 70_000 + b"\r\n\r\n",
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * (MOST_HEADERS + 1) + b"\r\n",
}

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def read(made_by: type[http.client.HTTPResponse], head: bytes) -> http.client.HTTPResponse:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(head)
        there.shutdown(socket.SHUT_WR)
        with made_by(here, method="POST") as response:
            response.begin()
            return response


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_head_is_read_as_http_client_reads_it(head: bytes) -> None:
    theirs, ours = read(http.client.HTTPResponse, head), read(GreedyResponse, head)
    for name in ("status", "version", "reason", "chunked", "length", "will_close"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert sorted(ours.headers.items()) == sorted(
        (name, value.strip()) for name, value in theirs.headers.items()
    )


@pytest.mark.parametrize("head", WRONG.values(), ids=WRONG)
def test_what_http_client_refuses_is_refused(head: bytes) -> None:
    with pytest.raises(http.client.HTTPException) as theirs:
        read(http.client.HTTPResponse, head)
    with pytest.raises(http.client.HTTPException) as ours:
        read(GreedyResponse, head)
    assert type(ours.value) is type(theirs.value)


@pytest.mark.parametrize("head", [HEADS["chunked"][:-2], HEADS["a length"][:-5]])
def test_a_head_that_breaks_off_is_not_taken_for_whole(head: bytes) -> None:
    """http.client takes it for whole: half a length would cut the answer short in silence."""
    with pytest.raises(http.client.IncompleteRead):
        read(GreedyResponse, head)


def test_early_hints_are_not_the_answer() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2
    response = read(GreedyResponse, hints + HEADS["a length"])
    assert (response.status, response.length) == (200, 12)
    assert "Link" not in response.headers


def test_a_folded_header_and_one_without_a_colon_harm_nothing() -> None:
    head = b"HTTP/1.1 200 OK\r\n stray: x\r\nX-A: one\r\n two: three\r\nnonsense\r\nX-B: b\r\n\r\n"
    assert dict(read(GreedyResponse, head).headers.items()) == {
        "X-A": "one, two: three",
        "X-B": "b",
    }


class Parts(io.RawIOBase):
    """A stream that gives one part per read, as a socket does."""

    def __init__(self, parts: list[bytes]) -> None:
        self.parts = parts

    def readable(self) -> bool:
        return True

    def readinto(self, to: Any, /) -> int:
        part = self.parts.pop(0)
        to[: len(part)] = part
        return len(part)


PIECES = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from([b"\r\n", b"5\r\nword", b"\r\n5\r\nword", b"0\r\n\r\n", b"a" * 15, b"a" * 16]),
)


@given(
    pieces=st.lists(PIECES, max_size=40),
    cuts=st.lists(st.integers(1, 400), max_size=5),
    size=st.sampled_from([b"%x\r\n", b"%X\r\n", b"%04x ;name=value\r\n", b"%x\n"]),
    end=st.sampled_from([b"0\r\n\r\n", b"0\r\nX-Trailer: a\r\nX-B: c\r\n\r\n", b"000;x\n\n"]),
)
def test_chunks_of_any_size_are_joined_however_they_arrive(
    pieces: list[bytes], cuts: list[int], size: bytes, end: bytes
) -> None:
    body = b"".join(size % len(piece) + piece + b"\r\n" for piece in pieces) + end
    ends = [0, *sorted(cuts), len(body)]
    response = read(GreedyResponse, HEADS["chunked"])
    parts = [body[start:stop] for start, stop in pairwise(ends)]
    response.fp = io.BufferedReader(Parts([part for part in parts if part]))
    blocks = []
    while block := response.read1(BLOCK):
        blocks.append(block)
    assert b"".join(blocks) == b"".join(pieces)
    assert response.isclosed()


BROKEN = {
    "no number": b"\r\nzz\r\n",
    "longer than it said": b"er\r\n4\r\nhalf\r\n",
    "a size where it ends": b"5\r\nabcde\r\n",
    "minus": b"\r\n-5\r\nabcde",
    "0x": b"\r\n0x5\r\nabcde\r\n",
    "no size": b"\r\n\r\n\r\n",
    "endless": b"\r\n5;" + b"x" * 70_000,
    "cut in a chunk": b"\r\n5\r\nab",
    "cut between": b"\r\n",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_came_before_a_body_broke_is_not_lost(pair: Pair, kind: str) -> None:
    here, there = pair
    rest, cut = BROKEN[kind], kind == "cut in a chunk"
    there.sendall(HEADS["chunked"] + b"4\r\nhalf" + rest)
    if "cut" in kind:
        there.shutdown(socket.SHUT_WR)
    here.settimeout(5)
    with GreedyResponse(here, method="POST") as response:
        response.begin()
        assert response.read1(BLOCK) == b"half" + b"ab" * cut
        with pytest.raises(http.client.IncompleteRead):
            response.read1(BLOCK)


@pytest.mark.parametrize("end", [b"0\r\n", b"0\r\nX-A: b\r\n"])
def test_a_body_is_whole_without_the_empty_line_at_its_end(pair: Pair, end: bytes) -> None:
    here, there = pair
    there.sendall(HEADS["chunked"] + b"4\r\nword\r\n" + end)
    there.shutdown(socket.SHUT_WR)
    with GreedyResponse(here, method="POST") as response:
        response.begin()
        assert response.read1(BLOCK) == b"word"
        assert response.read1(BLOCK) == b""
        assert response.isclosed()


def test_head_and_body_leave_in_one_write() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = Plain("flowith.invalid")
    with here, there:
        connection.sock = here
        connection.request("POST", "/a", body=b"{}", headers={"Host": "b", "X-C": "d"})
        assert there.recv(1000) == b"POST /a HTTP/1.1\r\nHost: b\r\nX-C: d\r\n\r\n{}"


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb"])
def test_a_header_cannot_smuggle_another(pair: Pair, value: str) -> None:
    here, there = pair
    connection = Plain("flowith.invalid")
    connection.sock = here
    with pytest.raises(ValueError, match="line break"):
        connection.request("POST", "/a", headers={"X-A": value})
    here.close()
    assert there.recv(1000) == b""


def test_a_connection_is_not_used_before_its_answer_is_read(pair: Pair) -> None:
    here, there = pair
    connection = Plain("flowith.invalid")
    connection.sock = here
    connection.request("POST", "/a")
    there.sendall(HEADS["a length"])
    response = connection.getresponse()
    with pytest.raises(http.client.CannotSendRequest):
        connection.request("POST", "/a")
    there.sendall(b"x" * 12)
    assert response.read() == b"x" * 12
    connection.request("POST", "/a")
