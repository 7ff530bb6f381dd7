"""Anthropic's paths in the HTTP face: keys, errors, counting, models; Flowith at a socket."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import HELLO, KEY, Api, MakeApi
from fake_flowith import CUT, FakeFlowith, error, knowledge, llm, think, web

VERSION = {"anthropic-version": "2023-06-01"}
PNG = base64.b64encode(b"\x89PNG a pixel").decode()
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
BASH = {"type": "bash_20250124", "name": "bash"}
CALL = '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>'


def ask(ours: Api, path: str = "/v1/messages", **fields: Any) -> Any:
    body = {"model": "gpt-4.1", "max_tokens": 100, "messages": HELLO, **fields}
    return ours.send(body, path)


def events(response: Any) -> list[dict[str, Any]]:
    """The data of a stream's events."""
    lines = response.text.split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def error_of(response: Any, status: int) -> dict[str, Any]:
    """The error of a refusal, which is in Anthropic's form and carries its id twice."""
    assert response.status_code == status
    assert response.content_type == "application/json"
    assert set(response.json) == {"type", "error", "request_id"}
    assert response.json["request_id"] == response.headers["request-id"]
    assert response.headers["X-Request-ID"] == response.headers["request-id"]
    found: dict[str, Any] = response.json["error"]
    assert set(found) == {"type", "message"}
    return found


@pytest.mark.parametrize(
    "path",
    ["/v1/messages", "/messages", "/v1/v1/messages", "/anthropic/v1/messages", "/v1/messages/"],
)
def test_an_answer_whatever_the_base_url(api: MakeApi, fake: FakeFlowith, path: str) -> None:
    fake.reply(web("Hel", "lo"))
    response = ask(api(), f"{path}?beta=true")
    assert response.status_code == 200
    assert response.json["content"] == [{"type": "text", "text": "Hello"}]
    assert response.headers["request-id"].startswith("req_")


def test_errors_before_routing_have_anthropics_form(api: MakeApi, fake: FakeFlowith) -> None:
    ours = api(MAX_BODY_MB="0.001")
    client = ours.client
    assert error_of(client.post("/v1/messages"), 401)["type"] == "authentication_error"
    assert error_of(ours.get("/v1/messages"), 405)["type"] == "invalid_request_error"
    assert error_of(ours.get("/v1/messages/batches"), 404)["type"] == "not_found_error"
    assert error_of(ours.send(b"x" * 2000, "/v1/messages"), 413)["type"] == "request_too_large"
    assert error_of(ours.send(b"{", "/v1/messages"), 400)["type"] == "invalid_request_error"
    unknown = error_of(ask(ours, model="no-such-model"), 404)
    assert unknown["type"] == "not_found_error"
    assert "no-such-model" in unknown["message"]
    assert not fake.requests


def test_a_web_page_may_call_and_read_the_id(api: MakeApi) -> None:
    asked = "x-api-key,anthropic-version,anthropic-dangerous-direct-browser-access,x-stainless-os"
    page = {"Origin": "https://app.example"}
    client, headers = api().client, {**page, "Access-Control-Request-Headers": asked}
    preflight = client.options("/v1/messages", headers=headers)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Headers"] == asked
    refused = client.post("/v1/messages", headers=page)
    assert refused.status_code == 401
    for response in (preflight, refused):
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "request-id" in response.headers["Access-Control-Expose-Headers"].split(", ")
    assert refused.headers["request-id"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"system": "Be brief. " * 50, "messages": [*HELLO, {"role": "system", "content": "Kind."}]},
        {"tools": [BASH], "tool_choice": {"type": "auto"}},
        {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "What?"}]}]},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
    ],
    ids=["plain", "system", "tools", "image", "json"],
)
def test_the_count_is_the_usage_of_the_same_request(
    api: MakeApi, fake: FakeFlowith, fields: dict[str, Any]
) -> None:
    fake.reply(web('{"a": 1}'), path="/completion")
    ours = api()
    counted = ask(ours, "/v1/messages/count_tokens", max_tokens=None, **fields)
    assert counted.status_code == 200
    assert set(counted.json) == {"input_tokens"}
    assert not fake.requests
    tokens = counted.json["input_tokens"]
    assert ask(ours, **fields).json["usage"]["input_tokens"] == tokens > 0
    found = events(ask(ours, stream=True, **fields))
    assert found[0]["message"]["usage"]["input_tokens"] == tokens
    assert found[-2]["usage"]["input_tokens"] == tokens


def test_to_count_needs_a_key(api: MakeApi) -> None:
    error_of(api().client.post("/v1/messages/count_tokens", data=b"{}"), 401)


def test_models_in_anthropics_form_for_those_who_say_its_version(api: MakeApi) -> None:
    ours = api()
    listed = ours.get("/v1/models?limit=1000", **VERSION).json
    assert listed["data"][0]["type"] == "model"
    assert listed["first_id"] == listed["data"][0]["id"]
    one = ours.get("/v1/models/gpt-4.1", **VERSION)
    assert one.json["display_name"] == "GPT-4.1"
    assert one.json in listed["data"]
    assert error_of(ours.get("/v1/models/no", **VERSION), 404)["type"] == "not_found_error"
    error_of(ours.client.get("/v1/models", headers=VERSION), 401)
    assert ours.get("/v1/models").json["object"] == "list"


