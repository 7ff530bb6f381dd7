"""Flowith's three APIs: what goes up, what comes down, and which no means what.

Decoders are pure; calls are faked at `HTTPAdapter.send` by `responses`, so what only a socket can
show (timing, breaks, hang-ups) is in test_streaming.py and test_faults.py.
"""

import base64
import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st
from responses import matchers

import errors
from chat_request import Prompt
from errors import UpstreamCut, UpstreamError
from events import Citation, Done, Event, Reasoning, Silence, Text, ToolCall, Usage, Working
from flowith.client import Flowith, to_json
from flowith.dialects import Decoder, KnowledgeDecoder, LlmDecoder, WebDecoder
from flowith.refusal import quote, to_refusal
from settings import Model, Settings

KEY = "flo_" + "0123456789abcdef" * 2
LOGIN = "eyJhbGciOiJub25lIn0.login.sig"
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]


def flowith(**environ: str) -> Flowith:
    return Flowith(Settings.from_env({"FLOWITH_AUTH_TOKEN": LOGIN, **environ}))


def ask(flowith: Flowith, model: Model | None = None, **prompt: Any) -> list[Event]:
    answer = flowith.open(Prompt(**{"messages": HELLO, **prompt}), model or Model("m", ("m",)))
    try:
        return [e for e in answer.events() if not isinstance(e, (Silence, Working))]
    finally:
        answer.close()


@pytest.fixture
def upstream() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


WEB_URL = "https://edge.flowith.io/completion"
LLM_URL = "https://edge.flowith.io/external/use/llm"
SEEK_URL = "https://edge.flowith.net/external/use/knowledge-base/seek"
LLM_BODY = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n'


def sent(mock: responses.RequestsMock, i: int = 0) -> Any:
    return json.loads(mock.calls[i].request.body)  # type: ignore[arg-type]


def test_a_web_login_speaks_to_the_web_api_with_a_bare_token(
    upstream: responses.RequestsMock,
) -> None:
    wanted = {"Authorization": LOGIN, "Origin": "https://flowith.io", "Accept-Encoding": "identity"}
    upstream.post(WEB_URL, body=b"Hi", match=[matchers.header_matcher(wanted)])
    assert ask(flowith()) == [Text("Hi"), Done()]
    payload = sent(upstream)
    ids = [payload.pop(name) for name in ("nodeId", "convId")]
    assert [(uuid.UUID(i).version, uuid.UUID(i).variant) for i in ids] == [(4, uuid.RFC_4122)] * 2
    assert ids[0] != ids[1]
    assert payload == {
        "target_feature": "text_completion", "model": "m", "messages": HELLO, "stream": True,
    }  # fmt: skip


def test_a_flo_key_speaks_to_the_llm_api(upstream: responses.RequestsMock) -> None:
    wanted = {"Authorization": f"Bearer {KEY}"}
    upstream.post(LLM_URL, body=LLM_BODY, match=[matchers.header_matcher(wanted)])
    model = Model("m", ("m", "spare"))
    said = ask(flowith(FLOWITH_AUTH_TOKEN=KEY), model, thinking=False, options={"top_p": 1})
    assert said == [Text("Hi"), Done()]
    assert sent(upstream) == {
        "models": ["m", "spare"], "messages": HELLO, "stream": True, "thinking": False,
        "online": False, "top_p": 1,
    }  # fmt: skip


