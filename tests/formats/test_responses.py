"""Requests of the Responses API: each field, item and tool; what is refused, in which words."""

import base64
import json
from typing import Any

import pytest

from chat_request import AnswerFormat, ChatRequest, Message, Tool
from errors import InvalidRequest
from events import ToolCall
from formats import responses, responses_compaction
from formats.responses_items import to_summary
from settings import Settings

USER = {"role": "user", "content": "Hi"}
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
NOTE = "data:text/plain;base64," + base64.b64encode(b"a note").decode()
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
SEARCH = {"type": "function", "name": "search"}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"},
}


def parse(*items: Any, **body: Any) -> ChatRequest:
    asked = {"model": "m", "input": list(items) or "Hi", **body}
    return responses.parse(json.dumps(asked).encode(), Settings())


def talk(*items: Any, **body: Any) -> list[Message]:
    (found,) = parse(*items, **body).conversations
    return found


def refused(*items: Any, **body: Any) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as wrong:
        parse(*items, **body)
    assert wrong.value.status == 400
    if wrong.value.param:
        assert wrong.value.param in wrong.value.message
    return wrong.value.param, wrong.value.code


TYPE, VALUE, MISSING = "invalid_type", "invalid_value", "missing_required_parameter"
UNSUPPORTED = "unsupported_value"


@pytest.mark.parametrize(
    ("name", "value", "param", "code"),
    [
        ("model", "", "model", MISSING),
        ("input", None, "input", MISSING),
        ("input", [], "input", "empty_array"),
        ("input", 7, "input", TYPE),
        ("input", ["Hi"], "input[0]", TYPE),
        ("instructions", ["Hi"], "instructions", TYPE),
        ("stream", 1, "stream", TYPE),
        ("max_output_tokens", 0, "max_output_tokens", "integer_below_min_value"),
        ("temperature", 3, "temperature", "decimal_above_max_value"),
        ("top_p", -1, "top_p", "decimal_below_min_value"),
        ("include", "all", "include", TYPE),
        ("include", [1], "include[0]", TYPE),
        ("metadata", "x", "metadata", TYPE),
        ("metadata", {"a": "b", "c": 5}, "metadata.c", TYPE),
        (
            "stream_options",
            {"include_obfuscation": "no"},
            "stream_options.include_obfuscation",
            TYPE,
        ),
        ("text", "x", "text", TYPE),
        ("text", {"verbosity": "huge"}, "text.verbosity", VALUE),
        ("text", {"format": {"type": "xml"}}, "text.format.type", VALUE),
        ("text", {"format": {"type": "json_schema"}}, "text.format.name", MISSING),
        (
            "text",
            {"format": {"type": "json_schema", "name": "a", "schema": {"type": 7}}},
            "text.format.schema",
            VALUE,
        ),
        ("reasoning", {"effort": "vast"}, "reasoning.effort", VALUE),
        ("parallel_tool_calls", "no", "parallel_tool_calls", TYPE),
        ("previous_response_id", "resp_1", None, "previous_response_not_found"),
        ("conversation", "conv_1", "conversation", "unsupported_parameter"),
        ("prompt", {"id": "pmpt_1"}, "prompt", "unsupported_parameter"),
        ("background", True, "background", "unsupported_parameter"),
        ("tools", {}, "tools", TYPE),
        ("tools", [{"type": "function"}], "tools[0].name", MISSING),
        ("tools", [{"type": "function", "name": "a b"}], "tools[0].name", VALUE),
        ("tools", [{**WEATHER, "parameters": "x"}], "tools[0].parameters", TYPE),
        ("tools", [{"type": "gadget"}], "tools[0].type", VALUE),
        ("tools", [{"type": "file_search"}], "tools[0].type", UNSUPPORTED),
        ("tools", [{"type": "computer_use_preview"}], "tools[0].type", UNSUPPORTED),
        ("tools", [{"type": "mcp"}], "tools[0].type", UNSUPPORTED),
        ("tools", [{"type": "namespace", "tools": []}], "tools[0].name", MISSING),
        ("tools", [{"type": "namespace", "name": "a"}], "tools[0].tools", MISSING),
        (
            "tools",
            [{"type": "namespace", "name": "a", "tools": [{"type": "mcp"}]}],
            "tools[0].tools[0].type",
            VALUE,
        ),
        ("tool_choice", "must", "tool_choice", VALUE),
        ("tool_choice", "required", "tool_choice", VALUE),
        ("tool_choice", {"type": "function"}, "tool_choice.name", MISSING),
        ("tool_choice", {"type": "function", "name": "no"}, "tool_choice", VALUE),
        ("tool_choice", {"type": "file_search"}, "tool_choice.type", UNSUPPORTED),
    ],
)
def test_a_bad_field_is_refused_by_its_name(
    name: str, value: Any, param: str | None, code: str
) -> None:
    found, said = refused(**{name: value}) if param else (None, None)
    if param is None:
        with pytest.raises(InvalidRequest, match="send the whole conversation") as wrong:
            parse(**{name: value})
        found, said = None, wrong.value.code
    assert (found, said) == (param, code)


