"""What the model is told of tools: the golden file shows it as a whole, the rest is details.

After a change of words that is meant: `PYTHONPATH=. python tests/bridge/test_tool_prompt.py`.
"""

import json
import re
from pathlib import Path
from time import thread_time
from typing import Any

import pytest

from bridge.tool_calls import find_calls
from bridge.tool_prompt import FORM, instructions, result_to_text
from chat_request import AnswerFormat, ChatRequest, Message, Tool, ToolUse
from events import Done, Text, ToolCall
from settings import Model
from translate import to_prompt

GOLDEN = Path(__file__).with_name("prompt_of_15_tools.txt")
TEXT = {"type": "string"}
NAMES = (
    "read_file", "write_file", "edit_file", "list_files", "search", "run_command", "fetch_page",
    "ask_user", "plan", "take_note", "show_diff", "undo", "test", "commit", "finish",
)  # fmt: skip


def rules(*keys: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": dict.fromkeys(keys, TEXT), "required": [*keys], **more}


TOOLS = tuple(Tool(name, f"Does {name}.", rules("path")) for name in NAMES)
STRICT = Tool("save", parameters=rules("path", additionalProperties=False), strict=True)
PATCH = Tool("patch", custom=True)


def prompt(use: ToolUse, fmt: AnswerFormat | None = None, *messages: Message) -> list[Any]:
    """The messages that go up."""
    asked = [Message("system", "You are an agent."), Message("user", "Begin."), *messages]
    chat = ChatRequest("m", (asked,), tools=use, format=fmt)
    return to_prompt(chat, asked, Model("m", ("m",))).messages


def printed() -> str:
    return f"{prompt(ToolUse((*TOOLS[:13], STRICT, PATCH)))[0]['content']}\n"


def test_a_change_of_the_words_is_seen() -> None:
    assert printed() == GOLDEN.read_text("utf-8")


def test_the_words_join_the_system_message() -> None:
    begin = prompt(ToolUse(TOOLS))
    assert [message["role"] for message in begin] == ["system", "user"]
    assert begin[0]["content"].startswith("You are an agent.")


def test_the_list_comes_first_and_the_rules_stand_next_to_the_conversation() -> None:
    text = printed()
    assert text.index("You are") < text.index('"name":"read_file"') < text.index("No other form")
    assert text.rindex('"name":"patch"') < text.index("# How to call")


@pytest.mark.parametrize(
    ("use", "told", "untold"),
    [
        (ToolUse(TOOLS), "they run in this order", "strict"),
        (ToolUse(TOOLS, parallel=False), "at most one block", "in this order"),
        (ToolUse(TOOLS, "required"), "must call at least one of the tools", "only when it helps"),
        (ToolUse(TOOLS[:1], "required"), "must call the tool read_file", "custom"),
        (ToolUse((STRICT,)), "every key of its schema, null where", "custom"),
        (ToolUse((PATCH,)), '{"name":"patch","input":"..."}', "strict"),
    ],
)
def test_the_rules_are_those_of_the_request(use: ToolUse, told: str, untold: str) -> None:
    text = instructions(use)
    assert told in text
    assert untold not in text


def test_nothing_is_offered_where_no_tool_may_be_called() -> None:
    assert instructions(ToolUse(TOOLS, "none")) == ""
    assert instructions(ToolUse(())) == ""


def test_tools_and_json_make_one_rule() -> None:
    fmt = AnswerFormat("json_schema", "answer", "", {"type": "object"}, True)
    text = prompt(ToolUse(TOOLS), fmt)[0]["content"]
    assert "An answer that calls no tool must be exactly one valid JSON" in text
    assert "As long as you need a tool, call it. Once you need none, write exactly one JSON" in text
    assert "Your answer must be" not in text
    assert "otherwise answer in ordinary text" not in text


EXAMPLES: dict[str, tuple[Tool, str]] = {
    "required": (Tool("f", parameters=rules("a", "b")), '{"a":"...","b":"..."}'),
    "the first": (
        Tool("f", parameters={"properties": {"a": {"type": "integer"}, "b": TEXT}}),
        '{"a":1}',
    ),
    "nullable": (
        Tool("f", parameters={"properties": {"a": {"type": ["boolean", "null"]}}}),
        '{"a":true}',
    ),
    "none": (Tool("f"), "{}"),
    "odd": (Tool("f", parameters={"properties": {"a": True}, "required": "a"}), '{"a":"..."}'),
}


@pytest.mark.parametrize("case", EXAMPLES)
def test_the_example_is_made_from_the_first_tool(case: str) -> None:
    tool, arguments = EXAMPLES[case]
    assert f'<tool_call>\n{{"name":"f","arguments":{arguments}}}\n</tool_call>' in instructions(
        ToolUse((tool,))
    )


@pytest.mark.parametrize("told", [instructions(ToolUse(TOOLS)), FORM])
def test_whoever_repeats_the_instructions_calls_nothing(told: str) -> None:
    events = list(find_calls(iter([Text(told), Done()]), ToolUse(TOOLS), last_try=True))
    assert "".join(event.text for event in events if isinstance(event, Text)) == told
    assert events[-1] == Done()


def test_a_result_bears_the_name_of_its_call() -> None:
    call = ToolCall("call_1", "read_file", '{"path":"a"}')
    said = prompt(
        ToolUse(TOOLS),
        None,
        Message("assistant", "", (call,)),
        Message("tool", "x", call_id="call_1"),
        Message("tool", "y", call_id="call_2", name="other"),
    )
    assert said[-1]["content"] == (
        '<tool_result id="call_1" name="read_file">\nx\n</tool_result>\n'
        '<tool_result id="call_2" name="other">\ny\n</tool_result>'
    )


def test_a_result_is_that_of_the_last_call_with_its_id() -> None:
    # Kimi counts from 0 in each turn, llama.cpp gives all calls one id, others give none
    def call(name: str) -> ToolCall:
        return ToolCall("0", name, "{}")

    def result(text: str) -> Message:
        return Message("tool", text, call_id="0")

    said = prompt(
        ToolUse(TOOLS),
        None,
        Message("assistant", "", (call("first"), call("second"))),
        result("a"),
        result("b"),
        Message("assistant", "", (call("third"),)),
        result("c"),
        result("told again"),
    )
    results = "\n".join(one["content"] for one in said if one["role"] == "user")
    told = re.findall(r'name="(\w*)">\n([\w ]+)\n', results)
    assert told == [("first", "a"), ("second", "b"), ("third", "c"), ("third", "told again")]


def test_images_of_a_result_end_the_message_that_results_in_a_row_make() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x.y/z"}}
    shown = Message("tool", [{"type": "text", "text": "b"}, image], call_id="2")
    plain = [Message("tool", text, call_id="1") for text in "ac"]
    *_, first, second = prompt(ToolUse(TOOLS), None, plain[0], shown, plain[1])
    text, picture = first["content"]
    assert text["text"].count("<tool_result ") == 2
    assert picture == image
    assert second["content"].count("<tool_result ") == 1


def test_results_in_a_row_cost_in_proportion() -> None:
    results = [Message("tool", "x" * 500, call_id="1")] * 20_000
    start = thread_time()
    said = prompt(ToolUse(TOOLS), None, *results)
    assert thread_time() - start < 5  # it takes 0.2 s; joined anew for each result, a minute
    assert said[-1]["content"].count("<tool_result ") == 20_000


def test_a_result_cannot_make_the_look_for_tags_slow() -> None:
    page = "<" + " " * 100_000 + "<tool_call>" + json.dumps({"a": "</tool_result>"})
    text = result_to_text("1", "f", page * 20)
    assert text.count("<\\tool_call>") == 20
    assert text.count("<\\/tool_result>") == 20


if __name__ == "__main__":
    GOLDEN.write_text(printed(), "utf-8")
