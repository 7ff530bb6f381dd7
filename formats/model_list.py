"""A model as callers see it in `/v1/models`: OpenAI's four fields, and what UIs read besides; or
as Anthropic's API lists it.

Knows nothing of requests; what it says of a parameter is what this service does with it.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
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
    passed_on = [name for name, takers in PASSED_ON.items() if apis and takers.issuperset(apis)]
    listing: dict[str, Any] = {"id": model.id, "object": "model", "created": CREATED}
    listing |= {"owned_by": "flowith", "name": model.name or model.id}
    listing |= _facts(model, "context_length", "max_completion_tokens")
    writes = model.kind != "image"
    inputs = ["text", "image"] if model.images else ["text"]
    outputs = ["text"] if writes else ["image"]
    listing["architecture"] = {"input_modalities": inputs, "output_modalities": outputs}
    if writes:
        listing["supported_parameters"] = [*OURS, *passed_on]
    bridged = dict.fromkeys(("tools", "function_calling", "json_mode"), writes)
    listing["capabilities"] = {"vision": model.images, **bridged}
    return listing


def to_anthropic_list(models: Sequence[Model]) -> dict[str, Any]:
    """All models on one page of Anthropic's list."""
    return {
        "data": [to_anthropic_listing(model) for model in models],
        "has_more": False,
        "first_id": models[0].id if models else None,
        "last_id": models[-1].id if models else None,
    }


def to_anthropic_listing(model: Model) -> dict[str, Any]:
    """One entry of Anthropic's list; `description` is what Claude Code shows besides."""
    created = datetime.fromtimestamp(CREATED, UTC).isoformat().replace("+00:00", "Z")
    listing = {"type": "model", "id": model.id, "display_name": model.name or model.id}
    listing |= {"created_at": created, "lifecycle": "active"}
    return listing | _facts(model, "max_input_tokens", "max_tokens")


def _facts(model: Model, context: str, output: str) -> dict[str, Any]:
    """What is known of a model, by the names that the API has for it."""
    facts = {"description": model.description, context: model.context, output: model.output}
    return {name: fact for name, fact in facts.items() if fact}
