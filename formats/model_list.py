"""A model as callers see it in `/v1/models`: OpenAI's four fields, and what UIs read besides.

Knows nothing of requests; what it says of a parameter is what this service does with it.
"""

from collections.abc import Collection
from typing import Any

from settings import Model

CREATED = 1_735_689_600  # of every model: OpenAI's field must be there and be stable
OURS = ("max_tokens", "max_completion_tokens", "stop", "tools", "tool_choice", "response_format",
        "structured_outputs", "reasoning_effort")  # fmt: skip
DRAWS = ("web_images", "key_images")  # the APIs that make pictures
PASSED_ON: dict[str, set[str]] = {
    "temperature": {"llm"},
    "top_p": {"llm"},
    "web_search_options": {"llm", "web", "web_images"},
    "quality": {"web_images"},
}


def to_listing(model: Model, apis: Collection[str]) -> dict[str, Any]:
    """One entry of the list; what is not known is left out, since UIs stumble over null.

    `apis` are those that a call may go to. The names are OpenRouter's, which most UIs read.
    """
    known = bool(apis)
    passed_on = [name for name, takers in PASSED_ON.items() if known and takers.issuperset(apis)]
    listing: dict[str, Any] = {"id": model.id, "object": "model", "created": CREATED}
    listing |= {"owned_by": "flowith", "name": model.name or model.id}
    facts = {
        "description": model.description,
        "context_length": model.context,
        "max_completion_tokens": model.output,
    }
    listing |= {name: fact for name, fact in facts.items() if fact}
    inputs = ["text", "image"] if model.images else ["text"]
    if model.kind == "image":
        listing["architecture"] = {"input_modalities": inputs, "output_modalities": ["image"]}
        nothing_else = {"tools": False, "function_calling": False, "json_mode": False}
        listing["capabilities"] = {"vision": model.images, **nothing_else}
        return listing
    listing["architecture"] = {"input_modalities": inputs, "output_modalities": ["text"]}
    listing["supported_parameters"] = [*OURS, *passed_on]
    tools = {"tools": True, "function_calling": True}
    listing["capabilities"] = {"vision": model.images, **tools, "json_mode": True}
    return listing
