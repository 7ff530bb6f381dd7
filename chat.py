"""OpenAI's request, checked: JSON bytes in, `ChatRequest` or InvalidRequest out.

After this nothing checks again. Ranges, codes and names are those of OpenAI's API reference; null
means absent, unknown fields are never an error. Knows nothing of HTTP or Flowith.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structured
import toolcalls
from errors import InvalidRequest
from events import ToolCall

Check = Callable[[str, Any], None]
IMAGE_BYTES = 20_971_520  # OpenAI's limit for one image
TEXT_FILE = re.compile(r"text/|application/(json|xml|x-yaml|yaml|toml|javascript|x-sh|sql)")
IMAGE_TYPES = ("image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp")
DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.=+-]+)*?)(;base64)?,", re.ASCII)
THINK = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL | re.IGNORECASE)
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
TIERS = ("auto", "default", "flex", "scale", "priority", "fast")


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `content` is text, or a list of text and image_url parts where it has images;
    `calls` are the tool calls it made, `call_id` the call that it answers."""

    role: str
    content: str | list[dict[str, Any]]
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request. `asked` is the model as the caller wrote it, `options` are sampling
    parameters that some of Flowith's APIs take, `ignored` names those that have no effect."""

    model: str
    asked: str
    messages: list[Message]
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    thinks: bool = True
    online: bool = False
    tools: toolcalls.ToolUse | None = None
    format: structured.Format | None = None
    options: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def wrong_type(param: str, wanted: str, value: Any) -> InvalidRequest:
    """The error for a value of the wrong JSON type."""
    kinds = {bool: "a boolean", int: "an integer", float: "a number", str: "a string",
             list: "an array", dict: "an object", type(None): "null"}  # fmt: skip
    got = kinds.get(type(value), "something else")
    message = f"Invalid type for '{param}': expected {wanted}, but got {got} instead."
    return InvalidRequest(message, param=param, code="invalid_type")


def missing(param: str) -> InvalidRequest:
    """The error for a required parameter that is not there."""
    message = f"Missing required parameter: '{param}'."
    return InvalidRequest(message, param=param, code="missing_required_parameter")


def bad_value(param: str, wanted: str, code: str = "invalid_value") -> InvalidRequest:
    """The error for a value that is none of those allowed."""
    return InvalidRequest(f"Invalid value for '{param}': {wanted}.", param=param, code=code)


