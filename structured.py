"""Structured output: asks for JSON, finds it in a model's words and holds it against its schema.

Knows nothing of HTTP or of Flowith. Its tools for reading JSON and checking schemas also serve
the tool calls.
"""

import functools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import thread_time
from typing import Any, Literal

from errors import Unmet, bad_value, expect, missing, require
from events import Done, Event, Text, ToolCall

_REPAIR_CHARS = 256 * 1024
_CPU_SECONDS = 1.0
_PROSE_CHARS = 16_000
_SURROGATES = re.compile("[\ud800-\udfff]")
_MARKS = re.compile(r'["{}\[\]<]')
_MARKS_IN_STRING = re.compile(r'\\.?|"', re.DOTALL)
_OF_NAMES = ("properties", "$defs", "definitions", "dependentSchemas")


@dataclass(frozen=True, slots=True)
class Format:
    """What `response_format` demands; `schema` None means any JSON of its kind."""

    kind: Literal["json_object", "json_schema"]
    name: str = ""
    description: str = ""
    schema: dict[str, Any] | None = None
    strict: bool = False


def parse_format(body: dict[str, Any]) -> Format | None:
    """Read `response_format`; None where any text will do. Raises InvalidRequest."""
    wanted = body.get("response_format")
    if wanted is None:
        return None
    match expect("response_format", wanted, dict).get("type"):
        case "text":
            return None
        case "json_object":
            return Format("json_object")
        case "json_schema":
            return _parse_json_schema(wanted.get("json_schema"), "response_format.json_schema")
        case None:
            raise missing("response_format.type")
        case _:
            supported = "supported values are 'json_object', 'json_schema' and 'text'"
            raise bad_value("response_format.type", supported)


def _parse_json_schema(wanted: Any, param: str) -> Format:
    wanted = expect(param, {} if wanted is None else wanted, dict)
    name = parse_name(f"{param}.name", wanted.get("name"))
    schema, strict = wanted.get("schema"), wanted.get("strict")
    if strict is not None:
        expect(f"{param}.strict", strict, bool)
    if schema is not None:
        check_schema(schema, f"{param}.schema", f"response_format '{name}'")
    description = wanted.get("description")
    return Format("json_schema", name, str(description or ""), schema, bool(strict))


def parse_name(param: str, value: Any) -> str:
    """The name of a schema or of a tool. Raises InvalidRequest."""
    name = require(param, value, str)
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", name):
        raise bad_value(param, "expected 1 to 64 characters out of a-z, A-Z, 0-9, _ and -")
    return name


def instructions(fmt: Format) -> str:
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
    events: Iterator[Event], fmt: Format, *, last_try: bool, hold: bool = False
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


class JsonScan:
    """Finds the end of a JSON value in text that comes in pieces, without parsing it."""

    def __init__(self) -> None:
        self.depth = 0
        self.quoted = False
        self.escaped = False

    def end(self, text: str) -> int:
        """Where in `text` the value ends, -1 when it goes on.

        A `<` outside strings is no JSON: there a tag closes a value that lacks its brackets.
        """
        at = 1 if self.escaped and text else 0
        self.escaped = self.escaped and not text
        while mark := (_MARKS_IN_STRING if self.quoted else _MARKS).search(text, at):
            at, found = mark.end(), mark[0]
            if found == '"':
                self.quoted = not self.quoted
            elif found[0] == "\\":
                self.escaped = len(found) == 1
            elif found == "<":
                return mark.start()
            else:
                self.depth += 1 if found in "{[" else -1
                if self.depth == 0:
                    return at
        return -1


class _Value:
    """Cuts the JSON value out of an answer."""

    def __init__(self, fmt: Format) -> None:
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


def _check(text: str, said: str, fmt: Format) -> None:
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


