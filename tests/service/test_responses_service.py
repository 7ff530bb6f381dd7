"""The Responses API through the app: addresses, statuses, what goes up and what comes back."""

import json
from contextlib import closing
from typing import Any

import pytest
from conftest import KEY, Api, MakeApi, Serve
from fake_flowith import CUT, HANG, FakeFlowith, error, llm, think, web

PATH = "/v1/responses"
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
SPACE = {"type": "namespace", "name": "mcp__maps", "tools": [WEATHER]}
CALL = '<tool_call>\n{"name": "mcp__maps__weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def ask(api: Api, path: str = PATH, **body: Any) -> Any:
    return api.send({"model": "gpt-4.1", "input": "Hi", **body}, path)


def events(body: bytes) -> list[dict[str, Any]]:
    lines = body.decode().split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


@pytest.mark.parametrize(
    "path", [PATH, "/responses", "/v1/v1/responses", "/v1/responses/", "/api/v1/responses"]
)
def test_a_response_at_every_address_that_people_try(
    api: MakeApi, fake: FakeFlowith, path: str
) -> None:
    fake.reply(web(think("Hm."), "Hello"))
    response = ask(api(), path)
    made = response.json
    assert response.status_code == 200
    assert [item["type"] for item in made["output"]] == ["reasoning", "message"]
    assert made["output"][1]["content"][0]["text"] == "Hello"
    assert made["usage"]["input_tokens"] > 0


@pytest.mark.parametrize(
    ("setting", "kinds", "text"),
    [
        ("hide", ["message"], "Hello"),
        ("think_tags", ["message"], "<think>\nHm.\n</think>\n\nHello"),
        ("reasoning", ["reasoning", "message"], "Hello"),
    ],
)
def test_thoughts_go_where_the_operator_wants_them(
    api: MakeApi, fake: FakeFlowith, setting: str, kinds: list[str], text: str
) -> None:
    fake.reply(web(think("Hm."), "Hello"))
    output = ask(api(REASONING_FORMAT=setting)).json["output"]
    assert [item["type"] for item in output] == kinds
    assert output[-1]["content"][0]["text"] == text


def test_a_tool_of_a_namespace_is_offered_called_and_answered(
    api: MakeApi, fake: FakeFlowith
) -> None:
    fake.reply(web(CALL), web("18 degrees."))
    ours = api()
    tools = [{"type": "function", "name": "weather"}, SPACE]
    (call,) = ask(ours, tools=tools).json["output"]
    assert (call["name"], call["namespace"]) == ("weather", "mcp__maps")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "18"}
    ask(ours, input=[{"role": "user", "content": "Hi"}, call, result], tools=tools)
    told = json.dumps(fake.requests[1].json["messages"])
    assert 'name=\\"mcp__maps__weather\\"' in told


def test_what_has_no_effect_is_named(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("Hi"))
    response = ask(api(), tools=[{"type": "local_shell"}], seed=1, input=[
        {"role": "user", "content": "Hi"}, {"type": "ghost_snapshot"}])  # fmt: skip
    assert response.headers["X-Ignored-Params"] == "seed, tools.local_shell, input.ghost_snapshot"


def test_images_that_a_model_does_not_take_are_refused_by_their_place(api: MakeApi) -> None:
    image = {"type": "input_image", "image_url": "https://x.example/a.png"}
    response = ask(
        api(),
        model="deepseek-chat",
        input=[{"role": "developer", "content": "Look."}, {"role": "user", "content": [image]}],
    )
    assert response.status_code == 400
    assert response.json["error"]["param"] == "input[1].content"


def test_a_failure_is_a_status_before_the_first_word_and_an_event_after_it(
    api: MakeApi, fake: FakeFlowith
) -> None:
    fake.reply(error(400), web("Half", 0.05, CUT))
    ours = api(RETRY_ATTEMPTS="1")
    refused = ask(ours, stream=True)
    assert refused.status_code == 400
    assert set(refused.json["error"]) == {"message", "type", "param", "code"}
    *_, last = events(ask(ours, stream=True).data)
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["code"] == "server_error"