def test_what_has_an_effect_is_not_named() -> None:
    chat = parse(reasoning={"effort": "low"}, metadata={"a": "b"}, include=[], text={})
    assert (chat.ignored, chat.max_tokens) == ((), None)


@pytest.mark.parametrize(
    ("item", "param", "code"),
    [
        ({}, "input[1].type", MISSING),
        ({"type": 7}, "input[1].type", TYPE),
        ({"role": "tool", "content": "x"}, "input[1].role", VALUE),
        ({"role": "user", "content": 7}, "input[1].content", TYPE),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "input[1].content[0]",
         UNSUPPORTED),
        (
            {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]},
            "input[1].content[0].image_url",
            MISSING,
        ),
        (
            {"role": "user", "content": [{"type": "input_file", "file_url": "https://x/y"}]},
            "input[1].content[0]",
            UNSUPPORTED,
        ),
        ({"type": "function_call", "name": "a"}, "input[1].call_id", MISSING),
        ({"type": "function_call", "call_id": "c"}, "input[1].name", MISSING),
        ({"type": "function_call_output", "output": "x"}, "input[1].call_id", MISSING),
        ({"type": "function_call_output", "call_id": "c"}, "input[1].output", MISSING),
        ({"type": "function_call_output", "call_id": "c", "output": {}}, "input[1].output", TYPE),
        (
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "x"}]},
            "input[1].output[0].type",
            VALUE,
        ),
        ({"type": "item_reference", "id": "msg_1"}, "input", "item_not_found"),
        ({"id": "msg_1"}, "input", "item_not_found"),
        ({"type": "additional_tools", "tools": [{"type": "mcp"}]}, "input[1].tools[0].type",
         UNSUPPORTED),
    ],
)  # fmt: skip
def test_a_bad_item_is_refused_by_its_place(item: Any, param: str, code: str) -> None:
    assert refused(USER, item) == (param, code)


def test_a_result_may_have_its_tool_in_place_of_a_call() -> None:
    space = {"type": "namespace", "name": "ns", "tools": [SEARCH]}
    unasked = {"type": "function_call_output", "output": "x", "name": "search", "namespace": "ns"}
    said = talk(USER, unasked, tools=[SEARCH, space])[1:]
    assert said == [Message("tool", "x", (), "", "ns__search")]


def test_what_needs_a_store_is_refused_with_what_to_send_instead() -> None:
    with pytest.raises(InvalidRequest, match=r"openai\.store = false"):
        parse(USER, {"type": "item_reference", "id": "msg_1"})
    stored = {"type": "input_image", "file_id": "file_1"}
    with pytest.raises(InvalidRequest, match="Send the image itself"):
        parse({"role": "user", "content": [stored]})
    with pytest.raises(InvalidRequest) as wrong:
        responses.parse(b'{"model": "m", "messages": []}', Settings())
    assert "Use 'input', not 'messages'" in wrong.value.message
    assert parse(background=False, store=True).ignored == ("store",)


def test_fields_without_effect_are_taken_and_named() -> None:
    chat = parse(
        user="u", service_tier="flex", client_metadata={"a": 1}, seed=1, reasoning_effort="low",
        top_k=5, store=False, truncation="auto", stream_options={"include_obfuscation": False},
        max_tool_calls=None, include=["message.output_text.logprobs"],
    )  # fmt: skip
    named = {"user", "service_tier", "client_metadata", "seed", "reasoning_effort", "top_k"}
    assert set(chat.ignored) == {*named, "truncation"}