def read_json(text: str, *, strict: bool = True) -> Any:
    """Like `json.loads`, but NaN is no JSON and every failure is a `ValueError`."""
    try:
        return json.loads(text, strict=strict, parse_constant=finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def finite(digits: str) -> float:
    """A number of JSON; ValueError for NaN, Infinity and 1e999, which Python alone reads."""
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is not JSON")
    return number


def clean(text: str) -> str:
    """Text that can be encoded: lone surrogates, which JSON may smuggle in, become U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


def compact(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return clean(text)


def repair(text: str) -> Any:
    """What broken JSON probably meant; raises `ValueError` when that is hopeless."""
    import json_repair

    if len(text) > _REPAIR_CHARS:
        raise ValueError("too large to be repaired")
    return _limited(lambda: json_repair.loads(text, skip_json_loads=True))


def _limited(work: Callable[[], Any]) -> Any:
    """Run `work` on a budget of CPU time, for one answer must not stall all others.

    Measured: 8 KB of brackets and quotes keep json_repair busy for 38 s, and a schema of 2 KB
    whose references double at each step never ends. Neither library has a limit of its own.
    """
    deadline, before, calls = thread_time() + _CPU_SECONDS, sys.getprofile(), 0

    def watch(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls % 256 == 0 and thread_time() > deadline:
            raise TimeoutError

    sys.setprofile(watch)
    try:
        return work()
    except (RecursionError, TimeoutError):
        raise ValueError("nested too deeply or too large") from None
    finally:
        sys.setprofile(before)


def check_schema(schema: Any, param: str, owner: str) -> None:
    """Refuse what is no JSON Schema, or one that points outside itself."""
    try:
        wrong = _schema_fault(compact(expect(param, schema, dict)))
    except ValueError as exc:
        wrong = str(exc)
    if wrong:
        raise bad_value(param, f"the schema of {owner} is not usable: {wrong}")


@functools.lru_cache(maxsize=128)
def _schema_fault(schema_text: str) -> str:
    """Cached because it takes some 3 ms per KB and agents send the same schemas each turn."""
    from jsonschema import Draft202012Validator, FormatChecker, SchemaError

    schema, no_formats = read_json(schema_text), FormatChecker(())
    try:
        _limited(lambda: _tame(schema))
        # No formats are checked: it would compile each `pattern`, and those are JavaScript's.
        _limited(lambda: Draft202012Validator.check_schema(schema, format_checker=no_formats))
    except SchemaError as exc:
        return f"{exc.json_path}: {exc.message[:200]}"
    except (ValueError, LookupError) as exc:
        return str(exc)
    return ""


def fault(value: Any, schema: dict[str, Any]) -> str | None:
    """The first rule that `value` breaks, in the schema's words and never the value's own.

    A schema that makes no sense is no fault of the model: then everything fits.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import UnknownType
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    def first_error() -> Any:
        # An empty registry, because the default one fetches whatever URL a $ref names.
        validator = Draft202012Validator(_tame(schema), registry=Registry())
        return next(validator.iter_errors(value), None)

    try:
        error = _limited(first_error)
    except ValueError as exc:
        return str(exc)
    except (UnknownType, Unresolvable, TypeError, AttributeError, LookupError, ArithmeticError):
        return None
    if error is None:
        return None
    path = "/".join(map(str, error.absolute_schema_path))
    return f"{path} is {compact(error.validator_value)[:200]}"


def _tame(schema: Any, *, names: bool = False) -> Any:
    """The schema without regexes, of which a hostile one hangs the process inside C code.

    The keys of `properties` and the like are names, not rules. Raises LookupError for a
    reference that leads outside.
    """
    if isinstance(schema, list):
        return [_tame(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if names:
        return {name: _tame(rule) for name, rule in schema.items()}
    dropped = {"pattern", "patternProperties", "unevaluatedProperties"}
    if "patternProperties" in schema:
        dropped.add("additionalProperties")
    if any(not str(schema.get(key, "#")).startswith("#") for key in ("$ref", "$dynamicRef")):
        raise LookupError("a $ref must begin with '#'")
    return {
        key: rule if key in ("const", "enum") else _tame(rule, names=key in _OF_NAMES)
        for key, rule in schema.items()
        if key not in dropped
    }