@pytest.mark.parametrize(("status", "ours"), [(402, 402), (401, 424), (404, 424)])
def test_what_does_not_heal_comes_without_a_time_to_come_back(
    api: MakeApi, fake: FakeFlowith, status: int, ours: int
) -> None:
    """Codex waits that long before it shows the message."""
    fake.reply(error(status, headers={"Retry-After": "300"}))
    response = ask(api(RETRY_ATTEMPTS="1"), stream=True)
    assert response.status_code == ours
    assert "Retry-After" not in response.headers
    assert response.headers["x-should-retry"] == "false"


def test_signs_of_life_are_events_while_upstream_is_silent(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web(0.6, "late"))
    body = ask(api(HOLD="0.1", HEARTBEAT="0.1"), stream=True).data
    assert b": ping" not in body
    kinds = [event["type"] for event in events(body)]
    assert kinds.count("response.in_progress") >= 3


def test_tokens_are_counted_without_a_call(api: MakeApi, fake: FakeFlowith) -> None:
    ours = api()
    bare = ask(ours, f"{PATH}/input_tokens").json
    assert bare["object"] == "response.input_tokens"
    assert ask(ours, f"{PATH}/input_tokens", tools=[WEATHER]).json["input_tokens"] > (
        bare["input_tokens"] + 100
    )
    assert ask(ours, f"{PATH}/input_tokens", model="gpt-9").status_code == 404
    assert fake.requests == []


def test_a_conversation_made_short_is_gone_on_with(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("They want tea."), web("Here it is."))
    ours = api()
    made = ask(ours, f"{PATH}/compact", tools=[WEATHER], stream=True).json
    assert made["object"] == "response.compaction"
    ask(ours, input=[*made["output"], {"role": "user", "content": "Go on"}])
    first, second = [seen.json["messages"] for seen in fake.requests]
    assert "# Tools" not in json.dumps(first)
    assert [message["role"] for message in second] == ["system", "user"]
    assert "They want tea." in second[0]["content"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "resp_1"),
        ("DELETE", "resp_1"),
        ("GET", "resp_1/input_items"),
        ("POST", "resp_1/cancel"),
    ],
)
def test_no_response_is_kept(api: MakeApi, method: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    response = api().client.open(f"{PATH}/{path}", method=method, headers=headers)
    assert response.status_code == 404
    assert response.get_json()["error"]["code"] == "response_not_found"


def test_a_websocket_is_refused_at_once_and_other_methods_too(api: MakeApi) -> None:
    ours = api()
    refused = ours.get(PATH, Upgrade="websocket", Connection="Upgrade")
    assert refused.status_code == 426
    assert "POST" in refused.get_json()["error"]["message"]
    wrong = ours.get(PATH)
    assert wrong.status_code == 405
    assert wrong.headers["Allow"] == "OPTIONS, POST"
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert ours.client.get(PATH, headers=upgrade).status_code == 401


def test_who_leaves_ends_the_call_to_flowith(share: Serve, flowith: FakeFlowith) -> None:
    server = share()
    flowith.reply(web("not ", HANG))
    body = {"model": "gpt-4.1", "input": "Hi", "stream": True}
    connection = server.send(json.dumps(body).encode(), path=PATH)
    response = connection.getresponse()
    assert b"response.created" in response.readline()
    response.close()
    connection.close()
    assert flowith.wait_for(1)[0].wait_hung_up(5)
    line = server.wait_for_log("caller left")
    assert " format=responses " in line


def test_a_call_in_place_of_a_summary_is_an_error_that_the_log_names(
    api: MakeApi, fake: FakeFlowith, capfd: pytest.CaptureFixture[str]
) -> None:
    call = {"index": 0, "id": "call_1", "function": {"name": "look", "arguments": "{}"}}
    chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
    fake.reply(llm(0.5, chunk, finish="tool_calls"))
    ours = api(FLOWITH_API="llm", HOLD="0.1")
    with closing(ask(ours, f"{PATH}/compact")) as compacted:
        assert compacted.status_code == 502
        assert compacted.json["error"]["code"] == "unmet_requirement"
    told = [{"role": "user", "content": "Hi"}, {"type": "compaction_trigger"}]
    with closing(ask(ours, input=told, stream=True)) as streamed:
        assert streamed.status_code == 200
        assert "response.failed" in streamed.text
    assert capfd.readouterr().err.count("end=unmet_requirement") == 2
