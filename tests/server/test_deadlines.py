"""The last moments of a call and of a body: what is cut when they come, and what no more."""

import socket
import time
from collections.abc import Iterator

import pytest

from flowith.client import Flowith
from server.call import MARGIN, Call
from server.caller import Caller
from server.log import Record
from settings import Settings

TOTAL = 60.0  # seconds
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A connection: the caller's end, and the service's."""
    theirs, ours = socket.socketpair()
    with theirs, ours:
        theirs.settimeout(10)
        yield theirs, ours


def call_over(ours: socket.socket) -> Call:
    flowith = Flowith(Settings(total_timeout=TOTAL))
    return Call(flowith, Record("r", "POST", "/"), Caller({"gunicorn.socket": ours}))


def test_a_call_whose_time_is_over_is_broken_off(ends: Ends) -> None:
    theirs, ours = ends
    call, now = call_over(ours), time.monotonic()
    call.tick(now + TOTAL)
    assert call.record.ending == ""
    call.tick(now + TOTAL + MARGIN + 1)
    assert call.record.ending == "broken off: timeout"
    assert theirs.recv(1) == b""


def test_the_connection_of_a_call_that_is_over_is_left_to_the_next_one(ends: Ends) -> None:
    """The clock may be on its way to a call that ends at this moment."""
    theirs, ours = ends
    call = call_over(ours)
    call.close()
    call.tick(time.monotonic() + 2 * TOTAL)
    assert call.record.ending == ""
    ours.sendall(b"the next answer")
    assert theirs.recv(100) == b"the next answer"
