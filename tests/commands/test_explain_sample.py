"""What a sample says in words: how an API speaks, takes what it is sent, and what to change."""

from dataclasses import replace

import pytest
from conftest import ROOT

from commands.explain_sample import body_form, explain
from commands.sample_file import Exchange, Sample, read_sample

DATA = ROOT / "tests" / "data"
GOOD = read_sample(DATA / "stand-in-good-day.jsonl")
BAD = read_sample(DATA / "stand-in-bad-day.jsonl")


def told(sample: Sample, words: str) -> list[str]:
    return [line.strip(" -") for line in explain(sample) if words in line]


def changes(exchanges: list[Exchange]) -> list[str]:
    lines = explain(Sample("2026-11-25", "1.0.0", tuple(exchanges)))
    return [line.strip(" -") for line in lines[lines.index("What to change:") + 1 :]]


def one_of(api: str, call: str) -> Exchange:
    found = (one for one in GOOD.exchanges if (one.api, one.call) == (api, call))
    return min(found, key=lambda one: one.status)


def test_a_good_day_is_explained() -> None:
    assert told(GOOD, "expected: bare text") == [
        "the plain call: 200, bare text; expected: bare text"
    ]
    assert told(GOOD, "thoughts:") == [
        "thoughts: <think> in the text",
        "thoughts: member reasoning_content",
        "thoughts: none came",
    ]
    assert "usage: never comes" in told(GOOD, "usage:")
    assert told(GOOD, "finish_reason length, stop, tool_calls")
    assert told(GOOD, "Content-Type text/event-stream")
    assert told(GOOD, "with stream false: 200, one JSON object")
    assert told(GOOD, "bare key: refused (401); bare login: taken; Bearer login: refused (401)")
    assert told(GOOD, "honours: system message: yes; image: yes; tool: yes; max_tokens: yes")
    assert told(GOOD, "error of 'unknown model' (Bearer key): 404, one JSON object")
    assert changes(list(GOOD.exchanges)) == [
        'models.json: rows for "gpt-5.6-sol": "api": "llm", "native_tools": true'
    ]


def test_a_bad_day_is_explained() -> None:
    assert told(BAD, "200, data: lines with OpenAI's chunks, read as upstream_cut")
    assert told(BAD, "404, a web page")
    assert told(BAD, "system message: failed (upstream_error); image: failed (empty_response)")
    assert told(BAD, "tool: not told, as its body is left out")
    assert told(BAD, "error of 'max_tokens' (Bearer key): 429")


@pytest.mark.parametrize(
    ("call", "said"), [("system message", '"system_role": false'), ("image", '"images": false')]
)
def test_what_is_refused_is_a_field_of_the_row(call: str, said: str) -> None:
    refused = replace(one_of("web", call), status=400)
    assert changes([one_of("web", "plain"), refused]) == [
        f'models.json: rows for "gpt-5.6-sol": {said}'
    ]


def test_what_the_decoder_does_not_understand_is_to_be_reported() -> None:
    strange = replace(one_of("llm", "plain"), blocks=((0.1, b'data: {"choices": oh}\n\n'),))
    assert any("otherwise than the one that made" in line for line in changes([strange]))
    decoded = {**strange.decoded, "text": "", "error": "upstream_error"}
    assert any("report it" in line for line in changes([replace(strange, decoded=decoded)]))


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"", "empty"),
        (b"<!doctype html><html>", "a web page"),
        (b"<think>\nHm\n</think>\nHi", "bare text"),
        (b'{"a": 1}', "one JSON object"),
        (b'{"a": 1}\n{"a": 2}\n', "a JSON object on each line"),
        (b'data: {"choices": []}\n\n', "data: lines with OpenAI's chunks"),
        (b'data: {"tag": "final"}\n\n', "data: lines with a tag"),
        (b'event: x\ndata: {"heartbeat": 1}\n\n', "data: lines with JSON"),
        (b"Hello", "bare text"),
    ],
)
def test_the_form_of_a_body_is_told(body: bytes, form: str) -> None:
    assert body_form(replace(one_of("web", "plain"), blocks=((0.1, body),))) == form


def test_a_body_cannot_speak_to_the_terminal() -> None:
    evil = replace(one_of("web", "plain"), blocks=((0.1, b"\x1b[2J\x1b]0;owned\x07" + b"x" * 999),))
    lines = explain(Sample("2026-11-25", "1.0.0", (evil,)))
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) < 400
