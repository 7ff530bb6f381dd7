"""Requests of Anthropic's Messages: what fields, blocks and tools become, and what is refused."""

import base64
import json
from typing import Any

import pytest
from anthropic.types import ModelInfo

from chat_request import ChatRequest, Message, Tool
from errors import InvalidRequest
from events import ToolCall
from formats.anthropic import parse
from formats.anthropic_answer import error
from formats.model_list import to_anthropic_list
from settings import Model, Settings
from translate import to_prompt

PNG = base64.b64encode(b"\x89PNG a pixel").decode()
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
SHOWN = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "description": "Tells it.", "input_schema": SCHEMA}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
HELLO = [{"role": "user", "content": "Hello"}]


def parsed(**fields: Any) -> ChatRequest:
    body = {"model": "m", "max_tokens": 9, "messages": HELLO, **fields}
    return parse(json.dumps(body).encode(), Settings())


def messages(*given: tuple[str, Any]) -> list[Message]:
    """The conversation that messages of (role, content) become."""
    told = [{"role": role, "content": content} for role, content in given]
    return parsed(messages=told).conversations[0]


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}


def refused(**fields: Any) -> str:
    """The message for a request that is refused."""
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    message: str = json.loads(error(caught.value, "req_1").body)["error"]["message"]
    return message


def test_a_thread_begins_but_does_not_go_on() -> None:
    for begun in ({"type": "create"}, {"type": "fork"}, "thread_1"):
        assert parsed(thread=begun).ignored == ("thread",)
    with pytest.raises(InvalidRequest) as caught:
        parsed(thread={"type": "continue", "previous_message_id": "msg_1"})
    reply = error(caught.value, "req_1")
    told = json.loads(reply.body)["error"]
    assert (reply.status, told["type"]) == (404, "not_found_error")
    assert told["message"].startswith("thread: ")
    assert told["details"] == {"error_code": "thread_not_found"}  # what packages go by


def test_a_plain_request() -> None:
    chat = parsed(
        system="Be brief.",
        stream=True,
        max_tokens=64_000,
        stop_sequences=["END", ""],
        temperature=0.5,
        top_k=3,
    )
    assert chat.conversations == ([Message("system", "Be brief."), Message("user", "Hello")],)
    assert (chat.model, chat.stream, chat.max_tokens) == ("m", True, 64_000)
    assert chat.early_usage
    assert chat.stop == ("END",)
    assert chat.options == {"temperature": 0.5}
    assert chat.ignored == ("top_k",)
    assert not chat.thinks


def test_what_has_no_effect_is_named_and_null_is_absent() -> None:
    chat = parsed(
        metadata={"user_id": "u"},
        context_management={"edits": []},
        mcp_servers=[{"type": "url", "url": "https://mcp.example"}],
        output_config={"effort": "low"},
        container=None,
        something_new=[1],
    )
    named = ("metadata", "context_management", "mcp_servers", "something_new")
    assert chat.ignored == (*named, "output_config.effort")


def test_max_tokens_may_be_absent_or_zero() -> None:
    """Counting has none, and 0 warms up a cache that is not here."""
    assert parsed(max_tokens=None).max_tokens is None
    assert parsed(max_tokens=0).max_tokens == 1


def changed(kind: str, **tool: Any) -> dict[str, Any]:
    """A system message that changes the tools on offer."""
    return {"role": "system", "content": [{"type": kind, "tool": tool}]}


def test_messages_change_the_tools_on_offer() -> None:
    stock = {"name": "stock", "input_schema": SCHEMA}
    defined = changed("tool_addition", type="tool_definition", definition=stock)
    chat = parsed(
        tools=[WEATHER, {**WEATHER, "name": "news"}, {**WEATHER, "name": "time"}],
        messages=[
            *HELLO,
            changed("tool_removal", type="tool_reference", name="weather"),
            changed("tool_removal", type="tool_reference", name="time"),
            defined,
            changed("tool_addition", type="tool_reference", name="time"),
            changed("tool_addition", type="mcp_toolset_reference", server_name="files"),
        ],
    )
    assert chat.conversations == ([Message("user", "Hello")],)
    assert chat.tools is not None
    assert [tool.name for tool in chat.tools.tools] == ["news", "time", "stock"]
    again = parsed(messages=[*HELLO, defined, defined]).tools
    assert again is not None
    assert [tool.name for tool in again.tools] == ["stock"]


