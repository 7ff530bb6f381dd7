"""One answer told in three APIs, streamed and whole: the same words, calls, ending and usage. And
one conversation that a model is told the same of, whichever API it came in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_request import Prompt
from errors import ProxyError
from events import Done, Event, Reasoning, Tally, Text, ToolCall, Usage
from formats import Format, anthropic, chat, responses
from settings import Model, Settings
from translate import shape, to_prompt

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
BLOCK = '<tool_call>\n{"name": "read", "arguments": {"path": "a"}}\n</tool_call>'
PIECES = st.sampled_from(
    ["Hello", " world", "\n", " ", "é🙂", "\0", "\u2028", "<think>", "</think>", "<pre>", "</pre>",
     "`", "<", "a.", '{"a": 1}', BLOCK, f"\n{BLOCK}", BLOCK[:30]]
)  # fmt: skip
TEXTS = st.lists(PIECES, min_size=1, max_size=4).map("".join)
NATIVE = st.builds(
    ToolCall,
    st.sampled_from(["", "call_0", "call_1", "not sane!"]),
    st.just("read"),
    st.sampled_from(["{}", '{"path": "a"}', '{"path": 1}']),
)
USAGES = st.builds(Usage, st.integers(5, 9), st.integers(5, 9), st.integers(0, 5))
ANSWERS = st.lists(TEXTS.map(Text) | TEXTS.map(Reasoning) | NATIVE | USAGES, min_size=1, max_size=5)
ENDS = st.sampled_from(["stop", "tool_calls", "length", "content_filter"]).map(Done)
TOOLS: dict[Any, list[dict[str, Any]]] = {
    chat: [{"type": "function", "function": {"name": "read", "parameters": SCHEMA}}],
    responses: [{"type": "function", "name": "read", "parameters": SCHEMA}],
    anthropic: [{"name": "read", "input_schema": SCHEMA}],
}
ASKED: dict[Any, dict[str, Any]] = {
    chat: {"messages": [{"role": "user", "content": "x"}]},
    responses: {"input": "x"},
    anthropic: {
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 100_000,
        "thinking": {"type": "adaptive"},
    },
}
ENDINGS = {
    "end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length",
    "refusal": "content_filter", "max_output_tokens": "length",
}  # fmt: skip


@dataclass
class Told:
    """What a caller has been told, in no API's words; white space counts for nothing."""

    said: str = ""
    thought: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    ending: str = "error"
    tokens: tuple[int, int, int] = (0, 0, 0)

    def call(self, id: str, name: str, given: Any) -> None:
        self.calls.append((name, given))
        self.ids.append(id)

    def seen(self) -> tuple[Any, ...]:
        words = ["".join(text.split()) for text in (self.said, self.thought)]
        return (*words, self.calls, self.ending, self.tokens)


def read_chat(whole: dict[str, Any]) -> Told:
    choice, usage = whole["choices"][0], whole["usage"]
    message = choice["message"]
    told = Told(message["content"] or "", message.get("reasoning_content", ""))
    for call in message.get("tool_calls", ()):
        function = call["function"]
        told.call(call["id"], function["name"], json.loads(function["arguments"]))
    details = usage["completion_tokens_details"]
    told.ending = choice["finish_reason"]
    told.tokens = usage["prompt_tokens"], usage["completion_tokens"], details["reasoning_tokens"]
    return told


def read_responses(whole: dict[str, Any]) -> Told:
    told, usage = Told(), whole["usage"]
    for item in whole["output"]:
        if item["type"] == "message":
            told.said += item["content"][0]["text"]
        elif item["type"] == "reasoning":
            told.thought += item["summary"][0]["text"]
        else:
            told.call(item["call_id"], item["name"], json.loads(item["arguments"]))
    why = whole["incomplete_details"]
    told.ending = "tool_calls" if told.calls else "stop"
    told.ending = ENDINGS.get(why["reason"], why["reason"]) if why else told.ending
    details = usage["output_tokens_details"]
    told.tokens = usage["input_tokens"], usage["output_tokens"], details["reasoning_tokens"]
    return told


def read_messages(whole: dict[str, Any]) -> Told:
    told, usage = Told(), whole["usage"]
    for block in whole["content"]:
        if block["type"] == "text":
            assert block["text"].strip()
            told.said += block["text"]
        elif block["type"] == "thinking":
            told.thought += block["thinking"]
        else:
            told.call(block["id"], block["name"], block["input"])
    told.ending = ENDINGS[whole["stop_reason"]]
    details = usage.get("output_tokens_details", {"thinking_tokens": 0})
    told.tokens = usage["input_tokens"], usage["output_tokens"], details["thinking_tokens"]
    return told


