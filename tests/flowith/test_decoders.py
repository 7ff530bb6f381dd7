"""What Flowith's bytes mean, in its three APIs, whole, cut anywhere, and wrong.

Decoders are pure: what only a socket can show is in tests/service/.
"""

import json
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import errors
from errors import UpstreamCut, UpstreamError
from events import Citation, Done, Event, Reasoning, Silence, Text, ToolCall, Usage
from flowith.dialects import Decoder
from flowith.knowledge_decoder import KnowledgeDecoder
from flowith.line_decoder import MOST_PARTS
from flowith.llm_decoder import MOST_OPEN_CALLS, LlmDecoder
from flowith.web_decoder import LONGEST_ERROR, WebDecoder


def llm_wire(*frames: Any, done: bool = True) -> bytes:
    lines = [f if isinstance(f, bytes) else b"data: " + json.dumps(f).encode() for f in frames]
    return b"\n\n".join([*lines, *([b"data: [DONE]"] if done else [])]) + b"\n\n"


def delta(finish: Any = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def call_part(index: int | None, arguments: Any, **fields: Any) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": fields.pop("name")} if "name" in fields else {})
    return {**({} if index is None else {"index": index}), **fields, "function": function}


THOUGHTS: list[dict[str, Any]] = [
    {"reasoning_content": "Hm"},
    {"reasoning": "Hm"},
    {"thinking": "Hm"},
    {"thought": "Hm"},
    {"thoughts": ["H", {"text": "m"}]},
    {"reasoning_text": "Hm"},
    {"cot": {"content": "Hm"}},
    {"reasoning": "", "thinking": "Hm"},
    {"content": [{"type": "thinking", "thinking": "Hm"}]},
]
WIRES: dict[str, tuple[Callable[..., Decoder], bytes, list[Event]]] = {
    "web": (WebDecoder, "Héllo 你好 🙂".encode(), [Text("Héllo 你好 🙂"), Done()]),
    "web, broken utf-8": (WebDecoder, b"a\xf0\x9f!", [Text("a\ufffd!"), Done()]),
    "llm": (
        LlmDecoder,
        llm_wire(delta(role="assistant", content=""), delta(content="Hé"), delta(content="llo"),
                 {**delta("stop"), "usage": {"prompt_tokens": 3, "completion_tokens": 5}}),
        [Text("Héllo"), Usage(3, 5), Done()],
    ),
    "web, a byte order mark": (WebDecoder, b"\xef\xbb\xbfHi", [Text("Hi"), Done()]),
    "llm, a byte order mark": (LlmDecoder, b"\xef\xbb\xbf" + llm_wire(delta("stop", content="x")),
                               [Text("x"), Done()]),
    "llm, names of events": (
        LlmDecoder, b"event: message\nid: 1\nretry: 5\n" + llm_wire(delta("stop", content="x")),
        [Text("x"), Done()]),
    "llm, content as an object": (
        LlmDecoder, llm_wire(delta("stop", content={"type": "text", "text": "x"})),
        [Text("x"), Done()]),
    "llm, a refusal": (LlmDecoder, llm_wire(delta("stop", refusal="No.")), [Text("No."), Done()]),
    "llm, frames that say nothing": (
        LlmDecoder,
        llm_wire({"model": "m"}, {"choices": []}, {"type": "ping"}, delta("stop", content="x")),
        [Silence(), Text("x"), Done()],
    ),
    "llm, the old form of a call": (
        LlmDecoder,
        llm_wire(delta(function_call={"name": "f", "arguments": '{"x":'}),
                 delta("function_call", function_call={"arguments": "1}"})),
        [ToolCall("", "f", '{"x":1}'), Done("tool_calls")],
    ),
    "llm, a call cut by its length": (
        LlmDecoder,
        llm_wire(delta(tool_calls=[call_part(0, '{"x":1}', id="a", name="f")]),
                 delta(tool_calls=[call_part(1, '{"x":"rm -rf /home/me/ol', id="b", name="g")]),
                 delta("length")),
        [ToolCall("a", "f", '{"x":1}'), Done("length")],
    ),
    "llm, a call without arguments cut by its length": (
        LlmDecoder, llm_wire(delta("length", tool_calls=[call_part(0, "", id="a", name="f")])),
        [Done("length")],
    ),
    "llm, a call cut in a value": (
        LlmDecoder,
        llm_wire(delta("tool_calls", tool_calls=[call_part(0, '{"x":{"y":[1', id="a", name="f")])),
        [Done("length")],
    ),
    "llm, a call cut in a string": (
        LlmDecoder,
        llm_wire(delta("stop", tool_calls=[call_part(0, '"{\\"', id="a", name="f")])),
        [Done("length")],
    ),
    "llm, a call that is no JSON but whole": (
        LlmDecoder,
        llm_wire(delta("tool_calls", tool_calls=[call_part(0, "{'x': 1}", id="a", name="f")])),
        [ToolCall("a", "f", "{'x': 1}"), Done("tool_calls")],
    ),
    "knowledge, a byte order mark": (
        KnowledgeDecoder, b'\xef\xbb\xbfdata: {"tag":"final","content":"x"}\n\n',
        [Text("x"), Done()]),
    "llm, crlf, comments and empty deltas": (
        LlmDecoder,
        llm_wire(b": ping", delta(), delta(content="x"), delta("length")).replace(b"\n", b"\r\n"),
        [Text("x"), Done("length")],
    ),
    "llm, cr alone": (
        LlmDecoder,
        llm_wire(b"event: ping\ndata: 1", delta(content="x"), delta("stop")).replace(b"\n", b"\r"),
        [Silence(), Text("x"), Done()],
    ),
    "llm, all three line ends": (
        LlmDecoder,
        b'event: ping\r\ndata: 1\r\r\ndata: {"choices":\rdata: [{"delta":{"content":"x"},\n'
        b'data: "finish_reason":"stop"}]}\r\n\n\r',
        [Silence(), Text("x"), Done()],
    ),
    "knowledge, cr alone": (KnowledgeDecoder, b'data: {"tag":"final","content":"x"}\r\r',
                            [Text("x"), Done()]),
    "llm, no [DONE]": (LlmDecoder, llm_wire(delta("stop", content="x"), done=False),
                       [Text("x"), Done()]),
    "llm, whole JSON": (
        LlmDecoder,
        b'{"choices":[{"message":{"content":"x","reasoning_content":"y"},"finish_reason":"stop"}]}',
        [Reasoning("y"), Text("x"), Done()],
    ),
    "llm, a surrogate pair in two frames": (
        LlmDecoder,
        b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ude42b\\ud83d!"}}]}\n\ndata: [DONE]\n\n',
        [Text("a🙂b\ufffd!"), Done()],
    ),
    "llm, half a surrogate pair at the end": (
        LlmDecoder, llm_wire(delta(content="a\ud83d"), delta("stop")),
        [Text("a\ufffd"), Done()],
    ),
    "llm, nothing but half a surrogate pair, before a call": (
        LlmDecoder,
        llm_wire(delta(content="\ud83d"), delta(tool_calls=[call_part(0, "{}", id="a", name="f")]),
                 delta("stop")),
        [Text("\ufffd"), ToolCall("a", "f", "{}"), Done("tool_calls")],
    ),
    "llm, surrogate pairs of thoughts and text, mixed": (
        LlmDecoder,
        llm_wire(delta(reasoning="a\ud83d"), delta(content="b\ud83d"), delta(reasoning="\ude42"),
                 delta(content="\ude42"), delta("stop")),
        [Reasoning("a"), Text("b"), Reasoning("🙂"), Text("🙂"), Done()],
    ),
    "llm, a surrogate pair in two fragments of a call": (
        LlmDecoder,
        llm_wire(delta(tool_calls=[call_part(0, '{"x":"\ud83d', id="a", name="f")]),
                 delta(tool_calls=[call_part(0, '\ude42\ud83d"}')]), delta("stop")),
        [ToolCall("a", "f", '{"x":"🙂\ufffd"}'), Done("tool_calls")],
    ),
    "knowledge, half a surrogate pair at the end": (
        KnowledgeDecoder, b'data: {"tag":"final","content":"a\\ud83d"}\n\ndata: [DONE]\n\n',
        [Text("a\ufffd"), Done()],
    ),
    "llm, u+2028 and u+0085 are text": (
        LlmDecoder, 'data: {"choices":[{"delta":{"content":"a\u2028b\x85c"}}]}\n\n'
        "data: [DONE]\n\n".encode(), [Text("a\u2028b\x85c"), Done()],
    ),
    "llm, native calls": (
        LlmDecoder,
        llm_wire(
            delta(tool_calls=[call_part(0, "", id="a", name="f")]),
            delta(tool_calls=[call_part(0, '{"x":')]),
            delta(tool_calls=[call_part(0, "1}")]),
            delta(tool_calls=[call_part(1, {"y": 2}, id="b", name="g")]),
            delta("tool_calls"),
        ),
        [ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", '{"y": 2}'), Done("tool_calls")],
    ),
    "llm, calls of one tool without index and arguments": (
        LlmDecoder,
        llm_wire(delta(tool_calls=[call_part(None, "", id="a", name="f")]),
                 delta(tool_calls=[call_part(None, "", id="b", name="f")]), delta("stop")),
        [ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}"), Done("tool_calls")],
    ),
    "llm, native calls without index": (
        LlmDecoder,
        llm_wire(delta(tool_calls=[call_part(None, "", id="a", name="f")]),
                 delta(tool_calls=[call_part(None, "{}")]), delta("stop")),
        [ToolCall("a", "f", "{}"), Done("tool_calls")],
    ),
    "knowledge": (
        KnowledgeDecoder,
        b'data: {"tag":"searching","content":"..."}\n\n'
        b'data: {"tag":"seeds","content":[{"id":"1","content":"c","source_id":"s",'
        b'"source_title":"T"},{"source_title":"https://x.y/z"},7]}\n\n'
        b'data: {"tag":"final","content":"Hel"}\n\ndata: {"tag":"final","content":"lo"}\n\n'
        b'data: {"tag":"final","content":"[DONE]"}\n\n',
        [Silence(), Citation("T", "", "c", "s"), Citation("https://x.y/z", "https://x.y/z"),
         Text("Hello"), Done()],
    ),
    "knowledge, plain end": (KnowledgeDecoder, b'data: {"tag":"final","content":"x"}\n\n'
                             b"data: [DONE]\n\n", [Text("x"), Done()]),
    "knowledge, one JSON": (KnowledgeDecoder, b'{"tag":"final","content":"x"}',
                            [Text("x"), Done()]),
}  # fmt: skip
for number, thought in enumerate(THOUGHTS):
    answer: list[Event] = [Reasoning("Hm"), Text("x"), Done()]
    WIRES[f"thought {number}"] = (
        LlmDecoder,
        llm_wire({"choices": [{"delta": thought}]}, delta("stop", content="x"), done=False),
        answer,
    )


def decoded(kind: Callable[..., Decoder], blocks: list[bytes]) -> list[Event]:
    decoder = kind()
    events = [event for block in blocks for event in decoder.decode(block)]
    events += decoder.flush() if Done not in map(type, events) else []
    return events


def joined(events: list[Event]) -> list[Event]:
    whole: list[Event] = []
    for event in events:
        last = whole[-1] if whole else None
        if isinstance(event, Text) and isinstance(last, Text):
            whole[-1] = Text(last.text + event.text)
        elif isinstance(event, Reasoning) and isinstance(last, Reasoning):
            whole[-1] = Reasoning(last.text + event.text)
        else:
            whole.append(event)
    return whole


@pytest.mark.parametrize("name", WIRES)
def test_a_wire_means_the_same_at_every_two_way_split(name: str) -> None:
    kind, wire, events = WIRES[name]
    assert decoded(kind, [wire]) == events
    for i in range(1, len(wire)):
        assert joined(decoded(kind, [wire[:i], wire[i:]])) == events, i
    assert joined(decoded(kind, [wire[i : i + 1] for i in range(len(wire))])) == events


@given(st.sampled_from(sorted(WIRES)), st.data())
def test_a_wire_means_the_same_however_it_is_cut(name: str, data: st.DataObject) -> None:
    kind, wire, events = WIRES[name]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=12)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    assert joined(decoded(kind, pieces)) == events


@given(st.binary(max_size=200))
def test_no_bytes_make_a_decoder_fail_in_an_unknown_way(wire: bytes) -> None:
    for kind in (WebDecoder, LlmDecoder, KnowledgeDecoder):
        with suppress(UpstreamError):
            decoded(kind, [wire])


ENDS = {
    "stop": "stop", "STOP": "stop", "end_turn": "stop", "MAX_TOKENS": "length", "Length": "length",
    "SAFETY": "content_filter", "content_filter": "content_filter", "tool_use": "tool_calls",
}  # fmt: skip


@pytest.mark.parametrize("word", ENDS)
def test_words_for_an_end_are_known_in_any_case(word: str) -> None:
    assert decoded(LlmDecoder, [llm_wire(delta(word, content="x"))])[-1] == Done(ENDS[word])


def test_odd_counts_of_tokens_are_left_out() -> None:
    for usage in ({"prompt_tokens": "x"}, 1, {"completion_tokens_details": 7}):
        wire = llm_wire({"usage": usage}, delta("stop", content="ok"))
        assert "ok" in [e.text for e in decoded(LlmDecoder, [wire]) if isinstance(e, Text)]


def test_a_part_that_is_more_than_its_whole_is_left_out() -> None:
    """Formats add and subtract them, each in its own way, and would tell different sums."""
    odd = {
        "prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 6},
    }  # fmt: skip
    even = odd | {"prompt_tokens": 4, "completion_tokens": 6}
    wire = llm_wire({"usage": odd}, {"usage": even}, delta("stop", content="ok"))
    found = [event for event in decoded(LlmDecoder, [wire]) if isinstance(event, Usage)]
    assert found == [Usage(3, 5), Usage(4, 6, 6, 4)]


def nested(value: Any, levels: int) -> Any:
    """The value in so many lists."""
    for _ in range(levels):
        value = [value]
    return value


OPEN_CALLS = [call_part(i, "{", name="f") for i in range(MOST_OPEN_CALLS + 1)]


def many(member: str, part: str) -> bytes:
    parts = ",".join([part] * (MOST_PARTS + 1))
    return f'data: {{"choices":[{{"delta":{{"{member}":[{parts}]}}}}]}}\n'.encode() + END


UNKNOWN: dict[str, tuple[Callable[..., Decoder], bytes]] = {
    f"{number}, llm {frame}"[:60]: (LlmDecoder, llm_wire(frame, delta("stop", content="ok")))
    for number, frame in enumerate((
        {"choices": "x"}, {"choices": 5}, {"choices": [1]}, {"choices": [{"delta": 1}]},
        {"choices": {}}, {"answer": "x"}, [1], 7, "x", {"message": "no", "code": 9},
        delta(content=7), delta(content=True), delta(content={"a": 1}), delta(content=[7]),
        delta(content=[{"type": "image", "text": "x"}]), delta(tool_calls="x"),
        delta(reasoning=nested("Hm", 500)),
        delta(tool_calls=7), delta(tool_calls=[1]), delta(tool_calls=[{"function": "x"}]),
        delta(tool_calls=[call_part(0, "{}")]), delta(tool_calls=OPEN_CALLS),
        {"choices": [{"index": 1, "delta": {"content": "x"}}]},
        {"choices": [{"delta": {"content": "x"}}, {"delta": {"content": "y"}}]},
        {"choices": [{"delta": {}, "error": {"message": "no"}}]},
        {"usage": {"prompt_tokens": 10**30}, "choices": []},
        *(delta(word) for word in ("error", "OTHER", "insufficient_system_resource", 7, ["stop"])),
    ))
}  # fmt: skip
END = llm_wire(delta("stop", content="ok"))
UNKNOWN |= {
    "llm, no JSON": (LlmDecoder, b"data: {oops}\n" + END),
    "llm, no JSON and no data": (LlmDecoder, b'{"choices":\n' + END),
    "llm, JSON too deep to be read": (LlmDecoder, b"data: " + b"[" * 5000 + b"\n" + END),
    "llm, a line of text": (LlmDecoder, b"Service unavailable\n" + END),
    "llm, an event called error": (LlmDecoder, b'event: error\ndata: {"choices":[]}\n\n' + END),
    "llm, an error that is text": (LlmDecoder, b'event: ERROR\ndata: "no"\n\n' + END),
    "llm, a number without end": (LlmDecoder, b'data: {"x":' + b"9" * 5000 + b"}\n" + END),
    "knowledge, an unknown tag": (KnowledgeDecoder, b'data: {"tag":"new","content":"x"}\n'),
    "knowledge, an error": (KnowledgeDecoder, b'data: {"tag":"error","content":"x"}\n'),
    "knowledge, an error's name": (KnowledgeDecoder, b"event: error\n"),
    "knowledge, an error without data": (KnowledgeDecoder, b"event: error\n\n"),
    "llm, an error with empty data": (LlmDecoder, b"event: error\ndata:\n\n" + END),
    "knowledge, no tag": (KnowledgeDecoder, b'data: {"content":"x"}\n'),
    "knowledge, an array": (KnowledgeDecoder, b"data: []\n"),
    "knowledge, a line of text": (KnowledgeDecoder, b"Service unavailable\n"),
    "knowledge, odd content": (KnowledgeDecoder, b'data: {"tag":"final","content":7}\n'),
    "knowledge, more sources than can be true": (
        KnowledgeDecoder, b'data: {"tag":"seeds","content":[{}%b]}\n' % (b",{}" * MOST_PARTS)),
    "llm, more blocks than can be true": (LlmDecoder, many("content", '""')),
    "llm, more thoughts than can be true": (LlmDecoder, many("reasoning_details", '""')),
    "llm, more parts of calls than can be true": (LlmDecoder, many("tool_calls", "{}")),
    "knowledge, a message": (KnowledgeDecoder, b'{"message":"no","code":"x"}\n'),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_an_error(name: str) -> None:
    kind, wire = UNKNOWN[name]
    for pieces in ([wire], [wire[i : i + 1] for i in range(len(wire))]):
        with pytest.raises(UpstreamError) as wrong:
            decoded(kind, pieces)
        assert wrong.value.status == 502


CUTS: dict[str, tuple[Callable[..., Decoder], bytes]] = {
    "web, in a character": (WebDecoder, "Hello 你".encode()[:-1]),
    "llm, in a frame": (
        LlmDecoder,
        llm_wire(delta("stop", content="x"), done=False) + b'data: {"a',
    ),
    "llm, in a bare frame": (LlmDecoder, b'{"choices":[{"message":{"content":"x"},"fini'),
    "llm, before its end": (LlmDecoder, llm_wire(delta(content="x"), done=False)),
    "knowledge, in a frame": (
        KnowledgeDecoder,
        b'data: {"tag":"final","content":"x"}\n\ndata: {"t',
    ),
}


@pytest.mark.parametrize("name", CUTS)
def test_an_answer_that_ends_in_the_middle_is_cut(name: str) -> None:
    kind, wire = CUTS[name]
    with pytest.raises(UpstreamCut):
        decoded(kind, [wire])


JSON_BODIES: dict[str, type[UpstreamError] | None] = {
    '{"error": {"message": "no", "code": 402}}': errors.OutOfCredits,
    ' {"message": "no", "code": "x"}': UpstreamError,
    '{"answer": 42}': None,
    "{name} is a name": None,
    "Hello {": None,
}


def read_web(content_type: str, body: str, size: int) -> list[Event]:
    """What is made of a body that comes in blocks of this size."""
    decoder = WebDecoder(content_type)
    blocks = [body[i : i + size].encode() for i in range(0, len(body), size)]
    events = [event for block in blocks for event in decoder.decode(block)]
    return joined([*events, *decoder.flush()])


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("body", JSON_BODIES)
def test_an_error_under_the_type_of_json_is_no_answer(body: str, size: int) -> None:
    wrong = JSON_BODIES[body]
    if wrong is None:
        assert read_web("application/json", body, size) == [Text(body), Done()]
        return
    with pytest.raises(UpstreamError) as raised:
        read_web("application/json", body, size)
    assert type(raised.value) is wrong
    assert read_web("text/plain", body, size) == [Text(body), Done()]


def test_json_too_deep_to_be_read_is_text() -> None:
    text = '{"a":' * 5000
    assert read_web("application/json", text, 1000) == [Text(text), Done()]


def test_an_object_as_long_as_no_error_is_not_looked_through() -> None:
    """To parse 16 MB takes a second, for which nobody else had a turn."""
    long = json.dumps({"error": "x" * LONGEST_ERROR})
    assert read_web("application/json", long, 100_000) == [Text(long), Done()]
    with pytest.raises(UpstreamError):
        read_web("application/json", json.dumps({"error": "x" * (LONGEST_ERROR - 20)}), 100_000)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_frames_are_no_plain_text(size: int) -> None:
    with pytest.raises(UpstreamError, match="frames"):
        read_web("text/event-stream", '\ndata: {"x": 1}\n\n', size)
    text = "data flows: yes"
    assert read_web("text/event-stream", text, size) == [Text(text), Done()]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "no", "code": 429}, errors.RateLimited),
        ({"message": "no", "code": "402"}, errors.OutOfCredits),
        ("context length exceeded", errors.ContextTooLong),
        ("no", UpstreamError),
        ({"x": 1}, UpstreamError),
        ({"message": "no", "code": 10**400}, UpstreamError),
        ({"message": "no", "code": "9" * 5000}, UpstreamError),
        ({"message": "no", "code": ["402"]}, UpstreamError),
    ],
)
def test_an_error_inside_a_good_status_is_an_error(error: Any, kind: type[UpstreamError]) -> None:
    with pytest.raises(UpstreamError) as wrong:
        decoded(LlmDecoder, [llm_wire({"error": error})])
    assert type(wrong.value) is kind


def test_a_long_line_is_put_together_once_and_an_endless_one_is_an_error() -> None:
    decoder = LlmDecoder()
    frame = llm_wire(delta("stop", content="x" * 3_000_000))
    tracemalloc.start()
    try:
        for i in range(0, len(frame), 1000):
            decoder.decode(frame[i : i + 1000])
        assert tracemalloc.get_traced_memory()[1] < 10 * len(frame)
    finally:
        tracemalloc.stop()
    with pytest.raises(UpstreamError, match="endless"):
        decoded(LlmDecoder, [b"x" * 1_000_000] * 6)


def test_of_a_long_passage_the_beginning_is_told() -> None:
    """Each reader of an answer gets a passage in one line, and some take no long ones."""
    seed = json.dumps({"tag": "seeds", "content": [{"content": "c" * 2_001}]})
    (found,) = KnowledgeDecoder().decode(f"data: {seed}\n\n".encode())
    assert found == Citation("", "", "c" * 2_000)
