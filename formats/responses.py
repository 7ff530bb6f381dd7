"""OpenAI's Responses API: the request checked, and what its answer needs of it.

Ranges, codes and names are those of OpenAI's API reference; null means absent, unknown fields are
never an error. Nothing is stored, so what needs a store is refused with what to send instead.
"""

import random
import time
from functools import partial
from typing import Any

from chat_request import ChatRequest, Message
from errors import InvalidRequest
from formats.fields import (
    EFFORTS,
    STREAMING,
    Check,
    an_object,
    boolean,
    check_fields,
    expect,
    integer,
    missing,
    number,
    one_of,
    parse_json,
    parse_model,
    sampling,
    string,
    unsupported,
)
from formats.model_names import ONLINE
from formats.response_format import parse_format
from formats.responses_answer import Envelope, error, stream, whole
from formats.responses_items import asks_for_summary, parse_input, to_messages, tools_of
from formats.responses_tools import parse_offer, parse_use, to_flat, to_shown_choice
from settings import Settings

__all__ = [
    "ID_HEADERS", "NAME", "error", "parse", "stream", "to_envelope", "to_request", "whole",
]  # fmt: skip

NAME = "responses"
ID_HEADERS = ("X-Request-ID",)
SEND_ALL = "Nothing is stored here: send the whole conversation as 'input'."
SUMMARIES = ("auto", "concise", "detailed")
STORED = ("conversation", "prompt", "background")


def _nothing_stored(param: str, value: Any) -> None:
    """Refuse what only a service that keeps responses could do. Raises InvalidRequest."""
    if value is not False:
        raise unsupported(param, SEND_ALL)


def _no_previous(param: str, _value: Any) -> None:
    text = f"The previous response is not known. {SEND_ALL}"
    raise InvalidRequest(text, param=param, code="previous_response_not_found")


def _strings(param: str, value: Any) -> None:
    for i, one in enumerate(expect(param, value, list)):
        expect(f"{param}[{i}]", one, str)


def _metadata(param: str, value: Any) -> None:
    for key, one in expect(param, value, dict).items():
        if one is not None:
            expect(f"{param}.{key[:64]}", one, str)


CHECKS: dict[str, Check] = {
    "previous_response_id": _no_previous,
    **dict.fromkeys(STORED, _nothing_stored),
    "instructions": string,
    **STREAMING,
    "max_output_tokens": partial(integer, low=1),
    "temperature": partial(number, low=0, high=2),
    "top_p": partial(number, low=0, high=1),
    "parallel_tool_calls": boolean,
    "text": an_object,
    "text.verbosity": partial(one_of, allowed=("low", "medium", "high")),
    "reasoning": an_object,
    "reasoning.effort": partial(one_of, allowed=EFFORTS),
    "include": _strings,
    "store": boolean,
    "metadata": _metadata,
}
EFFECTIVE = {
    "model", "input", "instructions", "stream", "stream_options", "max_output_tokens",
    "temperature", "top_p", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning",
    "include", "metadata", "background",
}  # fmt: skip
# What is asked of the model in place of an answer where a conversation has to be made short.
ASK_FOR_SUMMARY = (
    "Stop working here. Write a summary of this conversation for whoever carries it on and sees"
    " nothing else of it: what the user wants, in their own words where these matter; what was"
    " done and found, with names of files, commands and values; what failed; what is to be done"
    " next. Write the summary alone."
)


def parse(raw: bytes, settings: Settings) -> ChatRequest:
    """Check a request for a response. Raises InvalidRequest that names the field."""
    return to_request(parse_json(raw), compact=False)


def to_request(body: dict[str, Any], *, compact: bool) -> ChatRequest:
    """The checked request; `compact` asks for a summary whatever the input ends in. Raises
    InvalidRequest."""
    check_fields(body, CHECKS)
    if "input" not in body:
        used = "messages" in body
        hint = "Use 'input', not 'messages': this is the Responses API." if used else ""
        raise missing("input", hint)
    model = parse_model(body)
    items = parse_input(body["input"])
    offer = parse_offer([("tools", body.get("tools", [])), *tools_of(items)])
    use = parse_use(offer, body.get("tool_choice"), body.get("parallel_tool_calls", True))
    wanted = body.get("text", {}).get("format")
    answer_format = parse_format("text.format", wanted, offer.budget, flat=True)
    messages, dropped = to_messages(body.get("instructions", ""), items, offer)
    compact = compact or asks_for_summary(items)
    if compact:
        messages.append(Message("user", ASK_FOR_SUMMARY))
        use, answer_format = None, None
    effort = body.get("reasoning", {}).get("effort")
    return ChatRequest(
        model=model,
        conversations=(messages,),
        words_in="input",
        stream=body.get("stream", False),
        include_usage=True,
        max_tokens=int(body.get("max_output_tokens", 0)) or None,
        thinks=effort not in ("none", "minimal") and not compact,
        online=offer.online or model.endswith(ONLINE),
        tools=use,
        format=answer_format,
        budget=offer.budget,
        options=sampling(body),
        ignored=(*_ignored(body), *offer.ignored, *dropped),
        echo={
            "echo": _echo(body),
            "names": offer.names,
            "compact": compact,
            "encrypted": "reasoning.encrypted_content" in body.get("include", []),
        },
    )


def _ignored(body: dict[str, Any]) -> list[str]:
    """The fields that have no effect; `store: false` is how it is anyway."""
    names = [name for name in body if name not in EFFECTIVE]
    if body.get("store") is False:
        names.remove("store")
    return names


def _echo(body: dict[str, Any]) -> dict[str, Any]:
    """What a response says again of its request, with OpenAI's defaults. What has no effect is not
    checked, so it is said again only where it is of OpenAI's type."""
    reasoning, text = body.get("reasoning", {}), body.get("text", {})
    summary, limit = reasoning.get("summary"), body.get("max_output_tokens")
    named = {name: body.get(name) for name in ("prompt_cache_key", "safety_identifier", "user")}
    named = {name: one if isinstance(one, str) else None for name, one in named.items()}
    return {
        "background": False,
        "instructions": body.get("instructions"),
        "max_output_tokens": None if limit is None else int(limit),
        "max_tool_calls": None,
        "metadata": {k: v for k, v in body.get("metadata", {}).items() if v is not None},
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {
            "effort": reasoning.get("effort"),
            "summary": summary if summary in SUMMARIES else None,
        },
        "service_tier": "default",
        "store": False,
        "temperature": body.get("temperature", 1.0),
        "text": {
            "format": text.get("format") or {"type": "text"},
            "verbosity": text.get("verbosity") or "medium",
        },
        "tool_choice": to_shown_choice(body.get("tool_choice", "auto")),
        "tools": [_to_shown(tool) for tool in body.get("tools", [])],
        "top_logprobs": 0,
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        **named,
    }


def _to_shown(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as it was offered; a function in its flat form, with the fields that it must have."""
    kind = tool.get("type") or "function"
    flat = to_flat(kind, tool)
    return {"parameters": None, "strict": None, **flat} if kind == "function" else flat


def to_envelope(chat: ChatRequest, settings: Settings, request_id: str) -> Envelope:
    return Envelope(
        request_id=request_id,
        id=f"resp_{random.getrandbits(192):048x}",
        created=int(time.time()),
        model=chat.model,
        **chat.echo,
    )
