"""What one caller may send, or make Flowith answer, to keep the event loop from all others.

`python tests/hostile.py PORT` is the second caller, who notices: asks for `/health` over and over,
and tells the usual and the longest answer, in seconds, when it is ended. `make bench` measures each
input by itself, `make soak` mixes them in.
"""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

from fake_flowith import Raw, Reply, error, llm, web

PAUSE = 0.01  # seconds between two looks of the second caller
PATIENCE = 90.0  # seconds; gunicorn kills a worker whose loop stands still for 60
SPACES = "<" + " " * 100_000
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
ITEMS = '{"a": [' + ", ".join(f'{{"k{i % 100}": {i}}}' for i in range(8_000)) + "]}"
BROKEN = 'a: b"c", ' * 3_000
Body = dict[str, Any]


@dataclass(frozen=True)
class Input:
    """A hostile request, or a usual one with a hostile answer; `api` is Flowith's."""

    name: str
    body: Callable[[], Body] = dict
    reply: Callable[[], Reply | Raw] = field(default=lambda: web("Hello"))
    api: str = "web"


def says(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def tool_result(text: str) -> Body:
    """What an agent sends that has read a web page."""
    function = {"name": "look", "arguments": "{}"}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    return {
        "messages": [
            *says("Look"),
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "call_1", "content": text},
        ],
        "tools": [TOOL],
    }


def many_results(count: int) -> Body:
    result = {"role": "tool", "tool_call_id": "call_1", "content": "x" * 500}
    body = tool_result("x")
    return {**body, "messages": [*body["messages"], *[result] * count]}


def many_tools(count: int) -> Body:
    tools = [{"type": "function", "function": {"name": f"tool_{i}"}} for i in range(count)]
    return {"messages": says("Look"), "tools": tools}


def slow_schema() -> Body:
    """Each level is asked for twice: 2 to the power of 24 checks, if nobody counts."""
    levels: Body = {f"l{i}": {"anyOf": [{"$ref": f"#/$defs/l{i + 1}"}] * 2} for i in range(24)}
    levels["l24"] = {"type": "null"}
    return {"type": "object", "properties": {"a": {"$ref": "#/$defs/l0"}}, "$defs": levels}


def strict_tools(count: int) -> Body:
    tools = []
    for i in range(count):
        function = {"name": f"tool_{i}", "strict": True, "parameters": slow_schema()}
        tools.append({"type": "function", "function": function})
    return {"messages": says("Look"), "tools": tools}


def calls_of(count: int) -> Reply:
    call = '<tool_call>\n{"name": "tool_%d", "arguments": {"a": 1}}\n</tool_call>\n'
    return web(*[call % i for i in range(count)])


def wants_json() -> Body:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": slow_schema()}}
    return {"messages": says("Look"), "response_format": wanted}


def wants_kinds() -> Body:
    kinds = [{"required": [f"k{i}"]} for i in range(100)]
    schema = {"properties": {"a": {"items": {"anyOf": kinds}}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return {"messages": says("Look"), "response_format": wanted}


INPUTS = (
    Input("a tool's result of '<' and 100 KB of spaces", lambda: tool_result(SPACES)),
    Input("an answer of '<' and 100 KB of spaces", reply=lambda: web(SPACES)),
    Input(
        "the same where tools are offered",
        lambda: {"messages": says("Look"), "tools": [TOOL]},
        lambda: web(SPACES),
    ),
    Input("10,000 results in a row", lambda: many_results(10_000)),
    Input("8 answers to 10,000 results", lambda: {**many_results(10_000), "n": 8}),
    Input("40,000 messages", lambda: {"messages": says("a") * 40_000}),
    Input("20,000 tools", lambda: many_tools(20_000)),
    Input(
        "30 KB of stop strings",
        lambda: {"messages": says("Hi"), "stop": ["x" * 7_500 + str(i) for i in range(4)]},
        lambda: web(*["x" * 1_000] * 60),
    ),
    Input("20 slow strict schemas", lambda: strict_tools(20), lambda: calls_of(20)),
    Input("a slow schema for the answer", wants_json, lambda: web('{"a": 1}')),
    Input("an answer of 8,000 items of 100 kinds", wants_kinds, lambda: web(ITEMS)),
    Input(
        "a refused prompt of 12 MB",
        lambda: {"messages": says("word " * 2_400_000)},
        lambda: error(400, "the words of this refusal, " * 40),
    ),
    Input("15 MB of empty arrays", lambda: {"messages": says("Hi"), "metadata": [[]] * 5_000_000}),
    Input("a prompt of 30 MB", lambda: {"messages": says("word " * 6_000_000)}),
    Input(
        "a flood of 1xx answers",
        reply=lambda: Raw([b"HTTP/1.1 100 Continue\r\n\r\n" * 40_000] * 10),
    ),
    Input("40,000 line ends, one by one", reply=lambda: web("<", *["\n"] * 40_000, "x")),
    Input("a line of 10 MB", reply=lambda: web("x" * 10_000_000)),
    Input("a frame of 10 MB", reply=lambda: llm("x" * 10_000_000), api="llm"),
    Input(
        "a frame of 200 KB of recipients",
        lambda: {"messages": says("Look"), "tools": [TOOL]},
        lambda: llm("to=functions.look " * 11_000),
        api="llm",
    ),
    Input(
        "a frame of 400 KB of sections of plain text",
        lambda: {"messages": says("Look"), "tools": [TOOL]},
        lambda: llm("<look><![CDATA[" * 27_000),
        api="llm",
    ),
    Input(
        "a call of 500 KB of Python's values",
        lambda: {"messages": says("Look"), "tools": [TOOL]},
        lambda: web("<tool_call>[" + "{'a': 1}," * 55_000 + "]</tool_call>"),
    ),
    Input(
        "JSON of 1 MB of empty arrays",
        lambda: {"messages": says("Look"), "response_format": {"type": "json_object"}},
        lambda: web('{"a": [' + "[]," * 330_000),
    ),
    Input(
        "1 MB of tags that open calls",
        lambda: {"messages": says("Look"), "tools": [TOOL]},
        lambda: web("<tool_call>\n" * 90_000),
    ),
    Input(
        "a call of 30 KB that has to be mended",
        lambda: {"messages": says("Look"), "tools": [TOOL]},
        lambda: web(f'<tool_call>{{"name": "look", "arguments": {{{BROKEN}}}}}</tool_call>'),
    ),
    Input("an answer of 200,000 small frames", reply=lambda: llm(*["x "] * 200_000), api="llm"),
)


def ask_health(port: int) -> float | None:
    """Seconds until `/health` has answered, None where nobody does."""
    begun = time.monotonic()
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/health")
        connection.getresponse().read()
    except OSError:
        return None
    finally:
        connection.close()
    return time.monotonic() - begun


def watch(port: int) -> None:
    """The second caller, until it is ended; then the median and the longest answer."""
    took: list[float] = []

    def end(*_: object) -> None:
        print(sorted(took)[len(took) // 2], max(took), flush=True)
        sys.exit()

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    while True:
        begun = time.monotonic()
        answered = ask_health(port)
        took.append(time.monotonic() - begun if answered is None else answered)
        time.sleep(PAUSE)


if __name__ == "__main__":
    watch(int(sys.argv[1]))