def test_the_fields_that_count() -> None:
    chat = parse(
        model="gpt:online", max_output_tokens=9, temperature=0.5, top_p=1, stream=True,
        reasoning={"effort": "minimal", "summary": "auto", "context": "all_turns"},
        text={"format": {"type": "json_schema", "name": "city", "schema": {}, "strict": True}},
    )  # fmt: skip
    assert (chat.model, chat.online) == ("gpt:online", True)
    assert (chat.max_tokens, chat.thinks, chat.stream) == (9, False, True)
    assert chat.options == {"temperature": 0.5, "top_p": 1}
    assert chat.format == AnswerFormat("json_schema", "city", "", {}, True)
    assert parse(text={"format": {"type": "text"}}).format is None


def test_instructions_and_all_leading_system_texts_make_one() -> None:
    found = talk(
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "b"}]},
        {"role": "system", "content": "c"},
        USER,
        {"role": "developer", "content": "late"},
        instructions="a",
    )
    assert found == [
        Message("system", "a\n\nb\n\nc"),
        Message("user", "Hi"),
        Message("system", "late"),
    ]


def test_an_empty_system_text_is_left_out() -> None:
    empty = {"role": "developer", "content": ""}
    assert talk(empty, USER, empty, instructions="") == talk(USER)


def test_what_the_assistant_said_and_called_in_one_turn_is_one_message() -> None:
    found = talk(
        USER,
        {"type": "reasoning", "id": "rs_1", "summary": [], "status": None},
        {
            "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "I look.", "annotations": [],
                         "logprobs": None}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather",
         "arguments": '{"city":"Rome"}', "status": "completed"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "raw"},
        {"type": "function_call_output", "call_id": "c1", "output": "18 degrees"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "done"},
        {"type": "function_call_output", "call_id": "c9", "output": "of nobody"},
        {"role": "assistant", "content": "Done."},
        USER,
        tools=[WEATHER, PATCH],
    )  # fmt: skip
    calls = (
        ToolCall("c1", "weather", '{"city":"Rome"}'),
        ToolCall("c2", "apply_patch", "raw", custom=True),
    )
    assert found == [
        Message("user", "Hi"),
        Message("assistant", "I look.", calls),
        Message("tool", "18 degrees", call_id="c1"),
        Message("tool", "done", call_id="c2"),
        Message("tool", "of nobody", call_id="c9"),
        Message("assistant", "Done."),
        Message("user", "Hi"),
    ]


def test_images_and_files_stay_what_they_are() -> None:
    image = {"type": "input_image", "image_url": PIXEL, "detail": "low"}
    file = {"type": "input_file", "filename": "n.txt", "file_data": NOTE}
    user, tool = talk(
        {"role": "user", "content": [{"type": "input_text", "text": "See"}, image, file]},
        {"type": "function_call_output", "call_id": "c", "output": [image]},
    )
    url = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
    text = {"type": "text", "text": "[File n.txt]\na note"}
    assert user.content == [{"type": "text", "text": "See"}, url, text]
    assert tool.content == [url]
    assert (user.where, tool.where) == ("input[0].content", "input[1].output")


def test_items_of_openai_s_own_services_are_text_or_dropped_by_name() -> None:
    chat = parse(
        USER,
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "local_shell_call_output", "id": "l", "output": "ran"},
        {"type": "shell_call_output", "call_id": "s", "output": [{"stdout": "o", "stderr": "e"}]},
        {"type": "mcp_call", "name": "look", "arguments": "{}", "output": "found"},
        {"type": "code_interpreter_call", "code": "1", "outputs": [{"type": "logs", "logs": "1"}]},
        {"type": "file_search_call", "queries": ["q"], "results": [{"text": "passage"}]},
        {"type": "tomorrows_item", "text": "?"},
        {"type": "item_reference", "id": "rs_1"},
        {"type": "compaction", "encrypted_content": "of somebody else"},
    )
    (found,) = chat.conversations
    assert [m.content for m in found] == ["Hi", "ran", "o\ne", "found", "1", "passage"]
    assert [m.name for m in found] == ["", "", "", "look", "", ""]
    assert chat.ignored == ("input.compaction", "input.tomorrows_item", "input.web_search_call")
    assert refused({"type": "reasoning", "summary": []}) == ("input", VALUE)


