"""One message of a request, checked: roles, contents, parts, images, files and earlier calls.

Knows nothing of HTTP or of Flowith.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from chat_request import Content, Message, images_of, text_of
from events import ToolCall
from formats.attachments import image_from_source, to_file, to_image
from formats.fields import bad_value, expect, missing, require, role_in

# How an earlier answer begins that holds its thoughts, in one block or several: they are not sent
# back. A block without an end may be a beginning that the model is to go on with.
THINK = re.compile(r"(?:\s*<(think|thinking|thought)>.*?</\1>\s*)+", re.DOTALL | re.IGNORECASE)
ADDRESS = re.compile(r"https?://[^\s()<>\"]+")
TEXTS = ("text", "input_text", "output_text", "summary_text", "refusal")
PICTURES = ("image_url", "input_image", "image")
THOUGHTS = ("thinking", "redacted_thinking", "reasoning", "reasoning_content")
ELSEWHERE = ("tool_use", "tool_result")  # Anthropic's: a call or a result, and no content here
READABLE = ("title", "url", "text", "stdout", "stderr", "logs")  # in the results of servers' tools
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
WORDLESS = ("assistant", "function")  # roles whose content may be missing or null


def to_messages(where: str, given: Any) -> list[Message]:
    """Check the message at `where`, which may hold the results of tools as well, each a message of
    its own and before what else it says. Raises InvalidRequest.

    An answer in which nothing was said makes none, nor an empty system text: strict models refuse
    it.
    """
    message = to_message(where, given)
    results = _to_results(where, given.get("content")) if message.role in ("user", "tool") else []
    idle = message.role in ("assistant", "system") and not message.calls
    if not message.content and (results or idle):
        return results
    return [*results, message]


def to_message(where: str, given: Any, roles: Sequence[str] = ROLES) -> Message:
    """Check the message at `where` in a request. Raises InvalidRequest."""
    role = role_in(where, expect(where, given, dict), roles)
    content, place = given.get("content"), f"{where}.content"
    if content is None and role not in WORDLESS:
        raise missing(place)
    if not isinstance(content, str):
        content = to_content(place, role, content)
    name = given.get("name")
    name = name if isinstance(name, str) else ""
    match role:
        case "assistant":
            if isinstance(content, str) and THINK.match(content):
                content = THINK.sub("", content, count=1)
            if "images" in given or isinstance(given.get("content"), list):
                content = _with_links(where, content, given)
            calls = _to_calls(where, given)
            refusal = given.get("refusal")
            said = content or (refusal if isinstance(refusal, str) else "")
            return Message(role, said, calls, name=name, where=place)
        case "tool" | "function":
            return Message("tool", content, (), str(given.get("tool_call_id") or name), name, place)
        case "developer":
            role = "system"
    return Message(role, content, name=name, where=place)


def _with_links(where: str, said: str, given: dict[str, Any]) -> str:
    """The words of an earlier answer, and links to those of its pictures that they do not name yet:
    LangChain sends what it read from `message.images` back as parts of the content."""
    words = [said] if said else []
    named = set(ADDRESS.findall(said))
    for at, picture in _pictures(where, given):
        url = picture.get("image_url", picture.get("url"))
        if isinstance(url, dict):
            url = url.get("url")
        address: str = require(f"{at}.image_url", url, str)
        if not address.startswith(("https://", "http://")):
            words.append("[a picture]")  # inline: too long for words
        elif address not in named:
            words.append(f"![image]({address})")
    return "\n\n".join(words)


def _pictures(where: str, given: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pictures of an earlier answer, each with its place."""
    for kind in PICTURES:
        yield from _of_kind(kind, f"{where}.content", given.get("content"))
    yield from _of_kind("image_url", f"{where}.images", given.get("images"))


def _to_calls(where: str, given: dict[str, Any]) -> tuple[ToolCall, ...]:
    """The calls an assistant message made, in today's and in the deprecated form, and those that
    stand among its content as Anthropic has them."""
    listed, old = given.get("tool_calls"), given.get("function_call")
    if listed is None:
        listed = [{"id": old.get("name"), "function": old}] if isinstance(old, dict) else []
    calls = []
    for j, call in enumerate(expect(f"{where}.tool_calls", listed, list)):
        at = f"{where}.tool_calls[{j}]"
        custom = isinstance(expect(at, call, dict).get("custom"), dict)
        function = call["custom"] if custom else call.get("function")
        if not isinstance(function, dict):
            raise missing(f"{at}.function")
        if not isinstance(name := function.get("name"), str):
            raise missing(f"{at}.function.name")
        arguments = function.get("input" if custom else "arguments") or ""
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        calls.append(ToolCall(str(call.get("id") or ""), name, arguments, custom))
    for at, part in _of_kind("tool_use", f"{where}.content", given.get("content")):
        name = require(f"{at}.name", part.get("name"), str)
        made = json.dumps(part.get("input") or {}, ensure_ascii=False)
        calls.append(ToolCall(str(part.get("id") or ""), name, made))
    return tuple(calls)