def test_what_is_wrong_with_a_change_of_tools_is_refused_by_its_place() -> None:
    where = "messages.1.content.0.tool"
    bare = {"role": "system", "content": [{"type": "tool_removal"}]}
    assert refused(messages=[*HELLO, bare]).startswith(f"{where}: ")
    bad = {**WEATHER, "name": "a b"}
    added = changed("tool_addition", type="tool_definition", definition=bad)
    assert refused(messages=[*HELLO, added]).startswith(f"{where}.definition.name: ")
    gone = changed("tool_removal", type="tool_reference", name="weather")
    choice = {"type": "tool", "name": "weather"}
    told = refused(tools=[WEATHER], tool_choice=choice, messages=[*HELLO, gone])
    assert told.startswith("tool_choice.name: ")


@pytest.mark.parametrize(
    ("thinking", "thinks", "hidden"),
    [
        ({"type": "disabled"}, False, False),
        ({"type": "adaptive"}, True, False),
        ({"type": "between_tools"}, True, False),
        ({"type": "enabled", "budget_tokens": 2048}, True, False),
        ({"type": "adaptive", "display": "omitted"}, True, True),
        ({"type": "adaptive", "display": "summarized"}, True, False),
        ({"type": "adaptive", "display": "updates"}, True, False),
    ],
)
def test_thinking(thinking: Any, thinks: bool, hidden: bool) -> None:
    chat = parsed(thinking=thinking)
    assert (chat.thinks, chat.hides_thoughts) == (thinks, hidden)


@pytest.mark.parametrize(
    "system",
    [
        "x-anthropic-billing-header: v=1; cch=2;\nBe brief.\n\nBe kind.",
        [text("x-anthropic-billing-header: v=1;"), text("Be brief."), text("Be kind.")],
    ],
)
def test_system_is_one_text_without_telemetry(system: Any) -> None:
    first, _ = parsed(system=system).conversations[0]
    assert first == Message("system", "Be brief.\n\nBe kind.")


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_wanted_json(field: str) -> None:
    wanted: Any = {"type": "json_schema", "schema": SCHEMA}
    form = parsed(**{field: {"format": wanted} if field == "output_config" else wanted}).format
    assert form is not None
    assert (form.kind, form.schema, form.strict) == ("json_schema", SCHEMA, True)


def test_text_and_images_become_parts() -> None:
    url = {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}
    assert messages(("user", [text("Look"), text("there"), text("")])) == [
        Message("user", "Look\nthere")
    ]
    assert messages(("user", [text("Look"), IMAGE, url])) == [
        Message(
            "user",
            [
                {"type": "text", "text": "Look"},
                SHOWN,
                {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
            ],
        )
    ]


def test_documents_and_found_passages_become_text() -> None:
    plain = {"type": "text", "media_type": "text/plain", "data": "Once."}
    blocks = {"type": "content", "content": [text("One."), IMAGE]}
    passage = {"type": "search_result", "title": "Cats", "source": "s", "content": [text("Purr.")]}
    (message,) = messages(
        (
            "user",
            [
                {"type": "document", "source": plain, "title": "Tale", "context": "Old."},
                {"type": "document", "source": blocks},
                passage,
            ],
        )
    )
    assert message.content == [
        {"type": "text", "text": "[File Tale]\nOld.\nOnce."},
        {"type": "text", "text": "[File document]\nOne."},
        SHOWN,
        {"type": "text", "text": "Cats\ns\nPurr."},
    ]


def test_calls_and_results_make_a_history() -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich"}}
    failed = {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": True, "content": "No."}
    seen = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("18"), IMAGE]}
    orphan = {"type": "tool_result", "tool_use_id": "toolu_9"}
    found = messages(
        ("user", "?"),
        ("assistant", [text("I look."), use, {**use, "id": "toolu_2", "input": None}]),
        ("user", [text("And?"), seen, failed, orphan]),
    )
    calls = (
        ToolCall("toolu_1", "weather", '{"city": "Zürich"}'),
        ToolCall("toolu_2", "weather", "{}"),
    )
    assert found[1:] == [
        Message("assistant", "I look.", calls),
        Message("tool", [{"type": "text", "text": "18"}, SHOWN], (), "toolu_1"),
        Message("tool", "Error:\nNo.", (), "toolu_2"),
        Message("tool", "", (), "toolu_9"),
        Message("user", "And?"),
    ]


