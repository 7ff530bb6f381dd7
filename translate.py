"""From a checked request to what goes up, and the filters that its answer needs.

Pure, and testable by `==`; a format makes its API's objects of the events. Knows nothing of HTTP
or of Flowith's wire.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

from bridge import json_answer, tool_calls, tool_prompt
from bridge.filters import (
    count_usage,
    cut_at_length,
    cut_at_stop,
    hide_reasoning,
    note_text,
    split_think,
    tag_reasoning,
)
from bridge.pictures import show_pictures, with_picture
from bridge.tokens import estimate_tokens
from chat_request import (
    IMAGE_TOKENS,
    ChatRequest,
    Drawing,
    Message,
    Prompt,
    images_of,
    text_of,
)
from errors import InvalidRequest
from events import Event, PromptSize
from settings import Model

MESSAGE_TOKENS = 4  # what a message costs beyond its text, by OpenAI's cookbook


def to_prompt(chat: ChatRequest, messages: list[Message], model: Model) -> Prompt:
    """What goes up for one choice. Raises InvalidRequest for images the model does not take, and
    for nothing that could be drawn."""
    if not model.images:
        for message in messages:
            if not isinstance(message.content, str):
                raise InvalidRequest(  # upon "could not process image" Claude Code goes on without
                    f"Invalid value for '{message.where}': could not process image, as the model"
                    f" {model.id!r} takes none.",
                    param=message.where,
                    code="unsupported_value",
                )
    if model.kind == "image":
        sent = _bridged(with_picture(messages))
        return Prompt(
            sent, online=chat.online, options=chat.options, drawing=chat.drawing or Drawing()
        )
    native = model.native_tools and chat.tools is not None
    sent = [_native(m) for m in messages] if native else _bridged(messages)
    words = "" if native or not chat.tools else tool_prompt.instructions(chat.tools, chat.format)
    if chat.format and not words:
        words = json_answer.instructions(chat.format, beside_tools=native)
    if words:
        sent = _instructed(sent, words)
    limit = {}
    if chat.max_tokens:  # more than the model can write is refused by some of those behind Flowith
        limit["max_tokens"] = min(chat.max_tokens, model.output or chat.max_tokens)
    tools = tool_prompt.native(chat.tools) if native and chat.tools else {}
    return Prompt(sent, chat.thinks, chat.online, chat.options | limit, tools)


def _bridged(messages: list[Message]) -> list[dict[str, Any]]:
    """Tool calls and their results as text; results in a row make one message."""
    sent: list[dict[str, Any]] = []
    results: list[str] = []
    asked: dict[str, deque[str]] = {}  # names of the calls in the last turn that has the id
    for message in messages:
        content = message.content
        if message.role == "tool":
            name = _name_of(message, asked)
            results.append(tool_prompt.result_to_text(message.call_id, name, text_of(content)))
            if images := images_of(content):
                _add_results(sent, results, images)
            continue
        _add_results(sent, results)
        if message.calls:
            asked |= {call.id: deque() for call in message.calls}
            for call in message.calls:
                asked[call.id].append(call.name)
            told = [tool_prompt.call_to_text(c) for c in message.calls]
            content = "\n".join([text_of(content), *told] if content else told)
        sent.append({"role": message.role, "content": content})
    _add_results(sent, results)
    return sent


def _name_of(result: Message, asked: dict[str, deque[str]]) -> str:
    """Which tool a result is of. Calls that share an id are answered in their order."""
    names = asked.get(result.call_id)
    if not names:
        return result.name
    return (names.popleft() if len(names) > 1 else names[0]) or result.name


def _add_results(
    sent: list[dict[str, Any]], results: list[str], images: Sequence[dict[str, Any]] = ()
) -> None:
    """Make one message of the results that wait, and of the images of the last of them."""
    if results:
        text = "\n".join(results)
        content = [{"type": "text", "text": text}, *images] if images else text
        sent.append({"role": "user", "content": content})
        results.clear()


def _native(message: Message) -> dict[str, Any]:
    """A message in OpenAI's own form, for the models that get tools natively."""
    if message.role == "tool":
        return {
            "role": "tool",
            "tool_call_id": message.call_id,
            "content": text_of(message.content),
        }
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        sent["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.calls
        ]
    return sent


def _instructed(sent: list[dict[str, Any]], words: str) -> list[dict[str, Any]]:
    """Add our instructions to the first system message, or put one in front."""
    if sent and sent[0]["role"] == "system" and isinstance(sent[0]["content"], str):
        first = {"role": "system", "content": f"{sent[0]['content']}\n\n{words}"}
        return [first, *sent[1:]]
    return [{"role": "system", "content": words}, *sent]


def count_prompt(prompt: Prompt) -> int:
    """Estimated tokens of what goes up."""
    images = sum(len(images_of(m["content"])) for m in prompt.messages)
    words = "\n".join(text_of(m["content"]) for m in prompt.messages)
    return estimate_tokens(words) + len(prompt.messages) * MESSAGE_TOKENS + images * IMAGE_TOKENS


def shape(
    events: Iterator[Event], chat: ChatRequest, prompt: Prompt, reasoning: str, last_try: bool
) -> Iterator[Event]:
    """Put the filters in that this request needs; plain text goes through the first and the last.

    `reasoning` is the setting of that name. Raises Unmet where the model did not obey.
    """
    if prompt.drawing:
        return show_pictures(_counted(events, chat, prompt))  # the link is ours, no model wrote it
    offered = chat.tools is not None and chat.tools.choice != "none"
    events = split_think(events, calls=offered)
    if chat.max_tokens:
        events = cut_at_length(events, chat.max_tokens)
    raw: list[str] | None = None
    if chat.tools or chat.format:
        raw = []
        events = note_text(events, raw)
    if chat.tools:
        events = tool_calls.find_calls(
            events, chat.tools, last_try=last_try, streamed=chat.stream, budget=chat.budget
        )
    if chat.format:
        events = json_answer.only_json(
            events, chat.format, last_try=last_try, hold=not chat.stream, budget=chat.budget
        )
    if chat.stop:
        events = cut_at_stop(events, chat.stop)
    events = _counted(events, chat, prompt, raw)
    if reasoning == "hide" or chat.hides_thoughts or not chat.thinks:
        return hide_reasoning(events)
    if reasoning == "think_tags" and not chat.thoughts_apart:
        return tag_reasoning(events)
    return events


def _counted(
    events: Iterator[Event], chat: ChatRequest, prompt: Prompt, raw: list[str] | None = None
) -> Iterator[Event]:
    """The events with their usage, as far as this request needs it."""
    size: Callable[[], int] = partial(count_prompt, prompt)
    if chat.early_usage:
        tokens = size()
        size = partial(int, tokens)
        events = chain((PromptSize(tokens),), events)
    elif chat.stream and not chat.include_usage:
        size = int  # nobody is told, and a long prompt takes milliseconds to count
    return count_usage(events, size, raw)
