"""One answer read where it arrives: waits that run out, a reader that is stopped in each phase, and
what becomes of the connection."""

import errno
import gc
import gzip
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from clock import Clock
from errors import UpstreamCut, UpstreamError
from flowith.connection import Exchange
from flowith.crew import Crew, Signal, sleep_until
from flowith.http_answer import HttpAnswer
from flowith.reader import BEAT, Reader
from flowith.transport import Transport

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
SOME = HEAD + b"\r\n5\r\nwords\r\n"
BARE = b"HTTP/1.1 200 OK\r\n\r\nwords"  # with no end but the connection's
WORDS = "words \u4f60\u597d and more".encode()
MOMENT = 0.02  # seconds; a wait that is meant to run out
LONG = 20.0  # one that is not


class Far:
    """A server whose latest connection the test holds in its hands."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._accepted: list[socket.socket] = []
        self.caller: socket.socket | None = None

    @property
    def connections(self) -> int:
        return len(self._accepted)

    def accept(self) -> socket.socket:
        """The next connection."""
        self._listener.settimeout(LONG)
        self.caller, _ = self._listener.accept()
        self._accepted.append(self.caller)
        self.caller.settimeout(LONG)
        return self.caller

    def hear(self) -> None:
        """One request."""
        assert self.caller is not None
        heard = b""
        while not heard.endswith(b"{}"):
            part = self.caller.recv(65_536)
            assert part
            heard = heard[-2:] + part

    def say(self, data: bytes) -> None:
        assert self.caller is not None
        self.caller.sendall(data)

    def is_left(self) -> bool:
        """Whether our side has closed, within a while."""
        assert self.caller is not None
        with suppress(ConnectionResetError):
            while self.caller.recv(65_536):
                pass
        return True

    def close(self) -> None:
        self._listener.close()
        for caller in self._accepted:
            caller.close()


@pytest.fixture
def far() -> Iterator[Far]:
    server = Far()
    yield server
    server.close()


class Ways:
    """Readers of what one server says, over connections that are kept."""

    def __init__(self, url: str, transport: Transport) -> None:
        self._url, self.transport = url, transport
        self.clock, self.crew, self.signal = Clock(), Crew(), Signal()
        self._begun: list[Reader] = []
        self.clock.add(self)

    def begin(self) -> Reader:
        return self.begin_with(lambda exchange: self.transport.post(self._url, {}, b"{}", exchange))

    def begin_with(self, send: Callable[[Exchange], requests.Response]) -> Reader:
        self._begun.append(Reader(send, self._url, self.crew, self.signal))
        return self._begun[-1]

    def tick(self, now: float) -> None:
        """Called by the clock."""
        if now >= self.signal.wake_at:
            self.signal.wake()

    def close(self) -> None:
        self.clock.drop(self)
        for reader in self._begun:
            wait_until_cleared(reader)


@pytest.fixture
def ways(far: Far) -> Iterator[Ways]:
    with closing(Transport(5, 4)) as transport:
        ways = Ways(far.url, transport)
        yield ways
        ways.close()


def read(reader: Reader, seconds: float = LONG) -> bytes:
    return reader.read(time.monotonic() + seconds)


def next_words(reader: Reader) -> bytes:
    """What comes next, whatever wakes there are before it: one may be left of an earlier answer."""
    words, until = b"", time.monotonic() + LONG
    while not words and not reader.finished:
        assert time.monotonic() < until
        words = read(reader)
    return words


def begin_to_read(reader: Reader) -> None:
    """Let the head come."""
    while reader._busy:
        time.sleep(0.001)


def read_some(far: Far, ways: Ways) -> Reader:
    """A reader in the middle of a body."""
    reader = ways.begin()
    far.accept()
    far.hear()
    far.say(SOME)
    assert next_words(reader) == b"words"
    return reader


def wait_until_cleared(reader: Reader) -> None:
    until = time.monotonic() + LONG
    while reader._busy or reader._exchange.response is not None:
        assert time.monotonic() < until
        time.sleep(0.001)


def framed(body: bytes, size: int = 7) -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_wait_that_runs_out_loses_nothing(far: Far, ways: Ways, encoding: str) -> None:
    """Wherever the bytes stop for a while: in a chunk's size, its words, a character, the end."""
    reader = ways.begin()
    far.accept()
    far.hear()
    far.say(HEAD + (b"Content-Encoding: gzip\r\n\r\n" if encoding else b"\r\n"))
    begin_to_read(reader)
    came = b""
    for byte in framed(gzip.compress(WORDS) if encoding else WORDS):
        assert read(reader, 0.001) == b""
        assert not reader.finished
        far.say(bytes([byte]))
        came += read(reader, MOMENT)
    assert came + read(reader) == WORDS
    assert read(reader) == b""
    assert reader.finished
    reader.close(finished=True)


