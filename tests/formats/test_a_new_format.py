"""What a new API for callers costs: the names of a `Format`, a view, a row of the table. This one
speaks in capitals, a line for each piece, and is known here only."""

from collections.abc import Iterable, Iterator

import pytest
from conftest import KEY, Api, MakeApi
from fake_flowith import CUT, FakeFlowith, Wait, error, web

import proxy
from chat_request import ChatRequest, Message
from errors import InvalidRequest, ProxyError
from events import Done, Event, Silence, Tally, Text, Usage
from formats import ErrorReply
from server.status_then_body import deliver
from settings import Settings


class Shout:
    """The format; a module with these names would be one as well."""

    NAME = "shout"
    ID_HEADERS = ("X-Shout-Id",)

    def parse(self, raw: bytes, settings: Settings) -> ChatRequest:
        model, _, words = raw.decode().partition(": ")
        if not words:
            raise InvalidRequest("Say MODEL: WORDS.", param="words")
        return ChatRequest(model, ([Message("user", words)],), stream=words.endswith("!"))

    def to_envelope(self, chat: ChatRequest, settings: Settings, request_id: str) -> str:
        return request_id

    def stream(self, events: Iterator[Event], envelope: str, tally: Tally) -> Iterator[bytes]:
        begun = False
        try:
            for event in events:
                match event:
                    case Text(text=text):
                        yield text.upper().encode() + b"\n"
                    case Silence():
                        yield b"...\n"
                    case Usage():
                        tally.add(event)
                    case Done():
                        yield b"OVER\n"
                begun = True
        except ProxyError as wrong:
            if begun:
                yield b"ALAS: " + self.error(wrong, envelope).body
            raise

    def whole(self, events: Iterable[Event], envelope: str, tally: Tally) -> bytes:
        texts = [event.text.upper() for event in events if isinstance(event, Text)]
        return "".join(texts).encode()

    def error(self, wrong: ProxyError, request_id: str) -> ErrorReply:
        return ErrorReply(wrong.status, f"{wrong.message.upper()} {request_id}".encode())


@pytest.fixture
def ours(api: MakeApi, monkeypatch: pytest.MonkeyPatch) -> Api:
    """An app with that format besides its own."""
    shout = Shout()
    monkeypatch.setitem(proxy.FORMATS, "/v1/shout", shout)
    made = api(RETRY_ATTEMPTS="1", HOLD="0.1", HEARTBEAT="0.1")
    app = made.client.application
    view = lambda: deliver(shout)  # noqa: E731 - the view of three lines
    app.add_url_rule("/v1/shout", "api.shout", view, methods=["POST"])
    return made


def test_it_streams_with_signs_of_life(ours: Api, fake: FakeFlowith) -> None:
    first, second = Wait(), Wait()
    fake.reply(web(first, "hel", second, "lo"))
    response = ours.send(b"gpt-4.1: greet me!", "/v1/shout")
    lines = response.response
    assert next(lines) == b"...\n"
    first.go()
    assert next(line for line in lines if line != b"...\n") == b"HEL\n"
    second.go()
    assert [line for line in lines if line != b"...\n"] == [b"LO\n", b"OVER\n"]
    response.close()
    assert response.headers["X-Shout-Id"].startswith("req_")
    assert fake.requests[0].json["messages"] == [{"role": "user", "content": "greet me!"}]


def test_it_answers_as_a_whole(ours: Api, fake: FakeFlowith) -> None:
    fake.reply(web("hel", "lo"))
    assert ours.send(b"gpt-4.1: greet me", "/v1/shout").data == b"HELLO"


def test_it_fails_before_the_first_byte_in_its_own_words(ours: Api, fake: FakeFlowith) -> None:
    fake.reply(error(400))
    for body, words in (
        (b"gpt-4.1", b"SAY MODEL: WORDS. req_"),
        (b"gpt-4.1: a!", b"FLOWITH REJECTED"),
        (b"gpt-4.1: a", b"FLOWITH REJECTED"),
    ):
        response = ours.send(body, "/v1/shout")
        assert response.status_code == 400
        assert response.data.startswith(words)
    response = ours.client.post("/v1/shout", data=b"")
    assert response.status_code == 401
    assert response.data.startswith(b"YOU DIDN'T PROVIDE AN API KEY.")


def test_it_fails_within_a_stream_in_its_own_words(ours: Api, fake: FakeFlowith) -> None:
    fake.reply(web("half", 0.1, CUT))
    body = ours.send(b"gpt-4.1: greet me!", "/v1/shout").data
    assert body.replace(b"...\n", b"").startswith(b"HALF\nALAS: ")


def test_it_is_counted_and_logged_by_its_name(ours: Api, fake: FakeFlowith) -> None:
    fake.reply(web("hello"))
    ours.send(b"gpt-4.1: greet me", "/v1/shout").close()
    text = ours.get("/metrics", **{"X-Api-Key": KEY}).text
    assert 'requests_total{ending="done",format="shout",model="gpt-4.1",status="200"} 1.0' in text
