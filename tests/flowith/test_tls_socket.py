"""TLS from memory, over a pair of sockets whose other end is Python's own TLS socket."""

import gc
import select
import socket
import ssl
import struct
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import trustme
from urllib3.util.ssltransport import SSLTransport

from flowith.connection import _is_quiet
from flowith.tls import RECORD, TlsSocket, take_over

NAME = "flowith.invalid"
AUTHORITY = trustme.CA()
SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
AUTHORITY.issue_cert(NAME).configure_cert(SERVER)
BROKEN = b"\x17\x03\x03" + struct.pack(">H", 30) + b"x" * 30  # a record that nobody encrypted


class Counted:
    """A socket whose reads are counted, and can be made to give little."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.reads = 0
        self.most = 65_536  # bytes a read
        self.largest = 0  # write

    def recv(self, size: int) -> bytes:
        self.reads += 1
        return self._socket.recv(min(size, self.most))

    def sendall(self, data: bytes) -> None:
        self.largest = max(self.largest, len(data))
        self._socket.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that have the states of TCP; what one sends may take a moment to arrive."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        return here, listener.accept()[0]


def connect(
    ours: ssl.SSLContext,
    theirs: ssl.SSLContext = SERVER,
    name: str = NAME,
    pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair,
) -> tuple[TlsSocket, Counted, ssl.SSLSocket]:
    """Our end, the socket below it, and the other end."""
    here, there = pair()
    here.settimeout(5)
    there.settimeout(5)
    other = theirs.wrap_socket(there, server_side=True, do_handshake_on_connect=False)
    shaking = threading.Thread(target=finished, args=(other.do_handshake,))
    shaking.start()
    below = Counted(here)
    try:
        shaken = SSLTransport(below, ours, name)  # type: ignore[arg-type]
    except BaseException:
        here.close()
        other.close()
        raise
    finally:
        shaking.join()
    return take_over(shaken), below, other


def finished(work: Callable[[], object]) -> None:
    with suppress(OSError):  # what a side that is refused makes of it is not looked at
        work()


@pytest.fixture
def ends() -> Iterator[tuple[TlsSocket, Counted, ssl.SSLSocket]]:
    here, below, there = connect(trusting())
    with there:
        yield here, below, there
    here.close()


Ends = tuple[TlsSocket, Counted, ssl.SSLSocket]


def test_what_is_sent_comes_and_what_comes_is_read(ends: Ends) -> None:
    here, _, there = ends
    here.sendall(b"question")
    assert there.recv(100) == b"question"
    there.sendall(b"answer")
    assert here.recv(100_000) == b"answer"


def test_a_certificate_of_an_unknown_authority_is_refused() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(ssl.create_default_context())


def test_a_certificate_for_another_name_is_refused() -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="other\\.invalid"):
        connect(trusting(), name="other.invalid")


def test_all_records_that_have_come_are_one_read_and_one_system_call(ends: Ends) -> None:
    here, below, there = ends
    there.sendall(b"first")  # behind it are the server's session tickets
    assert here.recv(8_192) == b"first"
    for _ in range(50):
        there.sendall(b"word ")
    below.reads = 0
    assert here.recv(8_192) == b"word " * 50
    assert below.reads == 1
    assert here.is_quiet()


def test_what_came_with_the_handshake_is_read_before_the_socket_is(ends: Ends) -> None:
    """urllib3 takes all off the socket that is there, and it may be more than the handshake."""
    here, below, there = ends
    there.sendall(b"early")
    here._arrived.write(below.recv(8_192))
    below.reads = 0
    assert here.recv(8_192) == b"early"
    assert below.reads == 0


def test_a_record_that_comes_in_pieces_is_waited_for(ends: Ends) -> None:
    here, below, there = ends
    there.sendall(b"word")
    below.most = 3
    assert here.recv(8_192) == b"word"
    assert below.reads > 5


def test_a_wait_that_runs_out_loses_nothing(ends: Ends) -> None:
    """Wherever in a record it was: what has come of it is there for the next read."""
    here, below, there = ends
    there.sendall(b"first")
    assert here.recv(8_192) == b"first"
    waiting = socket.timeout
    there.sendall(b"word")
    below.most = 3
    come, tries = b"", 0
    receive = below.recv

    def now_and_then(size: int) -> bytes:
        nonlocal tries
        tries += 1
        if tries % 2:
            raise waiting("timed out")
        return receive(size)

    below.recv = now_and_then  # type: ignore[method-assign]
    while not come:
        with suppress(waiting):
            come = here.recv(8_192)
    assert come == b"word"
    assert tries > 10


def test_an_answer_of_ours_that_cannot_leave_is_a_break_and_no_wait(ends: Ends) -> None:
    """New keys that the other side asked for, say, where it takes nothing; behind its records."""
    here, below, there = ends
    there.sendall(b"word")

    def stuck(data: bytes) -> None:
        raise TimeoutError("timed out")

    below.sendall = stuck  # type: ignore[method-assign]
    here._to_send.write(b"new keys")
    assert here.recv(8_192) == b"word"
    assert not here.is_quiet()
    with pytest.raises(ConnectionResetError):
        here.recv(8_192)


def test_whole_records_do_not_wait_for_one_that_is_not_whole(ends: Ends) -> None:
    here, below, there = ends
    there.sendall(b"first")
    assert here.recv(8_192) == b"first"
    there.sendall(b"one")
    there.sendall(b"two")
    below.most = 30  # bytes: the first record and the beginning of the second
    assert here.recv(8_192) == b"one"
    assert not here.is_quiet()
    assert here.recv(8_192) == b"two"
    assert here.is_quiet()


def test_a_kept_connection_is_quiet_until_something_comes() -> None:
    here, _, there = connect(trusting(), pair=tcp_pair)
    there.sendall(b"answer")
    assert here.recv(8_192) == b"answer"
    assert _is_quiet(here)
    there.sendall(b"more")
    select.select([here], [], [], 5)
    assert not _is_quiet(here)
    assert here.recv(8_192) == b"more"
    assert _is_quiet(here)
    with socket.socket(fileno=there.detach()) as bare:
        bare.sendall(b"\x17\x03\x03\x00\x20half of a record")
        here.settimeout(0.1)
        with pytest.raises(TimeoutError):
            here.recv(8_192)  # the socket is empty now
        assert not _is_quiet(here)
    here.close()


def test_a_proper_end_is_an_end_however_often_it_is_read(ends: Ends) -> None:
    here, _, there = ends
    there.sendall(b"answer")
    there.settimeout(0)
    with pytest.raises(OSError, match="did not complete"):
        there.unwrap()  # sends close_notify, and leaves the connection open
    assert here.recv(8_192) == b"answer"
    assert here.recv(8_192) == b""
    assert here.recv(8_192) == b""
    assert not here.is_quiet()


def test_a_bare_end_is_an_error_after_what_came_before_it(ends: Ends) -> None:
    here, _, there = ends
    there.sendall(b"half an ans")
    there.shutdown(socket.SHUT_RDWR)
    assert here.recv(8_192) == b"half an ans"
    with pytest.raises(ssl.SSLEOFError):
        here.recv(8_192)


def test_a_broken_record_is_an_error_after_what_came_before_it(ends: Ends) -> None:
    here, _, there = ends
    there.sendall(b"answer")
    bare = socket.socket(fileno=there.detach())
    bare.sendall(BROKEN)
    with bare:
        assert here.recv(8_192) == b"answer"
        assert not here.is_quiet()
        with pytest.raises(ssl.SSLError):
            here.recv(8_192)


def test_a_broken_record_that_nobody_reads_keeps_nothing() -> None:
    """Behind the end of an answer, say. The frames under its error would hold the connection."""
    here, _, there = connect(trusting())
    there.sendall(b"answer")
    with socket.socket(fileno=there.detach()) as bare:
        bare.sendall(BROKEN)
        assert here.recv(8_192) == b"answer"
    here.close()
    left = weakref.ref(here)
    gc.disable()
    try:
        del here
        assert left() is None
    finally:
        gc.enable()


def test_a_long_request_leaves_in_parts_and_arrives_whole(ends: Ends) -> None:
    here, below, there = ends
    body = bytes(range(256)) * 20_000
    sending = threading.Thread(target=here.sendall, args=(body,))
    sending.start()
    came = bytearray()
    while len(came) < len(body):
        came += there.recv(65_536)
    sending.join()
    assert bytes(came) == body
    assert below.largest < 2 * RECORD


def test_a_read_that_waits_too_long_says_so_and_can_be_repeated(ends: Ends) -> None:
    here, _, there = ends
    here.settimeout(0.02)
    with pytest.raises(TimeoutError):
        here.recv(8_192)
    there.sendall(b"late")
    here.settimeout(5)
    assert here.recv(8_192) == b"late"


def test_a_read_that_somebody_else_shuts_down_is_an_error(ends: Ends) -> None:
    here, _, there = ends
    there.sendall(b"first")
    assert here.recv(8_192) == b"first"
    here.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ssl.SSLEOFError):
        here.recv(8_192)


def test_the_older_protocol_is_read_as_well() -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.maximum_version = ssl.TLSVersion.TLSv1_2
    AUTHORITY.issue_cert(NAME).configure_cert(theirs)
    here, below, there = connect(trusting(), theirs)
    with there:
        for _ in range(3):
            there.sendall(b"x" * RECORD)
        came = 0
        below.reads = 0
        while came < 3 * RECORD:
            came += len(here.recv(65_536))
        assert below.reads <= 4
    here.close()