def test_no_more_threads_wait_for_work_than_are_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowith.crew.SPARE", 2)
    crew, at_work, until = Crew(), threading.Barrier(6), time.monotonic() + LONG
    threads: list[int] = []

    def work() -> None:
        threads.append(threading.get_native_id())
        at_work.wait(LONG)

    for _ in range(5):
        crew.do(work)
    at_work.wait(LONG)
    assert len(set(threads)) == 5
    while sum(Path(f"/proc/self/task/{thread}").exists() for thread in threads) > 2:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_wait_for_the_head_ends_when_it_is_woken(far: Far, ways: Ways) -> None:
    reader = ways.begin()
    far.accept()
    threading.Timer(MOMENT, ways.signal.wake).start()
    assert read(reader) == b""
    assert not reader.finished
    reader.close(finished=False)
    assert far.is_left()


def test_the_head_wakes_whoever_waits(far: Far, ways: Ways) -> None:
    reader = ways.begin()
    far.accept()
    far.hear()
    begun = time.monotonic()
    threading.Timer(MOMENT, far.say, [HEAD + b"\r\n" + framed(WORDS)]).start()
    assert read(reader) == WORDS
    assert time.monotonic() - begun < LONG / 2
    reader.close(finished=True)


@pytest.mark.parametrize(
    "phase", ["connecting", "before the head", "in the body", "in a bare body"]
)
def test_cancelling_ends_a_read_in_every_phase(far: Far, ways: Ways, phase: str) -> None:
    """The first read then gives nothing, so that whoever cancelled can say why."""
    entered = threading.Event()

    def hang(exchange: Exchange) -> requests.Response:
        entered.set()
        while not exchange.cancelled:
            time.sleep(0.001)
        raise OSError("cancelled")

    if phase == "connecting":
        reader = ways.begin_with(hang)
        assert entered.wait(LONG)
    else:
        reader = ways.begin()
        far.accept()
        if "body" in phase:
            far.say(BARE if phase == "in a bare body" else SOME)
            assert next_words(reader) == b"words"

    def stop() -> None:
        reader.cancel()
        ways.signal.wake()

    begun = time.monotonic()
    threading.Timer(MOMENT, stop).start()
    assert read(reader) == b""
    while reader._busy:  # the thread that sends needs a moment to see it
        read(reader)
    with pytest.raises(UpstreamCut):
        read(reader)
    assert time.monotonic() - begun < LONG / 2
    assert not reader.finished
    reader.close(finished=False)
    assert phase == "connecting" or far.is_left()


