"""OpenAI's own Python package against the service as it runs.

Whatever the service sends is held against the package's own types, strictly: see `checked`.
"""

import asyncio
import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from conftest import HELLO, KEY, TOKEN, WEB_TOKEN, Server
from fake_flowith import (
    CUT,
    HANG,
    FakeFlowith,
    Reply,
    Script,
    error,
    knowledge,
    llm,
    think,
    web,
    words,
)
from openai import AsyncOpenAI, OpenAI
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

# A refusal of an account makes it rest, so that each test with one needs an account of its own.
ACCOUNTS = ",".join([TOKEN, *(f"{WEB_TOKEN}-{i}" for i in range(100))])
MODELS = {
    "gpt-4.1": "gpt-4.1",
    "native": {"model": "a", "api": "llm", "native_tools": True},
    "garden": {"model": "a", "api": "knowledge"},
}
SETTINGS = {"FLOWITH_API": "web", "FLOWITH_AUTH_TOKEN": ACCOUNTS, "RETRY_ATTEMPTS": "1"}
BEYOND_OPENAI = {"reasoning_content", "annotations", "knowledge_citations"}
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG a pixel").decode()


class City(BaseModel):
    """What the models are asked for."""

    name: str
    people: int
    rivers: list[str]


class Weather(BaseModel):
    """Tells the weather."""

    city: str
    unit: str = "C"


PARIS = City(name="Paris", people=2_102_650, rivers=["Seine", "Bièvre"])
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it.", "parameters": PARAMETERS},
}
TIME: Any = {"type": "function", "function": {"name": "time"}}
ASK: Any = [{"role": "user", "content": "What is the weather in Paris?"}]


def called(name: str, **arguments: Any) -> str:
    """A call as the models are asked to write it."""
    told = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{told}\n</tool_call>"


def cut_up(text: str, size: int = 3) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