def _to_results(where: str, content: Any) -> list[Message]:
    """The results of tools that stand among the content of a message, as Anthropic has them."""
    if isinstance(content, str):
        return []
    results = []
    for at, part in _of_kind("tool_result", f"{where}.content", content):
        said, place = part.get("content"), f"{at}.content"
        if not isinstance(said, str):
            said = to_content(place, "tool", said)
        results.append(Message("tool", said, (), str(part.get("tool_use_id") or ""), where=place))
    return results


def _of_kind(kind: str, where: str, content: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts of a content that are of one type, each with its place."""
    for j, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, dict) and part.get("type") == kind:
            yield f"{where}[{j}]", part


def to_content(where: str, role: str, content: Any) -> Content:
    """Parts to one text, or to a list of parts where there are images among them. `role` is whose
    parts they are. Raises InvalidRequest."""
    wanted = "a string or an array of content parts"
    given = expect(where, [] if content is None else content, list, wanted)
    parts = [_to_part(f"{where}[{j}]", role, part) for j, part in enumerate(given)]
    return plain([part for part in parts if part])


def plain(parts: list[dict[str, Any]]) -> Content:
    """Parts as one text, or as they are where there are images among them."""
    return parts if images_of(parts) else text_of(parts)


def _to_part(where: str, role: str, part: Any) -> dict[str, Any] | None:
    """A part of a content; None where it is nothing for the model, or no content."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = expect(where, part, dict).get("type")
    if kind is None:
        raise missing(f"{where}.type")
    if kind in TEXTS:
        field = "refusal" if kind == "refusal" else "text"
        return {"type": "text", "text": require(f"{where}.{field}", part.get(field), str)}
    if kind in THOUGHTS or kind in ELSEWHERE:
        return None
    if role == "assistant" and kind in PICTURES:
        return None  # see _with_links
    if role in ("user", "tool") and (attached := _to_attachment(where, kind, part)):
        return attached
    if kind == "input_audio":
        raise bad_value(where, "audio input is not supported", "unsupported_value")
    wanted = "a supported type is 'text'"
    if role == "user":
        wanted = "supported types are 'text', 'image_url' and 'file'"
    raise bad_value(f"{where}.type", f"{str(kind)[:40]!r} cannot be used here; {wanted}")


def _to_attachment(where: str, kind: str, part: dict[str, Any]) -> dict[str, Any] | None:
    match kind:
        case "image_url" | "input_image":
            return _to_image(f"{where}.image_url", part.get("image_url"), part.get("detail"))
        case "image":
            return image_from_source(f"{where}.source", part.get("source"))
        case "file":
            return to_file(f"{where}.file", part.get("file"))
        case "input_file":
            return to_file(where, part)
    return None


def _to_image(where: str, image: Any, detail: Any) -> dict[str, Any]:
    if isinstance(image, dict):
        detail, image, where = image.get("detail"), image.get("url"), f"{where}.url"
    if image is None:  # OpenAI takes the id of a file as well
        raise missing(where, "Send the image itself or its address: nothing is stored here.")
    part = to_image(where, require(where, image, str))
    if detail in ("auto", "low", "high"):
        part["image_url"]["detail"] = detail
    return part


def readable(output: Any) -> str:
    """What can be read of a result that a server's own tool returned: a text, or those in the parts
    that it has."""
    if isinstance(output, str):
        return output
    parts = output if isinstance(output, list) else [output]
    found = [part.get(name) for part in parts if isinstance(part, dict) for name in READABLE]
    return "\n".join(text for text in found if isinstance(text, str) and text)


def told_apart(messages: list[Message]) -> list[Message]:
    """The messages with each speaker's name before the text, where a role has several speakers;
    a lone name says nothing."""
    speakers: dict[str, set[str]] = {}
    for message in messages:
        if message.name and message.role != "tool":
            speakers.setdefault(message.role, set()).add(message.name)
    crowded = {role for role, names in speakers.items() if len(names) > 1}
    if not crowded:
        return messages
    return [
        replace(message, content=_after_name(message.name, message.content), name="")
        if message.name and message.role in crowded
        else message
        for message in messages
    ]


def _after_name(name: str, content: Content) -> Content:
    if isinstance(content, str):
        return f"{name}: {content}" if content else content
    return [{"type": "text", "text": f"{name}:"}, *content]
