"""The HTTP face: keys, errors, models, CORS, bodies; the app in process, Flowith at a socket."""

import json
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import HELLO, KEY, WEB_TOKEN, MakeApi, chunks, deltas
from fake_flowith import FakeFlowith, error, knowledge, llm, think, web, words

OTHER = "another-key"


def error_of(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.content_type == "application/json"
    body: dict[str, Any] = response.json["error"]
    assert set(body) == {"message", "type", "param", "code"}
    return body


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer   {KEY} "},
        {"x-api-key": KEY},
        {"api-key": KEY},
        {"x-goog-api-key": KEY},
        {"Authorization": "Bearer wrong", "x-api-key": KEY},
        {"Authorization": f"Bearer {OTHER}"},
    ],
    ids=["bearer", "any case", "x-api-key", "api-key", "Google's", "one of two", "second key"],
)
def test_a_right_key_opens_in_every_form(api: MakeApi, headers: dict[str, str]) -> None:
    client = api(API_KEY=f"{KEY}, {OTHER}").client
    assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, None),
        ({"Authorization": "Bearer "}, None),
        ({"Authorization": f"Basic {KEY}"}, None),
        ({"Authorization": f"Bearer {KEY}x"}, "invalid_api_key"),
        ({"Authorization": f"Bearer {KEY[:-1]}"}, "invalid_api_key"),
        ({"Authorization": "Bearer schlüssel"}, "invalid_api_key"),
    ],
)
def test_a_missing_or_wrong_key_is_refused(
    api: MakeApi, fake: FakeFlowith, headers: dict[str, str], code: str | None
) -> None:
    client = api().client
    for response in (
        client.get("/v1/models", headers=headers),
        client.post("/v1/chat/completions", headers=headers, data=b"{"),
    ):
        assert error_of(response, 401)["code"] == code
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert not fake.requests


def test_a_key_in_any_script_works(api: MakeApi) -> None:
    client = api(API_KEY="ключ").client
    headers = {"Authorization": "Bearer " + "ключ".encode().decode("latin-1")}
    assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/health", "/healthz", "/health/live", "/v1"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_probes_need_no_key(api: MakeApi, path: str, method: str) -> None:
    assert api().client.open(path, method=method).status_code == 200


def test_without_a_token_every_call_says_what_is_missing(api: MakeApi) -> None:
    ours = api(FLOWITH_AUTH_TOKEN="your_actual_token_here")
    wrong = error_of(ours.post(), 503)
    assert "FLOWITH_AUTH_TOKEN" in wrong["message"]
    assert ours.get("/health").json["status"] == "degraded"
    assert ours.get("/health/ready").status_code == 503
    assert ours.get("/", Accept="text/html").status_code == 200


def test_the_page_warns_of_the_default_key(api: MakeApi) -> None:
    page = api(API_KEY="123456").get("/", Accept="text/html")
    assert "123456" in page.text
    assert page.content_type.startswith("text/html")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/embeddings", "Embeddings are not available"),
        ("/v1/audio/speech", "Speech"),
        ("/v1/files", "Files cannot be stored"),
        ("/v1/videos", "Videos are not available"),
        ("/v1/conversations", "send the whole conversation"),
        ("/v1/assistants", "Assistants"),
        ("/v1/dashboard/billing/usage", "Billing"),
        ("/api/tags", "not Ollama"),
        ("/api/chat", "not Ollama"),
        ("/v1/chat/completion", "Chat is POST /v1/chat/completions"),
        ("/v1/chat/completions/chatcmpl-1", "no answer of it is kept"),
        ("/v1beta/models/gemini-2.5-pro:generateContent", "not Gemini's API"),
        ("/api/v0/models/x", "not LM Studio"),
        ("/nowhere", "Invalid URL"),
    ],
)
def test_paths_that_are_not_here_say_what_is(api: MakeApi, path: str, says: str) -> None:
    for method in ("GET", "POST"):
        wrong = error_of(api().client.open(path, method=method), 404)
        assert says in wrong["message"]
        assert wrong["code"] == "unknown_url"


