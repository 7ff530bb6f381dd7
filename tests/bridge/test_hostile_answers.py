"""What a hostile answer may cost where tools or JSON are wanted, counted in work and not in time.

Each text comes in one piece, as the answer of a server that does not stream does.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from bridge.json_answer import only_json
from bridge.tool_calls import find_calls
from chat_request import AnswerFormat, Tool, ToolUse
from errors import Unmet
from events import Done, Text

RULES = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "spots": {"type": "array"}},
    "required": ["city"],
}
USE = ToolUse((Tool("get_weather", parameters=RULES), *(Tool(f"tool_{i}") for i in range(29))))
CALL = '{"name": "get_weather", "arguments": {"city": "x"}}'
SPOTS = '<invoke name="get_weather"><parameter name="spots">'
SIZE = 60_000


def work(do: Callable[[], object]) -> tuple[int, int]:
    """How many functions were entered, those in C too, and how many characters were handed to
    those that look for calls."""
    entered = handed = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal entered, handed
        entered += event in ("call", "c_call")
        if event == "call" and frame.f_code.co_name in ("feed", "take"):
            handed += len(frame.f_locals.get("piece", ""))

    sys.setprofile(count)
    try:
        do()
    finally:
        sys.setprofile(None)
    return entered, handed


def find(text: str) -> str:
    said = []
    try:
        for event in find_calls(iter([Text(text), Done()]), USE, last_try=True):
            said += [event.text] if isinstance(event, Text) else []
    except Unmet:
        pass
    return "".join(said)


# What is repeated, and how many functions are entered at most for each of its characters. Each of
# these heads is looked at, so that a third of them tells as much as all.
HEADS = {
    "recipients": ("to=functions.x ", 7),
    "known recipients": ("to=functions.get_weather ", 15),
    "sections of plain text": ("<get_weather><![CDATA[", 5),
    "tags": ("<tool_call>", 54),
    "tokens": ("<|tool_call|>", 45),
    "noise": ("json\n", 66),
    "elements before a name": ("<tool_call><id>x</id>", 34),
    "signs": (" +#+#+#+ ", 14),
    "fillers": ("]<]minimax[>[<tool_call>", 54),
    "brackets of tokens": ("<|open|>tools<|sep|>", 54),
    "labels": ("\ntool call: ", 20),
    "names in quotes": ("<tool_call>'get_weather' ", 9),
    "unclosed calls": ('<invoke name="get_weather"><parameter name="city">', 4),
}
# The first few of these are looked at, and then no more.
ENOUGH = {
    "unclosed arguments": ("<get_weather><city>", 26),
    "unknown tools": ('<tool_call>{"name": "x", "arguments": {}}</tool_call> ', 0.3),
    "keys": ("<tool_call>get_weather city</arg_key>", 1),
    "quotes out of step": (f"<tool_call>{CALL[:-3]}}}}}</tool_call>", 2),
    "broken calls": ("<tool_call>" + CALL.replace('"x"', "") + "</tool_call> ", 0.5),
}
REPEATED = [
    *(pytest.param(*row, SIZE // 3, id=case) for case, row in HEADS.items()),
    *(pytest.param(*row, SIZE, id=case) for case, row in ENOUGH.items()),
]


@pytest.mark.parametrize(("unit", "most", "size"), REPEATED)
def test_heads_without_end_take_linear_time(unit: str, most: float, size: int) -> None:
    """Else each of some thousand heads would take a look at all that follows."""
    text = unit * (size // len(unit))
    entered, handed = work(lambda: find(text))
    assert entered < most * size
    assert handed < 230 * size


@pytest.mark.parametrize(("fences", "called"), [(3_000, True), (21_000, False)])
def test_a_call_is_found_behind_more_than_any_answer_holds(fences: int, called: bool) -> None:
    """Some 100 KB of code blocks and a call behind them is a long answer, and no hostile one."""
    text = "```python\nprint(1)\n```\nSo.\n" * fences + f"\n<tool_call>{CALL}</tool_call>"
    assert (CALL not in find(text)) is called


OBJECT, TOKENS = "{'a':1},", '<|"|>a<|"|>,'  # Python's quotes, and Gemma's tokens for them
BODIES = {
    "objects": ("<tool_call>[%s]</tool_call>", OBJECT, 1),
    "other quotes": ("<tool_call>[%s]</tool_call>", TOKENS, 1.5),
    "values of Python": ("<tool_code>get_weather(city=[%s])</tool_code>", OBJECT, 2.6),
    "a list in a tag": (f"{SPOTS}[%s]</parameter></invoke>", OBJECT, 0.1),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_of_countless_values_is_only_read_as_json(case: str) -> None:
    form, unit, most = BODIES[case]
    text = form.replace("%s", unit * (SIZE // len(unit)))
    assert work(lambda: find(text))[0] < most * SIZE


def test_a_body_of_countless_tags_is_not_searched_again_for_its_end() -> None:
    text = SPOTS + "<a>" * 45_000
    assert work(lambda: find(text))[1] < 2.1 * len(text)


def test_countless_elements_are_text() -> None:
    inner = "<a></a>" * (SIZE // 7)
    text = f"{SPOTS}{inner}</parameter></invoke>"
    assert work(lambda: find(text))[0] < 9 * SIZE


def test_no_more_calls_are_made_of_a_list_than_an_answer_may_have() -> None:
    text = f"<tool_calls>[{','.join([CALL] * 1_000)}]</tool_calls>"
    events = list(find_calls(iter([Text(text), Done()]), USE, last_try=True))
    assert len(events) == 128 + 1
    assert work(lambda: find(text))[0] < 80 * 1_000


@pytest.mark.parametrize("unit", ["[],", '{"":', '"a",'])
def test_broken_json_of_countless_values_is_walked_through_once(unit: str) -> None:
    text = '{"a":[' + unit * 40_000
    marks = sum(map(text.count, '[]{}"'))
    wanted = AnswerFormat("json_object")

    def ask() -> None:
        with pytest.raises(Unmet):
            list(only_json(iter([Text(text), Done()]), wanted, last_try=True, hold=True))

    assert work(ask)[0] < 3 * marks
