"""Calls that a text shows in an element, a comment or a quotation, and calls that only seem so."""

from dataclasses import replace
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.tool_calls import find_calls
from chat_request import Tool, ToolUse
from events import Done, Event, Text, ToolCall

READ = Tool("read_file", parameters={"properties": {"path": {"type": "string"}}})
CODE = Tool("code", parameters={"properties": {"text": {"type": "string"}}})
USE = ToolUse((READ,))
BARE = '{"name": "read_file", "arguments": {"path": "a.txt"}}'
CALL = f"<tool_call>\n{BARE}\n</tool_call>"
NO_CALL = '<tool_call>{"name": "nothing", "arguments": {}}</tool_call>'
ANSWERS = (Text, ToolCall, Done)

SHOWN = {
    "thoughts in a line": f"Let me see. <think>I could {CALL}, but no.</think> It is fine.",
    "thoughts": f"Well.\n<think>\nI could\n{CALL}\nor not.\n</think>\nIt is fine.",
    "thoughts by another name": f"Well.\n<Thinking>\n{CALL}\n</THINKING>\nIt is fine.",
    "thoughts with a form that nobody taught": f"Well.\n<thought>\n{BARE}\n</thought>\nFine.",
    "code": f"Write <code>{CALL}</code> there.",
    "code over lines": f"Write:\n<code>\n{CALL}\n</code>",
    "a block": f"<pre>\n{CALL}\n</pre>",
    "a block of code": f'So:\n<pre class="x"><code>{CALL}\n{CALL}</code></pre>\nand so on.',
    "a comment": f"<!-- {CALL} -->",
    "a comment over lines": f"Here:\n<!--\n{CALL}\n-->\nand so on.",
    "a comment, then another that is open": f"x <!-- {CALL} --> y <!-- z",
    "a fence in a block": f"So:\n<pre>\n```\n{CALL}\n```\n</pre>\n",
    "a tool of nobody's": f"So:\n<pre>\n{NO_CALL}\n</pre>",
    "a quotation whose tag holds the next line": f"It says:\n> <tool_call>\n{BARE}\n</tool_call>\n",
}
CALLED: dict[str, tuple[str, str, int]] = {
    "behind thoughts": (f"Well.\n<think>\n{CALL}\n</think>\n{CALL}",
                        f"Well.\n<think>\n{CALL}\n</think>", 1),
    "in thoughts that never end": (f"Well.\n<think>\nI read it.\n{CALL}",
                                   "Well.\n<think>\nI read it.", 1),
    "behind the name of an element": (f"I mend the <pre> tag.\n{CALL}\n{CALL}",
                                      "I mend the <pre> tag.", 2),
    "with the end of an element in it": (
        f"I mend the <pre> tag.\n{CALL.replace('a.txt', 'a</pre>')}\n{CALL}",
        "I mend the <pre> tag.", 2),
    "with words behind": (f"An open <!-- remains.\n{CALL}\nThat was it.",
                          "An open <!-- remains.\nThat was it.", 1),
    "behind a name in back-quotes": (f"`<think>` it is.\n{CALL}\nSee `</think>`.",
                                     "`<think>` it is.\nSee `</think>`.", 1),
    "behind an element that is closed": (f"<code>x</code> and <!-- y -->\n{CALL}",
                                         "<code>x</code> and <!-- y -->", 1),
    "in an element that shows nothing": (f"<details>\n{CALL}\n</details>",
                                         "<details>\n</details>", 1),
    "behind a quotation": (f"> I read it.\n{BARE}", "> I read it.", 1),
    "behind a quotation with a tag": (f"> <b>I</b> read <i>it</i>\n{BARE}",
                                      "> <b>I</b> read <i>it</i>", 1),
    "behind a quotation and a blank line": (f"> <tool_call>\n\n{BARE}", "> <tool_call>", 1),
    "in the taught form behind a quotation": (f"> <tool_call>\n{CALL}", "> <tool_call>", 1),
    "in a form that nobody taught, as the last thing": (
        f"I mend the <pre> tag.\n{BARE}", "I mend the <pre> tag.", 1),
    "in a comment that an open bracket holds": (
        f"functions.read_file(<!-- {CALL}", "functions.read_file(<!--", 1),
    "behind a quotation mark and what is no comment": (
        f'I write "<!DOCTYPE html> first. {CALL}', 'I write "<!DOCTYPE html> first.', 1),
    "behind code with a comment": (f"I install it.\n```sh\n# such as x\n```\n```\n{BARE}\n```",
                                   "I install it.\n```sh\n# such as x\n```", 1),
    "behind a stray back-quote and code": (f"I don`t.\n```\n$ a\n\n```\n{BARE}",
                                           "I don`t.\n```\n$ a\n\n```", 1),
}  # fmt: skip