@pytest.fixture(scope="module")
def service(
    flowith: FakeFlowith, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """`service(HOLD="1", ...)`: the service with these settings, started once for all tests."""
    folder = tmp_path_factory.mktemp("service")
    models = folder / "models.json"
    models.write_text(json.dumps(MODELS), "utf-8")
    started: dict[str, Server] = {}

    def start(**environ: str) -> Server:
        key = json.dumps(environ, sort_keys=True)
        if key not in started:
            given = {"FLOWITH_API_URL": flowith.url, "MODELS_FILE": str(models), **SETTINGS}
            started[key] = Server(folder / f"{len(started)}.log", {**given, **environ})
        return started[key]

    yield start
    for server in started.values():
        server.stop()


Sent = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def sent(flowith: FakeFlowith) -> Iterator[Sent]:
    """All that the service sent during a test; the answers are checked as wholes after it."""
    flowith.reset()
    found: Sent = []
    yield found
    answers: dict[str, Sent] = {}
    for data in found:
        answers.setdefault(data.get("id", ""), []).append(data)
    for answer in answers.values():
        if answer[0].get("object") == "chat.completion.chunk":
            check_stream(answer)


def checked(client: Any, sent: Sent) -> Any:
    """The client, which from now on refuses what is not exactly of OpenAI's types.

    The package itself takes nearly anything: it neither misses a key nor minds a number that came
    as a string. Its types also allow keys to be absent which OpenAI's API always sends.
    """
    process = client._process_response_data

    def check(*, data: Any, cast_to: Any, response: Any) -> Any:
        sent.append(data)
        if cast_to in (ChatCompletion, ChatCompletionChunk, Completion):
            check_types(data, cast_to)
        return process(data=data, cast_to=cast_to, response=response)

    client._process_response_data = check
    return client


def check_types(data: Any, kind: Any) -> None:
    text = json.dumps(data)
    if kind is Completion:  # its type knows no unfinished choice, OpenAI's streams have them
        text = text.replace('"finish_reason": null', '"finish_reason": "stop"')
    model = kind.model_validate_json(text, strict=True)
    assert set(extras(model)) <= BEYOND_OPENAI
    for choice in data["choices"]:
        assert {"index", "finish_reason", "logprobs"} <= choice.keys()
        if kind is ChatCompletion:
            assert {"role", "content", "refusal"} <= choice["message"].keys()
    assert kind is not ChatCompletion or data["usage"]


def extras(value: Any) -> Iterator[str]:
    """The keys that OpenAI's types do not know, at any depth."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or ()
        yield from extras([each for _, each in value if each is not None])
    elif isinstance(value, list):
        for each in value:
            yield from extras(each)


def check_stream(chunks: Sent) -> None:
    """The rules of one stream that no single chunk can break."""
    assert len({(c["id"], c["object"], c["created"], c["model"]) for c in chunks}) == 1
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    for index in {choice["index"] for choice in choices}:
        mine = [choice for choice in choices if choice["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert not any("role" in choice["delta"] for choice in mine[1:])
        assert all(choice["finish_reason"] is None for choice in mine[:-1])
        assert all(len(choice["delta"]) == 1 for choice in mine[1:-1])
        parts = [part for choice in mine for part in choice["delta"].get("tool_calls", ())]
        begun = [part for part in parts if "id" in part]
        assert [part["index"] for part in begun] == list(range(len(begun)))
        assert len({part["id"] for part in begun}) == len(begun)
        assert [part["index"] for part in parts] == sorted(part["index"] for part in parts)
        assert all(set(part) == {"index", "function"} for part in parts if part not in begun)
    assert all(not chunk.get("usage") for chunk in chunks[:-1])


@pytest.fixture
def client(service: Callable[..., Server], sent: Sent) -> Iterator[OpenAI]:
    with to_client(service(), sent) as made:
        yield made


def to_client(server: Server, sent: Sent, **options: Any) -> OpenAI:
    """A client that is left as it comes: it would try a failed call three times."""
    made = OpenAI(base_url=f"{server.url}/v1", api_key=KEY, timeout=20, **options)
    client: OpenAI = checked(made, sent)
    return client


def ask(client: Any, stream: bool, **options: Any) -> Any:
    """The completion, put together by the package itself where it is streamed."""
    options = {"model": "gpt-4.1", "messages": HELLO, **options}
    if not stream:
        return client.chat.completions.create(**options)
    with client.chat.completions.stream(**options) as events:
        for _ in events:
            pass
        return events.get_final_completion()


either_way = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
MakeService = Callable[..., Server]


@either_way
def test_an_answer_arrives_as_it_was_said(
    client: OpenAI, flowith: FakeFlowith, stream: bool
) -> None:
    text = 'A naïve café, 你好, 👩‍👩‍👧 and \\n "quotes" </think>\n\n  end \n'
    flowith.reply(web(*cut_up(text)))
    found = ask(client, stream)
    assert found.choices[0].message.content == text
    assert found.choices[0].message.role == "assistant"
    assert found.choices[0].finish_reason == "stop"
    assert found.model == "gpt-4.1"
    assert found.id.startswith("chatcmpl-")


def test_a_raw_stream_gives_each_piece_as_it_comes(
    client: OpenAI, flowith: FakeFlowith, sent: Sent
) -> None:
    flowith.reply(web("one ", 0.2, "two ", 0.2, "three"))
    with client.chat.completions.create(model="gpt-4.1", messages=ASK, stream=True) as stream:
        pieces = [chunk.choices[0].delta.content for chunk in stream]
    assert pieces == ["", "one ", "two ", "three", None]
    assert not any("usage" in chunk for chunk in sent)


def test_the_stream_helper_tells_what_happens(client: OpenAI, flowith: FakeFlowith) -> None:
    flowith.reply(web("Hel", 0.2, "lo"))
    with client.chat.completions.stream(model="gpt-4.1", messages=ASK) as stream:
        events = list(stream)
    said = [event.delta for event in events if event.type == "content.delta"]
    assert said == ["", "Hel", "lo"]  # the first is that of the role chunk, at OpenAI too
    assert [event.content for event in events if event.type == "content.done"] == ["Hello"]


@either_way
def test_usage_comes_whole_and_once(
    client: OpenAI, flowith: FakeFlowith, sent: Sent, stream: bool
) -> None:
    flowith.reply(web(think("Hm, let me see."), *words("Hello to all of you")))
    options = {"stream_options": {"include_usage": True}} if stream else {}
    usage = ask(client, stream, **options).usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
    if stream:
        assert sent[-1]["choices"] == []
        assert all(chunk["usage"] is None for chunk in sent[:-1])


@either_way
@pytest.mark.parametrize("dialect", ["web", "llm"])
def test_reasoning_stands_beside_the_answer(
    client: OpenAI, flowith: FakeFlowith, dialect: str, stream: bool
) -> None:
    pieces = think("First think."), "Then ", "speak."
    flowith.reply(web(*pieces) if dialect == "web" else llm(*pieces))
    model = "gpt-4.1" if dialect == "web" else "native"
    message = ask(client, stream, model=model).choices[0].message
    assert message.content == "Then speak."
    assert message.reasoning_content == "First think."


SEEDS = [
    {"content": "On cats.", "source_id": "s1", "source_title": "Manual"},
    {"content": "On dogs.", "source_id": "s2", "source_title": "Manual"},
    {"content": "On birds.", "source_title": "https://a.example"},
    {"content": "On fish.", "source_title": "https://b.example"},
]


@either_way
def test_several_sources_pass_the_package(
    client: OpenAI, flowith: FakeFlowith, stream: bool
) -> None:
    flowith.reply(knowledge("See the ", "manual.", seeds=SEEDS))
    message: Any = ask(client, stream, model="garden").choices[0].message
    assert message.content == "See the manual."
    pages = [dict(one)["url_citation"] for one in message.annotations]
    assert [dict(page)["url"] for page in pages] == ["https://a.example", "https://b.example"]
    assert [one["source_id"] for one in message.knowledge_citations] == ["s1", "s2"]


@either_way
def test_no_reasoning_effort_leaves_the_thoughts_out(
    client: OpenAI, flowith: FakeFlowith, sent: Sent, stream: bool
) -> None:
    flowith.reply(web(think("Hm."), "Hello"))
    answer = ask(client, stream, reasoning_effort="none")
    assert answer.choices[0].message.content == "Hello"
    assert "Hm" not in json.dumps(sent)


JSONS = {
    "bare": PARIS.model_dump_json(),
    "fenced": f"Here you are:\n\n```json\n{PARIS.model_dump_json(indent=2)}\n```\nEnjoy!",
    "thought": f"<think>\nJSON then: {{}}\n\n</think>\n{PARIS.model_dump_json()}",
    "trailing comma": PARIS.model_dump_json().replace("]}", ",]}"),
}


@either_way
@pytest.mark.parametrize("text", JSONS.values(), ids=JSONS)
def test_parse_gives_the_pydantic_object(
    client: OpenAI, flowith: FakeFlowith, text: str, stream: bool
) -> None:
    flowith.reply(web(*cut_up(text)))
    if stream:
        answer = ask(client, True, response_format=City)
    else:
        answer = client.chat.completions.parse(model="gpt-4.1", messages=ASK, response_format=City)
    assert answer.choices[0].message.parsed == PARIS
    assert "people" in flowith.requests[0].body.decode()


@either_way
def test_json_that_breaks_its_schema_is_asked_for_once_more(
    client: OpenAI, flowith: FakeFlowith, stream: bool
) -> None:
    flowith.reply(web('{"name": "Paris"}'), web(PARIS.model_dump_json()))
    assert ask(client, stream, **json_schema()).choices[0].message.content == JSONS["bare"]
    first, second = flowith.requests
    assert len(second.json["messages"]) == len(first.json["messages"]) + 2


@either_way
def test_json_that_never_fits_is_an_honest_error(
    client: OpenAI, flowith: FakeFlowith, stream: bool
) -> None:
    flowith.reply(web("I would rather not."))
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, stream, **json_schema())
    assert caught.value.status_code == 502
    assert len(flowith.requests) == 2


def json_schema() -> dict[str, Any]:
    schema = {"name": "City", "strict": True, "schema": openai.pydantic_function_tool(City)}
    schema["schema"] = schema["schema"]["function"]["parameters"]  # type: ignore[index]
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


@either_way
def test_json_object_is_json_and_nothing_else(
    client: OpenAI, flowith: FakeFlowith, stream: bool
) -> None:
    flowith.reply(web(*cut_up('Sure!\n```json\n{"a": "```", "b": [1, {}]}\n```\nDone.')))
    answer = ask(client, stream, response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content) == {"a": "```", "b": [1, {}]}


FORMS = {
    "asked for": called("weather", city="Paris"),
    "invoke": '<function_calls>\n<invoke name="weather">\n<parameter name="city">Paris</parameter>'
    "\n</invoke>\n</function_calls>",
    "fenced": '```json\n{"name": "weather", "arguments": {"city": "Paris"}}\n```',
    "broken": '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris",}\n</tool_call>',
}


@either_way
@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_a_call_in_the_text_becomes_a_tool_call(
    client: OpenAI, flowith: FakeFlowith, text: str, stream: bool
) -> None:
    flowith.reply(web(*cut_up(text)))
    choice = ask(client, stream, messages=ASK, tools=[WEATHER]).choices[0]
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert call.type == "function"
    assert call.id
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    assert not choice.message.content


@either_way
def test_tools_make_a_round_trip(client: OpenAI, flowith: FakeFlowith, stream: bool) -> None:
    flowith.reply(
        web("I shall look.\n", *cut_up(called("weather", city="Paris"))), web("It is 18 degrees.")
    )
    first = ask(client, stream, messages=ASK, tools=[WEATHER]).choices[0].message
    assert first.content == "I shall look."
    call = first.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}
    said = {"role": "assistant", "content": first.content, "tool_calls": [call.to_dict()]}
    second = ask(client, stream, messages=[*ASK, said, result], tools=[WEATHER])
    assert second.choices[0].message.content == "It is 18 degrees."
    assert second.choices[0].finish_reason == "stop"
    history = flowith.requests[1].json["messages"]
    assert [m["role"] for m in history] == ["system", "user", "assistant", "user"]
    assert all(call.id in m["content"] for m in history[2:])
    assert "18 degrees" in history[3]["content"]


@either_way
@pytest.mark.parametrize("parallel", [True, False])
def test_several_calls_come_as_several_or_as_the_first(
    client: OpenAI, flowith: FakeFlowith, parallel: bool, stream: bool
) -> None:
    cities = ["Paris", "Rome", "Zürich"]
    flowith.reply(web(*cut_up("\n".join(called("weather", city=city) for city in cities))))
    answer = ask(client, stream, tools=[WEATHER], parallel_tool_calls=parallel)
    calls = answer.choices[0].message.tool_calls
    found = [json.loads(call.function.arguments)["city"] for call in calls]
    assert found == (cities if parallel else cities[:1])
    assert len({call.id for call in calls}) == len(calls)


CHOICES: dict[str, Any] = {
    "required": "required",
    "named": {"type": "function", "function": {"name": "weather"}},
}


@either_way
@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_a_call_that_is_due_is_asked_for_once_more(
    client: OpenAI, flowith: FakeFlowith, choice: Any, stream: bool
) -> None:
    flowith.reply(web("No idea."), web(called("weather", city="Paris")))
    answer = ask(client, stream, tools=[WEATHER, TIME], tool_choice=choice)
    assert answer.choices[0].message.tool_calls[0].function.name == "weather"
    assert not answer.choices[0].message.content
    flowith.reset()
    flowith.reply(web("No idea."))
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, stream, tools=[WEATHER, TIME], tool_choice=choice)
    assert len(flowith.requests) == 2
    assert "call" in caught.value.message


@either_way
def test_pydantic_tools_get_parsed_arguments(
    client: OpenAI, flowith: FakeFlowith, stream: bool
) -> None:
    flowith.reply(web(called("Weather", city="Paris", unit="F")))
    tools = [openai.pydantic_function_tool(Weather)]
    if stream:
        answer = ask(client, True, messages=ASK, tools=tools)
    else:
        answer = client.chat.completions.parse(model="gpt-4.1", messages=ASK, tools=tools)
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.parsed_arguments == Weather(city="Paris", unit="F")


@either_way
def test_deprecated_functions_are_answered_in_their_own_form(
    client: OpenAI, flowith: FakeFlowith, stream: bool
) -> None:
    flowith.reply(web(called("weather", city="Paris")))
    options: Any = {"model": "gpt-4.1", "messages": ASK, "functions": [WEATHER["function"]]}
    if stream:
        chunks = [chunk.choices[0] for chunk in client.chat.completions.create(
            **options, stream=True)]  # fmt: skip
        calls = [c.delta.function_call for c in chunks if c.delta.function_call]
        name, reason = calls[0].name, chunks[-1].finish_reason
        arguments = "".join(call.arguments or "" for call in calls)
    else:
        choice = client.chat.completions.create(**options).choices[0]
        call, reason = choice.message.function_call, choice.finish_reason
        name, arguments = call.name, call.arguments
    assert (name, json.loads(arguments), reason) == ("weather", {"city": "Paris"}, "function_call")


def test_a_custom_tool_takes_plain_text(client: OpenAI, flowith: FakeFlowith) -> None:
    patch = '*** Begin "Patch"\n+ one\n'
    told = json.dumps({"name": "apply_patch", "input": patch})
    flowith.reply(web(f"<tool_call>\n{told}\n</tool_call>"))
    tools = [{"type": "custom", "custom": {"name": "apply_patch"}}]
    call = ask(client, False, tools=tools).choices[0].message.tool_calls[0]
    assert (call.type, call.custom.name, call.custom.input) == ("custom", "apply_patch", patch)


@either_way
def test_native_calls_come_out_by_the_same_rules(
    client: OpenAI, flowith: FakeFlowith, stream: bool
) -> None:
    def part(**call: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}}]}

    flowith.reply(
        llm(
            part(id="call_1", index=0, type="function", function={"name": "weather"}),
            part(id=None, index=0, function={"name": None, "arguments": '{"city": '}),
            part(index=0, function={"arguments": '"Paris"}'}),
            part(id="call_2", index=1, function={"name": "time", "arguments": ""}),
            finish="tool_calls",
        )
    )
    choice = ask(client, stream, model="native", tools=[WEATHER, TIME]).choices[0]
    calls = [(c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls]
    assert calls == [("call_1", "weather", '{"city":"Paris"}'), ("call_2", "time", "{}")]
    assert choice.finish_reason == "tool_calls"
    assert flowith.requests[0].json["tools"][0]["function"]["name"] == "weather"


REFUSALS: dict[int, tuple[type[openai.APIStatusError], str | None]] = {
    400: (openai.BadRequestError, None),
    401: (openai.APIStatusError, "upstream_auth_error"),
    402: (openai.APIStatusError, "insufficient_quota"),
    403: (openai.APIStatusError, "upstream_auth_error"),
    404: (openai.APIStatusError, "upstream_not_found"),
    413: (openai.BadRequestError, "context_length_exceeded"),
    429: (openai.RateLimitError, "rate_limit_exceeded"),
    500: (openai.InternalServerError, "upstream_error"),
    503: (openai.InternalServerError, "upstream_error"),
}


@either_way
@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_has_its_class_and_is_not_tried_again(
    client: OpenAI, flowith: FakeFlowith, status: int, stream: bool
) -> None:
    """The service has spent its own tries, and the package obeys its `x-should-retry`."""
    kind, code = REFUSALS[status]
    flowith.reply(error(status, headers={"Retry-After": "300"}))
    assert client.max_retries == 2
    with pytest.raises(kind) as caught:
        ask(client, stream)
    assert caught.value.code == code
    assert caught.value.message
    assert caught.value.request_id
    assert caught.value.response.headers["x-should-retry"] == "false"
    tries = 2 if status in (401, 403) else 1  # the token in its two forms
    assert len(flowith.requests) == tries


def test_a_wrong_key_is_an_authentication_error(service: MakeService, sent: Sent) -> None:
    with (
        to_client(service(), sent).with_options(api_key="wrong") as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        ask(client, False)
    assert caught.value.code == "invalid_api_key"


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    for call in (lambda: ask(client, False, model="no"), lambda: client.models.retrieve("no/such")):
        with pytest.raises(openai.NotFoundError) as caught:
            call()
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "messages": ({"messages": []}, "empty_array"),
    "messages[0].role": ({"messages": [{"role": "boss", "content": ""}]}, "invalid_value"),
    "messages[0].content": ({"messages": [{"role": "user", "content": 1}]}, "invalid_type"),
    "temperature": ({"temperature": 3}, "decimal_above_max_value"),
    "max_tokens": ({"max_tokens": 0}, "integer_below_min_value"),
    "n": ({"n": 100}, "integer_above_max_value"),
    "tool_choice": ({"tool_choice": "required"}, "invalid_value"),
    "tools[0].function.name": (
        {"tools": [{"type": "function", "function": {"name": "a b"}}]}, "invalid_value",
    ),
    "response_format.type": ({"response_format": {"type": "xml"}}, "invalid_value"),
    "response_format.json_schema.name": (
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        "missing_required_parameter",
    ),
    "audio": ({"audio": {"voice": "ash", "format": "mp3"}}, "unsupported_parameter"),
}  # fmt: skip


@pytest.mark.parametrize("param", BAD)
def test_a_mistake_is_named(client: OpenAI, flowith: FakeFlowith, param: str) -> None:
    body, code = BAD[param]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "gpt-4.1", "messages": ASK, **body})
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"
    assert not flowith.requests


def test_an_answer_that_breaks_off_raises_in_the_middle(
    client: OpenAI, flowith: FakeFlowith
) -> None:
    flowith.reply(web("half an ", 0.2, CUT))
    stream = client.chat.completions.create(model="gpt-4.1", messages=ASK, stream=True)
    said = [next(stream).choices[0].delta.content for _ in range(2)]
    assert said == ["", "half an "]
    with pytest.raises(openai.APIError) as caught:
        next(stream)
    assert caught.value.code == "upstream_cut"
    assert type(caught.value) is openai.APIError
    with pytest.raises(openai.InternalServerError) as whole:
        ask(client, False)
    assert whole.value.code == "upstream_cut"


@either_way
def test_an_answer_without_a_word_is_an_error(
    client: OpenAI, flowith: FakeFlowith, stream: bool
) -> None:
    flowith.reply(web())
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, stream)
    assert caught.value.code == "empty_response"


def test_heartbeats_pass_unseen(service: MakeService, sent: Sent, flowith: FakeFlowith) -> None:
    flowith.reply(web(0.5, "late", 0.5, called("weather", city="Paris"), 0.5))
    with to_client(service(HOLD="0.2", HEARTBEAT="0.1"), sent) as client:
        message = ask(client, True, tools=[WEATHER]).choices[0].message
    assert (message.content, len(message.tool_calls)) == ("late", 1)


def test_a_refusal_after_the_hold_raises_in_the_stream(
    service: MakeService, sent: Sent, flowith: FakeFlowith
) -> None:
    flowith.reply(error(402, delay=0.6))
    with (
        to_client(service(HOLD="0.2", HEARTBEAT="0.1"), sent) as client,
        pytest.raises(openai.APIError) as caught,
    ):
        ask(client, True)
    assert caught.value.code == "insufficient_quota"
    assert len(flowith.requests) == 1


def test_whoever_stops_reading_stops_flowith(client: OpenAI, flowith: FakeFlowith) -> None:
    flowith.reply(web("begun ", HANG))
    with client.chat.completions.create(model="gpt-4.1", messages=ASK, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    with client.chat.completions.stream(model="gpt-4.1", messages=ASK) as events:
        next(event for event in events if event.type == "content.delta")
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=1, max_retries=0), False)
    assert len(flowith.requests) == 3
    assert all(seen.wait_hung_up(5) for seen in flowith.requests)


def test_the_asynchronous_client_does_the_same(
    service: MakeService, sent: Sent, flowith: FakeFlowith
) -> None:
    reply: Script = lambda seen: web(0.2, f"You said {seen.json['messages'][-1]['content']}")  # noqa: E731
    flowith.reply(reply)

    async def whole(client: Any, said: str) -> Any:
        messages = [{"role": "user", "content": said}]
        answer = await client.chat.completions.create(model="gpt-4.1", messages=messages)
        return answer.choices[0].message.content

    async def streamed(client: Any, said: str) -> str:
        messages = [{"role": "user", "content": said}]
        async with client.chat.completions.stream(model="gpt-4.1", messages=messages) as events:
            async for _ in events:
                pass
            answer = await events.get_final_completion()
        return str(answer.choices[0].message.content)

    async def main() -> None:
        made = AsyncOpenAI(base_url=f"{service().url}/v1", api_key=KEY, timeout=20)
        async with checked(made, sent) as client:
            numbers = [str(i) for i in range(20)]
            for way in (whole, streamed):
                answers = await asyncio.gather(*(way(client, number) for number in numbers))
                assert answers == [f"You said {number}" for number in numbers]
            assert [model.id async for model in client.models.list()] == list(MODELS)
            flowith.reset()
            flowith.reply(web(PARIS.model_dump_json()))
            parsed = await client.chat.completions.parse(
                model="gpt-4.1", messages=ASK, response_format=City
            )
            assert parsed.choices[0].message.parsed == PARIS
            flowith.reset()
            flowith.reply(web("begun ", HANG))
            task = asyncio.create_task(whole(client, "Wait"))
            (seen,) = await asyncio.to_thread(flowith.wait_for, 1)
            task.cancel()
            assert await asyncio.to_thread(seen.wait_hung_up, 5)
            flowith.reset()
            flowith.reply(error(429))
            with pytest.raises(openai.RateLimitError):
                await whole(client, "Hello")

    asyncio.run(main())


@either_way
def test_n_answers_have_their_own_places(
    client: OpenAI, flowith: FakeFlowith, sent: Sent, stream: bool
) -> None:
    flowith.reply(*(web(0.3 * (i == 0), *words(f"Answer {i} of three", 0.05)) for i in range(3)))
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    answer = ask(client, stream, n=3, **usage)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    said = sorted(choice.message.content for choice in answer.choices)
    assert said == [f"Answer {i} of three" for i in range(3)]
    assert answer.usage.completion_tokens >= 9
    assert len(flowith.requests) == 3
    if stream:  # the package's own helper fails where a choice comes before a lower one
        roles = [chunk["choices"][0] for chunk in sent[:3]]
        assert [(c["index"], c["delta"].get("role")) for c in roles] == [
            (i, "assistant") for i in range(3)
        ]


@either_way
@pytest.mark.parametrize("stop", ["END", ["\n\n", "END", "never"]], ids=["one", "several"])
def test_a_stop_text_ends_the_answer_and_the_call(
    client: OpenAI, flowith: FakeFlowith, stop: Any, stream: bool
) -> None:
    flowith.reply(web("Text E", "N", "N E", "ND and more", HANG))
    choice = ask(client, stream, stop=stop).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Text ENN ", "stop")
    assert flowith.requests[0].wait_hung_up(5)


@either_way
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_ends_the_answer_and_the_call(
    client: OpenAI, flowith: FakeFlowith, name: str, stream: bool
) -> None:
    flowith.reply(web(*words("one two three four five six seven eight"), HANG))
    options: Any = {"model": "gpt-4.1", "messages": ASK, name: 3}
    if stream:
        chunks = list(client.chat.completions.create(**options, stream=True))
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        choice = client.chat.completions.create(**options).choices[0]
        said, reason = choice.message.content, choice.finish_reason
    assert reason == "length"
    assert re.fullmatch(r"one two three ?", said)
    assert flowith.requests[0].wait_hung_up(5)


def test_json_that_was_cut_off_raises_in_parse(client: OpenAI, flowith: FakeFlowith) -> None:
    flowith.reply(web(*cut_up(PARIS.model_dump_json())))
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(
            model="gpt-4.1", messages=ASK, response_format=City, max_tokens=5
        )


def test_an_image_is_stored_once(client: OpenAI, flowith: FakeFlowith) -> None:
    def part(url: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}

    parts = [
        {"type": "text", "text": "What is this?"},
        part(PIXEL),
        part("https://a.example/b.png"),
    ]
    first = [{"role": "user", "content": parts}]
    flowith.reply(web("A pixel."), path="/completion")
    for stream in (False, True):
        more = [{"role": "assistant", "content": "A pixel."}, *HELLO] if stream else []
        assert ask(client, stream, messages=[*first, *more]).choices[0].message.content
    assert [seen.path for seen in flowith.requests] == ["/file/store", "/completion", "/completion"]
    (stored,) = flowith.files
    assert flowith.files[stored] == b"\x89PNG a pixel"
    for seen in flowith.requests[1:]:
        content = seen.json["messages"][0]["content"]
        urls = [p["image_url"]["url"] for p in content if p["type"] == "image_url"]
        assert urls == [stored, "https://a.example/b.png"]
    for url in ("ftp://a.example/a.png", "file:///etc/passwd", "data:text/html;base64,aaaa"):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, False, messages=[{"role": "user", "content": [part(url)]}])
        assert caught.value.param == "messages[0].content[0].image_url.url"


@either_way
def test_legacy_completions_work(
    client: OpenAI, flowith: FakeFlowith, sent: Sent, stream: bool
) -> None:
    flowith.reply(web(*words("Once upon a time")))
    options: Any = {"model": "gpt-4.1", "prompt": "Tell", "max_tokens": 50}
    if stream:
        answers = list(client.completions.create(**options, stream=True))
        assert answers[-1].choices[0].finish_reason == "stop"
    else:
        answers = [client.completions.create(**options)]
        assert answers[0].usage.total_tokens > 0
    assert "".join(a.choices[0].text for a in answers) == "Once upon a time"
    assert {data["object"] for data in sent} == {"text_completion"}


def test_legacy_completions_take_several_prompts(client: OpenAI, flowith: FakeFlowith) -> None:
    reply: Script = lambda seen: web(f"To {seen.json['messages'][0]['content']}")  # noqa: E731
    flowith.reply(reply)
    answer = client.completions.create(model="gpt-4.1", prompt=["A", "B"], n=2)
    assert [c.text for c in answer.choices] == ["To A", "To A", "To B", "To B"]


def test_models_are_listed_and_told(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == list(MODELS)
    model = client.models.retrieve("gpt-4.1")
    assert (model.id, model.object, model.owned_by) == ("gpt-4.1", "model", "flowith")
    assert type(model.created) is int


def test_what_has_no_effect_is_named_in_a_header(client: OpenAI, flowith: FakeFlowith) -> None:
    flowith.reply(web("Hello"))
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4.1", messages=ASK, seed=1, user="me", extra_body={"top_k": 3, "tools": None}
    )
    assert raw.headers["x-ignored-params"] == "seed, user, top_k"
    assert raw.parse().choices[0].message.content == "Hello"


def test_what_lives_elsewhere_is_not_found_and_says_so(client: OpenAI) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: client.embeddings.create(model="gpt-4.1", input="a"),
        lambda: client.moderations.create(input="a"),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError) as caught:
            call()
        assert "not available" in caught.value.message


def test_a_gateway_page_is_never_shown(client: OpenAI, flowith: FakeFlowith) -> None:
    page: Reply = error(502, "Bad gateway", html=True)
    flowith.reply(page)
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, False)
    assert "<" not in caught.value.message
