"""What would keep the service from everybody else is refused, by its place, in each API."""

import json
import sys
from json import JSONDecoder
from types import FrameType
from typing import Any

import orjson
import pytest

from errors import InvalidRequest
from formats import Format, anthropic, chat, responses
from formats.images import EDITS
from settings import Settings

USER = [{"role": "user", "content": "Hi"}]
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
WIDE: dict[str, Any] = {"anyOf": [{"properties": {"a": {}}}] * 3000}
Body = dict[str, Any]


def to_chat(tools: list[Body]) -> Body:
    return {"messages": USER, "tools": [{"type": "function", "function": t} for t in tools]}


def to_responses(tools: list[Body]) -> Body:
    return {"input": "Hi", "tools": [{"type": "function", **tool} for tool in tools]}


def to_anthropic(tools: list[Body]) -> Body:
    renamed = [{**t, "input_schema": t["parameters"]} for t in tools]
    return {"messages": USER, "max_tokens": 9, "tools": renamed}


def to_namespace(tools: list[Body]) -> Body:
    inner = [{"type": "function", **tool} for tool in tools]
    return {"input": "Hi", "tools": [{"type": "namespace", "name": "n", "tools": inner}]}


APIS: dict[str, tuple[Format, Any, str]] = {
    "chat": (chat, to_chat, "tools[0].function.parameters"),
    "responses": (responses, to_responses, "tools[0].parameters"),
    "a namespace": (responses, to_namespace, "tools[0].tools[0].parameters"),
    "anthropic": (anthropic, to_anthropic, "tools.0.input_schema"),
}


def offer(count: int, schema: Body = SCHEMA, *, strict: bool = False) -> list[Body]:
    return [{"name": f"f{i}", "parameters": schema, "strict": strict} for i in range(count)]


def refusal(format: Format, body: Body) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as wrong:
        format.parse(json.dumps({"model": "m", **body}).encode(), Settings())
    return wrong.value


TALKS: dict[str, tuple[Format, str, Body]] = {
    "chat": (chat, "messages", {}),
    "responses": (responses, "input", {}),
    "anthropic": (anthropic, "messages", {"max_tokens": 9}),
}


@pytest.mark.parametrize("api", TALKS)
def test_a_conversation_without_end_is_refused(api: str) -> None:
    format, field, more = TALKS[api]
    wrong = refusal(format, {field: USER * 40_001, **more})
    assert (wrong.param, wrong.code) == (field, "array_above_max_length")


@pytest.mark.parametrize("api", TALKS)
@pytest.mark.parametrize(
    ("metadata", "said"),
    [([[]] * 50_001, "objects and arrays"), (json.loads("[" * 501 + "]" * 501), "too deeply")],
    ids=["wide", "deep"],
)
def test_what_is_very_wide_or_deep_is_refused(api: str, metadata: Any, said: str) -> None:
    format, field, more = TALKS[api]
    wrong = refusal(format, {field: USER, "metadata": metadata, **more})
    assert said in wrong.message


def test_the_head_of_a_part_of_a_form_is_short() -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="' + b'\\"' * 10_000 + b'"\r\n\r\n'
    with pytest.raises(InvalidRequest, match="broken"):
        EDITS.parse(head + b"x\r\n--b--", Settings())


def test_the_head_of_a_data_url_is_short() -> None:
    url = f"data:a/{'a' * 2000};base64,eA=="
    part = {"type": "image_url", "image_url": {"url": url}}
    wrong = refusal(chat, {"messages": [{"role": "user", "content": [part]}]})
    assert wrong.code == "invalid_base64"


def test_a_namespace_has_a_short_name() -> None:
    """It is part of the name of each of its tools."""
    space = {"type": "namespace", "name": "n" * 257, "tools": offer(1)}
    wrong = refusal(responses, {"input": "Hi", "tools": [space]})
    assert (wrong.param, wrong.code) == ("tools[0].name", "string_above_max_length")


