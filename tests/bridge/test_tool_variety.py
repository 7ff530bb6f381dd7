"""Rarer ways to write a call, what must be asked for again, and text that is near to them."""

from functools import partial
from typing import Any

import pytest
from found_calls import cuts, found

from bridge.tool_calls import find_calls
from chat_request import Tool, ToolUse
from errors import Unmet
from events import Done, Event, ToolCall

TEXT = {"type": "string"}
SEEK = Tool(
    "seek",
    parameters={"properties": {"query": TEXT, "most": {"type": "integer"}}, "required": ["query"]},
)
KEEP = Tool(
    "keep",
    parameters={
        "properties": {"at": TEXT, "text": TEXT, "tags": {"type": "array"}},
        "required": ["at", "text"],
    },
)
NOW = Tool("now", parameters={"type": "object", "properties": {}})
USE = ToolUse((SEEK, KEEP, NOW))

A: list[Any] = ["seek", {"query": "red ants"}]
NOTHING: list[Any] = ["now", {}]
PLAIN = '{"query": "red ants"}'
JSON = f'{{"name": "seek", "arguments": {PLAIN}}}'
LACKING = JSON[:-1]
SPACED = (
    "<｜tool calls begin｜><｜tool call begin｜>function<｜tool sep｜>seek\n"
    f"```json\n{PLAIN}\n```<｜tool call end｜><｜tool calls end｜><｜end of sentence｜>"
)