def test_old_thoughts_are_dropped_whatever_signs_them() -> None:
    thoughts = [
        {"type": "thinking", "thinking": "Hm.", "signature": "somebody else's"},
        {"type": "redacted_thinking", "data": "x"},
    ]
    assert messages(
        ("user", "?"), ("assistant", [*thoughts, text("Two.")]), ("assistant", thoughts)
    ) == [Message("user", "?"), Message("assistant", "Two.")]


@pytest.mark.parametrize(
    "kind",
    ["server_tool_use", "mcp_tool_use", "mcp_tool_result", "web_search_tool_result",
     "web_fetch_tool_result", "code_execution_tool_result", "bash_code_execution_tool_result",
     "text_editor_code_execution_tool_result", "tool_search_tool_result", "advisor_tool_result",
     "compaction", "fallback", "container_upload"],
)  # fmt: skip
def test_every_block_of_anthropic_s_servers_is_taken(kind: str) -> None:
    note = {"type": kind, "content": "Noted."}
    assert messages(("user", "?"), ("assistant", [note]))[1].content == "Noted."


def test_what_servers_ran_is_told_as_far_as_it_is_text() -> None:
    page = {"type": "web_search_result", "title": "Cats", "url": "https://cats.example"}
    blocks = [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [page]},
        {"type": "bash_code_execution_tool_result", "content": {"stdout": "42\n", "stderr": ""}},
        {"type": "compaction", "content": "We spoke of cats."},
        {"type": "container_upload", "file_id": "f"},
        text("Cats."),
    ]
    said = "Cats\nhttps://cats.example\n42\n\nWe spoke of cats.\nCats."
    assert messages(("user", "?"), ("assistant", blocks))[1] == Message("assistant", said)


def test_a_system_note_joins_the_user_message_before_it() -> None:
    """As a message of its own it would be what the model answers."""
    note = "\n\n<system-reminder>\nBe kind.\n</system-reminder>"
    assert messages(("user", "Hello"), ("system", [text("Be kind.")])) == [
        Message("user", f"Hello{note}")
    ]
    (shown,) = messages(("user", [IMAGE]), ("system", "Be kind."))
    assert shown.content == [SHOWN, {"type": "text", "text": note.strip()}]
    assert messages(("user", "Hello"), ("system", [])) == [Message("user", "Hello")]
    roles = [m.role for m in messages(("user", "?"), ("assistant", "!"), ("system", "Be kind."))]
    assert roles == ["user", "assistant", "system"]
    (several,) = messages(("user", "Hello"), ("system", "Be"), ("user", []), ("system", "kind."))
    assert several.content == "Hello\n\n<system-reminder>\nBe\n\nkind.\n</system-reminder>"


def test_own_tools() -> None:
    use = parsed(tools=[{**WEATHER, "type": "custom", "defer_loading": True}]).tools
    assert use is not None
    assert use.tools == (Tool("weather", "Tells it.", SCHEMA),)
    assert (use.choice, use.parallel) == ("auto", True)


@pytest.mark.parametrize(
    ("kind", "name", "holds"),
    [
        ("bash_20250124", "bash", ["command", "restart"]),
        ("text_editor_20250124", "str_replace_editor", ["undo_edit", "view_range"]),
        ("text_editor_20250728", "str_replace_based_edit_tool", ["insert_text", "old_str"]),
        ("memory_20250818", "memory", ["rename", "old_path", "insert_text"]),
        ("computer_20241022", "computer", ["coordinate", "800 by 600"]),
        ("computer_20251124", "computer", ["zoom", "region", "scroll"]),
    ],
)
def test_known_tools_are_offered_with_their_schemas(kind: str, name: str, holds: list[str]) -> None:
    size = {"display_width_px": 800, "display_height_px": 600}
    use = parsed(tools=[{"type": kind, "name": name, **size}]).tools
    assert use is not None
    (tool,) = use.tools
    assert tool.name == name
    told = json.dumps(tool.parameters) + tool.description
    assert [word for word in holds if word not in told] == []
    assert ('"zoom"' in told) == (kind == "computer_20251124")
    assert ('"triple_click"' in told) == (kind == "computer_20251124")
    assert ("undo_edit" in told) == (kind == "text_editor_20250124")


