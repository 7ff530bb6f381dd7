"""The input items of a Responses request as messages, and the other way round for summaries.

An item is a message, a call, a call's result or something that needs a store or a service of
OpenAI's. Knows nothing of the answer.
"""

import base64
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from chat_request import Message
from errors import InvalidRequest
from events import ToolCall
from formats.content import readable, to_content, to_message
from formats.fields import bad_value, expect, messages_in, missing, require
from formats.responses_tools import Offer

ROLES = ("user", "system", "developer", "assistant")
CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
RESULTS = ("function_call_output", "custom_tool_call_output")
WITH_TOOLS = ("additional_tools", "tool_search_output")
# Nothing of these is for a model: thoughts are not sent back, and a trigger is no text.
SILENT = ("reasoning", "compaction_trigger", *WITH_TOOLS)
SUMMARY = "summary:"  # what our own `encrypted_content` begins with
NOT_STORED = (
    "nothing is stored here: send the item itself (in the AI SDK: providerOptions.openai.store ="
    " false; with openai's SDKs replay response.output)"
)


def parse_input(given: Any) -> list[dict[str, Any]]:
    """The items of `input`, each with its type. Raises InvalidRequest."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    items = messages_in("input", given, "a string or an array of items")
    return [_typed(f"input[{i}]", item) for i, item in enumerate(items)]


def _typed(where: str, given: Any) -> dict[str, Any]:
    item: dict[str, Any] = expect(where, given, dict)
    if item.get("type") is None:
        if "role" not in item and "id" not in item:
            raise missing(f"{where}.type")
        return {**item, "type": "message" if "role" in item else "item_reference"}
    expect(f"{where}.type", item["type"], str)
    return item


def tools_of(items: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The lists of tools that come as items, with their places."""
    for i, item in enumerate(items):
        if item["type"] in WITH_TOOLS:
            yield f"input[{i}].tools", item.get("tools") or []


def asks_for_summary(items: list[dict[str, Any]]) -> bool:
    """Whether the answer has to be the conversation so far, in short."""
    last: str = items[-1]["type"]
    return last == "compaction_trigger"


def to_summary(text: str) -> str:
    """A summary as the opaque text that a caller keeps and sends back."""
    return SUMMARY + base64.b64encode(text.encode("utf-8", "replace")).decode()


def _from_summary(content: Any) -> str:
    """The text of a summary of ours; empty for anybody else's."""
    if isinstance(content, str) and content.startswith(SUMMARY):
        with suppress(ValueError):
            return base64.b64decode(content[len(SUMMARY) :], validate=True).decode()
    return ""


def to_messages(
    instructions: str, items: list[dict[str, Any]], offer: Offer
) -> tuple[list[Message], list[str]]:
    """The conversation, and the types of the items that are no part of it. Raises InvalidRequest.

    System texts at the start become one; what the assistant said and called in one turn becomes
    one message.
    """
    talk = _Talk(offer)
    talk.hear_system(instructions)
    for i, item in enumerate(items):
        talk.hear(f"input[{i}]", item)
    talk.end_turn()
    system = [Message("system", "\n\n".join(talk.opening))] if talk.opening else []
    if not system and not talk.messages:
        raise bad_value("input", "none of its items is a message, a call or a result")
    return [*system, *talk.messages], sorted(talk.dropped)


@dataclass(slots=True)
class _Talk:
    """A conversation while its items are read. `opening` holds the system texts that it begins
    with."""

    offer: Offer
    opening: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    _said: list[str] = field(default_factory=list)
    _calls: list[ToolCall] = field(default_factory=list)

    def hear(self, where: str, item: dict[str, Any]) -> None:
        kind = item["type"]
        if kind == "message":
            self._message(where, item)
        elif kind in CALLS:
            self._call(where, item)
        elif kind in RESULTS:
            self._result(where, item)
        elif kind == "item_reference":
            _refuse_reference(where, item)
        elif kind == "compaction" and (text := _from_summary(item.get("encrypted_content"))):
            self.hear_system(f"Summary of the conversation so far:\n{text}")
        elif kind not in SILENT and (text := _returned(item)):
            self.end_turn()
            call_id, name = str(item.get("call_id") or ""), str(item.get("name") or "")
            self.messages.append(Message("tool", text, (), call_id, name))
        elif kind not in SILENT:
            self.dropped.add(f"input.{kind}")

    def hear_system(self, text: str) -> None:
        self.end_turn()
        if text and self.messages:
            self.messages.append(Message("system", text))
        elif text:
            self.opening.append(text)

    def end_turn(self) -> None:
        """Make one message of what the assistant said and called since the last one."""
        if self._said or self._calls:
            text, calls = "\n".join(self._said), tuple(self._calls)
            self.messages.append(Message("assistant", text, calls))
            self._said, self._calls = [], []

    def _message(self, where: str, item: dict[str, Any]) -> None:
        message = to_message(where, item, ROLES)
        if isinstance(message.content, str) and message.role == "system":
            self.hear_system(message.content)
        elif isinstance(message.content, str) and message.role == "assistant":
            if message.content:
                self._said.append(message.content)
        else:
            self.end_turn()
            self.messages.append(message)

    def _call(self, where: str, item: dict[str, Any]) -> None:
        call_id = require(f"{where}.call_id", item.get("call_id"), str)
        name = require(f"{where}.name", item.get("name"), str)
        field = CALLS[item["type"]]
        given = item.get(field)
        text = "" if given is None else expect(f"{where}.{field}", given, str)
        told = self.offer.to_told(name, item.get("namespace"))
        self._calls.append(ToolCall(call_id, told, text, item["type"] == "custom_tool_call"))

    def _result(self, where: str, item: dict[str, Any]) -> None:
        self.end_turn()
        call_id, name = item.get("call_id"), item.get("name")
        name = self.offer.to_told(name, item.get("namespace")) if isinstance(name, str) else ""
        if call_id is None and name:
            call_id = ""  # what a tool has to say unasked
        call_id = require(f"{where}.call_id", call_id, str)
        output, place = item.get("output"), f"{where}.output"
        if output is None:
            raise missing(place)
        if not isinstance(output, str):
            output = to_content(place, "tool", output)
        self.messages.append(Message("tool", output, (), call_id, name, place))


def _refuse_reference(where: str, item: dict[str, Any]) -> None:
    """Thoughts that are referred to are not missed; other items are the model's own words."""
    if not str(item.get("id")).startswith("rs_"):
        text = f"The item that '{where}' refers to is not known: {NOT_STORED}."
        raise InvalidRequest(text, param="input", code="item_not_found")


def _returned(item: dict[str, Any]) -> str:
    """The texts in what one of OpenAI's own tools returned: a string, or an array of parts. It
    stands in an item of its own, or in that of the call."""
    named = (item.get(name) for name in ("output", "outputs", "results"))
    output = next((one for one in named if one), None)
    return readable(output)
