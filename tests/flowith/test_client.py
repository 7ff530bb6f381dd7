"""Calls to Flowith's three APIs: what goes up, and which no means what.

Calls are faked at `HTTPAdapter.send` by `responses`, so what only a socket can
show (timing, breaks, hang-ups) is in test_streaming.py and test_faults.py.
"""

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import responses
from responses import matchers

import errors
from chat_request import Prompt
from errors import UpstreamError
from events import Done, Event, Silence, Text, Working
from flowith.client import Flowith
from flowith.dialects import moved
from flowith.order import to_json
from flowith.refusal import COMPARED, quote, to_refusal
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
    (401, errors.UpstreamAuth, 424),
    (402, errors.OutOfCredits, 402),
    (403, errors.UpstreamAuth, 424),
    (404, errors.UpstreamNotFound, 424),
    (413, errors.ContextTooLong, 400),
    (422, errors.UpstreamRejected, 400),
    (429, errors.RateLimited, 429),
    (302, errors.UpstreamNotFound, 424),
    (204, errors.UpstreamError, 502),
    (206, errors.UpstreamError, 502),
    (418, errors.UpstreamError, 502),
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


def test_words_about_a_long_prompt_are_left_out_where_it_takes_long_to_compare_them() -> None:
    """What Flowith says of a prompt of 12 MB took ten seconds to compare with it."""
    compared: list[int] = []

    class Long(str):
        def split(self, *_: Any) -> list[str]:
            compared.append(len(self))
            return super().split()

    refusal = to_refusal(400, b'{"error": "Something else is wrong."}')
    quote(refusal, [], [Long("x" * (COMPARED // 2))] * 3)
    assert "Flowith said" not in refusal.message
    assert not compared
    short = to_refusal(400, b'{"error": "Something else is wrong."}')
    quote(short, [], [Long("x" * 100)])
    assert short.message.endswith("Flowith said: Something else is wrong.")
    assert compared == [100]


def test_a_context_that_is_too_long_is_known_by_its_words() -> None:
    refusal = to_refusal(400, b'{"error": "This model\'s maximum context length is 8,192 tokens"}')
    assert isinstance(refusal, errors.ContextTooLong)
    assert refusal.most == 8192
    assert "maximum context length is" in refusal.message
    assert refusal.param == "messages"


def test_json_that_utf8_cannot_hold_is_mended() -> None:
    assert to_json({"a": "x\ud83d"}) == '{"a":"x\ufffd"}'.encode()


@pytest.mark.parametrize(
    ("given", "at"),
    [
        ("", "https://edge.flowith.io/external/use/llm"),
        ("http://box:9", "http://box:9/external/use/llm"),
        ("http://me:secret@box:9", "http://box:9/external/use/llm"),
        ("http://me:secret@box:9/deep/llm?a=@b", "http://box:9/deep/llm?a=@b"),
    ],
)
def test_an_address_is_where_the_operator_says_without_a_password(given: str, at: str) -> None:
    """The doctor shows it, and nobody would send the password."""
    assert moved("https://edge.flowith.io/external/use/llm", given) == at


def test_a_web_page_in_place_of_an_answer_is_an_error(upstream: responses.RequestsMock) -> None:
    for page in (b"\n<!DOCTYPE html><p>Sign in", b"<!-- -->", b"<?xml ?>", b"\xef\xbb\xbf<html>"):
        upstream.post(WEB_URL, body=page, content_type="text/html; charset=utf-8")
        with pytest.raises(UpstreamError, match="web page"):
            ask(flowith(RETRY_ATTEMPTS="1"))
        upstream.reset()
    upstream.post(WEB_URL, body=b"<svg/>", content_type="image/svg+xml")
    with pytest.raises(UpstreamError, match="not known"):
        ask(flowith(RETRY_ATTEMPTS="1"))
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
    assert ours.accounts.healthy() == 2
    ask(ours, Model("n", ("n",)))
    assert ours.accounts.healthy() == 1


def test_a_time_that_flowith_names_is_kept_and_told(upstream: responses.RequestsMock) -> None:
    upstream.post(WEB_URL, status=429, headers={"Retry-After": "30"})
    ours = flowith()
    for _ in range(2):
        with pytest.raises(errors.RateLimited) as wrong:
            ask(ours)
        assert 25 < int(wrong.value.reply_headers()["Retry-After"]) <= 30
    assert len(upstream.calls) == 1
    upstream.replace("POST", WEB_URL, body=b"Hi")
    assert ask(ours, Model("n", ("n",))) == [Text("Hi"), Done()]


def test_a_lone_account_is_asked_again_after_a_refusal(upstream: responses.RequestsMock) -> None:
    upstream.post(WEB_URL, status=402, json={"error": "no credits"})
    ours = flowith()
    for _ in range(2):
        with pytest.raises(errors.OutOfCredits, match="credits"):
            ask(ours)
    upstream.replace("POST", WEB_URL, body=b"Hi")
    assert ask(ours) == [Text("Hi"), Done()]
    assert ours.accounts.healthy() == 1


def test_words_that_a_firewall_refuses_are_the_callers(upstream: responses.RequestsMock) -> None:
    page = "<html><h1>Attention required</h1></html>"
    upstream.post(WEB_URL, status=403, body=page, content_type="text/html")
    ours = flowith(FLOWITH_AUTH_TOKEN="login-one,login-two")
    with pytest.raises(errors.WordsRefused) as wrong:
        ask(ours)
    assert (wrong.value.status, wrong.value.param) == (400, "messages")
    assert len(upstream.calls) == 1
    assert ours.accounts.healthy() == 2


def test_thoughts_alone_are_an_empty_answer(upstream: responses.RequestsMock) -> None:
    thought = b'data: {"choices":[{"delta":{"reasoning":"Hm"},"finish_reason":"stop"}]}\n\n'
    upstream.post(LLM_URL, body=thought + b"data: [DONE]\n\n")
    upstream.post(LLM_URL, body=LLM_BODY)
    assert ask(flowith(FLOWITH_AUTH_TOKEN=KEY)) == [Text("Hi"), Done()]


def test_the_row_s_fallbacks_follow_after_two_failures(upstream: responses.RequestsMock) -> None:
    for status in (500, 503):
        upstream.post(WEB_URL, status=status)
    upstream.post(WEB_URL, body=b"Hi")
    assert ask(flowith(), Model("m", ("main", "spare"))) == [Text("Hi"), Done()]
    assert [sent(upstream, i)["model"] for i in range(3)] == ["main", "main", "spare"]