def test_a_wrong_method_is_told_the_right_one(api: MakeApi) -> None:
    response = api().client.get("/v1/chat/completions", headers={"Authorization": f"Bearer {KEY}"})
    assert error_of(response, 405)["code"] == "method_not_supported"
    assert "POST" in response.headers["Allow"]


def test_models_are_listed_in_the_order_of_the_file(api: MakeApi) -> None:
    listed = api().get("/v1/models").json
    assert listed["object"] == "list"
    assert listed["data"][0]["id"] == "gpt-5.6-sol"
    for model in listed["data"]:
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
        assert model["owned_by"] == "flowith"
        assert model["name"]
    assert "gpt-4.1" in [model["id"] for model in listed["data"]]
    assert api().get("/v1/models/gpt-4.1").json["id"] == "gpt-4.1"
    assert error_of(api().get("/v1/models/no/such"), 404)["code"] == "model_not_found"


def test_model_ids_may_hold_slashes(api: MakeApi, fake: FakeFlowith, tmp_path: Any) -> None:
    file = tmp_path / "models.json"
    file.write_text('{"vendor/a:b": "inner", "*": "*"}')
    ours = api(MODELS_FILE=str(file))
    for path in ("/v1/models/vendor/a:b", "/v1/models/vendor%2Fa:b"):
        assert ours.get(path).json["id"] == "vendor/a:b"
    assert [m["id"] for m in ours.get("/v1/models").json["data"]] == ["vendor/a:b"]
    fake.reply(web("x"))
    for asked, sent in [("vendor/a:b", "inner"), ("flowith/vendor/a:b", "inner"), ("new", "new")]:
        assert ours.post(model=asked).json["model"] == asked
        assert fake.requests[-1].json["model"] == sent


def test_an_unknown_model_is_named(api: MakeApi) -> None:
    wrong = error_of(api().post(model="gpt-9"), 404)
    assert wrong["code"] == "model_not_found"
    assert wrong["param"] == "model"
    assert "gpt-9" in wrong["message"]


def test_a_preflight_needs_no_key_and_gets_its_headers_back(api: MakeApi) -> None:
    asked = {
        "Origin": "https://chat.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-stainless-lang",
        "Access-Control-Request-Private-Network": "true",
    }
    for path in ("/v1/chat/completions", "/nowhere", "/"):
        response = api().client.options(path, headers=asked)
        assert response.status_code == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Access-Control-Allow-Headers"] == "authorization,x-stainless-lang"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert response.headers["Access-Control-Allow-Private-Network"] == "true"


def test_errors_and_streams_may_be_read_by_browsers(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("x"))
    for response in (api().client.get("/nowhere"), api().post(stream=True)):
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "x-request-id" in response.headers["Access-Control-Expose-Headers"]
        response.close()