def test_a_summary_of_ours_is_read_again() -> None:
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": to_summary("tea, 茶")}
    system, user = talk(item, USER, instructions="Be brief.")
    assert system.content == "Be brief.\n\nSummary of the conversation so far:\ntea, 茶"
    assert user.content == "Hi"


def test_a_summary_that_is_broken_is_left_out_by_name() -> None:
    item = {"type": "compaction", "encrypted_content": to_summary("tea") + "!"}
    assert parse(item, USER).ignored == ("input.compaction",)


def test_what_a_service_returned_stands_behind_what_was_said_before_it() -> None:
    found = talk(
        USER,
        {"role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "c", "name": "f"},
        {"type": "mcp_call", "name": "look", "output": "found"},
    )
    assert [m.role for m in found] == ["user", "assistant", "tool"]
    assert found[1].calls == (ToolCall("c", "f", ""),)


def test_who_asks_for_a_summary_gets_the_model_asked_without_tools() -> None:
    asked = [
        parse(USER, {"type": "compaction_trigger"}, tools=[WEATHER]),
        responses_compaction.parse(b'{"model": "m", "input": "Hi"}', Settings()),
    ]
    for chat in asked:
        *_, last = chat.conversations[0]
        assert (last.role, chat.tools, chat.thinks) == ("user", None, False)
        assert str(last.content).startswith("Stop working here. Write a summary")
        assert chat.echo["compact"]
    assert not parse(USER).echo["compact"]


def names(chat: ChatRequest) -> list[str]:
    assert chat.tools
    return [tool.name for tool in chat.tools.tools]


def space(name: str, *tools: Any, **more: Any) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "tools": list(tools), **more}


def test_functions_and_custom_tools_in_flat_and_nested_form() -> None:
    nested = {"type": "function", "function": {"name": "time", "strict": True}}
    chat = parse(tools=[{**WEATHER, "strict": None, "description": "Tells it."}, PATCH, nested])
    assert chat.tools
    assert chat.tools.tools == (
        Tool("weather", "Tells it.", {"type": "object"}),
        Tool("apply_patch", custom=True, format=PATCH["format"]),  # type: ignore[arg-type]
        Tool("time", strict=True),
    )


def test_names_in_namespaces_are_bare_where_they_can_be() -> None:
    long = "n" * 40
    chat = parse(
        tools=[
            SEARCH,
            space("mcp__docs", SEARCH, WEATHER, description="The docs."),
            space("mcp__web pages", SEARCH),
            space(long, {"type": "function", "name": "search"}, {**PATCH, "name": "x" * 40}),
        ]
    )
    first, second, weather, third, fourth, patch = names(chat)
    assert (first, second, weather) == ("search", "mcp__docs__search", "weather")
    assert third.startswith("mcp__web_pages__search_")
    assert (fourth, patch) == (f"{long}__search", "x" * 40)
    called = chat.echo["names"]
    assert called["mcp__docs__search"] == ("search", "mcp__docs")
    assert called[third] == ("search", "mcp__web pages")
    assert called["search"] == ("search", "")
    assert chat.tools
    assert [tool.namespace for tool in chat.tools.tools[:2]] == ["", "mcp__docs"]
    assert chat.tools.tools[1].description == "mcp__docs: The docs."


def test_a_name_made_of_two_is_no_other_tool_s() -> None:
    bare = {"type": "function", "name": "a__search"}
    made = names(parse(tools=[space("a", SEARCH), SEARCH, bare]))
    assert len({*made}) == 3


def test_names_too_long_are_cut_and_stay_apart() -> None:
    name, one, two = "t" * 50, "a" * 60, "a" * 59 + "b"
    tool = {"type": "function", "name": name}
    chat = parse(tools=[space(one, tool), space(two, tool)])
    assert len({*names(chat)}) == 2
    assert max(map(len, names(chat))) == 64
    assert {chat.echo["names"][told] for told in names(chat)} == {(name, one), (name, two)}
    again = parse(tools=[space(two, tool), space(one, tool)])
    assert set(names(again)) == set(names(chat))


