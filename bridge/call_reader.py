"""From a call as it was written to one that can be passed on: name, arguments, schema.

Knows nothing of streams; mends little, and says in words for the model what cannot be used.
"""

import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from bridge.call_arguments import from_attributes, from_body, in_one_piece
from bridge.call_bodies import JsonBody, LineBody, NoBody, PythonBody, SecondBody
from bridge.call_candidates import Fenced, Unit, Written
from bridge.call_json import (
    Found,
    JsonReader,
    NoCall,
    calls_in,
    holds_placeholder,
    in_words,
    is_placeholder,
    is_schema,
)
from bridge.call_names import Names
from bridge.call_python import from_python, python_value
from bridge.call_tags import ARGUMENT_WORDS
from bridge.call_words import NAME_KEYS
from bridge.call_xml import XmlBody
from bridge.markdown import is_shown
from bridge.tool_schemas import lone_text, properties, required
from chat_request import Tool, ToolUse
from events import ToolCall
from jsontools.budget import Budget
from jsontools.fit import fit
from jsontools.schema import fault
from jsontools.text import clean, compact, read_json

UNKNOWN = "The model called a tool that is not offered."
MOST_CALLS = 128  # no real answer comes near it
OPENED = re.compile(r"(?:<[\w:|｜‖▁]{1,60}>\s*)+")
_WITH_COLON = re.compile(r"[\"']?\w{1,64}[\"']?\s{0,20}:")
_EMPTY = re.compile(r"\{\s{0,100}\}")
_NAME_IN_JSON = re.compile(rf"[\"'](?:{'|'.join(NAME_KEYS)})[\"']\s?:\s?[\"']([\w.:-]+)")
_NAME = re.compile(r"[\w.-]{1,128}\Z")


class Unusable(Exception):
    """A call that should not be passed on as it is; the message tells the model why.

    `instead` is what can be where the model cannot be asked again, `strict` that this breaks a
    promise.
    """

    def __init__(
        self, message: str, *, instead: ToolCall | None = None, strict: bool = False
    ) -> None:
        super().__init__(message)
        self.instead, self.strict = instead, strict


class Unknown(Exception):
    """A call in the taught form of a tool that is not offered."""

    def __init__(self, call: ToolCall) -> None:
        super().__init__(UNKNOWN)
        self.call = call