def test_the_callers_request_id_comes_back_if_it_is_sane(api: MakeApi) -> None:
    client = api().client
    assert client.get("/", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    for bad in ("a b", "x" * 200, "ä"):
        given = client.get("/nowhere", headers={"X-Request-ID": bad}).headers["X-Request-ID"]
        assert given.startswith("req_")


BODIES = {
    "empty": b"",
    "not json": b"{",
    "array": b"[]",
    "string": b'"x"',
    "null": b"null",
    "nan": b'{"model": NaN}',
    "infinite": b'{"model": "gpt-4.1", "temperature": 1e999}',
    "huge integer": b'{"model": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "bad utf-8": b'{"model": "\xff"}',
    "utf-16": '{"model": "x"}'.encode("utf-16"),
    "nul": b'{"model": "a\x00b"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_that_is_no_json_object_is_refused(api: MakeApi, body: bytes) -> None:
    assert error_of(api().send(body), 400)["type"] == "invalid_request_error"


def test_a_body_over_the_limit_is_refused_however_it_is_sent(api: MakeApi) -> None:
    ours = api(MAX_BODY_MB="0.01")
    most = int(0.01 * 1_048_576)
    assert error_of(ours.send(b"x" * (most + 1)), 413)["code"] == "request_too_large"
    assert error_of(ours.send(b"x" * most), 400)


def test_half_a_surrogate_pair_does_no_harm(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("ok"))
    body = b'{"model":"gpt-4.1","messages":[{"role":"user","content":"a \\ud83d b \\u0000"}]}'
    assert api().send(body).status_code == 200
    assert fake.requests[0].json["messages"][0]["content"] == "a \ufffd b \x00"


def test_what_has_no_effect_is_named_in_a_header(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("x"))
    odd: dict[str, Any] = {"bad\nname": 1}
    response = api().post(seed=1, temperature=0.5, top_k=3, user={"id": 1}, **odd)
    named = response.headers["X-Ignored-Params"].split(", ")
    assert set(named) == {"seed", "temperature", "top_k", "user"}
    fake.reply(llm("x"))
    response = api(FLOWITH_API="llm").post(seed=1, temperature=0.5)
    assert response.headers["X-Ignored-Params"] == "seed"
    assert fake.requests[-1].json["temperature"] == 0.5
    fake.reply(knowledge("x"))
    response = api(FLOWITH_API="knowledge").post(web_search_options={})
    assert response.headers["X-Ignored-Params"] == "web_search_options"


def test_n_gives_so_many_choices_and_one_usage(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(lambda seen: web("one two"))
    whole = api().post(n=3).json
    assert [c["index"] for c in whole["choices"]] == [0, 1, 2]
    assert {c["message"]["content"] for c in whole["choices"]} == {"one two"}
    assert len(fake.requests) == 3
    fake.reply(lambda seen: web("one ", 0.01, "two"))
    found = chunks(api().post(n=2, stream=True, stream_options={"include_usage": True}).data)
    said: dict[int, str] = {0: "", 1: ""}
    for chunk in found[:-2]:
        choice = chunk["choices"][0]
        said[choice["index"]] += choice["delta"].get("content", "")
    assert said == {0: "one two", 1: "one two"}
    assert sum(bool(c["usage"]) for c in found[:-1]) == 1
    assert error_of(api().post(n=9), 400)["code"] == "integer_above_max_value"


def test_one_failing_choice_fails_the_answer(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("good"), error(400))
    assert error_of(api().post(n=2), 400)


def test_legacy_completions_are_bridged(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(lambda seen: web("<think>x</think>", seen.json["messages"][-1]["content"]))
    path = "/v1/completions"
    whole = api().send({"model": "gpt-4.1", "prompt": ["a", "b"]}, path).json
    assert whole["object"] == "text_completion"
    assert [c["text"] for c in whole["choices"]] == ["a", "b"]
    streamed = api().send({"model": "gpt-4.1", "prompt": "a", "stream": True}, path).data
    found = chunks(streamed)
    assert "".join(c["choices"][0]["text"] for c in found[:-1]) == "a"
    assert found[0]["object"] == "text_completion"
    assert found[-2]["choices"][0]["finish_reason"] == "stop"
    assert error_of(api().send({"model": "gpt-4.1"}, path), 400)["param"] == "prompt"
    assert error_of(api().send({"model": "gpt-4.1", "prompt": [1]}, path), 400)["param"] == "prompt"


REASONING = {
    "reasoning_content": ("reasoning_content", "Hmm", "Hi"),
    "reasoning": ("reasoning", "Hmm", "Hi"),
    "think_tags": ("content", "<think>\nHmm\n</think>\n\nHi", None),
    "hide": ("content", "Hi", None),
}


@pytest.mark.parametrize("form", REASONING)
def test_reasoning_leaves_in_the_form_that_is_set(
    api: MakeApi, fake: FakeFlowith, form: str
) -> None:
    name, thought, said = REASONING[form]
    fake.reply(web("<think>\nHmm\n</think>\n\nHi"))
    ours = api(REASONING_FORMAT=form)
    message = ours.post().json["choices"][0]["message"]
    assert message[name] == thought
    assert said is None or message["content"] == said
    assert deltas(ours.post(stream=True).data, name) == thought


def test_no_thoughts_are_shown_to_those_who_want_none(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("<think>Hmm</think>Hi"))
    message = api().post(reasoning_effort="none").json["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Hi", "refusal": None}
    fake.reply(llm(think("x"), "Hi"))
    api(FLOWITH_API="llm").post(reasoning_effort="minimal")
    assert fake.requests[-1].json["thinking"] is False
    message = api(FLOWITH_API="llm").post(reasoning={"exclude": True}).json["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Hi", "refusal": None}
    assert fake.requests[-1].json["thinking"] is True


def test_stop_and_max_tokens_end_the_answer_and_the_upstream_call(
    api: MakeApi, fake: FakeFlowith
) -> None:
    fake.reply(lambda seen: web("one two EN", 0.05, "D three", *words(" more" * 200, 0.05)))
    choice = api().post(stop=["END", "never"]).json["choices"][0]
    assert choice["message"]["content"] == "one two "
    assert choice["finish_reason"] == "stop"
    assert fake.requests[0].wait_hung_up(5)
    response = api().post(max_tokens=1, stream=True)
    found = chunks(response.data)
    assert found[-2]["choices"][0]["finish_reason"] == "length"
    assert 0 < len(deltas(response.data)) < 8
    assert fake.requests[1].wait_hung_up(5)


def test_web_search_is_asked_for(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("x"))
    assert api().post(model="gpt-4.1:online").json["model"] == "gpt-4.1:online"
    assert fake.requests[-1].json["websearch"] is True
    assert fake.requests[-1].json["model"] == "gpt-4.1"
    fake.reply(llm("x"))
    api(FLOWITH_API="llm").post(web_search_options={})
    assert fake.requests[-1].json["online"] is True


SEEDS = [
    {"id": "1", "content": "passage", "source_id": "s1", "source_title": "Manual"},
    {"id": "2", "content": "page", "source_title": "https://x.y/z"},
]


def test_sources_of_a_knowledge_base_come_back_as_annotations(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    file = tmp_path / "models.json"
    file.write_text('{"kb": {"model": "m", "api": "knowledge", "kb_list": ["a-b"]}}')
    ours = api(MODELS_FILE=str(file))
    fake.reply(knowledge("See the ", "manual.", seeds=SEEDS))
    message = ours.post(model="kb").json["choices"][0]["message"]
    assert message["content"] == "See the manual."
    (page,) = message["annotations"]
    assert page["type"] == "url_citation"
    assert page["url_citation"]["url"] == "https://x.y/z"
    (passage,) = message["knowledge_citations"]
    assert passage == {"source_id": "s1", "title": "Manual", "text": "passage"}
    body = ours.post(model="kb", stream=True).data
    assert deltas(body) == "See the manual."
    noted = [c["choices"][0]["delta"] for c in chunks(body)[1:3]]
    assert noted == [
        {"knowledge_citations": [{"index": 0, **passage}]},
        {"annotations": [{"index": 0, **page}]},
    ]
    assert fake.requests[0].json["kb_list"] == ["a-b"]


def test_logs_hold_the_facts_and_no_secrets(
    api: MakeApi, fake: FakeFlowith, caplog: pytest.LogCaptureFixture
) -> None:
    fake.reply(error(500, f"bad {WEB_TOKEN} secret prompt"), web("secret answer"))
    ours = api(RETRY_ATTEMPTS="2")
    for name in ("access", "flowith", "proxy"):
        logging.getLogger(name).addHandler(caplog.handler)
    response = ours.post(messages=[{"role": "user", "content": "secret prompt"}])
    assert response.status_code == 200
    response.close()
    ours.post(model="evil\nmodel")
    text = caplog.text
    assert "secret" not in text
    assert WEB_TOKEN not in text
    assert "evil\nmodel" not in text
    fields = next(f for r in caplog.records if (f := getattr(r, "fields", None)))
    assert fields["status"] == 200
    assert fields["end"] == "done"
    assert fields["model"] == "gpt-4.1"
    assert fields["api"] == "web"
    assert {"id", "ms", "first_ms", "in", "out", "failures"} <= set(fields)


def test_a_bug_of_ours_is_an_openai_error_without_a_trace(
    api: MakeApi, fake: FakeFlowith, caplog: pytest.LogCaptureFixture
) -> None:
    fake.reply(web("x"))
    ours = api()
    ours.client.application.extensions["flowith"].accounts = None
    logging.getLogger("proxy").addHandler(caplog.handler)
    wrong = error_of(ours.post(), 500)
    assert wrong["code"] == "internal_error"
    assert "AttributeError" not in json.dumps(wrong)
    assert "AttributeError at " in caplog.text


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/chat/completions", {"messages": HELLO}), ("/v1/responses", {"input": "Hello"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}),
    ],
)  # fmt: skip
def test_a_bug_of_ours_in_a_stream_is_told_inside_it(
    api: MakeApi, fake: FakeFlowith, caplog: pytest.LogCaptureFixture, path: str, more: Any
) -> None:
    fake.reply(web("one ", 0.1, "two"))
    ours = api()
    logging.getLogger("proxy").addHandler(caplog.handler)
    response = ours.send({"model": "gpt-4.1", "stream": True, **more}, path)
    said = next(response.response)
    ours.client.application.extensions["flowith"].accounts.all[0].rests = None
    said += response.data
    response.close()
    assert b"one " in said
    assert b"The proxy failed; its log says where." in said
    assert b"NoneType" not in said
    assert "internal error: AttributeError at " in caplog.text


@pytest.mark.parametrize("stream", [False, True])
def test_an_account_that_answers_again_has_recovered(
    api: MakeApi, fake: FakeFlowith, stream: bool
) -> None:
    ours = api(RETRY_ATTEMPTS="1")
    accounts = ours.client.application.extensions["flowith"].accounts
    fake.reply(error(401))
    ours.post()
    assert accounts.healthy() == 0
    fake.reset()
    fake.reply(web("Hi"))
    with closing(ours.post(stream=stream)) as response:
        assert b"Hi" in response.data
    assert accounts.healthy() == 1


def test_the_hello_of_the_tests_is_what_goes_up(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("x"))
    api().post()
    assert fake.requests[0].json["messages"] == HELLO


NATIVE = '{"gpt-4.1": {"model": "m", "api": "llm", "native_tools": true}}'
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


CALLED: list[dict[str, Any]] = [
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c0", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "c0", "content": "sunny"},
]


def test_native_tools_go_up_as_they_are_and_calls_come_back_whole(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    file = tmp_path / "models.json"
    file.write_text(NATIVE)
    first = {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": '{"ci'}}
    rest = {"index": 0, "function": {"arguments": 'ty": "Rome"}'}}
    fake.reply(
        llm(
            {"choices": [{"delta": {"tool_calls": [first]}}]},
            {"choices": [{"delta": {"tool_calls": [rest]}}]},
            finish="tool_calls",
        )
    )
    response = api(MODELS_FILE=str(file)).post(tools=[WEATHER], messages=[*HELLO, *CALLED])
    choice = response.json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["id"] == "c1"
    assert json.loads(call["function"]["arguments"]) == {"city": "Rome"}
    sent = fake.requests[0].json
    assert sent["tools"][0]["function"]["name"] == "weather"
    assert [m["role"] for m in sent["messages"]] == ["user", "assistant", "tool"]
    assert sent["messages"][1]["content"] == ""


def test_the_bridge_tells_tools_calls_and_results_as_text(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("It is ", '<tool_call>{"name": "weather", "argu', 'ments": {}}</tool_call>'))
    ours = api()
    found = chunks(ours.post(tools=[WEATHER], messages=[*HELLO, *CALLED], stream=True).data)
    named = [c["choices"][0]["delta"].get("tool_calls") for c in found[:-1]]
    (first, rest) = [call[0] for call in named if call]
    assert first["function"] == {"name": "weather", "arguments": ""}
    assert rest == {"index": 0, "function": {"arguments": "{}"}}
    assert found[-2]["choices"][0]["finish_reason"] == "tool_calls"
    sent = fake.requests[0].json["messages"]
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "user"]
    assert "weather" in sent[0]["content"]
    assert "c0" in sent[2]["content"]
    assert "sunny" in sent[3]["content"]
    assert "tools" not in fake.requests[0].json


def test_a_required_call_is_asked_for_once_more(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("No."), web('<tool_call>{"name": "weather", "arguments": {}}</tool_call>'))
    body: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required", "stream": True}
    found = chunks(api().post(**body).data)
    assert found[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert [m["role"] for m in fake.requests[1].json["messages"]][-2:] == ["assistant", "user"]
    fake.reply(web("No."))
    wrong = error_of(api().post(tools=[WEATHER], tool_choice="required"), 502)
    assert wrong["code"] == "unmet_requirement"
