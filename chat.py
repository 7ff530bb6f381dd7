"""OpenAI's request, checked: JSON bytes in, `ChatRequest` or InvalidRequest out.

After this nothing checks again. Ranges, codes and names are those of OpenAI's API reference; null
means absent, unknown fields are never an error. Knows nothing of HTTP or Flowith.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structured
import toolcalls
from errors import InvalidRequest, bad_value, expect, missing, one_of, wrong_type
from messages import Message, to_message

Check = Callable[[str, Any], object]
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
TIERS = ("auto", "default", "flex", "scale", "priority", "fast")


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


def _number(
    param: str, value: Any, *, low: float, high: float = math.inf, whole: bool = False
) -> None:
    """A number between the two; JSON does not tell 5.0 from 5, so both are `whole`."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or (whole and value % 1):
        raise wrong_type(param, "an integer" if whole else "a number", value)
    if not low <= value <= high:
        side, wanted = "below_min", f"at least {low:g}"
        if value > high:
            side, wanted = "above_max", f"at most {high:g}"
        if whole:
            raise bad_value(param, f"expected {wanted}", f"integer_{side}_value")
        wanted = f"expected a number from {low:g} to {high:g}"
        raise bad_value(param, wanted, f"decimal_{side}_value")


def _stop(param: str, value: Any) -> None:
    if not isinstance(value, list):
        expect(param, value, str, "a string or an array of strings")
        return
    for i, one in enumerate(value):
        expect(f"{param}[{i}]", one, str)


def _logit_bias(param: str, value: Any) -> None:
    for key, bias in expect(param, value, dict).items():
        _number(f"{param}.{key[:20]}", bias, low=-100, high=100)


def _modalities(param: str, value: Any) -> None:
    if "audio" in expect(param, value, list):
        raise bad_value(param, "audio output is not supported", "unsupported_value")


def _no_audio(param: str, _value: Any) -> None:
    text = "Unsupported parameter: 'audio' output is not available."
    raise InvalidRequest(text, param=param, code="unsupported_parameter")


_integer = partial(_number, whole=True)
_boolean, _string, _object = (partial(expect, kind=kind) for kind in (bool, str, dict))
CHECKS: dict[str, Check] = {
    "model": _string,
    "stream": _boolean,
    "stream_options": _object,
    "temperature": partial(_number, low=0, high=2),
    "top_p": partial(_number, low=0, high=1),
    "frequency_penalty": partial(_number, low=-2, high=2),
    "presence_penalty": partial(_number, low=-2, high=2),
    "max_tokens": partial(_integer, low=1),
    "max_completion_tokens": partial(_integer, low=1),
    "n": partial(_integer, low=1, high=128),
    "stop": _stop,
    "seed": partial(_integer, low=-(2**63), high=2**63 - 1),
    "logit_bias": _logit_bias,
    "logprobs": _boolean,
    "top_logprobs": partial(_integer, low=0, high=20),
    "modalities": _modalities,
    "audio": _no_audio,
    "reasoning_effort": partial(one_of, allowed=EFFORTS),
    "verbosity": partial(one_of, allowed=("low", "medium", "high")),
    "web_search_options": _object,
    "service_tier": partial(one_of, allowed=TIERS),
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
    """The body as an object, without what is null. Raises InvalidRequest."""
    try:
        body = _decoder.decode(raw.decode("utf-8-sig"))
    except RecursionError:
        raise InvalidRequest("The request body is nested too deeply.") from None
    except ValueError as wrong:
        where = f" (at character {wrong.pos})" if isinstance(wrong, json.JSONDecodeError) else ""
        raise InvalidRequest(
            "We could not parse the JSON body of your request: it must be a JSON object"
            f" in UTF-8{where}."
        ) from None
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    return {name: value for name, value in body.items() if value is not None}


_decoder = json.JSONDecoder(parse_constant=structured.finite, parse_float=structured.finite)


def parse_request(raw: bytes, max_choices: int = 128) -> ChatRequest:
    """Check a chat completion request. Raises InvalidRequest that names the field."""
    body = parse_json(raw)
    messages = body.get("messages")
    if messages is None:
        wrong = missing("messages")
        if "input" in body:
            wrong.message += " Use 'messages', not 'input': this is chat completions."
        raise wrong
    if not expect("messages", messages, list, "an array of objects"):
        wanted = "Invalid 'messages': empty array. Expected at least one message."
        raise InvalidRequest(wanted, param="messages", code="empty_array")
    return _to_request(body, [to_message(i, m) for i, m in enumerate(messages)], max_choices)


def parse_completion(raw: bytes, max_choices: int = 128) -> tuple[ChatRequest, list[list[Message]]]:
    """Check a legacy completion request: the request, and one conversation per prompt."""
    body = parse_json(raw)
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
    limit = body.get("max_completion_tokens", body.get("max_tokens", 0))
    named = ("messages[].name",) if any(m.name for m in messages) else ()
    ignored = (*(name for name in body if name not in EFFECTIVE), *named)
    return ChatRequest(
        model=model.removesuffix(":online"),
        asked=model,
        messages=messages,
        stream=body.get("stream", False),
        include_usage=body.get("stream_options", {}).get("include_usage") is True,
        n=int(body.get("n", 1)),
        max_tokens=int(limit) or None,
        stop=tuple(one for one in ([stop] if isinstance(stop, str) else stop) if one),
        thinks=body.get("reasoning_effort") not in ("none", "minimal"),
        online="web_search_options" in body or model.endswith(":online"),
        tools=toolcalls.parse_tools(body),
        format=structured.parse_format(body),
        options={k: body[k] for k in ("temperature", "top_p") if k in body},
        ignored=ignored,
    )