def test_tools_that_come_as_items_are_offered_and_their_calls_understood() -> None:
    chat = parse(
        {"type": "additional_tools", "role": "developer", "tools": [space("a", SEARCH)]},
        USER,
        {"type": "tool_search_output", "call_id": "t", "tools": [space("b", SEARCH)]},
        {"type": "function_call", "call_id": "c", "name": "search", "namespace": "b",
         "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "found"},
    )  # fmt: skip
    assert names(chat) == ["a__search", "b__search"]
    *_, call, result = chat.conversations[0]
    assert (call.calls[0].name, result.call_id) == ("b__search", call.calls[0].id)
    assert chat.ignored == ()


def test_openai_s_own_tools_are_left_out_or_used() -> None:
    chat = parse(tools=[{"type": "web_search_preview_2025_03_11"}, {"type": "image_generation"}])
    assert (chat.tools, chat.online, chat.ignored) == (None, True, ("tools.image_generation",))
    assert not parse(tools=[{"type": "web_search", "external_web_access": False}]).online


@pytest.mark.parametrize("kind", ["tool_search", "image_generation", "local_shell", "shell"])
def test_tools_that_can_be_done_without_are_left_out_by_name(kind: str) -> None:
    chat = parse(tools=[{"type": kind}])
    assert (chat.tools, chat.ignored) == (None, (f"tools.{kind}",))


@pytest.mark.parametrize(
    "kind",
    ["apply_patch", "file_search", "code_interpreter", "mcp", "programmatic_tool_calling",
     "computer_use_preview"],
)  # fmt: skip
def test_tools_whose_result_is_asked_for_are_refused(kind: str) -> None:
    assert refused(tools=[{"type": kind}]) == ("tools[0].type", "unsupported_value")


@pytest.mark.parametrize(
    ("choice", "place"),
    [
        ({"type": "function"}, "tool_choice.name"),
        ({"type": "allowed_tools"}, "tool_choice.tools"),
        ({"type": "allowed_tools", "tools": [WEATHER, {}]}, "tool_choice.tools[1].name"),
        ({"type": "allowed_tools", "tools": ["weather"]}, "tool_choice.tools[0].name"),
    ],
)
def test_a_choice_that_names_no_tool_is_refused_where_the_name_should_be(
    choice: Any, place: str
) -> None:
    assert refused(tools=[WEATHER], tool_choice=choice)[0] == place


def test_a_tool_that_is_not_offered_cannot_be_chosen() -> None:
    unknown = {"type": "function", "name": "no"}
    for choice in (unknown, {"type": "allowed_tools", "tools": [WEATHER, unknown]}):
        assert refused(tools=[WEATHER], tool_choice=choice) == ("tool_choice", VALUE)


@pytest.mark.parametrize(
    ("choice", "mode", "left"),
    [
        (None, "auto", ["weather", "search"]),
        ("none", "none", ["weather", "search"]),
        ("required", "required", ["weather", "search"]),
        ({"type": "web_search_preview"}, "auto", ["weather", "search"]),
        ({"type": "auto"}, "auto", ["weather", "search"]),
        ({"type": "required"}, "required", ["weather", "search"]),
        ({"type": "function", "name": "search"}, "required", ["search"]),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "weather"}, {"type": "web_search"}],
            },
            "required",
            ["weather"],
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"tools": [WEATHER, {"type": "web_search"}]},
            },
            "auto",
            ["weather"],
        ),
    ],
)
def test_the_choice_among_tools(choice: Any, mode: str, left: list[str]) -> None:
    chat = parse(tools=[WEATHER, space("web", SEARCH)], tool_choice=choice)
    assert chat.tools
    assert (chat.tools.choice, names(chat)) == (mode, left)


def test_a_choice_of_the_web_search_alone_is_one_of_no_other_tool() -> None:
    choice = {"type": "allowed_tools", "tools": [{"type": "web_search"}]}
    chat = parse(tools=[WEATHER, {"type": "web_search"}], tool_choice=choice)
    assert chat.tools
    assert (chat.tools.choice, chat.online) == ("none", True)


def test_a_choice_without_tools_that_work_here() -> None:
    dropped = [{"type": "local_shell"}]
    assert parse(tools=dropped, tool_choice="auto").tools is None
    assert refused(tools=dropped, tool_choice="required") == ("tool_choice", VALUE)
