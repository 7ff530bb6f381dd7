"""What the model is told of tools: the offer, how to call, its earlier calls and their results.

Flowith's models have no tool channel, so all of it is text; `tool_calls` reads what they write.
Knows nothing of HTTP, of streams or of Flowith.
"""

import html
import re
from contextlib import suppress
from typing import Any

from chat_request import Tool, ToolUse
from events import ToolCall
from jsontools.text import compact, read_json


def instructions(use: ToolUse) -> str:
    """The system text that offers the tools; empty when there is nothing to offer."""
    if use.choice == "none" or not use.tools:
        return ""
    rules = [_HOW_TO_CALL]
    if any(tool.custom for tool in use.tools):
        rules.append(_CUSTOM)
    if any(tool.strict for tool in use.tools):
        rules.append(_STRICT)
    rules.append(_PARALLEL if use.parallel else _SINGLE)
    only = f"the tool {use.tools[0].name}" if len(use.tools) == 1 else "at least one of the tools"
    rules.append(f"- This answer must call {only}." if use.choice == "required" else _AUTO)
    offered = [({"type": "custom"} if t.custom else {}) | _definition(t) for t in use.tools]
    return "\n".join([*rules, "", "The tools:", *map(compact, offered)])


_HOW_TO_CALL = """# Tools

You can call the tools listed below. They are real: the program that reads your answer runs them \
and tells you what they returned. To call a tool, write a block of exactly this form:

<tool_call>
{"name": "the tool's name", "arguments": {"parameter": "value"}}
</tool_call>

- Between the tags stands one valid JSON object and nothing else: no Markdown fence, no comments, \
quotes and line breaks inside strings escaped.
- "arguments" is an object that fits the tool's "parameters" schema; {} if it takes none.
- Results come back in the next message as <tool_result id="..." name="..."> blocks. Never write \
such a block yourself and never guess a result: end your answer after the last call."""
_CUSTOM = """- A tool of type "custom" takes plain text in place of arguments: \
{"name": "the tool's name", "input": "the text"}"""
_STRICT = """- For a tool with "strict": true the arguments must match the schema exactly: every \
required key, no other keys, the right types."""
_SINGLE = "- Write at most one block in an answer."
_PARALLEL = "- For several calls write one block after the other."
_AUTO = "- Call a tool only when it helps; otherwise answer in ordinary text, without any block."


def _definition(tool: Tool) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.custom:
        return spec | ({"format": tool.format} if tool.format else {})
    spec["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    return spec | ({"strict": True} if tool.strict else {})


def native(use: ToolUse) -> dict[str, Any]:
    """The tools as parameters, for the models that take them so."""
    if use.choice == "none":
        return {}
    kinds = [("custom" if tool.custom else "function", tool) for tool in use.tools]
    tools = [{"type": kind, kind: _definition(tool)} for kind, tool in kinds]
    return {"tools": tools, "tool_choice": use.choice, "parallel_tool_calls": use.parallel}


def call_to_text(call: ToolCall) -> str:
    """An earlier call, as the model is asked to write calls, with its id for the result."""
    told: dict[str, Any] = {"id": call.id, "name": call.name}
    told["input" if call.custom else "arguments"] = call.arguments
    if not call.custom:
        with suppress(ValueError):
            told["arguments"] = read_json(call.arguments or "{}")
    # In JSON `<\/` is the same string as `</`, and it closes no tag.
    body = compact(told).replace("</", "<\\/")
    return f"<tool_call>\n{body}\n</tool_call>"


def result_to_text(call_id: str, name: str, content: str) -> str:
    """What a tool returned; a page or file it read cannot end the block or open another."""
    attributes = f'id="{html.escape(call_id)}" name="{html.escape(name)}"'
    content = re.sub(r"<(?=\s*/?\s*tool_(?:result|call))", r"<\\", content, flags=re.I)
    return f"<tool_result {attributes}>\n{content}\n</tool_result>"
