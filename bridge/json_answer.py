"""JSON answers: asked for, found in a model's words, mended and held against their schema.

Knows nothing of HTTP or of Flowith.
"""

import re
from collections.abc import Iterator
from contextlib import suppress

from chat_request import AnswerFormat
from errors import Unmet
from events import Done, Event, Text, ToolCall
from jsontools.schema import fault
from jsontools.text import JsonScan, compact, read_json, repair

_PROSE_CHARS = 16_000


def instructions(fmt: AnswerFormat) -> str:
    """The system text that asks for the JSON."""
    thing = "JSON object" if fmt.kind == "json_object" else "JSON value"
    text = (
        f"Your answer must be exactly one valid {thing} and nothing else: no words before or "
        "after it, no Markdown fence, no comments."
    )
    if fmt.schema is None:
        return text
    about = f" for '{fmt.name}'" + (f" ({fmt.description})" if fmt.description else "")
    exact = " exactly, with every required key and no key it does not name" if fmt.strict else ""
    return f"{text} It must fit this JSON Schema{about}{exact}:\n{compact(fmt.schema)}"


def only_json(
    events: Iterator[Event], fmt: AnswerFormat, *, last_try: bool, hold: bool = False
) -> Iterator[Event]:
    """Let nothing but the one JSON value through; raises `Unmet` when it fails the format.

    It flows while it comes, unless `hold` or strict: then it is kept until it is whole, so that
    it can be repaired and nothing wrong is ever sent. What a limit cut off goes out unchecked.
    Endless prose before it is not waited for when the model can still be asked again.
    """
    hold = hold or fmt.strict
    value, said, prose, called = _Value(fmt), list[str](), 0, False
    for event in events:
        match event:
            case Text(text):
                said.append(text)
                if (part := value.take(text)) and not hold:
                    yield Text(part)
                prose += len(text)
                if prose > _PROSE_CHARS and not (value.parts or called or last_try):
                    raise Unmet("The answer is prose instead of JSON.", said="".join(said))
            case Done(reason):
                whole = reason in ("stop", "tool_calls")
                text = "".join(value.parts)
                if hold:
                    text = value.best("".join(said), mend=whole)
                if whole and (text or not called):
                    _check(text, "".join(said), fmt)
                if hold and text:
                    yield Text(text)
                yield event
            case _:
                called = called or isinstance(event, ToolCall)
                yield event


class _Value:
    """Cuts the JSON value out of an answer."""

    def __init__(self, fmt: AnswerFormat) -> None:
        kind = "object" if fmt.kind == "json_object" else str((fmt.schema or {}).get("type"))
        self.start = re.compile({"object": r"\{", "array": r"\["}.get(kind, r"[{\[]"))
        self.scan = JsonScan()
        self.parts: list[str] = []
        self.whole = False

    def take(self, text: str) -> str:
        """The part of the next piece that belongs to the first value."""
        if not self.parts:
            found = self.start.search(text)
            text = text[found.start() :] if found else ""
        if self.whole or not text:
            return ""
        end = self.scan.end(text)
        self.whole = end >= 0
        self.parts.append(text[:end] if self.whole else text)
        return self.parts[-1]

    def best(self, said: str, *, mend: bool) -> str:
        """The first value that parses, for prose has braces too; else the longest, mended."""
        at, longest = 0, ""
        for _ in range(20):
            if not (found := self.start.search(said, at)):
                break
            text = said[found.start() :]
            if (end := JsonScan().end(text)) >= 0:
                text = text[:end]
            with suppress(ValueError):
                read_json(text)
                return text
            longest = max(longest, text, key=len)
            at = found.start() + len(text)
        if mend and longest:
            with suppress(ValueError):
                return compact(repair(longest))
        return longest


def _check(text: str, said: str, fmt: AnswerFormat) -> None:
    """Raise `Unmet` where `text` does not fit the format."""
    if not text:
        raise Unmet("The answer has no JSON in it.", said=said)
    try:
        value = read_json(text)
    except ValueError:
        raise Unmet("The answer is not valid JSON.", said=said) from None
    if not isinstance(value, dict if fmt.kind == "json_object" else dict | list):
        raise Unmet("The answer is not a JSON object.", said=said)
    if fmt.schema is not None and (wrong := fault(value, fmt.schema)):
        raise Unmet(f"The answer breaks the schema '{fmt.name}': {wrong}.", said=said)
