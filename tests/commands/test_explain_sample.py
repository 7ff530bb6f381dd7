"""What a sample says in words: how each call was answered, and what to change."""

from dataclasses import replace

import pytest
from conftest import ROOT

from commands.explain_sample import body_form, explain
from commands.sample_file import Exchange, Sample, read_sample

DATA = ROOT / "tests" / "data"
GOOD = read_sample(DATA / "stand-in-good-day.jsonl")
BAD = read_sample(DATA / "stand-in-bad-day.jsonl")


def told(sample: Sample, call: str) -> str:
    """What is said of a call: "llm, plain, Bearer key: 200"."""
    (found,) = [one for one in "\n".join(explain(sample)).split("\n\n") if one.startswith(call)]
    return found


def changes(exchanges: list[Exchange]) -> list[str]:
    lines = explain(Sample("2026-11-25", "1.0.0", tuple(exchanges)))
    return [line.strip(" -") for line in lines[lines.index("What to change:") + 1 :]]


def one_of(api: str, call: str) -> Exchange:
    found = (one for one in GOOD.exchanges if (one.api, one.call) == (api, call))
    return min(found, key=lambda one: one.status)


def test_a_good_day_is_explained() -> None:
    thinking = told(GOOD, "llm, thinking, Bearer key: 200, clean")
    assert "/external/use/llm: HTTP/1.1, chunked, text/event-stream" in thinking
    assert "data: lines with choices, completion_tokens, content, delta" in thinking
    assert 'it begins: data: {"model": "demo", "choices": [{"index": 0, "delta": {"re' in thinking
    assert 'read as: text "9.9", reasoning "Compare the tenths.", finish "stop", us' in thinking
    assert "<think>" in told(GOOD, "web, thinking, bare login: 200")
    for call in ("system message", "image", "tool", "max_tokens"):
        assert "what it asks for is honoured: yes" in told(GOOD, f"llm, {call}, Bearer key: 200")
    assert "what it asks for is honoured: no" in told(GOOD, "web, tool, bare login: 200")
    refused = told(GOOD, "llm, wrong token form, bare key: 401")
    assert 'one JSON object with error, request_id\n  - it begins: {"error": "Una' in refused
    assert changes(list(GOOD.exchanges)) == [
        'models.json: rows for "gpt-5.6-sol": "api": "llm", "native_tools": true'
    ]


def test_a_bad_day_is_explained() -> None:
    assert 'read as: text "Hello", error "upstream_cut"' in told(BAD, "llm, plain, Bearer key: 200")
    assert "  - a web page\n" in told(BAD, "llm, unknown model, Bearer key: 404")
    assert 'error "empty_response"' in told(BAD, "llm, image, Bearer key: 200, clean")
    assert "left out (the body is compressed" in told(BAD, "llm, tool, Bearer key: 200")
    assert 'error "rate_limit_exceeded"' in told(BAD, "llm, max_tokens, Bearer key: 429")


@pytest.mark.parametrize(
    ("call", "said"), [("system message", '"system_role": false'), ("image", '"images": false')]
)
def test_what_is_refused_is_a_field_of_the_row(call: str, said: str) -> None:
    refused = replace(one_of("web", call), status=400)
    assert changes([one_of("web", "plain"), refused]) == [
        f'models.json: rows for "gpt-5.6-sol": {said}'
    ]


def test_an_api_that_refuses_every_call_says_nothing_of_its_rows() -> None:
    refused = [replace(one_of("web", call), status=400) for call in ("plain", "image")]
    assert changes(refused) == ["nothing that this sample shows"]


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
        (b'data: {"choices": []}\n\n', "data: lines"),
        (b'data: {"tag": "final"}\n\n', "data: lines"),
        (b'event: x\ndata: {"heartbeat": 1}\n\n', "data: lines"),
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