def test_a_known_tool_needs_nothing_but_its_type() -> None:
    use = parsed(tools=[{"type": "computer_20250124"}]).tools
    assert use is not None
    (tool,) = use.tools
    assert tool.name == "computer"
    assert "The screen is" not in tool.description
    assert '"triple_click"' in json.dumps(tool.parameters)


def test_a_search_by_the_server_is_switched_on_and_not_offered() -> None:
    asked = "Perform a web search for the query: cats"
    choice = {"type": "tool", "name": "web_search"}
    told = [{"role": "user", "content": asked}]
    chat = parsed(tools=[SEARCH], tool_choice=choice, messages=told)
    assert (chat.tools, chat.online, chat.echo["query"]) == (None, True, "cats")
    seen = [{"role": "user", "content": [IMAGE]}]
    assert parsed(tools=[SEARCH], messages=seen).echo["query"] == ""
    chat = parsed(tools=[SEARCH, WEATHER, {**WEATHER, "name": "web_search"}])
    assert chat.tools is not None
    assert [tool.name for tool in chat.tools.tools] == ["weather", "web_search"]
    fetch = parsed(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}])
    assert (fetch.online, fetch.echo["query"]) == (True, None)


def test_what_nobody_runs_here_is_named() -> None:
    chat = parsed(tools=[{"type": "code_execution_20250825", "name": "code_execution"}, WEATHER])
    assert chat.ignored == ("code_execution_20250825",)
    assert chat.tools is not None
    assert [tool.name for tool in chat.tools.tools] == ["weather"]


@pytest.mark.parametrize(
    ("choice", "wanted", "names"),
    [
        ({"type": "auto"}, "auto", ["weather", "time"]),
        ({"type": "any"}, "required", ["weather", "time"]),
        ({"type": "none"}, "none", ["weather", "time"]),
        ({"type": "tool", "name": "time"}, "required", ["time"]),
        ({"type": "tool", "name": "web_search"}, "auto", ["weather", "time"]),
    ],
)
def test_tool_choice(choice: Any, wanted: str, names: list[str]) -> None:
    tools = [WEATHER, {**WEATHER, "name": "time"}, SEARCH]
    use = parsed(tools=tools, tool_choice={**choice, "disable_parallel_tool_use": True}).tools
    assert use is not None
    assert (use.choice, use.parallel) == (wanted, False)
    assert [tool.name for tool in use.tools] == names


