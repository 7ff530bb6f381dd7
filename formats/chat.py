"""OpenAI chat completions: the request checked, and what its answer needs of it.

Ranges, codes and names are those of OpenAI's API reference; null means absent, unknown fields are
never an error.
"""

import random
import time
from dataclasses import replace
from functools import partial
from typing import Any

from chat_request import ChatRequest, Message
from errors import InvalidRequest
from formats.chat_answer import Envelope, error, stream, whole
from formats.content import to_messages, told_apart
from formats.fields import (
    EFFORTS,
    STREAMING,
    Check,
    an_object,
    bad_value,
    boolean,
    check_fields,
    check_stops,
    expect,
    integer,
    messages_in,
    missing,
    number,
    one_of,
    parse_json,
    parse_model,
    sampling,
)
from formats.model_names import ONLINE
from formats.response_format import parse_format
from formats.responses_items import parse_input
from formats.responses_items import to_messages as to_conversation
from formats.responses_tools import Offer
from formats.tools import parse_tools
from jsontools.budget import Budget
from settings import Settings

__all__ = [
    "ID_HEADERS", "NAME", "error", "parse", "stream", "to_envelope", "to_request", "whole",
]  # fmt: skip

NAME = "chat"
ID_HEADERS = ("X-Request-ID",)
# Where clients say whether a model shall think, beside OpenAI's `reasoning_effort`: the field, the
# field in it, and what means no. Qwen's, Ollama's, Anthropic's and Z.ai's, vLLM's twice,
# OpenRouter's twice.
Switches = tuple[tuple[str, str, tuple[Any, ...]], ...]
UNTHINKING: Switches = (
    ("reasoning_effort", "", ("none", "minimal")),
    ("enable_thinking", "", (False,)),
    ("think", "", (False,)),
    ("thinking", "", (False,)),
    ("thinking", "type", ("disabled",)),
    ("chat_template_kwargs", "enable_thinking", (False,)),
    ("chat_template_kwargs", "thinking", (False,)),
    ("reasoning", "effort", ("none", "minimal")),
    ("reasoning", "enabled", (False,)),
)
# And where they say that its thoughts shall not be told: OpenRouter's two.
HIDING: Switches = (
    ("include_reasoning", "", (False,)),
    ("reasoning", "exclude", (True,)),
)
TIERS = ("auto", "default", "flex", "scale", "priority", "fast")


def _stop(param: str, value: Any) -> None:
    stops = [value] if isinstance(value, str) else value
    check_stops(param, stops, wanted="a string or an array of strings", place="stop[{}]")


def _logit_bias(param: str, value: Any) -> None:
    for key, bias in expect(param, value, dict).items():
        number(f"{param}.{key[:20]}", bias, low=-100, high=100)


def _modalities(param: str, value: Any) -> None:
    if "audio" in expect(param, value, list):
        raise bad_value(param, "audio output is not supported", "unsupported_value")


def _function_call(param: str, value: Any) -> None:
    if not isinstance(value, dict):
        expect(param, value, str, "a string or an object")


def _no_audio(param: str, _value: Any) -> None:
    text = "Unsupported parameter: 'audio' output is not available."
    raise InvalidRequest(text, param=param, code="unsupported_parameter")


CHECKS: dict[str, Check] = {
    **STREAMING,
    "temperature": partial(number, low=0, high=2),
    "top_p": partial(number, low=0, high=1),
    "frequency_penalty": partial(number, low=-2, high=2),
    "presence_penalty": partial(number, low=-2, high=2),
    "max_tokens": partial(integer, low=1),
    "max_completion_tokens": partial(integer, low=1),
    "n": partial(integer, low=1, high=128),
    "stop": _stop,
    "seed": partial(integer, low=-(2**63), high=2**63 - 1),
    "logit_bias": _logit_bias,
    "logprobs": boolean,
    "top_logprobs": partial(integer, low=0, high=20),
    "modalities": _modalities,
    "audio": _no_audio,
    "function_call": _function_call,
    "reasoning_effort": partial(one_of, allowed=EFFORTS),
    "verbosity": partial(one_of, allowed=("low", "medium", "high")),
    "web_search_options": an_object,
    "service_tier": partial(one_of, allowed=TIERS),
    "store": boolean,
    "metadata": an_object,
    "prediction": an_object,
}
EFFECTIVE = {
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n",
    "stop", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call",
    "response_format", "reasoning_effort", "web_search_options", "modalities", "temperature",
    "top_p", *(field for field, _, _ in (*UNTHINKING, *HIDING)),
}  # fmt: skip


