"""A request as it leaves, and what is made of the bytes that answer it, over a pair of sockets."""

import gzip
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import ProtocolError

from flowith.connection import KEPT, Plain
from flowith.encoding import STEP, UnknownEncoding, to_reader
from flowith.http_answer import LONGEST_HEAD, MOST_HEADERS, MOST_INTERIM, HttpAnswer

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
END = b"0\r\n\r\n"

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair()
    here.settimeout(5)
    with here, there:
        yield here, there


class Kept:
    """A connection that notes whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Pieces:
    """A socket that gives one piece a read, and then its end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    def recv(self, size: int) -> bytes:
        piece = self.pieces[0][:size] if self.pieces else b""
        if self.pieces:
            self.pieces[0] = self.pieces[0][size:]
            self.pieces = [piece for piece in self.pieces if piece]
        return piece


def begun(*pieces: bytes) -> tuple[HttpAnswer, Kept]:
    connection = Kept()
    answer = HttpAnswer(connection, Pieces(list(pieces)))
    answer.begin()
    return answer, connection


def read_all(answer: HttpAnswer) -> bytes:
    body = b""
    while block := answer.read1():
        body += block
    return body


# head and body as they come; what the body is; whether the connection lives on
WHOLE: dict[str, tuple[bytes, bytes, bool]] = {
    "chunked": (CHUNKED + b"4\r\nword\r\n" + END, b"word", True),
    "loud": (OK + b"TRANSFER-ENCODING: Chunked\r\n\r\n1\r\nx\r\n" + END, b"x", True),
    "extensions and trailers": (
        CHUNKED + b"4;a=b\r\nword\r\n0;c\r\nX-T: a\r\n\r\n", b"word", True),
    "a length": (OK + b"Content-Length: 4\r\n\r\nword", b"word", True),
    "nothing": (OK + b"Content-Length: 0\r\n\r\n", b"", True),
    "to close": (OK + b"Content-Length: 1\r\nConnection: Close\r\n\r\nx", b"x", False),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x", False),
    "1.0, kept": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx", b"x", True),
    "neither": (OK + b"\r\nword", b"word", False),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "no reason": (b"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n", b"", True),
    "hints": (INTERIM * MOST_INTERIM + OK + b"Content-Length: 1\r\n\r\nx", b"x", True),
    "behind its last chunk": (CHUNKED + b"1\r\nx\r\n" + END + b"more", b"x", False),
    "another answer behind it": (
        CHUNKED + b"1\r\nx\r\n" + END + OK + b"Content-Length: 1\r\n\r\ny", b"x", False),
    "a body where there is none": (b"HTTP/1.1 204 No Content\r\n\r\nx", b"", False),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer_and_its_connection(name: str) -> None:
    wire, body, lives = WHOLE[name]
    answer, connection = begun(wire)
    assert read_all(answer) == body
    assert answer.isclosed()
    assert connection.closed is not lives
    if name in ("behind its last chunk", "another answer behind it", "a body where there is none"):
        return  # what comes later is seen before the connection is used again
    answer, connection = begun(*(wire[i : i + 1] for i in range(len(wire))))
    assert read_all(answer) == body
    assert connection.closed is not lives


BROKEN_HEADS = {
    "another protocol": b"SSH-2.0-x\r\n\r\n",
    "no number": b"HTTP/1.1 yes OK\r\n\r\n",
    "version 2": b"HTTP/2 200\r\n\r\n",
    "version 0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "two lengths": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "length and chunks": OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "chunks and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + END,
    "chunks of something": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END,
    "chunks in something": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + END,
    "no chunks": OK + b"Transfer-Encoding: identity\r\n\r\nx",
    "a length that is none": OK + b"Content-Length: many\r\n\r\nx",
    "a negative length": OK + b"Content-Length: -1\r\n\r\nx",
    "a length without end": OK + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nx",
    "no colon": OK + b"nonsense\r\n\r\n",
    "a NUL": OK + b"X-A: a\0b\r\n\r\n",
    "a length that breaks off": OK + b"Content-Length: 1",
    "a line that breaks off": CHUNKED[:-2],
    "nothing behind a hint": INTERIM,
    "a flood of hints": INTERIM * (MOST_INTERIM + 1) + CHUNKED,
    "a flood of headers": OK + b"X-A: b\r\n" * (MOST_HEADERS + 1) + b"\r\n",
    "an endless line": OK + b"X-A: " + b"b" * LONGEST_HEAD + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN_HEADS)
def test_a_head_that_makes_no_sense_is_an_error(name: str) -> None:
    wire = BROKEN_HEADS[name]
    for pieces in ([wire], [wire[i : i + 7] for i in range(0, len(wire), 7)]):
        with pytest.raises(ProtocolError):
            begun(*pieces)


def test_an_answer_of_which_nothing_came_is_told_apart() -> None:
    """Only then a request may be sent again."""
    answer = HttpAnswer(Kept(), Pieces([]))
    with pytest.raises(ConnectionResetError):
        answer.begin()
    assert not answer.heard


def test_each_head_has_its_own_bound() -> None:
    """Hints of a size that is allowed do not add up to an error."""
    hint = b"HTTP/1.1 103 Hint\r\n" + b"X-A: b\r\n" * (MOST_HEADERS - 1) + b"\r\n"
    answer, _ = begun(hint * MOST_INTERIM + OK + b"X-B: c\r\nContent-Length: 0\r\n\r\n")
    assert dict(answer.headers) == {"X-B": "c", "Content-Length": "0"}


def test_headers_keep_their_values() -> None:
    answer, _ = begun(
        OK + b"X-A:  spaced \t\r\nX-B: caf\xe9: a\r\nX-C:\r\nX-D: 1\r\nX-D: 2\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    found = [answer.headers[name] for name in ("x-a", "x-b", "x-c", "x-d")]
    assert found == ["spaced", "café: a", "", "1, 2"]


# what comes of the body, what of it is given before the error
BROKEN_BODIES: dict[str, tuple[bytes, bytes]] = {
    "cut in a chunk": (CHUNKED + b"4\r\nhalf\r\n5\r\nab", b"halfab"),
    "cut between chunks": (CHUNKED + b"4\r\nhalf\r\n", b"half"),
    "cut before its last line": (CHUNKED + b"4\r\nhalf\r\n0\r\n", b"half"),
    "cut in a trailer": (CHUNKED + b"4\r\nhalf\r\n0\r\nX-T: a\r\n", b"half"),
    "no number": (CHUNKED + b"4\r\nhalf\r\nzz\r\n", b"half"),
    "a chunk longer than it said": (CHUNKED + b"4\r\nhalfer\r\n", b"half"),
    "a size below zero": (CHUNKED + b"4\r\nhalf\r\n-5\r\nabcde", b"half"),
    "a size in another form": (CHUNKED + b"4\r\nhalf\r\n0x5\r\nabcde", b"half"),
    "no size": (CHUNKED + b"4\r\nhalf\r\n\r\n\r\n", b"half"),
    "an endless extension": (CHUNKED + b"4\r\nhalf\r\n5;" + b"x" * (LONGEST_HEAD + 9000), b"half"),
    "endless trailers": (CHUNKED + b"4\r\nhalf\r\n0\r\n" + b"X-T: a\r\n" * 10_000, b"half"),
    "short of its length": (OK + b"Content-Length: 5\r\n\r\nhalf", b"half"),
    "longer than its length": (OK + b"Content-Length: 4\r\n\r\nhalfer", b"half"),
    "a line end too long": (OK + b"Content-Length: 4\r\n\r\nhalf\r\n", b"half"),
}


@pytest.mark.parametrize("name", BROKEN_BODIES)
def test_what_came_before_a_body_broke_is_not_lost(name: str) -> None:
    wire, given_before = BROKEN_BODIES[name]
    answer, connection = begun(wire)
    body = b""
    with pytest.raises(ProtocolError):  # noqa: PT012 - the blocks before it count
        while block := answer.read1():
            body += block
    assert body == given_before
    assert connection.closed


@pytest.mark.parametrize("flood", [b"5;" + b"x" * 6000, b"0\r\nX-T: a\r\n" + b"b: c\r\n" * 1000])
def test_framing_without_end_is_an_error(flood: bytes) -> None:
    """Neither an extension of a chunk nor trailers may go on for ever."""
    answer, connection = begun(CHUNKED + flood, *[flood[-6:] * 1000] * 50)
    with pytest.raises(ProtocolError, match="framing"):
        answer.read1()
    assert connection.closed


PIECES = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from([b"\r\n", b"5\r\nword", b"\r\n5\r\nword", b"0\r\n\r\n", b"a" * 15, b"a" * 16]),
)


@given(
    pieces=st.lists(PIECES, max_size=40),
    cuts=st.lists(st.integers(1, 400), max_size=5),
    size=st.sampled_from([b"%x\r\n", b"%X\r\n", b"%04x;name=value\r\n"]),
    end=st.sampled_from([END, b"0\r\nX-Trailer: a\r\nX-B: c\r\n\r\n", b"000;x\r\n\r\n"]),
)
def test_chunks_of_any_size_are_joined_however_they_arrive(
    pieces: list[bytes], cuts: list[int], size: bytes, end: bytes
) -> None:
    wire = CHUNKED + b"".join(size % len(p) + p + b"\r\n" for p in pieces) + end
    ends = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    answer, connection = begun(*(wire[start:stop] for start, stop in pairwise(ends)))
    assert read_all(answer) == b"".join(pieces)
    assert not connection.closed


def reader_of(body: bytes, size: int, encoding: str) -> Callable[[], bytes]:
    blocks = iter([body[i : i + size] for i in range(0, len(body), size)])
    return to_reader(encoding, lambda: next(blocks, b""))


TEXT = b"word " * 50_000


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("X-GZIP", gzip.compress(TEXT[:100_000]) + gzip.compress(TEXT[100_000:])),
        ("deflate", zlib.compress(TEXT)),
        ("identity", TEXT),
        ("", TEXT),
    ],
)
def test_an_encoded_body_is_decoded_in_bounded_steps(encoding: str, body: bytes, size: int) -> None:
    read = reader_of(body, max(size, len(body) // 500), encoding)
    blocks = list(iter(read, b""))
    assert b"".join(blocks) == TEXT
    assert max(map(len, blocks)) <= max(STEP, size)


BROKEN_CODES = {
    "cut in the middle": gzip.compress(TEXT)[:-200],
    "cut in the checksum": gzip.compress(TEXT)[:-1],
    "cut in a second part": gzip.compress(TEXT) + gzip.compress(TEXT)[:5],
    "not encoded": TEXT,
    "rubbish behind it": gzip.compress(TEXT) + b"rubbish",
    "a wrong checksum": gzip.compress(TEXT)[:-8] + b"\0" * 8,
}


@pytest.mark.parametrize("name", BROKEN_CODES)
def test_an_encoded_body_that_is_not_whole_is_an_error(name: str) -> None:
    read = reader_of(BROKEN_CODES[name], 1000, "gzip")
    with pytest.raises(ProtocolError):
        list(iter(read, b""))


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip, br", "x"])
def test_an_encoding_that_is_not_known_is_an_error(encoding: str) -> None:
    with pytest.raises(UnknownEncoding):
        to_reader(encoding, lambda: b"")


def test_head_and_body_leave_in_one_write() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = Plain("flowith.invalid")
    with here, there:
        connection.sock = here
        connection.request("POST", "/a", body=b"{}", headers={"Host": "b", "X-C": "d"})
        assert there.recv(1000) == b"POST /a HTTP/1.1\r\nHost: b\r\nX-C: d\r\n\r\n{}"


def test_a_long_body_is_not_copied_to_be_sent() -> None:
    sent: list[bytes] = []

    class Takes:
        def settimeout(self, seconds: float | None) -> None: ...
        def sendall(self, data: bytes) -> None:
            sent.append(data)

    connection = Plain("flowith.invalid")
    connection.sock = Takes()
    body = b"x" * 1_000_000
    connection.request("POST", "/a", body=body, headers={"Host": "b"})
    assert sent[0] == b"POST /a HTTP/1.1\r\nHost: b\r\n\r\n"
    assert sent[1] is body
    connection.sock = None


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
    there.sendall(OK + b"Content-Length: 12\r\n\r\n")
    response = connection.getresponse()
    with pytest.raises(ProtocolError):
        connection.request("POST", "/a")
    there.sendall(b"x" * 12)
    assert response.read1() == b"x" * 12
    connection.request("POST", "/a")


def test_a_kept_connection_idles_from_the_end_of_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer may take minutes: the connection is as good behind it as behind a short one."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    connection = Plain("flowith.invalid")
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection.sock = socket.create_connection(server.getsockname())
        there = server.accept()[0]
    with there:
        connection.request("POST", "/a")
        there.sendall(OK + b"Content-Length: 1\r\n\r\n")
        response = connection.getresponse()
        now += 10 * KEPT
        there.sendall(b"x")
        assert (response.read1(), response.read1()) == (b"x", b"")
        now += KEPT
        kept = [connection.is_connected]
        now += 1
        kept.append(connection.is_connected)
        connection.close()
    assert kept == [True, False]