def block(kind: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": kind, **fields}]}]}


def image(**source: Any) -> dict[str, Any]:
    return block("image", source=source)


FIRST = "messages.0.content.0"
REFUSED: dict[str, dict[str, Any]] = {
    "messages": {"messages": None},
    "messages: ": {"messages": []},
    "messages: Invalid type": {"messages": "Hello"},
    "messages: Invalid value": {"messages": [{"role": "user", "content": ""}]},
    "messages.0: ": {"messages": ["Hello"]},
    "messages.0.role": {"messages": [{"role": "tool", "content": "x"}]},
    "messages.0.content": {"messages": [{"role": "user", "content": 5}]},
    f"{FIRST}: Input tag 'video' found using 'type' does not match": block("video"),
    f"{FIRST}: Input tag 'tool_addition' found": block("tool_addition", tool={}),
    f"{FIRST}.text": block("text"),
    f"{FIRST}.tool_result.tool_use_id": block("tool_result"),
    f"{FIRST}.type: Invalid value: 'tool_use'": block("tool_use", id="a", name="b"),
    f"{FIRST}.type: Invalid value: 'image'": {
        "messages": [{"role": "assistant", "content": [IMAGE]}]
    },
    f"{FIRST}.image.source.type": image(type="file", file_id="f"),
    f"{FIRST}.image.source.url": image(type="url", url="http://x.example/a.png"),
    f"{FIRST}.image.source.url: Invalid": image(type="url", url="file:///etc/passwd"),
    f"{FIRST}.image.source.data": image(type="base64", media_type="image/png", data="no base64!"),
    f"{FIRST}.image.source.data: In": image(type="base64", media_type="image/tiff", data="QQ=="),
    f"{FIRST}.document.source.type: Invalid value: only documents": block(
        "document", source={"type": "base64", "media_type": "application/pdf", "data": PNG}
    ),
    "model": {"model": None},
    "model: ": {"model": 5},
    "max_tokens": {"max_tokens": -1},
    "temperature": {"temperature": 1.5},
    "stream": {"stream": "yes"},
    "top_p": {"top_p": 1.5},
    "top_p: Invalid value": {"top_p": -0.5},
    "top_k": {"top_k": -1},
    "stop_sequences.1": {"stop_sequences": ["a", 5]},
    "stop_sequences: array": {"stop_sequences": ["a"] * 65},
    "tools: array": {"tools": [WEATHER] * 2049},
    "system.0.type": {"system": [IMAGE]},
    "thinking.type": {"thinking": {"type": "deep"}},
    "thinking.budget_tokens": {"thinking": {"type": "enabled", "budget_tokens": 5}},
    "output_config.effort": {"output_config": {"effort": 5}},
    "thinking.display": {"thinking": {"type": "adaptive", "display": 5}},
    "output_config.format.schema": {"output_config": {"format": {"type": "json_schema"}}},
    "output_format.type": {"output_format": {"type": "xml", "schema": {"type": "object"}}},
    "output_format.schema": {"output_format": {"type": "json_schema", "schema": {"type": "no"}}},
    "tools": {"tools": {}},
    "tools.0.name": {"tools": [{**WEATHER, "name": "a b"}]},
    "tools.0.input_schema": {"tools": [{"name": "weather"}]},
    "tools.0.strict": {"tools": [{**WEATHER, "strict": "yes"}]},
    "tools.0.type: Invalid value: that is OpenAI's form": {
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    },
    "tools.0.type: Invalid type": {"tools": [{"type": 5}]},
    "tools.0.type": {"tools": [{"type": "computer_toolset_20260801"}]},
    "tool_choice.type": {"tools": [WEATHER], "tool_choice": {"type": "maybe"}},
    "tool_choice.name": {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "no"}},
    "tool_choice": {"tool_choice": {"type": "any"}},
}


@pytest.mark.parametrize(("place", "fields"), REFUSED.items(), ids=REFUSED)
def test_what_is_wrong_is_refused_by_its_place(place: str, fields: dict[str, Any]) -> None:
    assert refused(**fields).startswith(place)


def test_what_claude_code_is_to_leave_out_is_told_in_words_that_it_knows() -> None:
    # it leaves a file out of the conversation by its place, or by these words (2.1.332)
    pdf = {"type": "document", "source": {"type": "base64", "data": PNG}}
    given = block("tool_result", tool_use_id="t", content=[text("Read."), pdf])
    told = refused(**given)
    assert told.startswith(f"{FIRST}.tool_result.content.1.document.")
    assert "does not support PDF input" in told
    shown = parsed(**block("tool_result", tool_use_id="t", content=[IMAGE]))
    with pytest.raises(InvalidRequest) as wrong:
        to_prompt(shown, shown.conversations[0], Model("m", ("m",), images=False))
    told = json.loads(error(wrong.value, "req_1").body)["error"]["message"]
    assert told.startswith(f"{FIRST}.tool_result.content: ")
    assert "could not process image" in told


def test_the_list_of_models_is_of_anthropics_types() -> None:
    rows = [Model("a", ("a",), context=9, output=3, description="Good"), Model("b", ("b",))]
    listed = to_anthropic_list(rows)
    first, second = (ModelInfo.model_validate_json(json.dumps(m), strict=True)
                     for m in listed["data"])  # fmt: skip
    assert (first.max_input_tokens, first.max_tokens) == (9, 3)
    assert (second.id, second.display_name, second.max_tokens) == ("b", "b", None)
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("a", "b", False)
    assert to_anthropic_list([])["first_id"] is None
