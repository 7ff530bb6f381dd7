"""JSON answers: asked for, found in a model's words, mended and held against their schema.

Knows nothing of HTTP or of Flowith.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from json import JSONDecoder
from typing import Any

from chat_request import AnswerFormat
from errors import Unmet
from events import Done, Event, Text, ToolCall
from jsontools.budget import Budget
from jsontools.fit import fit
from jsontools.schema import fault
from jsontools.text import JsonScan, compact, ends_in_string, read_json, repair

_PROSE_CHARS = 16_000
_MOST_MARKS = 60_000  # of JSON that is broken; to find its end takes 0.4 us for each
_MOST_TRIES = 20  # values looked at in one answer: each is read to its end
# What can begin an object or an array of JSON, which `{name}` in prose cannot.
_OBJECT = r'\{\s{0,1000}["}]'
_ARRAY = r'\[\s{0,1000}(?:[\[\]{"\d-]|true|false|null)'
_DECODER = JSONDecoder()
_CUT = re.compile(r"[{\[]\s{0,1000}[a-z]{0,4}\Z")


def instructions(fmt: AnswerFormat, *, beside_tools: bool = False) -> str:
    """The system text that asks for the JSON; `beside_tools`, for an answer that calls none."""
    thing = "JSON object" if fmt.kind == "json_object" else "JSON value"
    which = "An answer that calls no tool" if beside_tools else "Your answer"
    text = (
        f"{which} must be exactly one valid {thing} and nothing else: no words before or "
        "after it, no Markdown fence, no comments."
    )
    if fmt.schema is None:
        return text
    about = f" for '{fmt.name}'" if fmt.name else ""
    about += f" ({fmt.description})" if fmt.description else ""
    exact = " exactly, with every required key and no key it does not name" if fmt.strict else ""
    return f"{text} It must fit this JSON Schema{about}{exact}:\n{compact(fmt.schema)}"


def only_json(
    events: Iterator[Event],
    fmt: AnswerFormat,
    *,
    last_try: bool,
    hold: bool = False,
    budget: Budget | None = None,
) -> Iterator[Event]:
    """Let nothing but the one JSON value through; raises `Unmet` when it fails the format.

    It flows while it comes, unless `hold` or strict: then it is kept until it is whole, so that
    it can be mended and nothing wrong is ever sent. What a limit cut off goes out unchecked.
    Endless prose before it is not waited for when the model can still be asked again. `budget` is
    the request's, for the schema.
    """
    hold = hold or fmt.strict
    value, said, prose, called = _Value(fmt, budget or Budget()), list[str](), 0, False
    for event in events:
        match event:
            case Text(text):
                said.append(text)
                if (part := value.take(text)) and not hold:
                    yield Text(part)
                prose += len(text)
                if prose > _PROSE_CHARS and not (value.parts or called or last_try):
                    raise Unmet("The answer is prose instead of JSON.", said="".join(said))
            case Done():
                whole = event.is_own
                text, late = "".join(value.parts), hold or not value.parts
                if late and (text or not called):  # beside a call, prose is only prose
                    text = value.best("".join(said), mend=whole)
                if whole and (text or not called):
                    value.check(text, "".join(said))
                if late and text:
                    yield Text(text)
                yield event
            case _:
                called = called or isinstance(event, ToolCall)
                yield event


def _is_dense(text: str) -> bool:
    return sum(map(text.count, '[]{}"\\')) > _MOST_MARKS


def _is_complete(text: str) -> bool:
    """Whether nothing was still to come. Behind a bracket at the end some quote is just not
    escaped."""
    return text.rstrip()[-1:] in "]}" or not ends_in_string(text)


def _end_of_value(text: str, at: int, *, dense: bool) -> int:
    """Where the value that begins at `at` ends; a broken one in `dense` text ends nowhere."""
    try:
        return _DECODER.raw_decode(text, at)[1]
    except (ValueError, RecursionError):
        end = -1 if dense else JsonScan().end(text, at)
    return end if end >= 0 else len(text)


class _Value:
    """Cuts the JSON value out of an answer."""

    def __init__(self, fmt: AnswerFormat, budget: Budget) -> None:
        self.fmt, self.budget = fmt, budget
        kind = "object" if fmt.kind == "json_object" else (fmt.schema or {}).get("type")
        starts = [_OBJECT] * (kind != "array") + [_ARRAY] * (kind != "object")
        self.start = re.compile("|".join(starts))
        self.loose = re.compile({"object": r"\{", "array": r"\["}.get(str(kind), r"[{\[]"))
        self.scan = JsonScan()
        self.held = ""
        self.parts: list[str] = []
        self.whole = False

    def take(self, text: str) -> str:
        """The part of the next piece that belongs to the first value."""
        if not self.parts:
            text = self.held + text
            found = self.start.search(text)
            if not found:
                cut = _CUT.search(text)
                self.held = cut[0] if cut else ""
                return ""
            text = text[found.start() :]
        if self.whole or not text:
            return ""
        end = self.scan.end(text)
        self.whole = end >= 0
        self.parts.append(text[:end] if self.whole else text)
        return self.parts[-1]

    def best(self, said: str, *, mend: bool) -> str:
        """The first value that fits the schema, or can be fitted; else the first that is JSON, for
        prose has braces too; else the longest, mended where it did not end within its words."""
        first = ""
        for text in self._candidates(said, self.start):
            with suppress(ValueError):
                read = read_json(text)
                fitted = self._fit(read)
                written = text if fitted is read else compact(fitted)
                if self._fault(fitted) is None:
                    return written
                first = first or written
        if first:
            return first
        longest = max(self._candidates(said, self.loose), key=len, default="")
        if mend and longest and not _is_dense(said) and _is_complete(longest):
            with suppress(ValueError):
                return compact(self._fit(repair(longest, self.budget)))
        return longest

    def _candidates(self, said: str, start: re.Pattern[str]) -> Iterator[str]:
        """What may be a value, each from where it begins to its end."""
        at, dense = 0, _is_dense(said)
        for _ in range(_MOST_TRIES):
            if not (found := start.search(said, at)):
                return
            at = _end_of_value(said, found.start(), dense=dense)
            yield said[found.start() : at]

    def _fit(self, value: Any) -> Any:
        schema = self.fmt.schema
        return value if schema is None else fit(value, schema, self.budget)

    def _fault(self, value: Any) -> str | None:
        schema = self.fmt.schema
        return None if schema is None else fault(value, schema, self.budget)

    def check(self, text: str, said: str) -> None:
        """Raise `Unmet` where `text` does not fit the format; `said` is the whole answer."""
        if not text:
            raise Unmet("The answer has no JSON in it.", said=said)
        try:
            value = read_json(text)
        except ValueError:
            raise Unmet("The answer is not valid JSON.", said=said) from None
        if not isinstance(value, dict if self.fmt.kind == "json_object" else dict | list):
            raise Unmet("The answer is not a JSON object.", said=said)
        if wrong := self._fault(value):
            name = f" '{self.fmt.name}'" if self.fmt.name else ""
            raise Unmet(f"The answer breaks the schema{name}: {wrong}.", said=said)