def _number(low: float, high: float) -> Check:
    def check(param: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong_type(param, "a number", value)
        side = "above_max" if value > high else "below_min" if value < low else ""
        if side:
            wanted = f"expected a number from {low:g} to {high:g}"
            raise bad_value(param, wanted, f"decimal_{side}_value")

    return check


def _integer(low: float = -math.inf, high: float = math.inf) -> Check:
    def check(param: str, value: Any) -> None:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole:
            raise wrong_type(param, "an integer", value)
        side = "above_max" if value > high else "below_min" if value < low else ""
        if side:
            wanted = f"at most {high:g}" if side == "above_max" else f"at least {low:g}"
            raise bad_value(param, f"expected {wanted}", f"integer_{side}_value")

    return check


def _one_of(*allowed: str) -> Check:
    def check(param: str, value: Any) -> None:
        if not isinstance(value, str):
            raise wrong_type(param, "a string", value)
        if value not in allowed:
            raise bad_value(param, f"supported values are {', '.join(map(repr, allowed))}")

    return check


def _of(kind: type, wanted: str) -> Check:
    def check(param: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise wrong_type(param, wanted, value)

    return check


def _stop(param: str, value: Any) -> None:
    if isinstance(value, list):
        for i, one in enumerate(value):
            _string(f"{param}[{i}]", one)
    elif not isinstance(value, str):
        raise wrong_type(param, "a string or an array of strings", value)


def _logit_bias(param: str, value: Any) -> None:
    _object(param, value)
    for key, bias in value.items():
        _number(-100, 100)(f"{param}.{key[:20]}", bias)


def _modalities(param: str, value: Any) -> None:
    if not isinstance(value, list):
        raise wrong_type(param, "an array", value)
    if "audio" in value:
        raise bad_value(param, "audio output is not supported", "unsupported_value")


def _no_audio(param: str, _value: Any) -> None:
    raise InvalidRequest(
        "Unsupported parameter: 'audio' output is not available.",
        param=param,
        code="unsupported_parameter",
    )


_boolean, _string = _of(bool, "a boolean"), _of(str, "a string")
_object = _of(dict, "an object")
CHECKS: dict[str, Check] = {
    "model": _string,
    "stream": _boolean,
    "stream_options": _object,
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "max_tokens": _integer(1),
    "max_completion_tokens": _integer(1),
    "n": _integer(1, 128),
    "stop": _stop,
    "seed": _integer(-(2**63), 2**63 - 1),
    "logit_bias": _logit_bias,
    "logprobs": _boolean,
    "top_logprobs": _integer(0, 20),
    "modalities": _modalities,
    "audio": _no_audio,
    "reasoning_effort": _one_of(*EFFORTS),
    "verbosity": _one_of("low", "medium", "high"),
    "web_search_options": _object,
    "service_tier": _one_of(*TIERS),
    "store": _boolean,
    "metadata": _object,
    "prediction": _object,
}
EFFECTIVE = {
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n",
    "stop", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call",
    "response_format", "reasoning_effort", "web_search_options", "modalities", "temperature",
    "top_p",
}  # fmt: skip


def parse_json(raw: bytes) -> dict[str, Any]:
    """The body as an object. Raises InvalidRequest."""
    try:
        body = _decoder.decode(raw.decode("utf-8-sig"))
    except RecursionError:
        raise InvalidRequest("The request body is nested too deeply.") from None
    except (ValueError, UnicodeDecodeError) as wrong:
        where = f" (at character {wrong.pos})" if isinstance(wrong, json.JSONDecodeError) else ""
        raise InvalidRequest(
            "We could not parse the JSON body of your request: it must be a JSON object"
            f" in UTF-8{where}."
        ) from None
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    return body


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("out of range")
    return number


_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def parse_request(raw: bytes, max_choices: int = 128) -> ChatRequest:
    """Check a chat completion request. Raises InvalidRequest that names the field."""
    body = {k: v for k, v in parse_json(raw).items() if v is not None}
    messages = body.get("messages")
    if messages is None:
        hint = " Use 'messages', not 'input': this is chat completions." if "input" in body else ""
        wrong = missing("messages")
        wrong.message += hint
        raise wrong
    if not isinstance(messages, list):
        raise wrong_type("messages", "an array of objects", messages)
    if not messages:
        wanted = "Invalid 'messages': empty array. Expected at least one message."
        raise InvalidRequest(wanted, param="messages", code="empty_array")
    return _to_request(body, [_to_message(i, m) for i, m in enumerate(messages)], max_choices)


def parse_completion(raw: bytes, max_choices: int = 128) -> tuple[ChatRequest, list[list[Message]]]:
    """Check a legacy completion request: the request, and one conversation per prompt."""
    body = {k: v for k, v in parse_json(raw).items() if v is not None}
    prompts = body.pop("prompt", None)
    if prompts is None:
        raise missing("prompt")
    if isinstance(prompts, str):
        prompts = [prompts]
    if not isinstance(prompts, list) or not all(isinstance(one, str) for one in prompts):
        raise wrong_type("prompt", "a string or an array of strings", prompts)
    if not prompts:
        raise bad_value("prompt", "expected at least one prompt", "empty_array")
    for name in ("logprobs", "tools", "functions", "response_format"):
        body.pop(name, None)
    request = _to_request(body, [], max_choices)
    if len(prompts) * request.n > max_choices:
        raise bad_value("prompt", f"at most {max_choices} answers", "array_above_max_length")
    return request, [[Message("user", one)] for one in prompts]


def _to_request(body: dict[str, Any], messages: list[Message], max_choices: int) -> ChatRequest:
    for name, check in CHECKS.items():
        if name in body:
            check(name, body[name])
    # half a surrogate pair in the name would come back in every chunk
    model = body.get("model", "").strip().encode("utf-8", "replace").decode()
    if not model:
        raise missing("model")
    if body.get("n", 1) > max_choices:
        wanted = f"this service answers at most {max_choices} choices per request"
        raise bad_value("n", wanted, "integer_above_max_value")
    stop = body.get("stop", ())
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    tools = toolcalls.parse_tools(body)
    named = ("messages[].name",) if any(m.name for m in messages) else ()
    ignored = (*(name for name in body if name not in EFFECTIVE), *named)
    return ChatRequest(
        model=model.removesuffix(":online"),
        asked=model,
        messages=messages,
        stream=body.get("stream", False),
        include_usage=body.get("stream_options", {}).get("include_usage") is True,
        n=int(body.get("n", 1)),
        max_tokens=None if limit is None else int(limit),
        stop=tuple(one for one in ([stop] if isinstance(stop, str) else stop) if one),
        thinks=body.get("reasoning_effort") not in ("none", "minimal"),
        online="web_search_options" in body or model.endswith(":online"),
        tools=tools,
        format=structured.parse_format(body),
        options={k: body[k] for k in ("temperature", "top_p") if k in body},
        ignored=ignored,
    )


ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def _to_message(i: int, given: Any) -> Message:
    where = f"messages[{i}]"
    if not isinstance(given, dict):
        raise wrong_type(where, "an object", given)
    role = given.get("role")
    if role is None:
        raise missing(f"{where}.role")
    if not isinstance(role, str):
        raise wrong_type(f"{where}.role", "a string", role)
    if role not in ROLES:
        raise bad_value(f"{where}.role", f"supported values are {', '.join(map(repr, ROLES))}")
    content = given.get("content")
    if not isinstance(content, str):
        content = _to_content(f"{where}.content", role, content)
    if role == "developer":
        role = "system"
    elif role == "assistant":
        if isinstance(content, str) and THINK.match(content):
            content = THINK.sub("", content, count=1)
        calls = _to_calls(where, given)
        refusal = given.get("refusal")
        content = content or (refusal if isinstance(refusal, str) else "")
        return Message(role, content, calls)
    elif role in ("tool", "function"):
        call_id = given.get("tool_call_id") or given.get("name") or ""
        return Message("tool", content, (), str(call_id), str(given.get("name") or ""))
    name = given.get("name")
    return Message(role, content, name=name if isinstance(name, str) else "")


def _to_calls(where: str, given: dict[str, Any]) -> tuple[ToolCall, ...]:
    """The calls an assistant message made, in today's and in the deprecated form."""
    listed = given.get("tool_calls")
    if listed is None:
        old = given.get("function_call")
        listed = [{"id": old.get("name"), "function": old}] if isinstance(old, dict) else []
    if not isinstance(listed, list):
        raise wrong_type(f"{where}.tool_calls", "an array", listed)
    calls = []
    for j, call in enumerate(listed):
        at = f"{where}.tool_calls[{j}]"
        if not isinstance(call, dict):
            raise wrong_type(at, "an object", call)
        custom = isinstance(call.get("custom"), dict)
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


def _to_content(where: str, role: str, content: Any) -> str | list[dict[str, Any]]:
    """Parts to one text, or to a list of parts where there are images among them."""
    if content is None:
        return ""
    if not isinstance(content, list):
        raise wrong_type(where, "a string or an array of content parts", content)
    parts = [_to_part(f"{where}[{j}]", role, part) for j, part in enumerate(content)]
    if any(part["type"] == "image_url" for part in parts):
        return parts
    return "\n".join(part["text"] for part in parts)


def _to_part(where: str, role: str, part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, dict):
        raise wrong_type(where, "an object", part)
    kind = part.get("type")
    if kind is None:
        raise missing(f"{where}.type")
    if kind in ("text", "input_text", "output_text", "refusal"):
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            name = f"{where}.{'refusal' if kind == 'refusal' else 'text'}"
            raise missing(name) if text is None else wrong_type(name, "a string", text)
        return {"type": "text", "text": text}
    if role in ("user", "tool") and kind in ("image_url", "input_image"):
        return _to_image(f"{where}.image_url", part.get("image_url"))
    if role == "user" and kind in ("file", "input_file"):
        return _to_file(where, part.get("file") if kind == "file" else part)
    if kind == "input_audio":
        raise bad_value(where, "audio input is not supported", "unsupported_value")
    wanted = "a supported type is 'text'"
    if role == "user":
        wanted = "supported types are 'text', 'image_url' and 'file'"
    raise bad_value(f"{where}.type", f"{str(kind)[:40]!r} cannot be used here; {wanted}")


def _to_image(where: str, image: Any) -> dict[str, Any]:
    detail = None
    if isinstance(image, dict):
        detail, image, where = image.get("detail"), image.get("url"), f"{where}.url"
    if image is None:
        raise missing(where)
    if not isinstance(image, str):
        raise wrong_type(where, "a string", image)
    image = image.strip()
    if image[:5].lower() == "data:":
        check_data_url(where, image, IMAGE_TYPES)
    elif not re.match(r"https://[^\s/]", image, re.IGNORECASE):
        raise bad_value(where, "expected an https: URL or a base64 data: URL", "invalid_image_url")
    detailed = {"detail": detail} if detail in ("auto", "low", "high") else {}
    return {"type": "image_url", "image_url": {"url": image, **detailed}}


def check_data_url(where: str, url: str, types: tuple[str, ...]) -> bytes:
    """The bytes of a data: URL of one of `types`. Raises InvalidRequest."""
    head = DATA_URL.match(url)
    if head is None or not head[3]:
        raise bad_value(where, "expected data:<type>;base64,<data>", "invalid_base64")
    if (head[1] or "").lower() not in types:
        wanted = f"supported types are {', '.join(types)}"
        raise bad_value(where, wanted, "unsupported_value")
    try:
        content = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise bad_value(where, "the data is not valid base64", "invalid_base64") from None
    if not content or len(content) > IMAGE_BYTES:
        limit = IMAGE_BYTES // 1_048_576
        raise bad_value(where, f"expected 1 byte to {limit} MB", "invalid_size")
    return content


def _to_file(where: str, file: Any) -> dict[str, Any]:
    """A text file becomes text; an image that came as a file becomes an image."""
    if not isinstance(file, dict):
        raise missing(f"{where}.file") if file is None else wrong_type(where, "an object", file)
    if file.get("file_id") or not isinstance(file.get("file_data"), str):
        wanted = "send the file itself as 'file_data': nothing is stored here"
        raise bad_value(f"{where}.file", wanted, "unsupported_value")
    name, url = str(file.get("filename") or "file")[:200], file["file_data"]
    head = DATA_URL.match(url)
    kind = (head[1] or "").lower() if head else ""
    if kind in IMAGE_TYPES:
        return _to_image(f"{where}.file.file_data", url)
    if not TEXT_FILE.match(kind):
        wanted = "only text files and images can be sent; paste the text of other files"
        raise bad_value(f"{where}.file.file_data", wanted, "unsupported_value")
    content = check_data_url(f"{where}.file.file_data", url, (kind,))
    return {"type": "text", "text": f"[File {name}]\n{content.decode('utf-8', 'replace')}"}
