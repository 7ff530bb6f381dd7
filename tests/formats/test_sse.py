"""Server-sent events as bytes: no line is cut, whatever a reader takes for its end."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import Citation, Done, Event, Reasoning, Tally, Text, ToolCall
from formats import Format, anthropic, chat, legacy_completions, responses
from formats.sse import LONGEST_PIECE, dumps, pieces, quoted
from settings import Settings

HALF = "\ud83d"  # of a surrogate pair, which UTF-8 cannot hold
ASKED: dict[str, dict[str, object]] = {
    "chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "completions": {"prompt": "Hi"},
    "responses": {"input": "Hi"},
    "anthropic": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9},
}
LINE_ENDS = "".join(map(chr, (*range(0x20), 0x7F, 0x85, 0x2028, 0x2029)))
NESTED: object = []
for _ in range(400):
    NESTED = [NESTED]
TEXT = f'é😀"\\{LINE_ENDS}日本'


@pytest.mark.parametrize("text", ["", "plain", "é", TEXT, TEXT * 500], ids=len)
def test_text_is_one_line_to_any_reader(text: str) -> None:
    for line in (quoted(text), dumps({"a": [text]}), dumps({text: 1})):
        assert len(line.splitlines()) == 1
        json.loads(line)
    assert json.loads(quoted(text)) == text
    assert json.loads(dumps(text)) == text


NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_any_value_is_one_line_that_means_the_same(value: object) -> None:
    line = dumps(value)
    assert len(line.splitlines()) == 1
    assert json.loads(line) == value


@pytest.mark.parametrize("value", [2**70, HALF, {"a": HALF}], ids=ascii)
def test_what_one_library_cannot_write_the_other_does(value: object) -> None:
    assert json.loads(dumps(value)) == value
    assert json.loads(dumps(NESTED))


@pytest.mark.parametrize("size", [0, 1, LONGEST_PIECE, LONGEST_PIECE + 1, 3 * LONGEST_PIECE])
def test_long_text_becomes_several_short_lines(size: int) -> None:
    text = "\u2028" * size
    lines = pieces("data: ", text, "\n\n").decode().splitlines()
    assert all(not second for first, second in pairwise(lines) if first)
    told = [line.removeprefix("data: ") for line in lines if line]
    assert "".join(json.loads(one) for one in told) == text
    assert max(map(len, told), default=0) < 60_000


def test_half_a_surrogate_pair_is_no_trouble() -> None:
    assert pieces("", HALF, "") == b'"?"'


@pytest.mark.parametrize(
    "format", [chat, legacy_completions, responses, anthropic], ids=lambda one: one.NAME
)
def test_half_a_surrogate_pair_anywhere_in_an_answer_is_no_trouble(format: Format) -> None:
    said: list[Event] = [
        Reasoning(HALF),
        Text(HALF),
        Citation(HALF, f"https://example.com/{HALF}", HALF, HALF),
        Citation(HALF, "", HALF, HALF),
        ToolCall(HALF, "f", f'{{"a": "{HALF}"}}'),
        ToolCall(HALF, "g", HALF, custom=True) if format is not anthropic else Text(HALF),
        Done("tool_calls"),
    ]
    settings = Settings()
    body = ASKED[format.NAME] | {"model": "a"}
    request = format.parse(json.dumps(body).encode(), settings)
    envelope = format.to_envelope(request, settings, "req_1")
    streamed = b"".join(format.stream(iter(said), envelope, Tally()))
    assert streamed.decode().endswith("\n\n")
    assert json.loads(format.whole(iter(said), envelope, Tally()).decode())


@pytest.mark.parametrize("format", [chat, legacy_completions, responses, anthropic])
def test_no_words_are_no_event(format: Format) -> None:
    asked = format.parse(
        dumps({"model": "m", "stream": True, **ASKED[format.NAME]}).encode(), Settings()
    )

    def events(*between: Event) -> int:
        told: list[Event] = [Text("a"), *between, Text("b"), Done()]
        envelope = format.to_envelope(asked, Settings(), "req_1")
        return b"".join(format.stream(iter(told), envelope, Tally())).count(b"data: ")

    assert events(Text(""), Reasoning("")) == events()