def test_a_row_with_knowledge_bases_asks_them(upstream: responses.RequestsMock) -> None:
    upstream.post(SEEK_URL, body=b'data: {"tag":"final","content":"Hi"}\n\n')
    messages = [{"role": "system", "content": "Be brief"}, *HELLO]
    model = Model("m", ("m",), api="knowledge", kb_list=("kb-1",))
    assert ask(flowith(), model, messages=messages) == [Text("Hi"), Done()]
    assert sent(upstream) == {
        "model": "m", "stream": True, "kb_list": ["kb-1"],
        "messages": [{"role": "user", "content": "Be brief\n\nHello"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "model", "url"),
    [
        ({}, Model("m", ("m",)), WEB_URL),
        ({"FLOWITH_API": "llm"}, Model("m", ("m",)), LLM_URL),
        ({"FLOWITH_API": "llm"}, Model("m", ("m",), api="web"), WEB_URL),
        ({"FLOWITH_API_URL": "https://new.example/"}, Model("m", ("m",)),
         "https://new.example/completion"),
        ({"FLOWITH_API_URL": "https://new.example/a/b?mode=general"}, Model("m", ("m",)),
         "https://new.example/a/b?mode=general"),
    ],
)  # fmt: skip
def test_row_then_setting_then_token_choose_the_address(
    upstream: responses.RequestsMock, environ: dict[str, str], model: Model, url: str
) -> None:
    upstream.post(url, body=LLM_BODY if url == LLM_URL else b"Hi")
    assert ask(flowith(**environ), model) == [Text("Hi"), Done()]


def test_a_token_refused_in_one_form_is_tried_in_the_other_which_is_remembered(
    upstream: responses.RequestsMock,
) -> None:
    bare = [matchers.header_matcher({"Authorization": LOGIN})]
    bearer = [matchers.header_matcher({"Authorization": f"Bearer {LOGIN}"})]
    refused = upstream.post(WEB_URL, status=401, match=bare)
    taken = upstream.post(WEB_URL, body=b"Hi", match=bearer)
    ours = flowith()
    for _ in range(3):
        assert ask(ours) == [Text("Hi"), Done()]
    assert (refused.call_count, taken.call_count) == (1, 3)


def test_system_words_are_folded_for_a_model_that_takes_none(
    upstream: responses.RequestsMock,
) -> None:
    upstream.post(WEB_URL, body=b"Hi")
    parts = [{"type": "image_url", "image_url": {"url": "https://x.y/z"}}]
    system = {"role": "system", "content": "Be brief"}
    messages = [system, {"role": "user", "content": parts}, system]
    ask(flowith(), Model("m", ("m",), system_role=False), messages=messages)
    text = {"type": "text", "text": "Be brief\n\nBe brief"}
    assert sent(upstream)["messages"] == [{"role": "user", "content": [text, *parts]}]


STATUSES = [
    (400, errors.UpstreamRejected, 400),
    (401, errors.UpstreamAuth, 503),
    (402, errors.OutOfCredits, 429),
    (403, errors.UpstreamAuth, 503),
    (404, errors.UpstreamNotFound, 502),
    (413, errors.ContextTooLong, 400),
    (422, errors.UpstreamRejected, 400),
    (429, errors.RateLimited, 429),
    (302, errors.UpstreamNotFound, 502),
    (500, errors.UpstreamError, 502),
    (503, errors.UpstreamError, 502),
    (504, errors.UpstreamTimeout, 504),
]


@pytest.mark.parametrize(("status", "kind", "ours"), STATUSES)
def test_each_status_has_its_meaning(
    upstream: responses.RequestsMock, status: int, kind: type[UpstreamError], ours: int
) -> None:
    upstream.post(WEB_URL, status=status, json={"error": {"message": "Because."}})
    with pytest.raises(kind) as wrong:
        ask(flowith(RETRY_ATTEMPTS="1"))
    assert type(wrong.value) is kind
    assert wrong.value.status == ours
    assert wrong.value.message.endswith("Flowith said: Because.")
    assert wrong.value.reply_headers()["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "a"}}', "a"),
        (b'{"error": "b"}', "b"),
        (b'{"message": "c"}', "c"),
        (b'{"detail": "d"}', "d"),
        (b"plain e", "plain e"),
        (b"<html><body>Bad gateway</body></html>", ""),
        (b"[1]", ""),
        (b'{"error": {"error": {"error": {"error": {"error": "deep"}}}}}', ""),
        (b"\xff\x00", "\ufffd\x00"),
    ],
)
def test_words_are_found_in_every_kind_of_error_body(body: bytes, words: str) -> None:
    assert to_refusal(500, body).said == words