def find(pieces: list[str], use: ToolUse = USE, done: str = "stop") -> tuple[str, list[str], str]:
    """The text, the names that are called and the ending of an answer, which ends but once."""
    events: list[Event] = [*map(Text, pieces), Done(done)]
    found = list(find_calls(iter(events), use, last_try=True))
    said = "".join(one.text for one in found if isinstance(one, Text))
    endings = [one.reason for one in found if isinstance(one, Done)]
    assert len(endings) == 1
    return said, [one.name for one in found if isinstance(one, ToolCall)], endings[0]


def cuts(wire: str) -> list[list[str]]:
    """The text whole, in letters, and in pieces of some sizes."""
    return [[wire[i : i + n] for i in range(0, len(wire), n)] for n in (len(wire), 1, 2, 7)]


@pytest.mark.parametrize("case", SHOWN)
def test_what_an_element_shows_is_text_however_it_is_cut(case: str) -> None:
    for pieces in cuts(SHOWN[case]):
        assert find(pieces) == (SHOWN[case], [], "stop")


@pytest.mark.parametrize("case", CALLED)
def test_what_nothing_encloses_is_called_however_it_is_cut(case: str) -> None:
    wire, said, calls = CALLED[case]
    for pieces in cuts(wire):
        assert find(pieces) == (said, ["read_file"] * calls, "tool_calls")


@given(
    st.lists(
        st.sampled_from(
            ["<think>", "</think>", "<pre>", "</pre", ">", "<code>", "<!--", "-->", "-", "<", "\n",
             "words ", "`", "```\n", "> ", "> <b>\n", CALL, f"\n{CALL}\n", BARE, NO_CALL, '"<']
        ),
        max_size=9,
    ),
    st.integers(1, 9),
)  # fmt: skip
def test_any_cutting_of_elements_gives_the_same_answer(parts: list[str], size: int) -> None:
    wire = "".join(parts)
    said, calls, ending = found = find([wire])
    assert found == find([wire[i : i + size] for i in range(0, len(wire), size)])
    assert calls or ending != "stop" or said == wire


def test_a_tool_that_is_called_as_an_element_is_may_be_called_so() -> None:
    wire = "<code>\n<text>x</text>\n</code>"
    assert find([wire], ToolUse((CODE,))) == ("", ["code"], "tool_calls")


@pytest.mark.parametrize("rest", [["} x", ", y"], list("} x, y")], ids=["pieces", "letters"])
def test_a_native_call_in_an_open_element_loses_no_text_behind_it(rest: list[str]) -> None:
    native = ToolCall("c", "read_file", "{}")
    events: list[Event] = [
        Text(f"<pre>\n{CALL} so"),
        native,
        Text(" and"),
        *map(Text, rest),
        Done(),
    ]
    found = list(find_calls(iter(events), USE, last_try=True))
    assert "".join(e.text for e in found if isinstance(e, Text)) == "<pre>\nso and} x, y"
    assert [e.arguments for e in found if isinstance(e, ToolCall)] == ['{"path":"a.txt"}', "{}"]


def test_text_flows_inside_an_element_until_a_call_begins() -> None:
    events = find_calls(iter([Text("<pre>"), Text("\nThe "), Text("form: ")]), USE, last_try=True)
    assert list(events) == [Text("<pre>"), Text("\nThe"), Text(" form:")]


def test_a_call_in_an_element_is_none_where_the_answer_is_cut() -> None:
    wire = f"Well.\n<think>\n{CALL}\nand"
    assert find([wire], done="length") == (wire, [], "length")


def test_what_is_never_closed_is_not_held_for_ever() -> None:
    wire = f"Well.\n<pre>\n{CALL}\n"
    found = find_calls(iter([Text(wire), Text("word " * 220_000)]), USE, last_try=True)
    assert "".join(one.text for one in found if isinstance(one, Text)).startswith(wire)


def test_an_answer_that_ends_with_its_one_call_ends_once() -> None:
    assert find([BARE], replace(USE, parallel=False)) == ("", ["read_file"], "tool_calls")


def test_an_answer_in_one_piece_costs_what_it_costs_in_many() -> None:
    wire = NO_CALL * 8_000
    begun = thread_time()
    find([wire[i : i + 1_000] for i in range(0, len(wire), 1_000)])
    in_many = thread_time() - begun
    begun = thread_time()
    find([wire])
    assert thread_time() - begun < 3 * in_many


@pytest.mark.parametrize("part", ["x <!--", "> <a", f"<pre>{CALL}", f"<pre>{CALL}</pre>"])
def test_elements_without_end_take_linear_time(part: str) -> None:
    begun = thread_time()
    find([part * (400_000 // len(part))])
    assert thread_time() - begun < 4
