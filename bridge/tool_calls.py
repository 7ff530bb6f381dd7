"""Finds tool calls in a model's text while it streams, and passes the rest on.

Reads the form that `tool_prompt.instructions` asks for and those that models write out of habit:
XML parameters, `<invoke>`, fenced or bare JSON, OpenAI's own `tool_calls`. Knows nothing of HTTP.
"""

import re
import secrets
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from chat_request import Tool, ToolUse
from errors import Unmet
from events import Done, Event, Silence, Text, ToolCall, Usage, Working
from jsontools.schema import fault
from jsontools.text import JsonScan, clean, compact, read_json, repair

# No real answer comes near these; without them a hostile one takes quadratic time.
_HELD_CHARS = 1024 * 1024
_MOST_SPACES = 1000
_MOST_CALLS = 128
_MOST_MISSES = 32
_MOST_REPAIRS = 4

NS = r"(?:[\w-]{1,24}:)?"  # a namespace, which some models put before their tags
_XML_ARGUMENTS = re.compile(rf"(?i)<({NS}(?:arguments|parameters|input|args))>")
_VALUE = r"\s*=\s*[\"']?([^\"'<>\s]{1,200})[\"']?[^<>]{0,200}"
_PARAMETER = re.compile(rf"(?i)<{NS}(?:parameter|param|arg)(?:\s+name)?{_VALUE}>")
_PARAMETER_END = re.compile(rf"(?i)</{NS}(?:parameter|param|arg)\s?>")
_NAME_KEYS = ("name", "tool", "tool_name", "function", "recipient_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "input", "args")
_CALL_KEYS = {*_NAME_KEYS, *_ARGUMENT_KEYS, "id", "type", "tool_calls", "tool_uses"}
_TAGS = r"tool_call|tool_use|function_call|invoke|function"
_TAG = rf"<{NS}(?P<tag>{_TAGS})(?P<attributes>[\s=][^<>]{{0,200}})?>"
_WRAPPER = rf"{NS}(?:tool|function)_calls\s?>"
# What may stand before the body of a call: a fence, a wrapper, the tag itself.
_STEP = re.compile(rf"(?i)(?:```[\w-]{{0,30}}|<{_WRAPPER}|{_TAG})\s{{0,100}}")
_PART = re.compile(rf"(?i)(?:`{{0,2}}|</?[\w:-]{{0,60}}|<{NS}(?:{_TAGS})[\s=][^<>]{{0,200}})\Z")
_TRIGGER = re.compile(rf"(?i)```|`{{1,2}}\Z|<{NS}(?:tool_|function|invoke)|</?[\w:-]{{0,60}}\Z")
_PLAIN = re.compile(r"[^<`]*[^<`\s]")
_ATTRIBUTE = re.compile(r"(?i)(?:^=|\bname\s*=)\s*[\"']?([\w.-]+)")
_TAIL = re.compile(rf"(?i)(?:\s|[\]}},]|```(?=\W)|</{NS}(?:{_TAGS})\s?>|</{_WRAPPER})*")
_TAIL_CUT = re.compile(r"\s*(?:`{1,3}|</?[\w:-]*)?\s*")
_RESULT = re.compile(rf"(?i)<{NS}(?:tool_(?:result|response|output)|function_result)")
_KEY = re.compile(
    r"(?:\[\s{0,50})?\{\s{0,50}[\"']?(?:name|tool|tool_name|function|recipient_name|arguments|"
    r"parameters|input|tool_calls|tool_uses|id|type)[\"']?\s{0,50}:"
)
_KEY_PART = re.compile(r"(?:\[\s{0,50})?(?:\{\s{0,50}(?:[\"']?\w{0,20}[\"']?\s{0,50})?)?\Z")
_XML_NAME = re.compile(rf"(?i)<{NS}(?:(?:tool_?)?name|function|tool)>\s{{0,50}}([\w.-]+)\s*</")


class Found(NamedTuple):
    """A call as it was written."""

    name: str
    arguments: Any
    repaired: bool = False
    xml: bool = False


def calls_in(value: Any, name: str, *, loose: bool, repaired: bool) -> list[Found]:
    """The calls in JSON of any shape that models give them; `loose` where a tag vouches for it."""
    if isinstance(value, list):
        items = [item for item in value if isinstance(item, dict)]
        return [c for i in items for c in calls_in(i, name, loose=loose, repaired=repaired)]
    if not isinstance(value, dict):
        return []
    if repaired and not name and value.keys() - _CALL_KEYS:
        return []  # A string with raw quotes has been torn apart: the rest cannot be trusted.
    for key in ("tool_calls", "tool_uses", "function"):
        if isinstance(value.get(key), list | dict):
            return calls_in(value[key], name, loose=loose, repaired=repaired)
    given = [value[key] for key in _ARGUMENT_KEYS if key in value]
    if name and not (given and "name" in value):
        return [Found(name, value, repaired)]
    name = next((value[k] for k in _NAME_KEYS if isinstance(value.get(k), str)), "")
    if not given and loose:
        given = [{k: v for k, v in value.items() if k not in (*_NAME_KEYS, "id", "type")}]
    return [Found(name, given[0], repaired)] if name and given else []


def free_text(arguments: Any) -> str:
    if isinstance(arguments, dict) and len(arguments) == 1:
        arguments = next(iter(arguments.values()))
    return clean(arguments) if isinstance(arguments, str) else compact(arguments)


def from_xml(body: str, tool: Tool) -> Any:
    """Arguments out of tags, typed by the schema; JSON text where the tags hold JSON."""
    rules = (tool.parameters or {}).get("properties")
    rules = rules if isinstance(rules, dict) else {}
    values: dict[str, str] = {}
    _, *parts = _PARAMETER.split(body)
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        closed = list(_PARAMETER_END.finditer(text))
        value = text[: closed[-1].start()] if closed else text
        values[name] = value.removeprefix("\n").removesuffix("\n")
    if not values:
        if inner := _XML_ARGUMENTS.search(body):
            end = body.rfind(f"</{inner[1]}")
            body = body[inner.end() : end if end > 0 else None]
        if tool.custom or body.lstrip().startswith("{"):
            return body.strip()
        for key in rules:
            _, opened, rest = body.partition(f"<{key}>")
            if opened:
                values[key] = rest.partition(f"</{key}>")[0].strip()
    return values if tool.custom else {k: _typed(v, rules.get(k)) for k, v in values.items()}


def _typed(value: str, rule: Any) -> Any:
    """A value out of XML as its schema has it; text unless the schema knows better."""
    rules = [rule]
    if isinstance(rule, dict) and isinstance(rule.get("anyOf"), list):
        rules += rule["anyOf"]
    types = [one.get("type") for one in rules if isinstance(one, dict)]
    kinds = {k for t in types for k in (t if isinstance(t, list) else [t]) if isinstance(k, str)}
    text = value.strip()
    if "string" in kinds or (not kinds and text[:1] not in ("{", "[")):
        return value
    try:
        return read_json(text.lower() if "boolean" in kinds else text, strict=False)
    except ValueError:
        return value


def find_calls(events: Iterator[Event], use: ToolUse, *, last_try: bool) -> Iterator[Event]:
    """Turn calls in the text into `ToolCall`s while the rest flows on.

    Other events may overtake text that is held; text never overtakes text. Ends early, and the
    rest of the answer is lost, after the one call of a caller without parallel calls and where
    the model goes on to invent results. Raises `Unmet` when the answer does not do what is asked
    of it; its `said` is empty once text or a call was passed on.
    """
    if use.choice == "none" or not use.tools:
        yield from events
        return
    finder = _Finder(use, last_try)
    found: Iterator[Event]
    for event in events:
        match event:
            case Text(text):
                found = finder.feed(text)
            case ToolCall():
                found = finder.adopt(event)
            case Done(reason):
                found = finder.finish(reason)
            case _:
                quiet = isinstance(event, Silence | Working | Usage)
                finder.may_retry = finder.may_retry and quiet
                found = iter((event,))
        for one in found:
            yield one
            if isinstance(one, Done):
                return


class _Block:
    """What may be a call, from its first character on, while it comes in."""

    def __init__(self, tag: str, name: str, *, is_json: bool) -> None:
        self.opening, self.tag, self.name = "", tag, name
        self.scan = JsonScan() if is_json else None
        self.close = re.compile(rf"</{NS}{tag}\s?>" if tag else "```", re.I)
        self.parts: list[str] = []
        self.size = 0
        self.last = ""

    def take(self, piece: str) -> int:
        """Where in `piece` the call ends, -1 when it goes on."""
        self.size += len(piece)
        if self.scan:
            return self.scan.end(piece)
        window = self.last + piece
        self.last = window[-80:]
        found = self.close.search(window)
        return found.end() - len(window) + len(piece) if found else -1


class _Unusable(Exception):
    """A block that is no call. `named`: it is meant as one, of a tool that exists."""

    def __init__(self, message: str, *, named: bool = False) -> None:
        super().__init__(message)
        self.named = named


class _Finder:
    """The state of one answer: what is held, and what has gone out."""

    def __init__(self, use: ToolUse, last_try: bool) -> None:
        self.use = use
        self.tools = {t.name.lower(): t for t in use.tools} | {t.name: t for t in use.tools}
        self.may_retry = not last_try
        self.waiting = use.choice == "required"
        self.kept: list[str] = []
        self.kept_chars = 0
        self.said: list[str] | None = []
        self.held = ""
        self.fresh = True
        self.block: _Block | None = None
        self.made = self.misses = self.repairs = 0

    def feed(self, piece: str) -> Iterator[Event]:
        """Most of an answer passes at once: nothing is held, and no call can begin in it."""
        if self.said is not None:
            self.said.append(piece)
        busy = self.held or self.block or self.fresh or self.waiting
        if not busy and _PLAIN.fullmatch(piece):
            yield Text(piece)
        else:
            yield from self._read(piece)

    def _read(self, piece: str) -> Iterator[Event]:
        while piece:
            piece = yield from self._fill(self.block, piece) if self.block else self._scan(piece)

    def _scan(self, piece: str) -> Generator[Event, None, str]:
        """Pass text on up to where a call may begin; returns what is left for the call."""
        text, self.held = self.held + piece, ""
        if self.misses > _MOST_MISSES:
            yield from self._release(text)
            return ""
        if self.fresh and self.made:
            text = _TAIL.sub("", text, count=1)
        for spot in self._spots(text):
            if self.made and _RESULT.match(text, spot):
                yield from self._release(text[:spot].rstrip())
                yield Done("tool_calls")
                return ""
            body, self.block = _opening(text, spot)
            if body >= 0:
                start = len(text[:spot].rstrip())
                break
        else:
            start = len(text.rstrip())
            if len(text) - start >= _MOST_SPACES:
                start = len(text)
        yield from self._release(text[:start])
        if self.block:
            self.block.opening = text[start:body]
            return text[body:]
        self.held = text[start:]
        return ""

    def _spots(self, text: str) -> Iterator[int]:
        """Where calls may begin; bare JSON only at the start or after a call."""
        at = len(text) - len(text.lstrip()) if self.fresh else 0
        if self.fresh and text[at : at + 1] in ("{", "["):
            yield at
        for trigger in _TRIGGER.finditer(text, at):
            yield trigger.start()

    def _fill(self, block: _Block, piece: str) -> Generator[Event, None, str]:
        """Add to the open block; returns what stands behind its end."""
        end = block.take(piece)
        block.parts.append(piece if end < 0 else piece[:end])
        if end >= 0:
            self.block = None
            yield from self._settle(block, "".join(block.parts))
            return piece[end:]
        if block.size > _HELD_CHARS:
            self.block, self.misses = None, _MOST_MISSES
            wrong = _Unusable("The model wrote a tool call without end.")
            yield from self._miss(block, "".join(block.parts), wrong)
        return ""

    def _settle(self, block: _Block, body: str) -> Iterator[Event]:
        try:
            calls = self._calls(block, body)
        except _Unusable as wrong:
            yield from self._miss(block, body, wrong)
        else:
            yield from self._emit(calls)

    def adopt(self, call: ToolCall) -> Iterator[Event]:
        """A call that came natively, held to the same rules."""
        try:
            checked = self._to_call(Found(call.name, call.arguments))
        except _Unusable as wrong:
            raise self._unmet(str(wrong)) from None
        yield from self._emit([replace(checked, id=call.id or checked.id)])

    def _emit(self, calls: list[ToolCall]) -> Iterator[Event]:
        self.waiting = False
        yield from self._release("".join(self.kept))
        self.kept.clear()
        self.may_retry, self.said, self.fresh = False, None, True
        for call in calls:
            yield call
            self.made += 1
            if not self.use.parallel or self.made == _MOST_CALLS:
                yield Done("tool_calls")
                return

    def _miss(self, block: _Block, body: str, wrong: "_Unusable") -> Iterator[Event]:
        self.misses += 1
        if block.tag and (self.may_retry or wrong.named):
            raise self._unmet(str(wrong))
        yield from self._release(block.opening + body)

    def _release(self, text: str) -> Iterator[Event]:
        if not text:
            return
        self.fresh = self.fresh and text.isspace()
        if not self.waiting:
            self.may_retry, self.said = False, None
            yield Text(text)
            return
        self.kept.append(text)
        self.kept_chars += len(text)
        if self.kept_chars > _HELD_CHARS:
            raise self._unmet("The model wrote on and on without the call that is required.")

    def _unmet(self, message: str) -> Unmet:
        return Unmet(message, said="".join(self.said or []))

    def finish(self, reason: str) -> Iterator[Event]:
        whole = reason in ("stop", "tool_calls")
        while block := self.block:
            self.block, text = None, "".join(block.parts)
            end = block.close.search(text)
            if whole and end is None and (block.scan is None or block.scan.quoted):
                wrong = _Unusable("The answer ends in the middle of a tool call.", named=True)
                yield from self._miss(block, text, wrong)
            elif whole:
                at = end.start() if end else len(text)
                yield from self._settle(block, text[:at])
                yield from self._read(text[at:])
            elif not block.tag:
                yield from self._release(block.opening + text)
        if not (self.made and self.fresh and _TAIL_CUT.fullmatch(self.held)):
            yield from self._release(self.held)
        if self.waiting and whole:
            names = ", ".join(tool.name for tool in self.use.tools[:5])
            raise self._unmet(f"The answer must call a tool ({names}), but calls none.")
        self.waiting = False
        yield from self._release("".join(self.kept))
        yield Done("tool_calls" if self.made and reason == "stop" else reason)

    def _calls(self, block: _Block, body: str) -> list[ToolCall]:
        found: list[Found] = []
        with suppress(ValueError, RecursionError):
            if block.scan is None:
                found = [_xml_call(block, body)]
            elif block.tag or any(name in body for name in self.tools):
                value, repaired = self._json(body)
                found = calls_in(value, block.name, loose=bool(block.tag), repaired=repaired)
        if not found:
            raise _Unusable("The model wrote a tool call that cannot be read.")
        return [self._to_call(call) for call in found]

    def _json(self, text: str) -> tuple[Any, bool]:
        """The value of JSON text, and whether that took a repair."""
        try:
            return read_json(text, strict=False), False
        except ValueError:
            self.repairs += 1
            if self.repairs > _MOST_REPAIRS:
                raise
            return repair(text), True

    def _to_call(self, found: Found) -> ToolCall:
        name = found.name.removeprefix("functions.")
        tool = self.tools.get(name) or self.tools.get(name.lower())
        if tool is None:
            raise _Unusable("The model called a tool that is not offered.")
        try:
            text = self._arguments(found, tool)
        except ValueError:
            wrong = f"The arguments for {tool.name} are not a JSON object."
            raise _Unusable(wrong, named=True) from None
        return ToolCall(f"call_{secrets.token_hex(12)}", tool.name, text, tool.custom)

    def _arguments(self, found: Found, tool: Tool) -> str:
        value, repaired = found.arguments, found.repaired
        if found.xml:
            value = from_xml(value, tool)
        if tool.custom:
            return free_text(value)
        value = {} if value in (None, "") else value
        if isinstance(value, str):
            value, repaired = self._json(value)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        rules = tool.parameters or {}
        known = rules.get("properties")
        if repaired and isinstance(known, dict) and value.keys() - known:
            raise ValueError("torn apart by the repair")
        checked = tool.strict or (repaired and self.may_retry)
        if checked and (wrong := fault(value, rules)):
            raise self._unmet(f"The arguments for {tool.name} break its schema: {wrong}.")
        return compact(value)


def _opening(text: str, at: int) -> tuple[int, _Block | None]:
    """Whether a call begins here: where its body does (-1: no), and once it is sure, the block."""
    body, tag, name = at, "", ""
    for _ in range(4):
        if not (step := _STEP.match(text, body)):
            break
        tag, body = (step["tag"] or tag).lower(), step.end()
        if attribute := _ATTRIBUTE.search(step["attributes"] or ""):
            name = attribute[1]
    if _PART.match(text, body):
        return body, None
    if tag in ("invoke", "function") and not name:
        return -1, None
    if text[body] in "{[":
        if tag or _KEY.match(text, body):
            return body, _Block(tag, name, is_json=True)
        return (body if _KEY_PART.match(text, body) else -1), None
    if tag and (name or text[body] == "<"):
        return body, _Block(tag, name, is_json=False)
    return -1, None


def _xml_call(block: _Block, body: str) -> Found:
    end = block.close.search(body, max(0, len(body) - 80))
    body = body[: end.start()] if end else body
    written = None if block.name else _XML_NAME.search(body)
    name = written[1] if written else block.name
    if not name:
        raise ValueError("no name")
    return Found(name, body, xml=True)
