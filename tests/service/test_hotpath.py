"""What each token and each request may cost, counted in work and not in time.

Speed itself is measured in bench/; these counts are the same on every machine, and turn red when
a later change makes the hot path naive.
"""

import gc
import json
import socket
import ssl
import sys
import threading
import time
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trustme
from conftest import ROOT, MakeApi, chunks, deltas
from fake_flowith import HANG, FakeFlowith, web
from urllib3.util.ssltransport import SSLTransport

from bridge.tool_calls import find_calls
from chat_request import Prompt, Tool, ToolUse
from clock import MOMENT, TURN
from events import Done, Event, Tally, Text
from flowith.crew import SPARE, Crew, Signal
from flowith.http_answer import PIECE, HttpAnswer
from flowith.reader import LONGEST, STEP, Reader
from flowith.tls import TlsSocket, take_over
from flowith.web_decoder import WebDecoder
from formats import Format, anthropic, chat, responses
from settings import Settings
from translate import shape

TOKENS = 1000
OVERHEAD = 32  # bytes of a TLS record beside its data


def calls(work: Callable[[], object]) -> Counter[str]:
    """How often each Python function was entered; a generator counts each time it goes on. What
    other tests have left behind is cleared away before, as it enters functions too."""
    counted: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            counted[frame.f_code.co_name] += 1

    gc.collect()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counted


SAYS: dict[Any, dict[str, Any]] = {
    chat: {"messages": [{"role": "user", "content": "x"}]},
    responses: {"input": "x"},
    anthropic: {"messages": [{"role": "user", "content": "x"}], "max_tokens": 100_000},
}


def pipe(format: Format, events: Iterator[Event]) -> Iterator[bytes]:
    body = json.dumps({"model": "m", "stream": True, **SAYS[format]}).encode()
    asked = format.parse(body, Settings())
    envelope = format.to_envelope(asked, Settings(), "req_1")
    shaped = shape(events, asked, Prompt([]), "reasoning_content", last_try=False)
    return format.stream(shaped, envelope, Tally())


@pytest.mark.parametrize(("format", "most"), [(chat, 4.5), (responses, 8), (anthropic, 6)])
def test_a_token_of_plain_text_passes_few_hands(format: Format, most: float) -> None:
    """Chat: three generators, each going on once, the last of which frames it. Responses number
    each piece and keep it for the end; Messages have a limit and blocks."""
    events: list[Event] = [*(Text("word ") for _ in range(TOKENS)), Done()]
    counted = calls(lambda: list(pipe(format, iter(events))))
    assert sum(counted.values()) / TOKENS < most, counted.most_common(8)
    assert counted["estimate_tokens"] < TOKENS / 20  # all of the text, in blocks


def test_a_read_passes_few_hands_on_its_way_to_the_caller(api: MakeApi, fake: FakeFlowith) -> None:
    """From the socket to the bytes of a stream, with one token in each read."""
    pauses: list[float] = [0.003] * 100
    fake.reply(web(*(part for pause in pauses for part in ("word ", pause))))
    blocks: list[bytes] = []
    with closing(api(LOG_LEVEL="error").post(stream=True)) as response:
        counted = calls(lambda: blocks.extend(response.response))
    assert len(blocks) > 50
    most = 21 * len(blocks) + 80  # the beginning and the end
    assert sum(counted.values()) < most, counted.most_common(40)


def test_a_conversation_with_several_answers_is_made_a_prompt_of_once(
    api: MakeApi, fake: FakeFlowith
) -> None:
    """With thousands of messages it takes a tenth of a second, in which nobody else is served."""
    fake.reply(web("Hi"))
    ours = api(LOG_LEVEL="error")
    assert calls(lambda: ours.post(n=8))["to_prompt"] == 1
    two = {"prompt": ["a", "b"], "n": 3}
    assert calls(lambda: ours.post("/v1/completions", **two))["to_prompt"] == 2


@pytest.mark.parametrize(("piece", "most"), [(" word", 5.5), ("word ", 8.5)])
def test_prose_beside_tools_passes_few_hands(piece: str, most: float) -> None:
    """A piece in which no call can begin is not walked through mark by mark, wherever its white
    space stands."""
    events: list[Event] = [Text("A"), *(Text(piece) for _ in range(TOKENS)), Done()]
    use = ToolUse((Tool("read_file"),))
    counted = calls(lambda: list(find_calls(iter(events), use, last_try=False)))
    assert sum(counted.values()) / TOKENS < most, counted.most_common(8)


