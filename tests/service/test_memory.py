"""What large prompts cost, and that they are gone when their request is."""

import gc
import json
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Api, MakeApi, Serve, Server
from fake_flowith import CUT, DROP, HANG, FakeFlowith, Raw, Reply, error, web

from errors import UpstreamError
from events import Event
from server.caller import Caller
from server.side_by_side import merged

PROMPT = [{"role": "user", "content": "word " * 80_000}]
SOME = 700_000  # bytes: the client of the tests keeps one copy of what it sent, and no more may be
TOOL = {"type": "function", "function": {"name": "look"}}
SIZE = 20_000_000  # bytes of a large request


@pytest.fixture
def no_late_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


ENDS: dict[str, tuple[Reply | Raw, dict[str, Any]]] = {
    "whole": (web("Hello"), {}),
    "refused": (error(400), {}),
    "failed": (error(500), {}),
    "reset": (Raw([DROP]), {}),
    "cut": (web("half", 0.05, CUT), {}),
    "silent": (web("x", delay=HANG), {}),
    "two answers": (web("Hello"), {"n": 2}),
    "two refusals": (error(400), {"n": 2}),
    "not what was demanded": (web("Hello"), {"tools": [TOOL], "tool_choice": "required"}),
    "a wrong field": (web("Hello"), {"temperature": "hot"}),
    "a missing field": (web("Hello"), {"messages": None, "input": PROMPT}),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.usefixtures("no_late_collection")
def test_a_prompt_is_freed_with_its_request(api: MakeApi, fake: FakeFlowith, end: str) -> None:
    """At once, and not by some later garbage collection: errors hold their tracebacks, those hold
    frames, and a frame that holds the error closes the circle."""
    reply, asked = ENDS[end]
    fake.reply(reply)
    ours = api(RETRY_ATTEMPTS="2", FIRST_TOKEN_TIMEOUT="0.3", LOG_LEVEL="error")
    assert_freed(ours, fake, **{"stream": True, **asked})


def callers() -> list[Caller]:
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is Caller]


@pytest.mark.parametrize("fields", [{}, {"temperature": "hot"}], ids=["answered", "refused"])
def test_nothing_remembers_a_caller_whose_request_is_over(
    api: MakeApi, fake: FakeFlowith, fields: dict[str, Any]
) -> None:
    before = callers()
    fake.reply(web("Hello"))
    ours = api(LOG_LEVEL="error")
    ours.post(**fields).close()
    assert [one for one in callers() if one not in before] == []


@pytest.mark.usefixtures("no_late_collection")
def test_a_running_answer_keeps_one_copy_of_its_prompt(api: MakeApi, fake: FakeFlowith) -> None:
    """The one that is counted at the end; what was sent is gone once the answer has begun."""
    fake.reply(web("Hello ", 30.0, "world"))
    ours = api(LOG_LEVEL="error")
    tracemalloc.start()
    try:
        response = ours.post(stream=True, messages=PROMPT)
        assert b"assistant" in next(response.iter_encoded())
        until = time.monotonic() + 4
        while tracemalloc.get_traced_memory()[0] > 2 * SOME and time.monotonic() < until:
            time.sleep(0.02)
        assert tracemalloc.get_traced_memory()[0] <= 2 * SOME  # the stand-in keeps one, too
        response.close()
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("no_late_collection")
def test_a_prompt_that_was_sent_twice_is_freed_too(api: MakeApi, fake: FakeFlowith) -> None:
    """The connection was kept, and died when it was used again."""
    fake.reply(web("one"), Raw([DROP]), web("two"))
    ours = api(RETRY_ATTEMPTS="1", LOG_LEVEL="error")
    with closing(ours.post()) as first:
        assert b"one" in first.data
    assert b"two" in assert_freed(ours, fake)


@pytest.mark.usefixtures("no_late_collection")
def test_what_failed_everywhere_is_freed_with_the_error() -> None:
    """The first of several errors is raised; it must not stay with what raised it."""

    class Prompt:
        pass

    def failing(_prompt: Prompt) -> Iterator[Event]:
        yield from ()
        raise UpstreamError("No.")

    held = [Prompt()]
    dead = weakref.ref(held[0])

    with suppress(UpstreamError):
        list(merged([failing(held[0]), failing(held.pop())], forgive=True))
    until = time.monotonic() + 4
    while dead() and time.monotonic() < until:
        time.sleep(0.01)
    assert dead() is None


def assert_freed(ours: Api, fake: FakeFlowith, **asked: Any) -> bytes:
    """Ask with a long prompt, and see it gone when the answer has been read; returns that."""
    tracemalloc.start()
    try:
        with closing(ours.post(**{"messages": PROMPT, **asked})) as response:
            answer: bytes = response.data
        assert answer
        del response
        until = time.monotonic() + 4  # readers need a moment to see that they are to end
        while (held := traced(fake)) > SOME and time.monotonic() < until:
            time.sleep(0.02)
        assert held <= SOME
    finally:
        tracemalloc.stop()
    return answer


def traced(fake: FakeFlowith) -> int:
    """Bytes that are allocated, beside what the stand-in has noted of us."""
    fake.reset()
    return tracemalloc.get_traced_memory()[0]


SHAPES: dict[str, list[dict[str, Any]]] = {
    "one message": [{"role": "user", "content": "word " * (SIZE // 5)}],
    "accents": [{"role": "user", "content": "wörd " * (SIZE // 6)}],
    "many messages": [{"role": "user", "content": "word " * 400}] * (SIZE // 2040),
}


def memory(server: Server, which: str) -> int:
    """Bytes of the worker: VmRSS, or VmHWM, the most since the last reset."""
    status = Path(f"/proc/{worker_of(server)}/status").read_text()
    return int(status.split(f"{which}:")[1].split()[0]) * 1024


def worker_of(server: Server) -> str:
    pid = server.process.pid
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]


def ask(server: Server, body: bytes) -> None:
    connection, response = server.post(body)
    assert response.status == 200
    response.read()
    connection.close()


def test_a_large_request_takes_four_times_its_size_at_most(serve: Serve, fake: FakeFlowith) -> None:
    fake.reply(web("Hello"))
    server = serve()
    for shape, messages in SHAPES.items():
        body = json.dumps({"model": "gpt-4.1", "messages": messages}, ensure_ascii=False).encode()
        ask(server, b'{"model": "gpt-4.1", "messages": [{"role": "user", "content": "x"}]}')
        before = memory(server, "VmRSS")
        Path(f"/proc/{worker_of(server)}/clear_refs").write_text("5")
        ask(server, body)
        assert memory(server, "VmHWM") - before < 4 * len(body), shape
