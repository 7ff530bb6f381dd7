"""The shapes in which answers and errors come from models behind Flowith: each understood.

Every row is read whole and byte by byte, as two of Flowith's APIs may cut it anywhere.
"""

import json
import sys
import time
from types import FrameType
from typing import Any

import pytest
from test_decoders import delta, llm_wire

import errors
from errors import UpstreamCut, UpstreamError
from events import Done, Event, Reasoning, Silence, Text, ToolCall, Usage
from flowith.dialects import Decoder
from flowith.llm_decoder import MOST_LOOKED, MOST_ODD, LlmDecoder, is_json
from flowith.refusal import to_refusal
from flowith.web_decoder import WebDecoder

CALL = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
WHOLE = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}


def message(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", **fields}, "finish_reason": finish}]}


def read(decoder: Decoder, wire: bytes, size: int) -> list[Event]:
    events: list[Event] = []
    for i in range(0, len(wire), size):
        events += decoder.decode(wire[i : i + size])
    return events + decoder.flush()


def said(events: list[Event]) -> tuple[str, str, list[Event]]:
    text = "".join(e.text for e in events if isinstance(e, Text))
    thought = "".join(e.text for e in events if isinstance(e, Reasoning))
    return text, thought, [e for e in events if not isinstance(e, Text | Reasoning)]


REPEATED: dict[str, tuple[list[dict[str, Any]], tuple[str, str, list[Event]]]] = {
    "a last frame that holds the whole answer again": (
        [delta(content="Hel"), delta(content="lo"), message("stop", content="Hello")],
        ("Hello", "", [Done()]),
    ),
    "thoughts as deltas, the words in a message that has both": (
        [delta(reasoning_content="Hm"), message("stop", content="Hello", reasoning_content="Hm")],
        ("Hello", "Hm", [Done()]),
    ),
    "a call that stands in the message alone": (
        [delta(content="I look."), message("tool_calls", content="I look.", tool_calls=[CALL])],
        ("I look.", "", [ToolCall("c", "f", "{}"), Done("tool_calls")]),
    ),
    "a call that the deltas had": (
        [delta(tool_calls=[CALL]), message("tool_calls", tool_calls=[CALL])],
        ("", "", [ToolCall("c", "f", "{}"), Done("tool_calls")]),
    ),
    "messages that grow": (
        [message(content="Hel"), message(content="Hello"), message("stop", content="Hello")],
        ("Hello", "", [Done()]),
    ),
    "messages that are pieces": (
        [message(content="Hel"), message("stop", content="lo")],
        ("Hello", "", [Done()]),
    ),
    "a role, then the whole": (
        [delta(role="assistant", content=""), message("stop", content="Hello")],
        ("Hello", "", [Done()]),
    ),
    "a role, then thoughts and words in a message": (
        [delta(role="assistant"), message("stop", content="Hello", reasoning_content="Hm")],
        ("Hello", "Hm", [Done()]),
    ),
    "an old call that the deltas had": (
        [delta(function_call=CALL["function"]), message("stop", function_call=CALL["function"])],
        ("", "", [ToolCall("", "f", "{}"), Done("tool_calls")]),
    ),
    "a bare text": (
        [{"choices": [{"text": "Hel"}]}, {"choices": [{"text": "lo", "finish_reason": "stop"}]}],
        ("Hello", "", [Done()]),
    ),
    "thoughts in details alone": (
        [delta(reasoning_details=[{"type": "reasoning.text", "text": "Hm"}]),
         delta(reasoning_details=[{"type": "reasoning.summary", "summary": "!"}]),
         delta("stop", content="Hello")],
        ("Hello", "Hm!", [Done()]),
    ),
    "a frame about the answer alone": (
        [{"id": "x", "object": "o", "created": 1, "model": "m", "usage": None, "provider": "p",
          "service_tier": "t", "system_fingerprint": "f"}, delta("stop", content="Hello")],
        ("Hello", "", [Done()]),
    ),
    "members that are null": (
        [{"id": "x", "error": None, "message": None, "usage": {"prompt_tokens": 3}},
         {**delta("stop", content="Hello"), "error": None}],
        ("Hello", "", [Usage(3, 0), Done()]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("name", REPEATED)
def test_what_comes_twice_is_said_once_and_nothing_is_lost(name: str, size: int) -> None:
    frames, expected = REPEATED[name]
    assert said(read(LlmDecoder(), llm_wire(*frames), size)) == expected


def part(id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    """A fragment of a call at index 0."""
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"index": 0, "function": function} | ({"id": id} if id else {})


AT_ONE_INDEX: dict[str, tuple[list[dict[str, Any]], list[ToolCall]]] = {
    "two calls": (
        [part("a", "f", '{"x":1}'), part("b", "g", '{"y":'), part(None, None, "2}")],
        [ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", '{"y":2}')],
    ),
    "two calls of one tool": (
        [part("a", "f", '{"x":1}'), part("b", "f", '{"x":2}')],
        [ToolCall("a", "f", '{"x":1}'), ToolCall("b", "f", '{"x":2}')],
    ),
    "two calls without ids": (
        [part(None, "f", '{"x":1}'), part(None, "f", '{"x":2}')],
        [ToolCall("", "f", '{"x":1}'), ToolCall("", "f", '{"x":2}')],
    ),
    "two calls, the first without arguments": (
        [part("a", "f", ""), part("b", "g", "{}")],
        [ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}")],
    ),
    "name and id repeated": (
        [part("a", "f", '{"x":{}'), part("a", "f", ',"y":{}'), part("a", "f", "}")],
        [ToolCall("a", "f", '{"x":{},"y":{}}')],
    ),
    "name repeated": (
        [part(None, "f", ""), part(None, "f", '{"x":{}'), part(None, "f", "}")],
        [ToolCall("", "f", '{"x":{}}')],
    ),
    "an id for each fragment": (
        [part("a", "f", '{"x":{}'), part("b", None, "}")],
        [ToolCall("a", "f", '{"x":{}}')],
    ),
}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("name", AT_ONE_INDEX)
def test_calls_at_one_index_are_told_apart(name: str, together: bool) -> None:
    parts, calls = AT_ONE_INDEX[name]
    groups = [parts] if together else [[one] for one in parts]
    frames = [*(delta(tool_calls=group) for group in groups), delta("tool_calls")]
    assert read(LlmDecoder(), llm_wire(*frames), 100_000) == [*calls, Done("tool_calls")]


def test_arguments_too_deep_to_be_read_are_passed_on() -> None:
    deep = "[" * 20_000 + "]" * 20_000
    frames = [delta(tool_calls=[part("a", "f", deep)]), delta("tool_calls")]
    call = ToolCall("a", "f", deep)
    assert read(LlmDecoder(), llm_wire(*frames), 100_000) == [call, Done("tool_calls")]


def test_to_tell_calls_apart_is_not_tried_for_ever() -> None:
    parts = [part(None, "f", ',"k":{}') for _ in range(10_000)]
    more = delta(tool_calls=parts)
    frames = [delta(tool_calls=[part(None, "f", '{"a":{}')]), more, more]
    begun = time.process_time()
    read(LlmDecoder(), llm_wire(*frames, delta("length")), 100_000_000)
    assert time.process_time() - begun < 2


def test_a_call_too_long_to_tell_what_is_wrong_with_it_has_broken_off() -> None:
    """Python in place of JSON: to find its end takes a quarter of a second for each MB."""
    python = "{'a': [" + "1," * (MOST_ODD // 3) + "]}"
    calls = [{"index": i, "id": str(i), "function": {"name": "f", "arguments": python}}
             for i in range(2)]  # fmt: skip
    frames = [delta(tool_calls=calls), delta("tool_calls")]
    events = read(LlmDecoder(), llm_wire(*frames), 100_000_000)
    assert events == [ToolCall("0", "f", python), Done("length")]


def test_messages_that_do_not_repeat_each_other_take_no_longer_the_more_there_are() -> None:
    told = [
        f"line {i} of some sixty characters, as models write them all day\n" for i in range(80_000)
    ]
    wire = llm_wire(*[message(content=line) for line in told], message("stop"))
    begun = time.process_time()
    events = read(LlmDecoder(), wire, 8_192)
    assert time.process_time() - begun < 3
    assert "".join(event.text for event in events if isinstance(event, Text)) == "".join(told)


def test_an_open_call_is_not_looked_through_with_each_that_follows() -> None:
    """A whole call leaves when the next one begins; to see that of one of 500 KB takes 10 ms."""
    frames = [delta(tool_calls=[part("a", "f", '{"a":[' + "1," * 250_000)])]
    for i in range(1, 100):
        more = {"index": i, "id": str(i), "function": {"name": "g", "arguments": "{}"}}
        frames += [delta(tool_calls=[more]), delta(tool_calls=[part(None, None, "1,")])]
    looked = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal looked
        if event == "call" and frame.f_code is is_json.__code__:
            looked += len(frame.f_locals["text"])

    sys.setprofile(count)
    try:
        events = read(LlmDecoder(), llm_wire(*frames, delta("length")), 100_000)
    finally:
        sys.setprofile(None)
    assert looked <= MOST_LOOKED + 600_000  # and once more at the end
    assert len([one for one in events if isinstance(one, ToolCall)]) == 99


LAID_OUT = {
    "an object over lines": json.dumps(WHOLE, indent=2).encode(),
    "an object over lines, with CRLF": json.dumps(WHOLE, indent=2).replace("\n", "\r\n").encode(),
    "an event over lines": b'data: {"choices":\ndata: [{"delta": {"content": "Hello"},\n'
    b'data:"finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
}


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("name", LAID_OUT)
def test_json_that_is_laid_out_over_lines_is_read(name: str, size: int) -> None:
    assert said(read(LlmDecoder(), LAID_OUT[name], size)) == ("Hello", "", [Done()])


@pytest.mark.parametrize(
    "sign",
    [
        b": ping", b'data: {"type": "keepalive", "sequence_number": 3}', b'data: {"heartbeat": 1}',
        b"event: ping\ndata: 17", b"event: keep-alive\ndata:", b"data: ping", b"data: [PING]",
        b'event: heartbeat\ndata: {"time": 1}', b'data: {"type": "pong"}',
    ],
)  # fmt: skip
def test_signs_of_life_say_nothing(sign: bytes) -> None:
    wire = sign + b"\n\n" + llm_wire(delta(content="x"), delta("stop"))
    text, _, rest = said(read(LlmDecoder(), wire, 100_000))
    assert text == "x"
    assert set(map(type, rest)) <= {Silence, Done}


@pytest.mark.parametrize("odd", [b'{"type": ["ping"]}', b'{"type": {}}', b"pinged", b"17", b'"x"'])
def test_what_is_no_sign_of_life_is_an_error(odd: bytes) -> None:
    with pytest.raises(UpstreamError):
        read(LlmDecoder(), b"data: " + odd + b"\n\n", 100_000)


def test_an_error_that_is_laid_out_over_lines_keeps_its_meaning() -> None:
    body = json.dumps({"error": {"message": "No.", "code": 429}}, indent=2).encode()
    with pytest.raises(errors.RateLimited):
        read(LlmDecoder(), body, 100_000)


def test_json_over_lines_that_breaks_off_is_cut() -> None:
    with pytest.raises(UpstreamCut):
        read(LlmDecoder(), json.dumps(WHOLE, indent=2)[:-10].encode(), 100_000)


def test_a_broken_event_is_told_with_its_end_and_not_with_that_of_the_answer() -> None:
    with pytest.raises(UpstreamError, match="not JSON"):
        LlmDecoder().decode(b'data: {"choi\n\n')


def test_json_over_lines_has_an_end() -> None:
    wire = b"{\n" + b'"a": 1,\n' * 1_000_000
    with pytest.raises(UpstreamError, match="endless"):
        read(LlmDecoder(), wire, 100_000)


NO_ANSWERS: list[dict[str, Any]] = [
    {"error": "No."},
    {"success": False, "code": "x", "error": {"errors": [{"message": "No."}]}},
    {"success": False, "message": "No."},
    {"ok": False, "msg": "No."},
    {"type": "error", "message": "No."},
    {"status": "error", "msg": "No."},
    {"status": "failed", "detail": "No."},
    {"code": 500, "data": None, "msg": "No."},
]


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson", "application/jsonl"])
@pytest.mark.parametrize("body", NO_ANSWERS, ids=json.dumps)
def test_an_object_that_says_no_is_an_error_with_its_words(body: Any, kind: str) -> None:
    wire = json.dumps(body).encode() + b"\n"
    for decoder in (WebDecoder(kind), LlmDecoder(kind)):
        with pytest.raises(UpstreamError) as caught:
            read(decoder, wire, 100_000)
        assert caught.value.said == "No."


@pytest.mark.parametrize(
    "body",
    [{"success": True, "message": 1}, {"success": False, "reason": "x"}, {"status": "failed"},
     {"type": "x", "message": 1}, {"code": "print(1)"}, {"type": "error"}, {"errors": [1]}],
)  # fmt: skip
def test_an_object_that_does_not_say_no_is_an_answer(body: Any) -> None:
    wire = json.dumps(body).encode()
    assert read(WebDecoder("application/json"), wire, 100_000) == [Text(wire.decode()), Done()]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "x", "code": "rate_limit_exceeded"}}, errors.RateLimited),
        ({"error": {"message": "x", "status": "RESOURCE_EXHAUSTED"}}, errors.RateLimited),
        ({"type": "error", "error": {"type": "rate_limit_error"}}, errors.RateLimited),
        ({"error": "Too many requests"}, errors.RateLimited),
        ({"success": False, "error": "x", "code": "INSUFFICIENT_CREDITS"}, errors.OutOfCredits),
        ({"error": {"message": "Insufficient credits."}}, errors.OutOfCredits),
        ({"error": {"type": "insufficient_quota"}}, errors.OutOfCredits),
        ({"error": "unauthorized", "statusCode": 401}, errors.UpstreamAuth),
        ({"error": {"code": "invalid_api_key", "type": "invalid_request_error"}},
         errors.UpstreamAuth),
        ({"code": 401, "msg": "login expired"}, errors.UpstreamAuth),
        ({"error": {"code": "model_not_found"}}, errors.UpstreamNotFound),
        ({"error": {"code": "context_length_exceeded"}}, errors.ContextTooLong),
        ({"error": {"code": "content_policy_violation"}}, errors.WordsRefused),
        ({"error": {"code": "content_filter"}}, errors.WordsRefused),
        ({"error": {"code": "moderation_blocked"}}, errors.WordsRefused),
        ({"error": {"status": "PERMISSION_DENIED"}}, errors.UpstreamAuth),
        ({"error": {"type": "request_too_large"}}, errors.ContextTooLong),
        ({"error": {"statusCode": 402}}, errors.OutOfCredits),
        ({"error": {"status_code": 402}}, errors.OutOfCredits),
        ({"error": "model_not_found"}, errors.UpstreamNotFound),
        ({"error": {"type": "invalid-request-error"}}, errors.UpstreamRejected),
        ({"error": {"type": "timeout_error"}}, errors.UpstreamTimeout),
        ({"error": {"type": "overloaded_error", "message": "Overloaded"}}, UpstreamError),
        ({"error": True, "message": "x"}, UpstreamError),
    ],
)  # fmt: skip
def test_an_error_without_a_status_means_what_it_calls_itself(
    body: Any, kind: type[UpstreamError]
) -> None:
    assert type(to_refusal(None, body)) is kind


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/login", errors.UpstreamAuth),
        ("https://flowith.io/auth/sign-in?next=/completion", errors.UpstreamAuth),
        ("https://edge.flowith.example/v2/completion", errors.UpstreamNotFound),
        ("/blogin", errors.UpstreamNotFound),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_who_is_sent_to_a_login_is_refused(
    status: int, place: str, kind: type[UpstreamError]
) -> None:
    assert type(to_refusal(status, b"", {"Location": place})) is kind


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"code": "context_length_exceeded"}, errors.ContextTooLong),
        (400, {"code": "content_policy_violation"}, errors.WordsRefused),
        (403, {"code": "content_policy_violation"}, errors.WordsRefused),
        (422, {"code": "context_length_exceeded"}, errors.ContextTooLong),
        (400, {"code": "insufficient_quota"}, errors.OutOfCredits),
        (403, {"code": "insufficient_quota"}, errors.OutOfCredits),
        (429, {"code": "insufficient_quota"}, errors.OutOfCredits),
        (429, {"message": "Insufficient credits", "code": "rate_limit"}, errors.RateLimited),
        (500, {"code": "insufficient_quota"}, UpstreamError),
        (401, {"code": 429}, errors.UpstreamAuth),
        (405, {}, errors.UpstreamNotFound),
        (408, {}, errors.UpstreamTimeout),
        (410, {}, errors.UpstreamNotFound),
    ],
)
def test_a_status_decides_and_a_name_says_which_of_its_kinds(
    status: int, error: Any, kind: type[UpstreamError]
) -> None:
    assert type(to_refusal(status, json.dumps({"error": error}).encode())) is kind