@pytest.mark.parametrize("format", [chat, responses, anthropic])
def test_what_arrived_together_leaves_together(format: Format) -> None:
    """One block of bytes is one event and one write, however many tokens it holds."""
    decoder = WebDecoder()
    events = decoder.decode(b"word " * TOKENS)
    assert len(events) == 1
    written = list(pipe(format, iter([*events, Done()])))
    assert len(written) == 2
    assert written[0].count(b"word ") == TOKENS


def over_tls() -> tuple[TlsSocket, ssl.SSLSocket]:
    """Two ends of a TLS connection that have shaken hands."""
    authority, name = trustme.CA(), "flowith.invalid"
    ours, theirs = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(ours)
    authority.issue_cert(name).configure_cert(theirs)
    here, bare = socket.socketpair()
    there = theirs.wrap_socket(bare, server_side=True, do_handshake_on_connect=False)
    shaking = threading.Thread(target=there.do_handshake)
    shaking.start()
    shaken = take_over(SSLTransport(here, ours, name))
    shaking.join()
    return shaken, there


@pytest.fixture(params=["in the clear", "over TLS"])
def begun(request: pytest.FixtureRequest) -> Iterator[tuple[HttpAnswer, socket.socket]]:
    """An answer in chunks whose head has come, and the other end of its connection."""
    here: Any
    here, there = over_tls() if request.param == "over TLS" else socket.socketpair()
    there.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with closing(here), there:
        answer = HttpAnswer(here, here)
        answer.begin()
        yield answer, there


