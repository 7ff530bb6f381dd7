"""One message of a request, checked: roles, contents, parts, images, files and earlier calls.

Knows nothing of HTTP or of Flowith.
"""

import base64
import json
import re
from typing import Any

from chat_request import Message
from events import ToolCall
from formats.fields import bad_value, expect, missing, one_of, require

IMAGE_BYTES = 20_971_520  # OpenAI's limit for one image
TEXT_FILE = re.compile(r"text/|application/(json|xml|x-yaml|yaml|toml|javascript|x-sh|sql)")
IMAGE_TYPES = ("image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp")
DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.=+-]+)*?)(;base64)?,", re.ASCII)
THINK = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL | re.IGNORECASE)
TEXTS = ("text", "input_text", "output_text", "summary_text", "refusal")
ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def to_message(where: str, given: Any) -> Message:
    """Check the message at `where` in a request. Raises InvalidRequest."""
    role = require(f"{where}.role", expect(where, given, dict).get("role"), str)
    one_of(f"{where}.role", role, ROLES)
    content = given.get("content")
    if not isinstance(content, str):
        content = to_content(f"{where}.content", role, content)
    name = given.get("name")
    match role:
        case "assistant":
            if isinstance(content, str) and THINK.match(content):
                content = THINK.sub("", content, count=1)
            calls = _to_calls(where, given)
            refusal = given.get("refusal")
            said = content or (refusal if isinstance(refusal, str) else "")
            return Message(role, said, calls, where=where)
        case "tool" | "function":
            call_id = given.get("tool_call_id") or name or ""
            return Message("tool", content, (), str(call_id), str(name or ""), where)
        case "developer":
            role = "system"
    return Message(role, content, name=name if isinstance(name, str) else "", where=where)


def _to_calls(where: str, given: dict[str, Any]) -> tuple[ToolCall, ...]:
    """The calls an assistant message made, in today's and in the deprecated form."""
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
    return tuple(calls)


def to_content(where: str, role: str, content: Any) -> str | list[dict[str, Any]]:
    """Parts to one text, or to a list of parts where there are images among them. `role` is whose
    parts they are. Raises InvalidRequest."""
    wanted = "a string or an array of content parts"
    given = expect(where, [] if content is None else content, list, wanted)
    parts = [_to_part(f"{where}[{j}]", role, part) for j, part in enumerate(given)]
    if any(part["type"] == "image_url" for part in parts):
        return parts
    return "\n".join(part["text"] for part in parts)


def _to_part(where: str, role: str, part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = expect(where, part, dict).get("type")
    if kind is None:
        raise missing(f"{where}.type")
    if kind in TEXTS:
        field = "refusal" if kind == "refusal" else "text"
        return {"type": "text", "text": require(f"{where}.{field}", part.get(field), str)}
    if role in ("user", "tool") and kind in ("image_url", "input_image"):
        return _to_image(f"{where}.image_url", part.get("image_url"), part.get("detail"))
    if role == "user" and kind == "file":
        return _to_file(f"{where}.file", part.get("file"))
    if role in ("user", "tool") and kind == "input_file":
        return _to_file(where, part)
    if kind == "input_audio":
        raise bad_value(where, "audio input is not supported", "unsupported_value")
    wanted = "a supported type is 'text'"
    if role == "user":
        wanted = "supported types are 'text', 'image_url' and 'file'"
    raise bad_value(f"{where}.type", f"{str(kind)[:40]!r} cannot be used here; {wanted}")


def _to_image(where: str, image: Any, detail: Any = None) -> dict[str, Any]:
    if isinstance(image, dict):
        detail, image, where = image.get("detail"), image.get("url"), f"{where}.url"
    part = to_image(where, require(where, image, str))
    if detail in ("auto", "low", "high"):
        part["image_url"]["detail"] = detail
    return part


def to_image(where: str, url: str) -> dict[str, Any]:
    """An image part for an https: URL or a base64 data: URL. Raises InvalidRequest."""
    url = url.strip()
    if url[:5].lower() == "data:":
        _from_data_url(where, url, IMAGE_TYPES)
    elif not re.match(r"https://[^\s/]", url, re.IGNORECASE):
        raise bad_value(where, "expected an https: URL or a base64 data: URL", "invalid_image_url")
    return {"type": "image_url", "image_url": {"url": url}}


def _from_data_url(where: str, url: str, types: tuple[str, ...]) -> bytes:
    """The bytes of a data: URL of one of `types`. Raises InvalidRequest."""
    head = DATA_URL.match(url)
    if head is None or not head[3]:
        raise bad_value(where, "expected data:<type>;base64,<data>", "invalid_base64")
    if (head[1] or "").lower() not in types:
        raise bad_value(where, f"supported types are {', '.join(types)}", "unsupported_value")
    try:
        content = base64.b64decode(url[head.end() :], validate=True)
    except ValueError:
        raise bad_value(where, "the data is not valid base64", "invalid_base64") from None
    if not 0 < len(content) <= IMAGE_BYTES:
        limit = IMAGE_BYTES // 1_048_576
        raise bad_value(where, f"expected 1 byte to {limit} MB", "invalid_size")
    return content


def _to_file(where: str, file: Any) -> dict[str, Any]:
    """A text file becomes text; an image that came as a file becomes an image."""
    if file is None:
        raise missing(where)
    url = expect(where, file, dict).get("file_data")
    if file.get("file_id") or not isinstance(url, str):
        wanted = "send the file itself as 'file_data': nothing is stored here"
        raise bad_value(where, wanted, "unsupported_value")
    where = f"{where}.file_data"
    head = DATA_URL.match(url)
    kind = (head[1] or "").lower() if head else ""
    if kind in IMAGE_TYPES:
        return _to_image(where, url)
    if not TEXT_FILE.match(kind):
        wanted = "only text files and images can be sent; paste the text of other files"
        raise bad_value(where, wanted, "unsupported_value")
    text = _from_data_url(where, url, (kind,)).decode("utf-8", "replace")
    return {"type": "text", "text": f"[File {str(file.get('filename') or 'file')[:200]}]\n{text}"}