@pytest.mark.parametrize(
    "said",
    [
        f"bad token {LOGIN}",
        "bad token of-no-known-shape",
        "bad key flo_deadbeefdeadbeef",
        "You wrote: my very secret question here",
        "<b>html</b>",
    ],
)
def test_words_that_may_tell_a_secret_stay_here(said: str) -> None:
    refusal = to_refusal(400, json.dumps({"error": said}).encode())
    quote(refusal, [LOGIN, "of-no-known-shape"], ["my very secret question here and more"])
    assert "Flowith said" not in refusal.message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0", 1.0), ("999999", 3600.0), ("soon", None), ("", None), ("-5", None)],
)
def test_retry_after_is_taken_within_reason(value: str, seconds: float | None) -> None:
    assert to_refusal(429, b"", {"Retry-After": value}).retry_after == seconds
    dated = to_refusal(429, b"", {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"})
    assert dated.retry_after == 1.0


def test_a_context_that_is_too_long_is_known_by_its_words() -> None:
    refusal = to_refusal(400, b'{"error": "This model\'s maximum context length is 9 tokens"}')
    assert isinstance(refusal, errors.ContextTooLong)
    assert "maximum context length is" in refusal.message


def llm_wire(*frames: Any, done: bool = True) -> bytes:
    lines = [f if isinstance(f, bytes) else b"data: " + json.dumps(f).encode() for f in frames]
    return b"\n\n".join([*lines, *([b"data: [DONE]"] if done else [])]) + b"\n\n"


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
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
WIRES: dict[str, tuple[type[Decoder], bytes, list[Event]]] = {
    "web": (WebDecoder, "Héllo 你好 🙂".encode(), [Text("Héllo 你好 🙂"), Done()]),
    "web, broken utf-8": (WebDecoder, b"a\xf0\x9f!", [Text("a\ufffd!"), Done()]),
    "llm": (
        LlmDecoder,
        llm_wire(delta(role="assistant", content=""), delta(content="Hé"), delta(content="llo"),
                 {**delta("stop"), "usage": {"prompt_tokens": 3, "completion_tokens": 5}}),
        [Text("Héllo"), Usage(3, 5), Done()],
    ),
    "llm, crlf, comments and empty deltas": (
        LlmDecoder,
        llm_wire(b": ping", delta(), delta(content="x"), delta("length")).replace(b"\n", b"\r\n"),
        [Text("x"), Done("length")],
    ),
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


def decoded(kind: type[Decoder], blocks: list[bytes]) -> list[Event]:
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


HOSTILE = [
    {"choices": "x"}, {"choices": [1]}, {"choices": [{"delta": 1}]}, {"choices": None},
    delta(content=7), delta(content={"a": 1}), delta(tool_calls="x"), delta(tool_calls=[1]),
    delta(tool_calls=[{"function": "x"}]), {"usage": {"prompt_tokens": "x"}}, {"usage": 1},
    {"choices": [{"delta": {"content": "x"}, "finish_reason": 7}]}, {"choices": {}},
]  # fmt: skip


@pytest.mark.parametrize("frame", HOSTILE, ids=str)
def test_frames_of_odd_types_are_survived(frame: Any) -> None:
    events = decoded(LlmDecoder, [llm_wire(frame, delta(content="ok"), delta("stop"))])
    assert events[-1] == Done()
    assert "ok" in "".join(e.text for e in events if isinstance(e, Text))


def test_an_answer_without_its_end_is_cut() -> None:
    with pytest.raises(UpstreamCut):
        decoded(LlmDecoder, [llm_wire(delta(content="x"), done=False)])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "no", "code": 429}, errors.RateLimited),
        ({"message": "no", "code": "402"}, errors.OutOfCredits),
        ("context length exceeded", errors.ContextTooLong),
        ("no", UpstreamError),
        ({"x": 1}, UpstreamError),
    ],
)
def test_an_error_inside_a_good_status_is_an_error(error: Any, kind: type[UpstreamError]) -> None:
    with pytest.raises(UpstreamError) as wrong:
        decoded(LlmDecoder, [llm_wire({"error": error})])
    assert type(wrong.value) is kind


