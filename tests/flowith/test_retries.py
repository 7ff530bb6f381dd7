"""What is tried again where a call has failed, and what is not."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
from conftest import TOKEN
from fake_flowith import FakeFlowith, llm

import errors
from chat_request import Prompt
from events import Event, Text
from flowith.client import Flowith
from settings import Model, Settings


def events(fake: FakeFlowith, **environ: str) -> Iterator[Event]:
    given = {"FLOWITH_AUTH_TOKEN": TOKEN, "FLOWITH_API_URL": fake.url, **environ}
    flowith = Flowith(Settings.from_env(given))
    asked = Prompt([{"role": "user", "content": "Hello"}])
    with closing(flowith.open(asked, Model("m", ("m",)))) as answer:
        yield from answer.events()


def test_a_token_refused_behind_the_first_words_is_not_tried_in_its_other_form(
    fake: FakeFlowith,
) -> None:
    """The caller would get the answer's beginning twice."""
    wrong = b"data: " + json.dumps({"error": {"code": 401}}).encode() + b"\n\n"
    fake.reply(llm("Hi", 0.1, wrong))
    said: list[Event] = []
    with pytest.raises(errors.UpstreamAuth):
        said.extend(events(fake))
    assert len(fake.requests) == 1


def test_a_token_refused_inside_a_good_status_is_tried_in_its_other_form(fake: FakeFlowith) -> None:
    wrong = b"data: " + json.dumps({"error": {"code": 401}}).encode() + b"\n\n"
    fake.reply(llm(wrong))
    fake.reply(llm("Hi"))
    assert Text("Hi") in list(events(fake))
    forms = [seen.headers["authorization"] for seen in fake.requests]
    assert forms == [f"Bearer {TOKEN}", TOKEN]