def test_a_conversation_that_is_too_long_names_both_numbers(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    models = tmp_path / "models.json"
    rows = {"small": {"model": "small", "context": 3}, "gpt-4.1": "gpt-4.1"}
    models.write_text(json.dumps(rows), "utf-8")
    ours = api(MODELS_FILE=str(models))
    fake.reply(error(413))
    tokens = ask(ours, "/v1/messages/count_tokens").json["input_tokens"]
    told = error_of(ask(ours, model="small"), 400)["message"]
    assert told == f"prompt is too long: {tokens} tokens > 3 maximum"
    told = error_of(ask(ours, stream=True), 400)["message"]
    assert told == f"prompt is too long: {tokens} tokens > {tokens - 1} maximum"


def test_a_cut_answer_is_an_error_event_and_no_end(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("half an ", 0.05, CUT))
    found = events(ask(api(), stream=True))
    assert found[-1]["type"] == "error"
    assert found[-1]["error"]["type"] == "api_error"
    assert "message_stop" not in [event["type"] for event in found]


def test_thoughts_come_only_to_those_who_ask(api: MakeApi, fake: FakeFlowith) -> None:
    """Whatever REASONING_FORMAT says: this API has a place for them."""
    fake.reply(web(think("Hm."), "Two."))
    ours = api(REASONING_FORMAT="think_tags")
    assert ask(ours).json["content"] == [{"type": "text", "text": "Two."}]
    thought, said = ask(ours, thinking={"type": "adaptive"}).json["content"]
    assert (thought["type"], thought["thinking"], said["text"]) == ("thinking", "Hm.", "Two.")
    for hidden in (
        ask(api(REASONING_FORMAT="hide"), thinking={"type": "adaptive"}),
        ask(ours, thinking={"type": "adaptive", "display": "omitted"}),
    ):
        assert hidden.json["content"] == [{"type": "text", "text": "Two."}]


def test_a_tool_makes_a_round_trip(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("I look.\n", CALL), web("One file."))
    ours = api()
    first = ask(ours, tools=[BASH]).json
    assert first["stop_reason"] == "tool_use"
    said, call = first["content"]
    assert (said["text"], call["name"], call["input"]) == ("I look.", "bash", {"command": "ls"})
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "a.txt"}
    history = [
        *HELLO,
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": [result]},
    ]
    assert ask(ours, tools=[BASH], messages=history).json["stop_reason"] == "end_turn"
    told = fake.requests[1].json["messages"][-1]["content"]
    assert call["id"] in told
    assert 'name="bash"' in told


def test_a_search_shows_the_pages_that_flowith_names(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    models = tmp_path / "models.json"
    row = {"model": "m", "api": "knowledge", "kb_list": ["kb"]}
    models.write_text(json.dumps({"library": row}), "utf-8")
    seeds = [{"title": "Cats", "url": "https://cats.example", "content": "All of them."}]
    fake.reply(knowledge("Cats purr.", seeds=seeds))
    search = {"type": "web_search_20250305", "name": "web_search"}
    choice = {"type": "tool", "name": "web_search"}
    asked: dict[str, Any] = {"model": "library", "tools": [search], "tool_choice": choice}
    made = ask(api(MODELS_FILE=str(models), FLOWITH_AUTH_TOKEN="flo_a"), **asked).json
    kinds = [block["type"] for block in made["content"]]
    assert kinds == ["server_tool_use", "web_search_tool_result", "text"]
    assert made["content"][1]["content"][0]["url"] == "https://cats.example"


def test_what_has_no_effect_is_named_in_a_header(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("Hi"))
    code = {"type": "code_execution_20250825", "name": "code_execution"}
    response = ask(api(), metadata={}, tools=[code], context_management={})
    named = response.headers["X-Ignored-Params"].split(", ")
    assert named == ["metadata", "context_management", "code_execution_20250825"]


def test_a_limit_above_the_models_own_is_no_error_and_not_sent_on(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    models = tmp_path / "models.json"
    rows = {
        "small": {"model": "m", "api": "llm", "output": 50},
        "open": {"model": "m", "api": "llm"},
    }
    models.write_text(json.dumps(rows), "utf-8")
    ours = api(MODELS_FILE=str(models), FLOWITH_AUTH_TOKEN="flo_a")
    fake.reply(llm("Hi"))
    for model in ("small", "open"):
        assert ask(ours, model=model, max_tokens=64_000).json["stop_reason"] == "end_turn"
    assert [seen.json["max_tokens"] for seen in fake.requests] == [50, 64_000]


def test_metrics_tell_the_format(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("Hi"))
    ours = api()
    ask(ours).close()
    told = ours.get("/metrics").text
    assert 'format="anthropic"' in told
    assert KEY not in told


@pytest.mark.parametrize(
    ("asked", "upstream"),
    [
        ("claude-opus-4-8", "claude-opus-4.8"),
        ("claude-sonnet-5[1m]", "claude-5-sonnet"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-opus-5", "claude-opus-4.8"),
        ("claude-something-9", "claude-5-sonnet"),
    ],
)
def test_claude_code_works_with_the_names_it_asks_for_by_itself(
    api: MakeApi, fake: FakeFlowith, asked: str, upstream: str
) -> None:
    fake.reply(web("Hi"))
    ours = api()
    assert ask(ours, model=asked).json["model"] == asked
    assert fake.requests[0].json["model"] == upstream
    listed = [model["id"] for model in ours.get("/v1/models", **VERSION).json["data"]]
    assert not any("*" in name for name in listed)
