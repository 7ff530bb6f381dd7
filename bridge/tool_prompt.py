"""What the model is told of tools: the offer, how to call, its earlier calls and their results.

Flowith's models have no tool channel, so all of it is text; `tool_calls` reads what they write.
Knows nothing of HTTP, of streams or of Flowith.
"""

import html
import re
from contextlib import suppress
from typing import Any

from bridge import json_answer
from bridge.tool_schemas import properties, required
from chat_request import AnswerFormat, Tool, ToolUse
from events import ToolCall
from jsontools.text import compact, read_json

# What the one retry repeats of the instructions.
FORM = """A call has this form and no other:
<tool_call>{"name": "the tool's name", "arguments": {...}}</tool_call>"""


def instructions(use: ToolUse, fmt: AnswerFormat | None = None) -> str:
    """The system text that offers the tools; empty when there is nothing to offer.

    The list comes first, the rules last, next to the conversation: models copy forms that they
    have just seen. With `fmt` it also asks for the JSON that the last answer has to be, since two
    texts would contradict each other.
    """
    if use.choice == "none" or not use.tools:
        return ""
    offered = [({"type": "custom"} if t.custom else {}) | _definition(t) for t in use.tools]
    parts = ["# Tools", "", "These tools are on offer:", "", *map(compact, offered), ""]
    if fmt:
        parts += ["# Final answer", "", json_answer.instructions(fmt, beside_tools=True), ""]
    return "\n".join(
        [*parts, _HOW_TO_CALL.format(example=_example(use.tools[0])), *_rules(use, fmt)]
    )


_HOW_TO_CALL = """# How to call a tool

The tools are real: the program that reads your answer runs them and tells you what they \
returned. A call is a block of exactly this form. No other form works here, whatever you \
know from elsewhere or see in this conversation:

<tool_call>
{example}
</tool_call>
"""
_JSON = """- Between the tags stands one JSON object and nothing else: no Markdown fence, no \
comment, no "id" (the ids in earlier calls were put there by the program). Inside \
strings a quotation mark is written \\", a backslash \\\\ and a line break \\n.
- "arguments" fits the tool's "parameters"; it is {} if the tool takes none."""
_CUSTOM = """- A tool of type "custom" takes plain text in place of arguments: {"name": "the \
tool's name", "input": "the text"}"""
_STRICT = """- For a tool with "strict": true give every key of its schema, null where there \
is nothing to say, and no other key."""
_SAYING = """- Words may stand beside the blocks. Announcing a call does nothing: a tool \
runs only if its block stands in this answer. Nothing inside thoughts is run.
- To show a call without making it, put it between back-quotes: what is quoted is not run."""
_SINGLE = "- Write at most one block in an answer."
_PARALLEL = "- For several calls write one block after the other; they run in this order."
_RESULTS = """- Results come back in the next message as <tool_result id="..." name="..."> \
blocks. Never write such a block yourself and never guess a result: end your \
answer after the last call.
- In results <\\tool_ stands for <tool_ and <\\/tool_ for </tool_: the backslash was put \
there on the way, and is not in the file or page itself."""
_AUTO = "- Call a tool only when it helps; otherwise answer in ordinary text, without any block."
_THEN_JSON = """- As long as you need a tool, call it. Once you need none, write exactly one \
JSON value, the final answer described above, and nothing else."""


def _rules(use: ToolUse, fmt: AnswerFormat | None) -> list[str]:
    rules = [_JSON]
    if any(tool.custom for tool in use.tools):
        rules.append(_CUSTOM)
    if any(tool.strict for tool in use.tools):
        rules.append(_STRICT)
    rules += [_SAYING, _PARALLEL if use.parallel else _SINGLE, _RESULTS]
    if use.choice == "required":
        one = (
            f"the tool {use.tools[0].name}" if len(use.tools) == 1 else "at least one of the tools"
        )
        rules.append(f"- This answer must call {one}.")
    else:
        rules.append(_THEN_JSON if fmt else _AUTO)
    return rules


def _example(tool: Tool) -> str:
    """A call of a tool. Its strings are dots: whoever copies it has called nothing."""
    if tool.custom:
        return compact({"name": tool.name, "input": "..."})
    known = properties(tool)
    chosen = [key for key in required(tool) if key in known] or list(known)[:1]
    return compact({"name": tool.name, "arguments": {key: _sample(known[key]) for key in chosen}})


_SAMPLES = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}, "null": None}


def _sample(rule: Any) -> Any:
    kind = rule.get("type") if isinstance(rule, dict) else None
    kind = kind[0] if isinstance(kind, list) and kind else kind
    return _SAMPLES.get(kind, "...") if isinstance(kind, str) else "..."


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


# Bounded, since pages hold `<` and 100 KB of spaces.
_OWN_TAG = re.compile(r"<(?=\s{0,20}/?\s{0,20}tool_(?:result|call))", re.I)


def result_to_text(call_id: str, name: str, content: str) -> str:
    """What a tool returned; a page or file it read cannot end the block or open another."""
    attributes = f'id="{html.escape(call_id)}" name="{html.escape(name)}"'
    content = _OWN_TAG.sub(r"<\\", content)
    return f"<tool_result {attributes}>\n{content}\n</tool_result>"