class Reader:
    """Reads the calls of one answer."""

    def __init__(self, use: ToolUse, budget: Budget) -> None:
        self.names = Names(use.tools)
        self._budget = budget
        self._json = JsonReader(budget)

    def read(self, bodies: Iterable[Written]) -> list[ToolCall]:
        """The calls in some bodies, as many as one answer may have. Raises NoCall, Unusable or
        Unknown."""
        found = (call for written in bodies for call in self._calls_in(written))
        return list(islice(found, MOST_CALLS))

    def _calls_in(self, written: Written) -> Iterator[ToolCall]:
        head = written.head
        try:
            found = self._found(written)
            if head.taught and not found:
                raise ValueError("no call in it")
        except (ValueError, RecursionError):
            meant = head.firm or "invoke" in head.closers
            if meant and not holds_placeholder(written.text):
                raise Unusable("The model wrote a tool call that cannot be read.") from None
            raise NoCall from None
        if not found:
            raise NoCall
        if head.taught and len(found) == 1 and not self.names.find(found[0].name):
            raise _unknown(found[0])
        for one in found:
            yield self.to_call(one)

    def is_meant(self, unit: Unit, *, whole: bool) -> bool:
        """Whether what broke off was to be a call of a tool on offer."""
        head = unit.head
        if head is None:
            return unit.line and bool(OPENED.match(unit.text))
        if isinstance(unit, Fenced) and is_shown(unit.before, ""):
            return False
        is_json = isinstance(head.body, JsonBody)
        if is_json and not head.tool:
            named = any(map(self.names.find, _NAME_IN_JSON.findall(unit.text)))
            return named or (head.vouched and not whole)
        return is_json or head.firm or (head.vouched and head.line)

    def _found(self, written: Written) -> list[Found]:
        head, text = written.head, written.text
        tool = head.tool
        name = tool.name if tool else ""
        match head.body:
            case SecondBody() if tool:
                return self._second(text, tool)
            case LineBody() if tool:
                return [Found(name, {lone_text(tool): _unquoted(text.strip())})]
            case JsonBody():
                value, repaired = self._json.read(in_one_piece(text) if head.cdata else text)
                calls = calls_in(value, name, self.names, loose=head.vouched, repaired=repaired)
                lost = any(not call.arguments for call in calls) and not _EMPTY.search(text)
                if repaired and (lost or not calls):
                    raise ValueError("nothing in it")
                return calls
            case PythonBody() if tool:
                return [Found(name, *self._python(text, tool))]
            case XmlBody() as body if tool:
                return [Found(name, from_body(body, text, tool, head.given))]
            case NoBody() if tool:
                arguments = from_attributes(head.given, tool)
                whole = arguments.keys() >= set(required(tool))
                return [Found(name, arguments)] if whole else []
        return []

    def _second(self, text: str, tool: Tool) -> list[Found]:
        """What follows an object that says a name alone: arguments, another call or nothing."""
        if not text.strip():
            return [Found(tool.name, None)]
        value, repaired = self._json.read(text)
        calls = calls_in(value, "", self.names, loose=True, repaired=repaired)
        if calls and self.names.find(calls[0].name):
            return [Found(tool.name, None), *calls]
        return [Found(tool.name, value, repaired)]

    def _python(self, text: str, tool: Tool) -> tuple[Any, bool]:
        with suppress(ValueError):
            return from_python(text, tool), False
        inner = text[1:-1].strip()
        if not inner.startswith("{"):  # `f({a: 1})`, as JavaScript has it, or `f(a: 1)`
            if not _WITH_COLON.match(inner):
                raise ValueError("no plain values")
            inner = f"{{{inner}}}"
        return self._json.read(inner)

    def to_call(self, found: Found) -> ToolCall:
        """Raises NoCall or Unusable."""
        tool = self.names.find(found.name)
        if tool is None:
            raise NoCall
        if _is_definition(found.arguments, tool) or is_placeholder(found.arguments):
            raise NoCall
        if tool.custom:
            return _call(tool, _free_text(found.arguments))
        try:
            value, repaired = self._object(found, tool)
            text = compact(value)
        except ValueError:
            wrong = f"The arguments for {tool.name} are not a JSON object."
            raise Unusable(wrong) from None
        return self._fitting(value, tool, text) if tool.strict or repaired else _call(tool, text)

    def _object(self, found: Found, tool: Tool) -> tuple[dict[str, Any], bool]:
        """The arguments, and whether they are a guess."""
        value, repaired = found.arguments, found.repaired
        if value in (None, "", []):
            value = {}
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, str):
            value, repaired = self._json.read(value)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        value = _unwrapped(value, tool, repaired=repaired)
        known = (tool.parameters or {}).get("properties")
        if repaired and isinstance(known, dict) and value.keys() - known:
            raise ValueError("torn apart by the repair")
        return value, repaired

    def _fitting(self, value: dict[str, Any], tool: Tool, text: str) -> ToolCall:
        """The call with arguments that fit their schema. Raises Unusable."""
        rules = tool.parameters or {}
        fitted = fit(value, rules, self._budget)
        if wrong := fault(fitted, rules, self._budget):
            message = f"The arguments for {tool.name} break its schema: {wrong}."
            raise Unusable(message, instead=_call(tool, text), strict=tool.strict)
        return _call(tool, compact(fitted))


def _call(tool: Tool, arguments: str) -> ToolCall:
    return ToolCall(f"call_{secrets.token_hex(12)}", tool.name, arguments, tool.custom)


def _unwrapped(values: dict[str, Any], tool: Tool, *, repaired: bool) -> dict[str, Any]:
    """The arguments themselves, where they came as one that the tool does not have. Of what is
    `repaired` only a key that means all arguments is believed."""
    if len(values) != 1:
        return values
    (name, inner), *_ = values.items()
    known = properties(tool)
    if name in known:
        return values
    if isinstance(inner, dict) and inner and inner.keys() <= known.keys() and not repaired:
        return inner
    if name not in ARGUMENT_WORDS:
        return values
    if isinstance(inner, str) and inner.lstrip().startswith("{"):
        inner = read_json(inner, strict=False)
    elif isinstance(inner, str) and not repaired:
        inner = in_words(inner, tool)
    return inner if isinstance(inner, dict) else values


def _unknown(found: Found) -> Exception:
    """What a call of a tool that is not offered comes to: it is none unless all of it is clear."""
    arguments = {} if found.arguments is None else found.arguments
    clear = isinstance(arguments, dict) and not found.repaired and _NAME.match(found.name)
    if not clear or is_placeholder(arguments):
        return NoCall()
    return Unknown(_call(Tool(found.name), compact(arguments)))


def _free_text(arguments: Any) -> str:
    """The text for a custom tool, which a model may have wrapped."""
    if isinstance(arguments, dict) and len(arguments) == 1:
        arguments = next(iter(arguments.values()))
    return clean(arguments) if isinstance(arguments, str) else compact(arguments)


def _unquoted(text: str) -> str:
    with suppress(ValueError):
        value = python_value(text)
        return value if isinstance(value, str) else text
    return text


def _is_definition(arguments: Any, tool: Tool) -> bool:
    """Whether this is the offer of a tool and no call: a schema where arguments should be."""
    return is_schema(arguments) and "properties" not in properties(tool)