def parse(raw: bytes, settings: Settings) -> ChatRequest:
    """Check a chat completion request. Raises InvalidRequest that names the field."""
    body = parse_json(raw)
    messages = body.get("messages")
    if messages is None and "input" in body:
        return _from_items(body, settings)
    if messages is None:
        raise missing("messages")
    conversation = [
        message
        for i, given in enumerate(messages_in("messages", messages))
        for message in to_messages(f"messages[{i}]", given)
    ]
    if not conversation:
        raise bad_value("messages", "there is no content in them", "empty_array")
    return to_request(body, [told_apart(conversation)], settings)


def _from_items(body: dict[str, Any], settings: Settings) -> ChatRequest:
    """A request with the conversation that the Responses API would take: Cursor's agent sends it
    here, and wants chat's answer. Raises InvalidRequest."""
    told = expect("instructions", body.pop("instructions", ""), str)
    conversation, dropped = to_conversation(told, parse_input(body.pop("input")), Offer())
    request = to_request(body, [conversation], settings)
    return replace(request, words_in="input", ignored=(*request.ignored, *dropped))


def to_request(
    body: dict[str, Any], conversations: list[list[Message]], settings: Settings
) -> ChatRequest:
    """The checked request for `n` answers to each conversation. Raises InvalidRequest."""
    check_fields(body, CHECKS)
    model = parse_model(body, settings.default_model)
    n = int(body.get("n", 1))
    if n * len(conversations) > settings.max_choices:
        wanted = f"this service answers at most {settings.max_choices} choices per request"
        raise bad_value("n", wanted, "integer_above_max_value")
    stop = body.get("stop", ())
    limit = body.get("max_completion_tokens", body.get("max_tokens", 0))
    named = any(message.name for message in conversations[0] if message.role != "tool")
    budget = Budget()
    ignored = [name for name in body if name not in EFFECTIVE]
    return ChatRequest(
        model=model,
        conversations=tuple(one for one in conversations for _ in range(n)),
        stream=body.get("stream", False),
        include_usage=body.get("stream_options", {}).get("include_usage") is True,
        max_tokens=int(limit) or None,
        stop=tuple(one for one in ([stop] if isinstance(stop, str) else stop) if one),
        thinks=not _says(body, UNTHINKING),
        hides_thoughts=_says(body, HIDING),
        online="web_search_options" in body or model.endswith(ONLINE),
        tools=parse_tools(body, budget),
        format=parse_format("response_format", body.get("response_format"), budget),
        budget=budget,
        options=sampling(body),
        echo={"modalities": body.get("modalities", [])},
        ignored=(*ignored, "messages[].name") if named else tuple(ignored),
    )


def _says(body: dict[str, Any], switches: Switches) -> bool:
    """Whether one of the switches is set, whichever its client knows."""
    for field, inner, words in switches:
        given = body.get(field)
        if inner:
            given = given.get(inner) if isinstance(given, dict) else None
        if isinstance(given, bool | str) and given in words:
            return True
    return False


def to_envelope(chat: ChatRequest, settings: Settings, request_id: str) -> Envelope:
    return Envelope(
        request_id=request_id,
        id=f"chatcmpl-{random.getrandbits(112):028x}",
        created=int(time.time()),
        model=chat.model,
        choices=len(chat.conversations),
        usage=chat.include_usage,
        thoughts="reasoning" if settings.reasoning_format == "reasoning" else "reasoning_content",
        legacy=chat.tools is not None and chat.tools.legacy,
        pictures="image" in chat.echo["modalities"],
    )
