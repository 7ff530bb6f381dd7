"""The messages of Anthropic's API, checked: roles, content blocks, tool calls and their results.

Block types are those of the Messages API reference. Places are named as it does: dots and numbers,
and the type of a block that has a file (`messages.1.content.0.image.source`), by which Claude Code
leaves it out of the conversation from then on. Knows nothing of HTTP or of Flowith.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chat_request import Message, images_of, text_of
from errors import InvalidRequest
from events import ToolCall
from formats.anthropic_tools import CHANGES
from formats.attachments import image_from_source
from formats.content import plain, readable
from formats.fields import bad_value, expect, messages_in, missing, one_of, require, role_in

ROLES = ("user", "assistant", "system")
BILLING = "x-anthropic-billing-header:"  # how Claude Code's telemetry in `system` begins
KNOWN = (
    "document", "image", "redacted_thinking", "search_result", "text", "thinking", "tool_reference",
    "tool_result", "tool_use",
)  # fmt: skip  # blocks, each of which has its place
Part = dict[str, Any]
# What Anthropic's servers have run or noted in an earlier answer.
FROM_SERVERS = {
    "server_tool_use", "mcp_tool_use", "mcp_tool_result", "web_search_tool_result",
    "web_fetch_tool_result", "code_execution_tool_result", "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result", "tool_search_tool_result", "advisor_tool_result",
    "compaction", "fallback", "container_upload", "mcp_tool_listing",
}  # fmt: skip
THOUGHTS = {"thinking", "redacted_thinking"}  # the model is not given what it once thought


def to_system(given: Any) -> str:
    """The `system` parameter as one text; telemetry, which changes per request, is left out."""
    if isinstance(given, str):
        lines = given.split("\n", 1)
        told = lines[0].startswith(BILLING)
        return "".join(lines[1:]) if told else given
    texts = []
    for i, block in enumerate(expect("system", given, list, "a string or an array of blocks")):
        where = f"system.{i}"
        one_of(f"{where}.type", expect(where, block, dict).get("type"), ("text",))
        text = require(f"{where}.text", block.get("text"), str)
        if text and not text.startswith(BILLING):
            texts.append(text)
    return "\n\n".join(texts)


def to_messages(given: Any) -> list[Message]:
    """Check the `messages` parameter. Raises InvalidRequest.

    Messages in which nothing is left to say are left out.
    """
    if given is None:
        raise missing("messages")
    messages: list[Message] = []
    notes: list[str] = []
    for i, message in enumerate(messages_in("messages", given)):
        where = f"messages.{i}"
        role = role_in(where, expect(where, message, dict), ROLES)
        told = _to_turn(role, message.get("content"), f"{where}.content")
        if role == "system":
            notes += [text_of(note.content) for note in told]
        elif told:
            _add_notes(messages, notes)
            messages += told
    _add_notes(messages, notes)
    if not messages:
        raise bad_value("messages", "there is no content in them", "empty_array")
    return messages


def _to_blocks(where: str, content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    given = [] if content is None else content
    blocks = expect(where, given, list, "a string or an array of content blocks")
    for j, block in enumerate(blocks):
        kind = expect(f"{where}.{j}", block, dict).get("type")
        require(f"{where}.{j}.type", kind, str)
    return blocks


def _to_turn(role: str, content: Any, where: str) -> list[Message]:
    """What one content says, behind the results of tools that it holds, each a message of its
    own."""
    if isinstance(content, str):
        return [Message(role, content, where=where)] if content else []
    results: list[Message] = []
    calls: list[ToolCall] = []
    parts: list[Part] = []
    for j, block in enumerate(_to_blocks(where, content)):
        place = f"{where}.{j}"
        match role, block["type"]:
            case "user", "tool_result":
                results.append(_to_result(block, place))
            case "assistant", "tool_use":
                calls.append(_to_call(block, place))
            case "system", kind if kind in CHANGES:
                continue
            case _:
                parts += _to_parts(block, place, images=role == "user")
    said = plain(parts)
    if said or calls:
        return [*results, Message(role, said, tuple(calls), where=where)]
    return results


def _to_result(block: dict[str, Any], where: str) -> Message:
    where = f"{where}.tool_result"
    call_id = require(f"{where}.tool_use_id", block.get("tool_use_id"), str)
    place = f"{where}.content"
    parts = _to_all_parts(block.get("content"), place, images=True)
    if block.get("is_error"):
        parts = [{"type": "text", "text": "Error:"}, *parts]
    return Message("tool", plain(parts), (), call_id, where=place)


def _to_call(block: dict[str, Any], where: str) -> ToolCall:
    call_id = require(f"{where}.id", block.get("id"), str)
    name = require(f"{where}.name", block.get("name"), str)
    given = expect(f"{where}.input", block.get("input") or {}, dict)
    return ToolCall(call_id, name, json.dumps(given, ensure_ascii=False))


def _add_notes(messages: list[Message], notes: list[str]) -> None:
    """Put the notes that wait behind the messages so far.

    They join a user message: as one of its own they would be what the model answers, and many
    models take no system message behind the first.
    """
    if not notes:
        return
    text = "\n\n".join(notes)
    notes.clear()
    last = messages[-1] if messages else None
    if last is None or last.role != "user":
        messages.append(Message("system", text))
        return
    note = f"<system-reminder>\n{text}\n</system-reminder>"
    if isinstance(last.content, str):
        messages[-1] = replace(last, content=f"{last.content}\n\n{note}")
    else:
        messages[-1] = replace(last, content=[*last.content, {"type": "text", "text": note}])


def _to_all_parts(
    content: Any, where: str, *, images: bool = False, only: Sequence[str] = ()
) -> list[Part]:
    """The blocks of a content as parts of a message; `only` names the types that may be there."""
    parts: list[Part] = []
    for j, block in enumerate(_to_blocks(where, content)):
        if only:
            one_of(f"{where}.{j}.type", block["type"], only)
        parts += _to_parts(block, f"{where}.{j}", images=images)
    return parts


def _to_parts(block: dict[str, Any], where: str, *, images: bool) -> list[Part]:
    """A content block as parts of a message; `images` where they may stand."""
    kind = block["type"]
    match kind:
        case "text":
            return _as_text(require(f"{where}.text", block.get("text"), str))
        case "image" if images:
            return [_to_image(block, f"{where}.image")]
        case "document":
            return _to_document(block, f"{where}.document", images_too=images)
        case "search_result":
            return _to_search_result(block, where)
        case "tool_reference":
            return _as_text(require(f"{where}.tool_name", block.get("tool_name"), str))
    if kind in THOUGHTS:
        return []
    if kind in FROM_SERVERS:
        return _as_text(readable(block.get("content")))
    if kind in KNOWN:
        raise bad_value(f"{where}.type", f"{kind!r} cannot be used here", "unsupported_value")
    # Anthropic's words, by which Claude Code knows what to leave out from then on
    text = f"Input tag {kind[:40]!r} found using 'type' does not match any of the expected tags:"
    known = ", ".join(map(repr, KNOWN))
    raise InvalidRequest(f"{text} {known}", param=where, code="unsupported_value")


def _as_text(text: str) -> list[Part]:
    return [{"type": "text", "text": text}] if text else []


def _to_image(block: dict[str, Any], where: str) -> Part:
    source = require(f"{where}.source", block.get("source"), dict)
    url = source.get("url")
    if isinstance(url, str) and not url.lower().startswith("https:"):
        raise bad_value(f"{where}.source.url", "expected an https: URL", "invalid_image_url")
    return image_from_source(f"{where}.source", source)


def _to_document(block: dict[str, Any], where: str, *, images_too: bool) -> list[Part]:
    """A document as text, under its title; images that stand in it follow."""
    source = require(f"{where}.source", block.get("source"), dict)
    images: list[Part] = []
    match source.get("type"):
        case "text":
            text = require(f"{where}.source.data", source.get("data"), str)
        case "content":
            place = f"{where}.source.content"
            allowed = ("text", "image")
            parts = _to_all_parts(source.get("content"), place, images=images_too, only=allowed)
            text = text_of(parts)
            images = images_of(parts)
        case _:
            wanted = "only documents of type 'text' and 'content' can be sent, as this service"
            wanted += " does not support PDF input; paste the text"  # Claude Code knows the words
            raise bad_value(f"{where}.source.type", wanted, "unsupported_value")
    lines = [f"[File {str(block.get('title') or 'document')[:200]}]"]
    if isinstance(context := block.get("context"), str) and context:
        lines.append(context)
    return [*_as_text("\n".join([*lines, text])), *images]


def _to_search_result(block: dict[str, Any], where: str) -> list[Part]:
    """A passage that the caller found, with its title and source."""
    title = require(f"{where}.title", block.get("title"), str)
    source = require(f"{where}.source", block.get("source"), str)
    parts = _to_all_parts(block.get("content"), f"{where}.content", only=("text",))
    return _as_text("\n".join([title, source, text_of(parts)]))
