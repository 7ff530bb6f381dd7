"""What is made of the thoughts and calls in an answer, in whatever pieces it comes."""

import json
from typing import Any

from bridge.filters import split_think
from bridge.tool_calls import find_calls
from chat_request import ToolUse
from errors import Unmet
from events import Done, Event, Text, ToolCall


def found(
    pieces: list[str], use: ToolUse, *, last_try: bool = False, done: str = "stop"
) -> tuple[str, list[list[Any]], str]:
    """The text, the calls and the ending of an answer; what it is refused for is its ending."""
    said, calls, ending = "", [], ""
    events: list[Event] = [*map(Text, pieces), Done(done)]
    try:
        for event in find_calls(split_think(iter(events), calls=True), use, last_try=last_try):
            match event:
                case Text(text):
                    said += text
                case ToolCall(_, name, arguments):
                    calls.append([name, json.loads(arguments)])
                case Done(ending):
                    pass
    except Unmet as unmet:
        ending = unmet.message
    return said, calls, ending


def cuts(wire: str) -> list[list[str]]:
    """The text whole, in letters, and in pieces of some sizes."""
    sizes = (len(wire), 1, 2, 3, 7, 50)
    return [[wire[at : at + size] for at in range(0, len(wire), size)] for size in sizes]
