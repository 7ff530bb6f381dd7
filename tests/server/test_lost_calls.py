"""Calls that did not come, calls nobody can have asked for, and what follows a call."""

from typing import Any

import pytest
from conftest import Api, MakeApi, chunks
from fake_flowith import FakeFlowith, Reply, llm, web

CALL = {"index": 0, "id": "c1", "function": {"name": "look", "arguments": "{}"}}
CALLS = {"choices": [{"delta": {"tool_calls": [CALL]}}]}
LOOK: dict[str, Any] = {"name": "look", "parameters": {"type": "object"}}
BLOCK = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"max_tokens": 2000},
}
OFFERED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"tools": [{"type": "function", "function": LOOK}]},
    "/v1/responses": {"input": "Hi", "tools": [{"type": "function", **LOOK}]},
    "/v1/messages": {
        "max_tokens": 2000,
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
    },
}
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def assert_failed(ours: Api, path: str, stream: bool, body: dict[str, Any], code: str) -> None:
    """Before a word has left, an error is a status, streamed or not."""
    failed = ours.post(path, stream=stream, **body)
    assert failed.status_code == 502
    assert path == "/v1/messages" or failed.json["error"]["code"] == code


@both_ways
@pytest.mark.parametrize("path", ASKED)
def test_a_call_of_nothing_on_offer_is_no_answer(
    api: MakeApi, fake: FakeFlowith, path: str, stream: bool
) -> None:
    ours = api(FLOWITH_API="llm")
    fake.reply(llm(CALLS, finish="tool_calls"), llm("tea"))
    answered = ours.post(path, stream=stream, **ASKED[path])
    assert answered.status_code == 200
    assert "tea" in answered.text
    assert "look" not in answered.text
    fake.reply(llm(CALLS, finish="tool_calls"))
    assert_failed(ours, path, stream, ASKED[path], "unmet_requirement")


@both_ways
@pytest.mark.parametrize("path", ASKED)
def test_an_answer_that_ends_in_a_call_and_holds_nothing_is_empty(
    api: MakeApi, fake: FakeFlowith, path: str, stream: bool
) -> None:
    fake.reply(llm(finish="tool_calls"))
    ours = api(FLOWITH_API="llm", RETRY_ATTEMPTS="2")
    assert_failed(ours, path, stream, ASKED[path], "empty_response")
    assert len(fake.requests) == 2


@both_ways
@pytest.mark.parametrize("path", OFFERED)
def test_a_call_that_did_not_come_is_asked_for_once_more(
    api: MakeApi, fake: FakeFlowith, path: str, stream: bool
) -> None:
    lost = llm("I look.", finish="tool_calls")
    fake.reply(lost, llm("I look.", BLOCK))
    answered = api(FLOWITH_API="llm").post(path, stream=stream, **OFFERED[path])
    if stream:  # the words have left, and nobody can take them back
        assert '"error":{' in answered.text
        assert "I look." in answered.text
        assert len(fake.requests) == 1
    else:
        assert '"look"' in answered.text
        assert len(fake.requests) == 2


def finish_of(ours: Api, path: str, stream: bool, body: dict[str, Any]) -> str:
    answered = ours.post(path, stream=stream, **body)
    last = chunks(answered.data)[-2] if stream else answered.json
    return str(last["choices"][0]["finish_reason"])


@both_ways
@pytest.mark.parametrize(
    ("reply", "body", "finish"),
    [
        (web("I look. ", BLOCK, "\nThen stop here."), {"stop": "stop here"}, "tool_calls"),
        (web("I stop here."), {"stop": "stop here"}, "stop"),
    ],
    ids=["behind a call", "without one"],
)
def test_a_stop_string_behind_a_call_leaves_it_a_call(
    api: MakeApi, fake: FakeFlowith, reply: Reply, body: dict[str, Any], finish: str, stream: bool
) -> None:
    fake.reply(reply)
    path = "/v1/chat/completions"
    assert finish_of(api(), path, stream, {**OFFERED[path], **body}) == finish


@both_ways
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_words_that_end_in_a_call_nobody_offered_just_end(
    api: MakeApi, fake: FakeFlowith, path: str, stream: bool
) -> None:
    fake.reply(llm("tea", finish="tool_calls"))
    assert finish_of(api(FLOWITH_API="llm"), path, stream, ASKED[path]) == "stop"


NONE: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"tool_choice": "none"},
    "/v1/responses": {"tool_choice": "none"},
    "/v1/messages": {"tool_choice": {"type": "none"}},
}


@both_ways
@pytest.mark.parametrize("offers", [False, True], ids=["no tools", "tools that must not be called"])
@pytest.mark.parametrize("path", OFFERED)
def test_a_call_among_words_that_nobody_may_make_is_left_out(
    api: MakeApi, fake: FakeFlowith, path: str, offers: bool, stream: bool
) -> None:
    body = {**OFFERED[path], **NONE[path]} if offers else ASKED[path]
    fake.reply(llm("I look.", CALLS, " It is tea.", finish="tool_calls"))
    answered = api(FLOWITH_API="llm").post(path, stream=stream, **body)
    assert answered.status_code == 200
    assert "tea" in answered.text
    for sign in ('"function_call"', '"tool_use"', '"tool_calls"'):
        assert sign not in answered.text


@both_ways
def test_such_a_call_is_no_reason_to_do_without_the_json_that_was_asked_for(
    api: MakeApi, fake: FakeFlowith, stream: bool
) -> None:
    body = {"response_format": {"type": "json_object"}}
    fake.reply(llm("No.", CALLS, finish="tool_calls"))
    path = "/v1/chat/completions"
    assert_failed(api(FLOWITH_API="llm"), path, stream, body, "unmet_requirement")