def chat_whole(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The object that the chunks of a stream make."""
    message: dict[str, Any] = {"content": "", "tool_calls": []}
    reasons = []
    for chunk in events[:-1]:
        choice = chunk["choices"][0]
        delta = choice["delta"]
        for name in ("content", "reasoning_content"):
            message[name] = message.get(name, "") + delta.get(name, "")
        for part in delta.get("tool_calls", ()):
            if part["index"] == len(message["tool_calls"]):
                message["tool_calls"].append(part)
            else:
                function = message["tool_calls"][part["index"]]["function"]
                function["arguments"] += part["function"]["arguments"]
        reasons += [choice["finish_reason"]] if choice["finish_reason"] else []
    (reason,) = reasons
    return {
        "choices": [{"message": message, "finish_reason": reason}],
        "usage": events[-1]["usage"],
    }


def responses_whole(events: list[dict[str, Any]]) -> dict[str, Any]:
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    added = [event for event in events if event["type"] == "response.output_item.added"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in added] == list(range(len(done)))
    whole: dict[str, Any] = events[-1]["response"]
    assert whole["output"] == [event["item"] for event in done]
    return whole


def messages_whole(events: list[dict[str, Any]]) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    pieces: list[str] = []
    for event in events[1:-2]:
        assert event["index"] == len(content) - (event["type"] != "content_block_start")
        if event["type"] == "content_block_start":
            content.append(event["content_block"])
            pieces = []
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            pieces += [delta.get(name, "") for name in ("text", "thinking", "partial_json")]
        else:
            block = content[-1]
            block.update({block["type"]: "".join(pieces)})
            if block["type"] == "tool_use":
                block["input"] = json.loads("".join(pieces))
    last, stop = events[-2:]
    assert stop["type"] == "message_stop"
    return {"content": content, **last["delta"], "usage": last["usage"]}


READ: dict[Any, tuple[Any, Any]] = {
    chat: (read_chat, chat_whole),
    responses: (read_responses, responses_whole),
    anthropic: (read_messages, messages_whole),
}


def told(format: Format, events: list[Event], *, stream: bool, offers: bool) -> Told:
    """What this API's caller hears of the answer."""
    body: dict[str, Any] = {"model": "m", "stream": stream, **ASKED[format]}
    if format is chat and stream:
        body["stream_options"] = {"include_usage": True}
    if offers:
        body["tools"] = TOOLS[format]
    asked = format.parse(json.dumps(body).encode(), Settings())
    envelope = format.to_envelope(asked, Settings(), "req_1")
    read, join = READ[format]
    try:
        shaped: Iterator[Event] = shape(iter(events), asked, Prompt([]), "reasoning_content", True)
        if not stream:
            found: Told = read(json.loads(format.whole(shaped, envelope, Tally())))
        else:
            wire = b"".join(format.stream(shaped, envelope, Tally())).decode()
            lines = [line[6:] for line in wire.split("\n") if line.startswith("data: {")]
            found = read(join([json.loads(line) for line in lines]))
    except ProxyError:
        return Told()
    assert len(set(found.ids)) == len(found.ids)
    assert all(found.ids)
    return found


@pytest.mark.parametrize("offers", [False, True], ids=["no tools", "tools"])
@given(answer=ANSWERS, end=ENDS)
def test_an_answer_is_the_same_in_each_api(offers: bool, answer: list[Event], end: Done) -> None:
    ways = [(format, stream) for format in READ for stream in (False, True)]
    events = [*answer, end]
    heard = [told(one, events, stream=way, offers=offers).seen() for one, way in ways]
    assert heard == heard[:1] * len(ways)
    assert offers or not heard[0][2]


CALL = {"name": "read", "arguments": '{"path": "a"}'}
USE = {"type": "tool_use", "id": "c1", "name": "read", "input": {"path": "a"}}
READING: dict[Any, dict[str, Any]] = {
    chat: {"messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": CALL}]},
        {"role": "tool", "tool_call_id": "c1", "content": "all of it"},
    ]},
    responses: {"input": [
        {"role": "user", "content": "x"},
        {"type": "function_call", "call_id": "c1", **CALL},
        {"type": "function_call_output", "call_id": "c1", "output": "all of it"},
    ]},
    anthropic: {"max_tokens": 9, "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [USE]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "all of it"}
        ]},
    ]},
}  # fmt: skip


@pytest.mark.parametrize("format", READING)
def test_a_result_is_told_with_the_name_of_its_tool(format: Format) -> None:
    body = {"model": "m", "tools": TOOLS[format], **READING[format]}
    asked = format.parse(json.dumps(body).encode(), Settings())
    prompt = to_prompt(asked, asked.conversations[0], Model("m", ("m",)))
    last = prompt.messages[-1]["content"]
    assert '<tool_result id="c1" name="read">\nall of it' in last
