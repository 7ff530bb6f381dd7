"""Legacy completions: what is asked, and the prompt said again before the answer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from errors import InvalidRequest, ProxyError, UpstreamCut
from events import Answering, Done, Event, Silence, Tally, Text
from formats import legacy_completions as legacy
from settings import Settings


def answer(*events: Event | ProxyError, **body: Any) -> dict[int | str, str]:
    raw = json.dumps({"model": "m", "prompt": "Say", **body}).encode()
    asked = legacy.parse(raw, Settings())
    envelope = legacy.to_envelope(asked, Settings(), "req_1")

    def told() -> Iterator[Event]:
        for event in events:
            if isinstance(event, ProxyError):
                raise event
            yield event

    if not asked.stream:
        whole = json.loads(legacy.whole(told(), envelope, Tally()))
        return {choice["index"]: choice["text"] for choice in whole["choices"]}
    said: dict[int | str, str] = {}
    try:
        for block in legacy.stream(told(), envelope, Tally()):
            for line in block.decode().splitlines():
                if line.startswith("data: {"):
                    for choice in json.loads(line[6:]).get("choices", ()):
                        said[choice["index"]] = said.get(choice["index"], "") + choice["text"]
    except ProxyError:
        said["failed"] = ""
    return said


@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_stands_before_the_text(stream: bool) -> None:
    one: list[Event] = [Silence(), Text(" it"), Done()]
    assert answer(*one, echo=True, stream=stream) == {0: "Say it"}
    assert answer(*one, echo=False, stream=stream) == {0: " it"}
    assert answer(*one, stream=stream) == {0: " it"}
    assert answer(Done(), echo=True, stream=stream) == {0: "Say"}
    two: list[Event] = [Answering(1), Text("2"), Done(), Answering(0), Text("1"), Done()]
    assert answer(*two, prompt=["a", "b"], echo=True, stream=stream) == {0: "a1", 1: "b2"}
    assert answer(*two, n=2, echo=True, stream=stream) == {0: "Say1", 1: "Say2"}


def test_an_error_before_the_first_word_is_not_preceded_by_an_echo() -> None:
    assert answer(UpstreamCut("cut"), echo=True, stream=True) == {"failed": ""}


def test_what_only_chat_has_is_named_as_without_effect() -> None:
    raw = b'{"model": "m", "prompt": "Say", "logprobs": 5, "tools": [], "best_of": 1}'
    assert set(legacy.parse(raw, Settings()).ignored) == {"logprobs", "tools", "best_of"}


def test_an_echo_is_a_boolean() -> None:
    with pytest.raises(InvalidRequest) as wrong:
        answer(echo="yes")
    assert (wrong.value.param, wrong.value.code) == ("echo", "invalid_type")


@pytest.mark.parametrize(
    ("body", "param"),
    [({"prompt": ["a"] * 9}, "prompt"), ({"prompt": ["a"] * 3, "n": 3}, "n")],
    ids=["prompts", "answers"],
)
def test_more_answers_than_a_service_gives_are_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        legacy.parse(json.dumps({"model": "m", **body}).encode(), Settings(max_choices=8))
    assert (wrong.value.status, wrong.value.param) == (400, param)