def tagged(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


# What is written, the calls in it, and the words that are left of it.
CALLS: dict[str, tuple[str, list[list[Any]], str]] = {
    # The name in one object, the arguments in the next.
    "two objects": (tagged(f'{{"name": "seek"}}\n{PLAIN}'), [A], ""),
    "two objects with a key": (tagged(f'{{"tool": "seek"}}{{"arguments": {PLAIN}}}'), [A], ""),
    "a name, then a call": (tagged(f'{{"name": "now"}}\n{JSON}'), [NOTHING, A], ""),
    "a name, then a name": (tagged('{"name": "now"}\n{"name": "now"}'), [NOTHING] * 2, ""),
    "a name, a comma and a call": (tagged(f'{{"name": "now"}},\n{JSON}'), [NOTHING, A], ""),
    "a name alone": (tagged('{"name": "now"}') + " So.", [NOTHING], "So."),
    "a name alone, then words": (
        '<tool_call>{"name": "now"} and {"a": 1}',
        [NOTHING],
        'and {"a": 1}',
    ),
    "a name alone, then data": (
        tagged('{"name": "now"}') + ' See {"a": 1}.',
        [NOTHING],
        'See {"a": 1}.',
    ),
    "a name, then arguments that have a name": (
        tagged('{"name": "seek"}\n{"name": "Bob", "query": "x"}'),
        [["seek", {"name": "Bob", "query": "x"}]],
        "",
    ),
    "a name alone that nothing closes": ('<tool_call>\n{"name": "now"}\n', [NOTHING], ""),
    # ReAct.
    "bold labels": (f"**Action:** seek\n**Action Input:** {PLAIN}", [A], ""),
    "bold words, plain colons": (f"**Action**: `seek`\n**Action Input**: {PLAIN}", [A], ""),
    "bold labels and a fence": (
        f"I look.\n\n**Action:** seek\n**Action Input:**\n```json\n{PLAIN}\n```",
        [A],
        "I look.",
    ),
    "a bold exchange": (
        "So.\n\n**Thought:** Ants.\n**Action:** seek\n"
        f"**Action Input:** {PLAIN}\n**Observation:** six",
        [A],
        "So.\n\n**Thought:** Ants.",
    ),
    "plain text for the one argument": ("Action: seek\nAction Input: red ants", [A], ""),
    "the same in quotes": (
        'Thought: Ants.\nAction: seek\nAction Input: "red ants"\n',
        [A],
        "Thought: Ants.",
    ),
    "the same with a result": ("Action: seek\nAction Input: red ants\nObservation: six", [A], ""),
    # Text in place of an object.
    "text as arguments": (tagged('{"name": "seek", "arguments": "red ants"}'), [A], ""),
    "text as LangChain's input": ('{"action": "seek", "action_input": "red ants"}', [A], ""),
    "text as a parameter of another name": (
        '<invoke name="seek"><parameter name="input">red ants</parameter></invoke>',
        [A],
        "",
    ),
    # YAML.
    "YAML": (
        tagged("name: seek\narguments:\n  query: red ants\n  most: 3"),
        [["seek", {"query": "red ants", "most": 3}]],
        "",
    ),
    "YAML behind a name": (tagged('seek\nquery: "red ants"'), [A], ""),
    "YAML with a list of JSON": (
        tagged('tool_name: keep\nparameters:\n  at: a/b.txt\n  text: 5\n  tags: ["x"]'),
        [["keep", {"at": "a/b.txt", "text": "5", "tags": ["x"]}]],
        "",
    ),
    # Keys.
    "an unheard-of key for all arguments": (
        tagged(f'{{"tool": "seek", "payload": {PLAIN}}}'),
        [A],
        "",
    ),
    "an unheard-of key for something else": (
        tagged('{"tool": "seek", "payload": {"a": 1}}'),
        [["seek", {"payload": {"a": 1}}]],
        "",
    ),
    "a tag as an argument": (
        tagged(JSON.replace("red ants", "<b>")),
        [["seek", {"query": "<b>"}]],
        "",
    ),
    "a tag of ours in HTML": (
        "```html\n<tool_call><seek><query>red ants</query></seek></tool_call>\n```",
        [A],
        "",
    ),
    "a call under another key": (tagged(f'{{"tool": {JSON}}}'), [A], ""),
    "arguments beside a function": (
        f'{{"type": "function", "function": {{"name": "seek"}}, "arguments": {PLAIN}}}',
        [A],
        "",
    ),
    # A bracket is missing, and a fence ends what lacks it.
    "a fence in place of a bracket": (f"```json\n{LACKING}\n```\nI wait.", [A], "I wait."),
    "tildes in place of a bracket": (f"~~~\n{LACKING}\n~~~", [A], ""),
    "a fence in a tag in place of one": (tagged(f"```json\n{LACKING}\n```"), [A], ""),
    "back-quotes in a string": (
        f"```json\n{JSON.replace('red ants', '```a```')}\n```",
        [["seek", {"query": "```a```"}]],
        "",
    ),
    # Tokens.
    "spaces in tokens": (f"Hm.{SPACED}", [A], "Hm."),
    "a turn that is made up": (f"{tagged(JSON)}<|im_end|>\n<|im_start|>user\nSix.", [A], ""),
    "a turn behind words": (f"{tagged(JSON)}\nOk. <|im_start|>user\nSix.", [A], "Ok."),
    "an element of that name": (f"{tagged(JSON)}\n<user>x</user>", [A], "<user>x</user>"),
    "another": (f"{tagged(JSON)}\n<|user|>\nThanks.", [A], ""),
}

# What was to be a call, but leaves open what it says.
UNREADABLE = {
    "an argument without a value": tagged('{"name": "seek", "arguments": {"query": }}'),
    "an argument that breaks off": '<tool_call>{"name": "seek", "arguments": {"query":</tool_call>',
    "a form of its own": tagged(f'{{"method": "seek", "params": {PLAIN}}}'),
    "YAML's text of many lines": tagged("name: keep\narguments:\n  at: a\n  text: |\n    x"),
    "YAML with a comment": tagged("name: seek\narguments:\n  query: red # or black"),
    "YAML with a key twice": tagged("seek\nquery: red\nquery: black"),
    "YAML with a key that is unknown": tagged("seek\nquery: red\nmore: black"),
    "YAML with a list": tagged("name: keep\narguments:\n  tags:\n    - x"),
}

EXAMPLES = (
    "ツール呼び出しの例：", "호출 예시:", "Een voorbeeld:", "Oto przykład:", "Bir örnek:",
    "Ett exempel:", "Ví dụ:", "مثال:", "उदाहरण:", "Приклад:",
)  # fmt: skip
TEXTS = {
    "a tag at the end": "Calls begin with this:\n<tool_call>",
    "names in lines": '{"name": "seek"}\n{"name": "now"}\n',
    "ReAct that is shown": (
        "The form is as follows:\n\n**Thought:** I need it.\n**Action:** seek\n"
        f"**Action Input:** {PLAIN}\n\nThen it goes on."
    ),
    "plain text with words behind": "Action: seek\nAction Input: red ants\n\nI would do that.",
    "a plan": "**Action:** seek a way.\n**Action Input:** none\n* **Action**: now\n**A** *b* **\n*",
    "plain text for two arguments": "Action: keep\nAction Input: red ants",
    "an input without a line": "Action: seek\nAction Input:\n\nred ants",
    "broken JSON in a fence": '```json\n{"a": {"b": 1\n```\nSo.',
    "a value that breaks off in a fence": '```json\n{"name": "seek", "arguments": {"query":\n```',
    "elements in JSX": '```jsx\n<Seek query="x" />\n<Now />\n```',
    "arguments that are named": tagged(JSON.replace("red ants", "<query>")),
    "arguments that are told of": (
        '<invoke name="seek"><parameter name="query"><the query></parameter></invoke>'
    ),
    "words in tags": "<tool calls x> <tool call='1'> <end of story> <｜tool calls x｜>",
    "no pair": "<tool_call>seek it: yes</tool_call> is odd.",
    "another label": "Action: seek\nTool call: red ants",
    "no label": "seek: query\n<tool_call>seek it: yes</tool_call>",
    "an answer of LangChain's": '{"action": "Final Answer", "action_input": "six"}',
    "a quotation in a quotation": f">>>seek\n{PLAIN}\n",
} | {said: f"{said}\n\n```json\n{JSON}\n```" for said in EXAMPLES}


find = partial(found, use=USE)


@pytest.mark.parametrize("case", CALLS)
def test_a_rarer_way_is_understood_however_it_is_cut(case: str) -> None:
    wire, calls, said = CALLS[case]
    for pieces in cuts(wire):
        assert find(pieces) == (said, calls, "tool_calls"), pieces


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_leaves_open_what_it_says_is_asked_for_again(case: str) -> None:
    wire = UNREADABLE[case]
    for pieces in cuts(wire):
        assert find(pieces) == ("", [], "The model wrote a tool call that cannot be read.")
        assert find(pieces, last_try=True) == (wire, [], "stop")


@pytest.mark.parametrize("case", TEXTS)
def test_what_is_near_to_a_rarer_way_is_text_however_it_is_cut(case: str) -> None:
    wire = TEXTS[case]
    for pieces in cuts(wire):
        assert find(pieces) == (wire, [], "stop"), pieces


@pytest.mark.parametrize(
    "wire", ["Action: seek\nAction Input: red a", "**Action:** seek\n**Action Inp"]
)
def test_plain_text_that_was_cut_is_no_argument(wire: str) -> None:
    for pieces in cuts(wire):
        assert find(pieces, done="length") == (wire, [], "length")


def test_a_mended_value_is_never_taken_for_plain_text() -> None:
    wire = 'seek[ARGS]{"query :""red"}'
    for pieces in cuts(wire):
        assert find(pieces, last_try=True) == (wire, [], "stop")


MENDED = {
    "a text without quotes": tagged('{"name": "seek", "arguments": red ants}'),
    "a key without quotes": tagged('{"name": "seek", "arguments": {input: "red ants"}}'),
    "a key that is unknown": tagged('{"name": "seek", "arguments": {"x y": {query: "red ants"}}}'),
}


@pytest.mark.parametrize("case", MENDED)
def test_what_was_mended_is_held_to_the_tools_own_arguments(case: str) -> None:
    for pieces in cuts(MENDED[case]):
        assert find(pieces) == ("", [], "The arguments for seek are not a JSON object.")


def test_a_native_call_is_never_mended_by_the_only_argument() -> None:
    answer: list[Event] = [ToolCall("c", "seek", "red ants"), Done("tool_calls")]
    with pytest.raises(Unmet, match="not a JSON object"):
        list(find_calls(iter(answer), USE, last_try=False))
