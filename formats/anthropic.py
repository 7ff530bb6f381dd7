"""Anthropic's Messages: the request checked, and what its answer needs of it.

Fields and ranges are those of the Messages API reference. Its programs send fields that grow with
each release and have no way on without them, so what has no effect here is named, never refused.
"""

import random
from functools import partial
from typing import Any

from chat_request import AnswerFormat, ChatRequest, Message
from formats.anthropic_answer import Envelope, error, stream, whole
from formats.anthropic_messages import to_messages, to_system
from formats.anthropic_tools import parse_tools
from formats.fields import (
    Check,
    an_object,
    boolean,
    check_fields,
    check_schema,
    check_stops,
    expect,
    integer,
    number,
    one_of,
    parse_json,
    parse_model,
    require,
    sampling,
)
from formats.model_names import ONLINE
from jsontools.budget import Budget
from settings import Settings

__all__ = ["ID_HEADERS", "NAME", "error", "parse", "stream", "to_envelope", "whole"]

NAME = "anthropic"
ID_HEADERS = ("request-id", "X-Request-ID")
LEAST_BUDGET = 1024  # tokens
QUERY = "Perform a web search for the query: "  # what Claude Code writes before its query
QUERY_CHARS = 400


def _thinking(param: str, value: Any) -> None:
    kinds = ("enabled", "disabled", "adaptive", "between_tools")
    one_of(f"{param}.type", expect(param, value, dict).get("type"), kinds)


CHECKS: dict[str, Check] = {
    "stream": boolean,
    "max_tokens": partial(integer, low=0),
    "stop_sequences": partial(check_stops, wanted="an array of strings", place="stop_sequences.{}"),
    "temperature": partial(number, low=0, high=1),
    "top_p": partial(number, low=0, high=1),
    "top_k": partial(integer, low=0),
    "thinking": _thinking,
    "thinking.budget_tokens": partial(integer, low=LEAST_BUDGET),
    "thinking.display": partial(one_of, allowed=("summarized", "omitted")),
    "output_config": an_object,
    "output_config.effort": partial(one_of, allowed=("low", "medium", "high", "xhigh", "max")),
    "output_format": an_object,
}
EFFECTIVE = {
    "model", "messages", "system", "stream", "max_tokens", "stop_sequences", "temperature",
    "top_p", "thinking", "output_config", "output_format", "tools", "tool_choice",
}  # fmt: skip


def parse(raw: bytes, settings: Settings) -> ChatRequest:
    """Check a request for a message, or for the count of its tokens, which lacks `max_tokens`.
    Raises InvalidRequest that names the field."""
    body = parse_json(raw)
    check_fields(body, CHECKS)
    model = parse_model(body, settings.default_model)
    messages = to_messages(body.get("messages"))
    system = to_system(body.get("system", ""))
    budget = Budget()
    offer = parse_tools(body, budget)
    thinking = body.get("thinking", {"type": "disabled"})
    thinks = thinking["type"] != "disabled"
    streams = body.get("stream", False)
    limit = body.get("max_tokens")
    ignored = [name for name in body if name not in EFFECTIVE]
    if body.get("output_config", {}).get("effort") is not None:
        ignored.append("output_config.effort")
    return ChatRequest(
        model=model,
        conversations=([Message("system", system), *messages] if system else messages,),
        stream=streams,
        early_usage=streams,
        max_tokens=None if limit is None else max(1, int(limit)),
        stop=tuple(one for one in body.get("stop_sequences", ()) if one),
        thinks=thinks,
        hides_thoughts=thinking.get("display") == "omitted",
        thoughts_apart=True,
        online=offer.online or model.endswith(ONLINE),
        tools=offer.use,
        format=_parse_format(body, budget),
        budget=budget,
        options=sampling(body),
        ignored=(*ignored, *offer.ignored),
        echo={"query": _query(messages) if offer.searches else None},
    )


def _parse_format(body: dict[str, Any], budget: Budget) -> AnswerFormat | None:
    """The JSON that is wanted; `output_format` is the older name of `output_config.format`."""
    wanted, param = body.get("output_format"), "output_format"
    if (newer := body.get("output_config", {}).get("format")) is not None:
        wanted, param = newer, "output_config.format"
    if wanted is None:
        return None
    one_of(f"{param}.type", expect(param, wanted, dict).get("type"), ("json_schema",))
    schema = require(f"{param}.schema", wanted.get("schema"), dict)
    check_schema(schema, f"{param}.schema", "the format", budget)
    return AnswerFormat("json_schema", "answer", schema=schema, strict=True)


def _query(messages: list[Message]) -> str:
    """What is looked for, as far as the last words of the user tell."""
    said = [m.content for m in messages if m.role == "user" and isinstance(m.content, str)]
    return said[-1].removeprefix(QUERY)[:QUERY_CHARS] if said else ""


def to_envelope(request: ChatRequest, settings: Settings, request_id: str) -> Envelope:
    return Envelope(
        request_id=request_id,
        id=f"msg_{random.getrandbits(96):024x}",
        model=request.model,
        query=request.echo["query"],
    )