def test_a_frame_that_is_no_json_and_an_endless_line_are_errors() -> None:
    with pytest.raises(UpstreamError):
        decoded(LlmDecoder, [b"data: {oops}\n"])
    with pytest.raises(UpstreamError):
        decoded(LlmDecoder, [b"x" * 1_000_000] * 6)


def test_json_that_utf8_cannot_hold_is_mended() -> None:
    assert to_json({"a": "x\ud83d"}) == '{"a":"x\ufffd"}'.encode()


def test_a_web_page_in_place_of_an_answer_is_an_error(upstream: responses.RequestsMock) -> None:
    upstream.post(WEB_URL, body=b"\n<!DOCTYPE html><p>Sign in", content_type="text/html")
    with pytest.raises(errors.UpstreamNotFound):
        ask(flowith())
    upstream.reset()
    upstream.post(WEB_URL, body=b"<!DOCTYPE html><p>Hi", content_type="text/plain")
    assert ask(flowith()) == [Text("<!DOCTYPE html><p>Hi"), Done()]


def test_an_encoding_nobody_asked_for_is_an_error(upstream: responses.RequestsMock) -> None:
    upstream.post(WEB_URL, body=base64.b64decode("KLUv/QBY"), headers={"Content-Encoding": "zstd"})
    with pytest.raises(UpstreamError, match="encoded"):
        ask(flowith(RETRY_ATTEMPTS="1"))


def test_the_row_s_fallbacks_are_tried_where_a_model_is_unknown(
    upstream: responses.RequestsMock,
) -> None:
    upstream.post(WEB_URL, status=404, json={"error": "no such model"})
    upstream.post(WEB_URL, body=b"Hi")
    assert ask(flowith(), Model("m", ("old", "new"))) == [Text("Hi"), Done()]
    assert [sent(upstream, i)["model"] for i in range(2)] == ["old", "new"]


def test_another_account_takes_over_and_the_refused_one_rests(
    upstream: responses.RequestsMock,
) -> None:
    first = [matchers.header_matcher({"Authorization": "login-one"})]
    second = [matchers.header_matcher({"Authorization": "login-two"})]
    empty = upstream.post(WEB_URL, status=402, match=first)
    taken = upstream.post(WEB_URL, body=b"Hi", match=second)
    ours = flowith(FLOWITH_AUTH_TOKEN="login-one,login-two")
    for _ in range(3):
        assert ask(ours) == [Text("Hi"), Done()]
    assert (empty.call_count, taken.call_count) == (1, 3)
    assert ours.accounts.healthy() == 1


def test_when_all_accounts_rest_the_reason_and_the_time_are_told(
    upstream: responses.RequestsMock,
) -> None:
    upstream.post(WEB_URL, status=429, headers={"Retry-After": "30"})
    ours = flowith()
    for _ in range(2):
        with pytest.raises(errors.RateLimited) as wrong:
            ask(ours)
        assert 25 < int(wrong.value.reply_headers()["Retry-After"]) <= 30
    assert len(upstream.calls) == 1


def test_the_row_s_fallbacks_follow_after_two_failures(upstream: responses.RequestsMock) -> None:
    for status in (500, 503):
        upstream.post(WEB_URL, status=status)
    upstream.post(WEB_URL, body=b"Hi")
    assert ask(flowith(), Model("m", ("main", "spare"))) == [Text("Hi"), Done()]
    assert [sent(upstream, i)["model"] for i in range(3)] == ["main", "main", "spare"]