def test_who_is_cancelled_while_connecting_sends_nothing(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, resolve = Exchange(), socket.getaddrinfo

    def resolve_and_leave(*args: Any, **more: Any) -> Any:
        exchange.cancel()
        return resolve(*args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_and_leave)
    with closing(Transport(5, 4)) as transport, pytest.raises(UpstreamError):
        transport.post(far.url, {}, b"{}", exchange, patience=1)
    assert far.accept().recv(65_536) == b""


def test_who_is_cancelled_while_shaking_hands_waits_for_no_more_of_it(far: Far) -> None:
    exchange = Exchange()

    def leave() -> None:
        assert far.accept().recv(65_536)  # and nothing is said to it
        exchange.cancel()

    threading.Thread(target=leave).start()
    begun = time.monotonic()
    with closing(Transport(LONG, 4)) as transport, pytest.raises(UpstreamError):
        transport.post(far.url.replace("http", "https"), {}, b"{}", exchange)
    assert time.monotonic() - begun < LONG / 2


def test_what_sending_raised_is_raised_once_and_let_go_of(ways: Ways) -> None:
    wrong = UpstreamError("no")

    def refuse(_: Exchange) -> requests.Response:
        raise wrong

    reader = ways.begin_with(refuse)
    begin_to_read(reader)
    with pytest.raises(UpstreamError) as caught:
        read(reader)
    assert caught.value is wrong
    assert wrong not in reader.__dict__.values()


class Exhausted(Crew):
    """No more threads can be started."""

    def do(self, work: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")


def test_a_request_that_no_thread_can_send_is_not_counted_for_ever() -> None:
    crew = Exhausted()
    with pytest.raises(RuntimeError):
        Reader(lambda _: requests.Response(), "http://flowith.invalid", crew, Signal())
    assert not crew.readers


def test_who_leaves_while_it_is_sent_leaves_nothing_behind(far: Far, ways: Ways) -> None:
    """What sending raised is then never read. Its frames would hold the reader, and the prompt with
    it, and the reader them."""
    with closing(Transport(5, 4)) as transport:
        reader = Reader(
            lambda exchange: transport.post(far.url, {}, b"{}", exchange),
            far.url,
            ways.crew,
            ways.signal,
        )
        far.accept()
        far.hear()
        gc.disable()
        try:
            reader.close(finished=False)
            wait_until_cleared(reader)
            left = weakref.ref(reader)
            del reader
            until = time.monotonic() + LONG
            while left() is not None:  # the thread that sent needs a moment to let go of it
                assert time.monotonic() < until
                time.sleep(0.001)
        finally:
            gc.enable()


def test_a_connection_that_is_left_does_not_hide_one_that_is_kept(far: Far, ways: Ways) -> None:
    """The pool gives out first what was given back last."""
    left = ways.begin()
    far.accept()
    far.hear()
    far.say(SOME)
    assert next_words(left)
    whole = ways.begin()
    far.accept()
    far.hear()
    far.say(SOME + b"0\r\n\r\n")
    while not whole.finished:
        read(whole)
    whole.close(finished=True)
    left.close(finished=False)
    wait_until_cleared(left)
    again = ways.begin()
    far.hear()
    again.close(finished=False)
    assert far.connections == 2


def test_an_answer_that_is_none_leaves_nothing_behind(far: Far) -> None:
    """The parser and what it calls refer to each other."""

    def ask(transport: Transport) -> None:
        exchange = Exchange()
        with suppress(UpstreamError):
            transport.post(far.url, {}, b"{}", exchange, patience=LONG)
        exchange.release()

    def answers() -> int:
        return sum(type(one) is HttpAnswer for one in gc.get_objects())

    with closing(Transport(5, 4)) as transport:
        gc.disable()
        try:
            before = answers()
            asking = threading.Thread(target=ask, args=[transport])
            asking.start()
            far.accept()
            far.hear()
            far.say(b"SSH-2.0-x\r\n\r\n")
            asking.join()
            assert answers() <= before  # those of earlier tests may go meanwhile
        finally:
            gc.enable()


def test_a_time_out_of_the_kernel_s_is_an_error(far: Far, ways: Ways) -> None:
    """Only our own is a wait that ran out."""
    reader = ways.begin()
    far.accept()
    far.say(HEAD + b"\r\n")
    begin_to_read(reader)

    def gone() -> bytes:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    reader._take = gone
    with pytest.raises(UpstreamCut):
        read(reader)
    reader.close(finished=False)


@pytest.mark.parametrize("end", ["with the words", "later"])
def test_an_answer_that_is_over_gives_its_connection_back(far: Far, ways: Ways, end: str) -> None:
    """The body's end may come behind the answer's; nobody who has other work waits for it."""
    for _ in range(2):
        reader = ways.begin()
        if not far.connections:
            far.accept()
        far.hear()
        body = framed(WORDS, 100)
        cut = len(body) if end == "with the words" else -5
        far.say(HEAD + b"\r\n" + body[:cut])
        assert next_words(reader) == WORDS
        reader.close(finished=True)
        far.say(body[cut:] if end == "later" else b"")
        wait_until_cleared(reader)
    assert far.connections == 1


@pytest.mark.parametrize("why", ["kept for too long", "passed over"])
def test_a_kept_connection_is_not_for_everybody(
    far: Far, ways: Ways, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    first = ways.begin()
    far.accept()
    far.hear()
    far.say(HEAD + b"\r\n" + framed(WORDS, 100))
    assert next_words(first) == WORDS
    first.close(finished=True)
    wait_until_cleared(first)
    if why == "kept for too long":
        monkeypatch.setattr("flowith.connection.KEPT", 0.0)

    def send(exchange: Exchange) -> requests.Response:
        exchange.fresh = why == "passed over"
        return ways.transport.post(far.url, {}, b"{}", exchange)

    second = ways.begin_with(send)
    far.accept()
    far.hear()
    far.say(SOME)
    assert next_words(second) == b"words"
    second.close(finished=False)


def test_a_connection_serves_nobody_else_before_its_body_is_over(far: Far, ways: Ways) -> None:
    readers = [read_some(far, ways), read_some(far, ways)]
    assert far.connections == 2
    for reader in readers:
        reader.close(finished=False)


def test_who_is_done_with_a_connection_cuts_nobody_s(far: Far, ways: Ways) -> None:
    """A caller may leave after the end of an answer, when its connection serves the next one."""
    first = ways.begin()
    far.accept()
    far.hear()
    far.say(HEAD + b"\r\n" + framed(WORDS, 100))
    assert next_words(first) == WORDS
    assert next_words(first) == b""
    assert first.finished
    second = ways.begin()
    far.hear()
    first.cancel()
    far.say(SOME)
    assert next_words(second) == b"words"
    first.close(finished=True)
    far.say(b"4\r\nmore\r\n")
    assert next_words(second) == b"more"
    assert far.connections == 1
    second.close(finished=False)


def test_a_kept_connection_forgets_how_long_the_answer_before_was_waited_for(far: Far) -> None:
    """A long request takes its time, and so may the head of an answer."""
    with closing(Transport(0.2, 4)) as transport:
        ways = Ways(far.url, transport)
        first = ways.begin()
        far.accept()
        far.hear()
        far.say(HEAD + b"\r\n" + framed(WORDS, 100))
        while not first.finished:
            read(first, 0.001)
        first.close(finished=True)
        wait_until_cleared(first)
        body = bytes(8_000_000) + b"{}"
        second = ways.begin_with(lambda exchange: transport.post(far.url, {}, body, exchange))
        time.sleep(0.05)  # more than its socket was told to wait for the last words
        far.hear()
        time.sleep(0.4)  # more than a connection may take
        far.say(SOME)
        assert next_words(second) == b"words"
        assert far.connections == 1
        second.close(finished=False)
        ways.close()


def test_an_answer_that_is_not_over_costs_its_connection(far: Far, ways: Ways) -> None:
    reader = read_some(far, ways)
    reader.close(finished=False)
    assert far.is_left()


def test_a_body_without_end_is_not_waited_for_for_long(
    far: Far, ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowith.reader.LINGER", 0.1)
    reader = read_some(far, ways)
    reader.close(finished=True)
    assert far.is_left()


def test_a_wait_is_as_long_as_it_may_be(far: Far, ways: Ways) -> None:
    """Whatever the waits before it were: no longer, and not so much shorter that it is polling."""
    reader = read_some(far, ways)  # might have waited for long
    begun = time.monotonic()
    assert read(reader, 0.1) == b""
    assert time.monotonic() - begun < LONG / 4
    until, waits = time.monotonic() + 1, 0
    while time.monotonic() < until:
        assert reader.read(until) == b""
        waits += 1
    assert waits < 20
    reader.close(finished=False)


def test_the_socket_is_not_told_anew_for_each_token_how_long_to_wait(
    far: Far, ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    tell = Exchange.wait_at_most

    def noting(exchange: Exchange, seconds: float) -> None:
        told.append(seconds)
        tell(exchange, seconds)

    monkeypatch.setattr(Exchange, "wait_at_most", noting)
    reader = ways.begin()
    far.accept()
    far.hear()
    far.say(HEAD + b"\r\n")
    sign_at = time.monotonic() + 10  # of life, which does not move with each token
    for _ in range(100):
        far.say(b"5\r\nwords\r\n")
        while not reader.read(sign_at):
            pass
    assert len(told) < 5
    assert max(told) <= 10
    reader.close(finished=False)


def test_a_pause_ends_when_it_is_to_and_not_before() -> None:
    moment = time.monotonic() + 0.05
    sleep_until(moment)
    assert time.monotonic() >= moment
    sleep_until(moment)  # which is over


@pytest.mark.parametrize(("others", "pause"), [(50, None), (150, 0.028), (400, 0.05), (700, 0.07)])
def test_tokens_gather_for_longer_the_more_answers_there_are(
    far: Far, ways: Ways, others: int, pause: float | None
) -> None:
    ends: list[tuple[float, float]] = []  # of pauses, and the moments that they were asked for
    ways.crew.sleep_until = lambda end: ends.append((end, time.monotonic()))
    ways.crew.readers |= {object() for _ in range(others)}
    reader = ways.begin()
    far.accept()
    far.hear()
    far.say(SOME)
    assert read_all_of(reader, b"words")
    before = time.monotonic()
    far.say(b"5\r\nwords\r\n")
    assert read_all_of(reader, b"words")
    reader.close(finished=False)
    assert bool(ends) == (pause is not None)
    for end, asked in ends:
        assert pause is not None
        assert end > before + pause - BEAT
        assert end <= asked + pause


def read_all_of(reader: Reader, wanted: bytes) -> bool:
    """Read until so much has come."""
    got = b""
    while len(got) < len(wanted):
        got += reader.read(time.monotonic() + LONG)
    return got == wanted