def test_one_read_takes_all_that_has_arrived(begun: tuple[HttpAnswer, socket.socket]) -> None:
    """A burst of HTTP chunks is read in as many steps as the socket's buffer needs, and few
    functions are entered for each."""
    answer, there = begun
    part = b"5\r\nword \r\n" * 10
    for _ in range(TOKENS // 10):
        there.sendall(part)  # over TLS a record of its own
    there.sendall(b"0\r\n\r\n")
    blocks: list[bytes] = []

    def read() -> None:
        while block := answer.read1():
            blocks.append(block)

    counted = calls(read)
    assert b"".join(blocks) == b"word " * TOKENS
    reads = 1 + TOKENS // 10 * (len(part) + OVERHEAD) // PIECE
    assert len(blocks) <= reads + 1
    del counted["read"]  # of Python's ssl, once for each record
    assert sum(counted.values()) <= 9 * reads + 10, counted.most_common(8)


def test_a_chunk_that_is_not_whole_is_not_waited_for(
    begun: tuple[HttpAnswer, socket.socket],
) -> None:
    answer, there = begun
    there.sendall(b"3\r\none\r\n3\r\nt")
    assert answer.read1() == b"onet"
    there.sendall(b"wo\r\n")
    assert answer.read1() == b"wo"
    there.sendall(b"5\r\nthree\r\n0\r\n\r\n")
    assert answer.read1() == b"three"
    assert answer.read1() == b""


class Source:
    """The body of an answer that arrives without a gap, for a while: a token each 50 us."""

    def __init__(self, seconds: float) -> None:
        self.headers: dict[str, str] = {}
        self.raw, self.reads = self, 0
        self._told, self._end = 0, int(seconds * 20_000)
        self._begun = time.monotonic()

    def read1(self, size: int, decode_content: bool) -> bytes:
        self.reads += 1
        while (come := int((time.monotonic() - self._begun) * 20_000)) == self._told:
            pass
        told, self._told = self._told, min(come, self._end)
        return b"word " * (self._told - told)

    def release_conn(self) -> None: ...


def test_tokens_without_a_gap_are_let_gather() -> None:
    """A read and a write for each of 20,000 tokens a second would fill the core."""
    source: Any = Source(seconds=0.5)
    reader = Reader(lambda _: source, "http://flowith.invalid", Crew(), Signal())
    blocks: list[bytes] = []
    while not reader.finished:
        blocks.append(reader.read(time.monotonic() + 60))
    assert b"".join(blocks) == b"word " * 10_000
    assert source.reads < 300


def test_others_have_their_turn_where_what_is_read_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More has always come meanwhile, so no read waits for anything."""
    pauses: list[float] = []
    sleep = time.sleep

    def noting(seconds: float) -> None:
        pauses.append(seconds)
        sleep(seconds)

    source: Any = Source(1.0)
    reader = Reader(lambda _: source, "http://flowith.invalid", Crew(), Signal())
    monkeypatch.setattr(time, "sleep", noting)
    for _ in range(6):
        assert reader.read(time.monotonic() + 60)
        worked_until = time.monotonic() + 1.5 * TURN
        while time.monotonic() < worked_until:
            pass
    assert pauses.count(MOMENT) >= 4


class Work:
    """Notes which thread does it."""

    def __init__(self, threads: set[int]) -> None:
        self.threads, self.done = threads, threading.Event()

    def do(self) -> None:
        self.threads.add(threading.get_native_id())
        self.done.set()


def test_a_crew_uses_its_threads_again_and_keeps_nothing_of_their_work() -> None:
    crew, threads = Crew(), set[int]()
    for _ in range(100):
        work = Work(threads)
        crew.do(work.do)
        assert work.done.wait(5)
        time.sleep(0.001)  # the thread needs a moment to sit down again
    gone, until = weakref.ref(work), time.monotonic() + 5
    del work
    while gone():
        assert time.monotonic() < until
    assert len(threads) < 10


def test_work_never_waits_for_a_thread_and_few_stay() -> None:
    crew, together = Crew(), threading.Barrier(SPARE + 20, timeout=5)
    tasks, until = Path("/proc/self/task"), time.monotonic() + 5
    before = len(list(tasks.iterdir()))
    for _ in range(2):
        for _ in range(SPARE + 19):
            crew.do(together.wait)  # type: ignore[arg-type]
        together.wait()
    while len(list(tasks.iterdir())) > before + SPARE:
        assert time.monotonic() < until


def test_a_long_answer_that_comes_at_once_is_not_held_up(
    api: MakeApi, fake: FakeFlowith, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each read is full there is nothing to let gather; a pause for each would make 400 KB
    of a second (measured)."""
    pauses: list[float] = []
    sleep = time.sleep

    def noting(seconds: float) -> None:
        pauses.append(seconds)
        sleep(seconds)

    fake.reply(web("word " * 400_000))
    monkeypatch.setattr(time, "sleep", noting)
    with closing(api(LOG_LEVEL="error").post(stream=True)) as response:
        assert response.data.endswith(b"[DONE]\n\n")
    assert len([one for one in pauses if STEP <= one <= LONGEST]) < 60  # else 240


def test_a_body_is_parsed_once_and_a_prompt_is_not_counted_for_nothing(
    api: MakeApi, fake: FakeFlowith
) -> None:
    fake.reply(web("Hello"))
    ours = api(LOG_LEVEL="error")

    def ask() -> None:
        response = ours.post(stream=True)
        assert chunks(response.data)[-1] == "[DONE]"
        response.close()

    ask()
    counted = calls(ask)
    assert counted["parse_json"] == 1
    assert counted["estimate_tokens"] <= 2
    assert counted["count_prompt"] == 0
    assert counted["count"] == 1  # for the metrics, whose labels were resolved by the first request
    assert counted["labels"] == 0
    assert counted["iscoroutinefunction"] == 0  # Flask's look at each function that it calls
    assert counted["get_wsgi_headers"] == 0  # Werkzeug's copy of them
    assert counted["_get_current_object"] <= 13  # looks into Flask's stand-ins, 5 of them its own
    assert counted["raw_decode"] <= 1 + 3  # ours, and the test's own reading of three chunks


def test_what_was_sent_up_is_forgotten_when_the_answer_has_begun(
    api: MakeApi, fake: FakeFlowith
) -> None:
    """Long prompts get long answers, and a thousand of them at once would fill the memory."""
    size = 2_000_000
    fake.reply(web("first ", HANG))
    ours = api()
    message = {"role": "user", "content": "x" * size}
    tracemalloc.start()
    try:
        with closing(ours.post(stream=True, messages=[message])) as response:
            assert "first" in deltas(next(response.response))
            held = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    upstream = held.filter_traces([tracemalloc.Filter(True, f"{ROOT}/flowith/*")])
    assert sum(trace.size for trace in upstream.traces) < size / 4
