"""Every way an answer may come and break, generated: dialect x framing x kind of end x place.

Over real sockets. Whatever happens, the caller gets the whole text or an error, and whoever asks
next over the same connections gets the answer to that.
"""

import gc
import gzip
import itertools
import json
import logging
import ssl
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress

import pytest
from fake_flowith import ABORT, CUT, DROP, FakeFlowith, Raw, Script, Wait, error, web

from chat_request import Prompt
from errors import UpstreamError
from events import Done, Event, Text
from flowith.client import Flowith
from flowith.connection import Exchange
from flowith.transport import Transport, read_whole
from settings import Model, Settings

TEXT = "Hello, naïve 你好 🙂 world. " * 3
PLACES = 9  # where an answer is cut, spread over its length


def frame(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def llm_frame(text: str, finish: str | None = None) -> bytes:
    return frame({"choices": [{"delta": {"content": text}, "finish_reason": finish}]})


HALF = len(TEXT) // 2
BODIES = {
    "web": TEXT.encode(),
    "llm": llm_frame(TEXT[:HALF]) + llm_frame(TEXT[HALF:], "stop") + b"data: [DONE]\n\n",
    "llm, without [DONE]": llm_frame(TEXT[:HALF]) + llm_frame(TEXT[HALF:], "stop"),
    "llm, one object": json.dumps(
        {"choices": [{"message": {"content": TEXT}, "finish_reason": "stop"}]}
    ).encode(),
    "knowledge": frame({"tag": "final", "content": TEXT[:HALF]})
    + frame({"tag": "final", "content": TEXT[HALF:]})
    + frame({"tag": "final", "content": "[DONE]"}),
    "knowledge, without [DONE]": frame({"tag": "final", "content": TEXT[:HALF]})
    + frame({"tag": "final", "content": TEXT[HALF:]}),
}
FRAMINGS = ("chunked", "length", "close", "gzip chunked", "gzip length", "gzip close")
ENDS = {"in order": CUT, "reset": DROP}


def wire(body: bytes, framing: str, place: int | None) -> tuple[bytes, bool]:
    """The bytes of an answer of which `place` bytes of the body come (None: all), and whether they
    are all of it."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
    coded, _, kind = framing.rpartition(" ")
    if coded:
        head += b"Content-Encoding: gzip\r\n"
        body = gzip.compress(body)
    come = body if place is None else body[: place * len(body) // PLACES]
    if kind == "length":
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + come, len(come) == len(body)
    if kind == "close":
        return head + b"\r\n" + come, len(come) == len(body)
    chunks = [come[i : i + 7] for i in range(0, len(come), 7)]
    told = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    last = b"0\r\n\r\n" if place is None else b""
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + told + last, place is None


def knows_its_end(dialect: str, framing: str, come: bytes) -> bool:
    """Whether anything tells a cut. Nothing does where neither HTTP nor the dialect has an end mark
    (docs/reliability.md): plain text up to a closed connection, and whole frames of knowledge."""
    if framing != "close" or dialect.startswith("llm"):
        return True
    body = come.partition(b"\r\n\r\n")[2]
    if dialect == "web":
        return not is_text(body)
    return bool(body.rpartition(b"\n")[2])


def is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def ask(flowith: Flowith, dialect: str) -> list[Event]:
    kind = dialect.partition(",")[0]
    model = Model("m", ("m",), api=kind)  # type: ignore[arg-type]
    answer = flowith.open(Prompt([{"role": "user", "content": "Hi"}]), model)
    try:
        return list(answer.events())
    finally:
        answer.close()


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def client_of(fake: FakeFlowith) -> Flowith:
    given = {"FLOWITH_AUTH_TOKEN": "a-login", "FLOWITH_API_URL": fake.url, "RETRY_ATTEMPTS": "1"}
    return Flowith(Settings.from_env(given))


def assert_honest(flowith: Flowith, fake: FakeFlowith, dialect: str, script: Raw) -> bool:
    """Whether the answer was taken for whole; then it was."""
    path = {"web": "/completion", "llm": "/external/use/llm"}.get(
        dialect.partition(",")[0], "/external/use/knowledge-base/seek"
    )
    fake.reply(script, path=path)
    try:
        events = ask(flowith, dialect)
    except UpstreamError:
        return False
    finally:
        assert fake.requests[-1].path == path
        fake.reset()
    assert events[-1] == Done()
    assert said(events) == TEXT
    return True


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("dialect", BODIES)
def test_the_whole_text_or_an_error(fake: FakeFlowith, dialect: str, framing: str) -> None:
    flowith = client_of(fake)
    assert assert_honest(flowith, fake, dialect, Raw([wire(BODIES[dialect], framing, None)[0]]))
    for place, end in itertools.product(range(PLACES + 1), ENDS.values()):
        come, whole = wire(BODIES[dialect], framing, place)
        if whole or knows_its_end(dialect, framing, come):
            assert_honest(flowith, fake, dialect, Raw([come, 0.002, end]))


def followed_by(more: bytes) -> dict[str, bytes]:
    """Whole answers with something behind them, by framing."""
    body = BODIES["web"]
    return {kind: wire(body, kind, None)[0] + more for kind in ("chunked", "length")}


@pytest.mark.parametrize(
    "more", [b"x", b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"]
)
@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
def test_what_comes_behind_an_answer_is_nobodys(
    fake: FakeFlowith, framing: str, more: bytes, later: bool
) -> None:
    """Its connection serves nobody else, or what came is gone."""
    flowith = client_of(fake)
    whole = wire(BODIES["web"], framing, None)[0]
    answered, sent = Wait(), Wait()
    fake.reply(Raw([whole, answered, more, sent, 1.0] if later else [whole + more, sent, 1.0]))
    if framing == "length" and not later:
        with pytest.raises(UpstreamError):
            ask(flowith, "web")
    else:
        assert said(ask(flowith, "web")) == TEXT
    answered.go()
    assert sent.reached()
    sent.go()
    fake.reset()
    fake.reply(Raw([wire(BODIES["web"], "length", None)[0]]))
    assert said(ask(flowith, "web")) == TEXT


@pytest.fixture
def secure(tls: ssl.SSLContext) -> Iterator[FakeFlowith]:
    """The stand-in behind TLS."""
    with FakeFlowith(tls=tls) as fake:
        yield fake


def test_over_tls_an_end_without_a_word_of_it_is_no_end(secure: FakeFlowith) -> None:
    """Anybody on the way can close a connection; only Flowith can say so (RFC 8446, 6.1)."""
    flowith = client_of(secure)
    answer = wire(BODIES["web"], "close", None)[0]
    secure.reply(Raw([answer]))
    assert said(ask(flowith, "web")) == TEXT
    secure.reset()
    secure.reply(Raw([answer, 0.05, ABORT]))
    with pytest.raises(UpstreamError) as wrong:
        ask(flowith, "web")
    assert wrong.value.code == "upstream_cut"


def test_over_tls_a_framed_answer_needs_no_word_of_its_end(secure: FakeFlowith) -> None:
    flowith = client_of(secure)
    for framing in ("chunked", "length"):
        secure.reply(Raw([wire(BODIES["web"], framing, None)[0], ABORT]))
        assert said(ask(flowith, "web")) == TEXT
        secure.reset()


def test_a_post_is_repeated_where_a_kept_connection_died_unheard(
    fake: FakeFlowith, caplog: pytest.LogCaptureFixture
) -> None:
    flowith = client_of(fake)
    logging.getLogger("flowith").propagate = True  # which a service of another test may have ended
    fake.reply(web(TEXT), Raw([DROP]), web(TEXT))
    assert [said(ask(flowith, "web")) for _ in range(2)] == [TEXT] * 2
    assert len(fake.requests) == 3
    assert "sent again" in caplog.text


def test_a_post_is_not_repeated_where_a_byte_of_an_answer_came(fake: FakeFlowith) -> None:
    """Flowith took it, and would be paid twice."""
    flowith = client_of(fake)
    fake.reply(web(TEXT), Raw([b"HTTP/1.1 200", 0.02, DROP]), web(TEXT))
    assert said(ask(flowith, "web")) == TEXT
    with pytest.raises(UpstreamError):
        ask(flowith, "web")
    assert len(fake.requests) == 2


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("heard", [b"", b"HTTP/1.1 200"])
def test_each_post_of_an_exchange_is_judged_by_its_own_answer(
    fake: FakeFlowith, heard: bytes, at: int
) -> None:
    """A try that stores images sends several; the answer to the one before says nothing of it."""
    fake.reply(*[web(TEXT)] * at, Raw([heard, 0.02, DROP] if heard else [DROP]), web(TEXT))
    transport, exchange = Transport(5, 10), Exchange()
    told: list[bytes | None] = []
    for _ in range(4):
        with suppress(UpstreamError):
            told.append(None)
            transport.post(fake.url, {}, b"x" * 100_000, exchange)
            told[-1] = read_whole(exchange, fake.url, 1000)
    wanted: list[bytes | None] = [TEXT.encode()] * 4
    if heard:
        wanted[at] = None
    assert told == wanted
    assert len(fake.requests) == 4 + (not heard)


class Messages(list[dict[str, str]]):
    """A list that can be watched."""


REFUSALS: dict[str, Script] = {
    "rejected": error(400),
    "no credits": error(402),
    "failed": error(500),
    "reset": Raw([DROP]),
    "closed": Raw([]),
    "half a head": Raw([b"HTTP/1.1 200 OK\r\nX-A", CUT]),
    "empty": web(),
    "a page": web("x", headers={"Content-Type": "text/html"}),
    "cut": web("half", 0.01, CUT),
    "whole": web("Hi"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_prompt_is_freed_with_its_request(fake: FakeFlowith, name: str) -> None:
    """Not at some later collection: a dozen refused prompts of 10 MB fill a small machine."""
    flowith = client_of(fake)
    fake.reply(REFUSALS[name])
    messages = Messages([{"role": "user", "content": "Hi"}])
    watched = weakref.ref(messages)
    gc.collect()
    gc.disable()
    try:
        answer = flowith.open(Prompt(messages), Model("m", ("m",), api="web"))
        del messages
        with suppress(UpstreamError):
            list(answer.events())
        answer.close()
        del answer
        until = time.monotonic() + 5
        while watched() is not None and time.monotonic() < until:
            time.sleep(0.01)  # the reader's thread lets go a moment later
        assert watched() is None
    finally:
        gc.enable()