LONG = "x" * 5_000
QUOTED: dict[str, tuple[Format, Body]] = {
    "the type of a part": (chat, {"messages": [{"role": "user", "content": [{"type": LONG}]}]}),
    "the type of a block": (
        anthropic, {"messages": [{"role": "user", "content": [{"type": LONG}]}]},
    ),
    "the type of a tool": (chat, {"messages": USER, "tools": [{"type": LONG}]}),
    "a built-in tool": (responses, {"input": "Hi", "tools": [{"type": f"computer{LONG}"}]}),
    "the tool that is chosen": (chat, {
        **to_chat(offer(1)),
        "tool_choice": {"type": "function", "function": {"name": LONG}},
    }),
    "the tool that is chosen, at Anthropic": (
        anthropic, {**to_anthropic(offer(1)), "tool_choice": {"type": "tool", "name": LONG}},
    ),
    "a token": (chat, {"messages": USER, "logit_bias": {LONG: 500}}),
    "a key": (responses, {"input": "Hi", "metadata": {LONG: 5}}),
    "a reference": (responses, {"input": "Hi", "tools": [
        {"type": "function", "name": "f", "strict": True,
         "parameters": {"$ref": f"#/{LONG}", LONG: {"type": "no"}}},
    ]}),
    "a reference that leads nowhere": (
        chat, to_chat(offer(1, {"$ref": f"#/{LONG}"}, strict=True)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", QUOTED)
def test_what_an_error_quotes_is_short(what: str) -> None:
    wrong = refusal(*QUOTED[what])
    assert len(wrong.message) + len(wrong.param or "") < 500


@pytest.mark.parametrize("kind", ["document", "search_result"])
def test_documents_do_not_stand_in_one_another(kind: str) -> None:
    """Each would copy all that stands in it."""
    inner: Body = {"type": kind, "title": "t", "source": "s", "content": []}
    block = {**inner, "content": [inner]}
    if kind == "document":
        inner["source"] = {"type": "content", "content": []}
        block = {"type": kind, "source": {"type": "content", "content": [inner]}}
    wrong = refusal(
        anthropic, {"max_tokens": 9, "messages": [{"role": "user", "content": [block]}]}
    )
    assert wrong.code == "invalid_value"


@pytest.mark.parametrize("api", APIS)
def test_more_tools_than_a_model_can_be_told_of_are_refused(api: str) -> None:
    format, to_body, _ = APIS[api]
    wrong = refusal(format, to_body(offer(2049)))
    assert (wrong.param, wrong.code) == ("tools", "array_above_max_length")
    assert "2048" in wrong.message


def test_tools_in_several_lists_are_counted_together() -> None:
    items = [
        {"type": "additional_tools", "tools": [{**tool, "name": f"{i}{tool['name']}"}]}
        for i in range(3)
        for tool in offer(1000)
    ]
    wrong = refusal(responses, {"input": [{"role": "user", "content": "Hi"}, *items]})
    assert (wrong.param, wrong.code) == ("tools", "array_above_max_length")


@pytest.mark.parametrize("api", ["chat", "responses", "anthropic"])
def test_as_many_as_that_are_taken(api: str) -> None:
    format, to_body, _ = APIS[api]
    body = json.dumps({"model": "m", **to_body(offer(2048, strict=True))}).encode()
    tools = format.parse(body, Settings()).tools
    assert tools is not None
    assert len(tools.tools) == 2048


@pytest.mark.parametrize("api", APIS)
def test_schemas_that_need_too_much_work_are_refused(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jsontools.budget.CPU_SECONDS", 0.001)
    format, to_body, place = APIS[api]
    wrong = refusal(format, to_body(offer(1, WIDE, strict=True)))
    assert (wrong.param, wrong.code) == (place, "invalid_value")
    assert "too much work" in wrong.message


STOPS = {
    "many": (["a"] * 65, "array_above_max_length"),
    "a long one": (["a" * 65_537], "string_above_max_length"),
    "long ones": (["a" * 32_769] * 2, "string_above_max_length"),
}


@pytest.mark.parametrize("case", STOPS)
def test_stop_strings_without_measure_are_refused(case: str) -> None:
    stops, code = STOPS[case]
    for format, body, field in (
        (chat, {"messages": USER}, "stop"),
        (anthropic, {"messages": USER, "max_tokens": 9}, "stop_sequences"),
    ):
        wrong = refusal(format, {**body, field: stops})
        assert (wrong.param, wrong.code) == (field, code)


def test_one_long_stop_string_is_refused_too() -> None:
    assert refusal(chat, {"messages": USER, "stop": "a" * 65_537}).param == "stop"


def parsers_called(body: bytes) -> int:
    """How often a parser of JSON was begun for a body that is refused."""
    begun = 0

    def count(frame: FrameType, event: str, what: Any) -> None:
        nonlocal begun
        begun += event == "c_call" and what is orjson.loads
        begun += event == "call" and frame.f_code is JSONDecoder.decode.__code__

    sys.setprofile(count)
    try:
        with pytest.raises(InvalidRequest, match="more than 250000 values"):
            chat.parse(body, Settings())
    finally:
        sys.setprofile(None)
    return begun


@pytest.mark.parametrize("value", ["[]", "{}", "1", '"a"', r'"\\"', r'"\"["', '[["a"]]'])
def test_millions_of_values_are_refused_before_they_are_made(value: str) -> None:
    """Millions of them would keep the decoder, and so everybody, for a second."""
    assert parsers_called(b'{"x": [' + b",".join([value.encode()] * 630_000) + b"]}") == 0


@pytest.mark.parametrize("code", ["f(a[0], {}, [1, 2]);\n", '"a", [\\"b\\"], ', "\\", '\\\\"[,'])
def test_what_stands_in_strings_is_no_value(code: str) -> None:
    text = code * (3_000_000 // len(code))
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    (talk,) = chat.parse(json.dumps(body).encode(), Settings()).conversations
    assert talk[0].content == text
