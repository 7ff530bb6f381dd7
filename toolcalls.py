"""The tool bridge: offers tools in the prompt and finds calls in the text that comes back.

Knows nothing of HTTP or of Flowith. Flowith's models have no tool channel, so calls are text in
a form that `instructions` asks for; `find_calls` reads that form and those which models write
out of habit: XML parameters, `<invoke>`, fenced or bare JSON, OpenAI's own `tool_calls`.
"""

import html
import re
import secrets
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from errors import Unmet
from events import Done, Event, Silence, Text, ToolCall, Usage, Working
from structured import (
    KINDS,
    NAME,
    NAME_RULE,
    JsonScan,
    bad_value,
    check_schema,
    clean,
    compact,
    fault,
    missing,
    read_json,
    repair,
    wrong_type,
)

Choice = Literal["auto", "none", "required"]

# No real answer comes near these; without them a hostile one takes quadratic time.
_HELD_CHARS = 1024 * 1024
_MOST_SPACES = 1000
_MOST_CALLS = 128
_MOST_MISSES = 32
_MOST_REPAIRS = 4

_NS = r"(?:[\w-]{1,24}:)?"
_TAGS = r"tool_call|tool_use|function_call|invoke|function"
_TAG = rf"<{_NS}(?P<tag>{_TAGS})(?P<attributes>[\s=][^<>]{{0,200}})?>"
_WRAPPER = rf"{_NS}(?:tool|function)_calls\s?>"
# What may stand before the body of a call: a fence, a wrapper, the tag itself.
_STEP = re.compile(rf"(?i)(?:```[\w-]{{0,30}}|<{_WRAPPER}|{_TAG})\s{{0,100}}")
_PART = re.compile(rf"(?i)(?:`{{0,2}}|</?[\w:-]{{0,60}}|<{_NS}(?:{_TAGS})[\s=][^<>]{{0,200}})\Z")
_TRIGGER = re.compile(rf"(?i)```|`{{1,2}}\Z|<{_NS}(?:tool_|function|invoke)|</?[\w:-]{{0,60}}\Z")
_PLAIN = re.compile(r"[^<`]*[^<`\s]")
_ATTRIBUTE = re.compile(r"(?i)(?:^=|\bname\s*=)\s*[\"']?([\w.-]+)")
_TAIL = re.compile(rf"(?i)(?:\s|[\]}},]|```(?=\W)|</{_NS}(?:{_TAGS})\s?>|</{_WRAPPER})*")
_TAIL_CUT = re.compile(r"\s*(?:`{1,3}|</?[\w:-]*)?\s*")
_RESULT = re.compile(rf"(?i)<{_NS}(?:tool_(?:result|response|output)|function_result)")
_KEY = re.compile(
    r"(?:\[\s{0,50})?\{\s{0,50}[\"']?(?:name|tool|tool_name|function|recipient_name|arguments|"
    r"parameters|input|tool_calls|tool_uses|id|type)[\"']?\s{0,50}:"
)
_KEY_PART = re.compile(r"(?:\[\s{0,50})?(?:\{\s{0,50}(?:[\"']?\w{0,20}[\"']?\s{0,50})?)?\Z")
_XML_NAME = re.compile(rf"(?i)<{_NS}(?:(?:tool_?)?name|function|tool)>\s{{0,50}}([\w.-]+)\s*</")
_XML_ARGUMENTS = re.compile(rf"(?i)<({_NS}(?:arguments|parameters|input|args))>")
_VALUE = r"\s*=\s*[\"']?([^\"'<>\s]{1,200})[\"']?[^<>]{0,200}"
_PARAMETER = re.compile(rf"(?i)<{_NS}(?:parameter|param|arg)(?:\s+name)?{_VALUE}>")
_PARAMETER_END = re.compile(rf"(?i)</{_NS}(?:parameter|param|arg)\s?>")
_FIELDS = {"name": str, "description": str, "parameters": dict, "strict": bool, "format": dict}
_NAME_KEYS = ("name", "tool", "tool_name", "function", "recipient_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "input", "args")
_CALL_KEYS = {*_NAME_KEYS, *_ARGUMENT_KEYS, "id", "type", "tool_calls", "tool_uses"}


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool on offer; a `custom` one takes free text instead of JSON arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool = False
    custom: bool = False
    format: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a request and what is asked of them.

    A named tool is `required` with that tool alone; `allowed_tools` leaves only those.
    """

    tools: tuple[Tool, ...]
    choice: Choice = "auto"
    parallel: bool = True
    legacy: bool = False


def parse_tools(body: dict[str, Any]) -> ToolUse | None:
    """Read `tools` or the deprecated `functions`; null and `[]` are as good as absent."""
    legacy = body.get("tools") in (None, []) and body.get("functions") not in (None, [])
    field, chooser = ("functions", "function_call") if legacy else ("tools", "tool_choice")
    offered, parallel = body.get(field), body.get("parallel_tool_calls")
    if not isinstance(offered, list | None):
        raise wrong_type(field, "an array of objects", offered)
    if not isinstance(parallel, bool | None):
        raise wrong_type("parallel_tool_calls", "a boolean", parallel)
    parse = _parse_definition if legacy else _parse_tool
    tools = tuple(parse(item, f"{field}[{i}]") for i, item in enumerate(offered or []))
    choice, chosen = _parse_choice(body.get(chooser), tools, chooser)
    if not tools:
        return None
    return ToolUse(chosen, choice, parallel is not False and not legacy, legacy)


def _parse_tool(item: Any, param: str) -> Tool:
    if not isinstance(item, dict):
        raise wrong_type(param, "an object", item)
    kind = item.get("type") or "function"
    if kind not in ("function", "custom"):
        wanted = f"'{str(kind)[:64]}' is not built in here, only 'function' and 'custom' work"
        raise bad_value(f"{param}.type", wanted)
    if item.get(kind) is None and "name" in item:
        return _parse_definition(item, param)
    if item.get(kind) is None:
        raise missing(f"{param}.{kind}")
    return _parse_definition(item[kind], f"{param}.{kind}", custom=kind == "custom")


def _parse_definition(spec: Any, param: str, *, custom: bool = False) -> Tool:
    if not isinstance(spec, dict):
        raise wrong_type(param, "an object", spec)
    custom = custom or spec.get("type") == "custom"
    name = spec.get("name")
    if name is None:
        raise missing(f"{param}.name")
    for key, kind in _FIELDS.items():
        if not isinstance(spec.get(key), kind | None):
            raise wrong_type(f"{param}.{key}", KINDS[kind], spec[key])
    if not NAME.fullmatch(name):
        raise bad_value(f"{param}.name", NAME_RULE)
    description, parameters = spec.get("description") or "", spec.get("parameters")
    if custom:
        return Tool(name, description, custom=True, format=spec.get("format"))
    if spec.get("strict") and parameters is not None:
        check_schema(parameters, f"{param}.parameters", f"the function '{name}'")
    return Tool(name, description, parameters, bool(spec.get("strict")))


def _parse_choice(
    wanted: Any, tools: tuple[Tool, ...], param: str
) -> tuple[Choice, tuple[Tool, ...]]:
    names = [tool.name for tool in tools]
    chosen = names
    if isinstance(wanted, dict):
        wanted, chosen = _parse_named(wanted, param)
    match wanted:
        case None:
            wanted = "auto"
        case "none" | "auto" | "required":
            pass
        case str():
            raise bad_value(param, "supported values are 'none', 'auto', 'required' or an object")
        case _:
            raise wrong_type(param, "a string or an object", wanted)
    if unknown := [name for name in chosen if name not in names]:
        raise bad_value(param, f"the tool '{unknown[0][:64]}' is not among those offered")
    if wanted == "required" and not tools:
        raise bad_value(param, "it demands a tool, but the request offers none")
    return wanted, tuple(tool for tool in tools if tool.name in chosen)


def _parse_named(wanted: dict[str, Any], param: str) -> tuple[Any, list[str]]:
    """The mode and the tool names of a choice that names its tools."""
    if wanted.get("type") != "allowed_tools":
        return "required", [_name_in(wanted, param)]
    spec = wanted.get("allowed_tools") or wanted
    allowed = spec.get("tools") if isinstance(spec, dict) else None
    if not isinstance(allowed, list) or not allowed:
        raise wrong_type(f"{param}.allowed_tools.tools", "an array of objects", allowed)
    return spec.get("mode"), [_name_in(item, param) for item in allowed]


def _name_in(item: Any, param: str) -> str:
    spec = item.get("function") or item.get("custom") or item if isinstance(item, dict) else None
    name = spec.get("name") if isinstance(spec, dict) else None
    if not isinstance(name, str):
        raise missing(f"{param}.function.name" if param == "tool_choice" else f"{param}.name")
    return name


def instructions(use: ToolUse) -> str:
    """The system text that offers the tools; empty when there is nothing to offer."""
    if use.choice == "none" or not use.tools:
        return ""
    rules = [_HOW_TO_CALL]
    if any(tool.custom for tool in use.tools):
        rules.append(_CUSTOM)
    if any(tool.strict for tool in use.tools):
        rules.append(_STRICT)
    rules.append(_PARALLEL if use.parallel else _SINGLE)
    only = f"the tool {use.tools[0].name}" if len(use.tools) == 1 else "at least one of the tools"
    rules.append(f"- This answer must call {only}." if use.choice == "required" else _AUTO)
    offered = [({"type": "custom"} if t.custom else {}) | _definition(t) for t in use.tools]
    return "\n".join([*rules, "", "The tools:", *map(compact, offered)])


_HOW_TO_CALL = """# Tools

You can call the tools listed below. They are real: the program that reads your answer runs them \
and tells you what they returned. To call a tool, write a block of exactly this form:

<tool_call>
{"name": "the tool's name", "arguments": {"parameter": "value"}}
</tool_call>

- Between the tags stands one valid JSON object and nothing else: no Markdown fence, no comments, \
quotes and line breaks inside strings escaped.
- "arguments" is an object that fits the tool's "parameters" schema; {} if it takes none.
- Results come back in the next message as <tool_result id="..." name="..."> blocks. Never write \
such a block yourself and never guess a result: end your answer after the last call."""
_CUSTOM = """- A tool of type "custom" takes plain text in place of arguments: \
{"name": "the tool's name", "input": "the text"}"""
_STRICT = """- For a tool with "strict": true the arguments must match the schema exactly: every \
required key, no other keys, the right types."""
_SINGLE = "- Write at most one block in an answer."
_PARALLEL = "- For several calls write one block after the other."
_AUTO = "- Call a tool only when it helps; otherwise answer in ordinary text, without any block."


def _definition(tool: Tool) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.custom:
        return spec | ({"format": tool.format} if tool.format else {})
    spec["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    return spec | ({"strict": True} if tool.strict else {})


def native(use: ToolUse) -> dict[str, Any]:
    """The tools as parameters, for the models that take them so."""
    if use.choice == "none":
        return {}
    kinds = ["custom" if tool.custom else "function" for tool in use.tools]
    specs = [_definition(tool) for tool in use.tools]
    tools = [{"type": kind, kind: spec} for kind, spec in zip(kinds, specs, strict=True)]
    return {"tools": tools, "tool_choice": use.choice, "parallel_tool_calls": use.parallel}


def call_to_text(call: ToolCall) -> str:
    """An earlier call, as the model is asked to write calls, with its id for the result."""
    told: dict[str, Any] = {"id": call.id, "name": call.name}
    told["input" if call.custom else "arguments"] = call.arguments
    if not call.custom:
        with suppress(ValueError):
            told["arguments"] = read_json(call.arguments or "{}")
    # In JSON `<\/` is the same string as `</`, and it closes no tag.
    body = compact(told).replace("</", "<\\/")
    return f"<tool_call>\n{body}\n</tool_call>"


def result_to_text(call_id: str, name: str, content: str) -> str:
    """What a tool returned; a page or file it read cannot end the block or open another."""
    attributes = f'id="{html.escape(call_id)}" name="{html.escape(name)}"'
    content = re.sub(r"<(?=\s*/?\s*tool_(?:result|call))", r"<\\", content, flags=re.I)
    return f"<tool_result {attributes}>\n{content}\n</tool_result>"


def correction(unmet: Unmet) -> str:
    """The user message of the one retry, to follow what the model had said."""
    return (
        f"That answer could not be used: {unmet.message} Write the whole answer again, in the "
        "form that the instructions ask for, and do not mention this correction."
    )


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
            case Text(text) if not (finder.is_idle() and _PLAIN.fullmatch(text)):
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
        self.close = re.compile(rf"</{_NS}{tag}\s?>" if tag else "```", re.I)
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


class _Found(NamedTuple):
    """A call as it was written."""

    name: str
    arguments: Any
    repaired: bool = False
    xml: bool = False


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

    def is_idle(self) -> bool:
        """Whether nothing is held and no JSON can begin: most of an answer passes here."""
        return not (self.held or self.block or self.fresh or self.waiting)

    def feed(self, piece: str) -> Iterator[Event]:
        if self.said is not None:
            self.said.append(piece)
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
        for spot, bare in self._spots(text):
            if self.made and _RESULT.match(text, spot):
                yield from self._release(text[:spot].rstrip())
                yield Done("tool_calls")
                return ""
            body, block = _opening(text, spot, bare)
            if body >= 0:
                start = len(text[:spot].rstrip())
                yield from self._release(text[:start])
                self.block = block
                if block is None:
                    self.held = text[start:]
                    return ""
                block.opening = text[start:body]
                return text[body:]
        spaces = len(text) - len(text.rstrip())
        held = spaces if spaces < _MOST_SPACES else 0
        yield from self._release(text[: len(text) - held])
        self.held = text[len(text) - held :]
        return ""

    def _spots(self, text: str) -> Iterator[tuple[int, bool]]:
        """Where calls may begin, and whether it is bare JSON: at the start or after a call."""
        at = len(text) - len(text.lstrip()) if self.fresh else 0
        if self.fresh and text[at : at + 1] in ("{", "["):
            yield at, True
        for trigger in _TRIGGER.finditer(text, at):
            yield trigger.start(), False

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
            return
        yield from self._emit(calls)

    def adopt(self, call: ToolCall) -> Iterator[Event]:
        """A call that came natively, held to the same rules."""
        try:
            checked = self._to_call(_Found(call.name, call.arguments))
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
            if whole:
                end = block.close.search(text)
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
        try:
            if block.scan is None:
                found = [_xml_call(block, body)]
            elif not block.tag and not any(name in body for name in self.tools):
                found = []
            else:
                value, repaired = self._json(body)
                loose = bool(block.tag)
                found = _calls_in(value, block.name, loose=loose, repaired=repaired)
        except (ValueError, RecursionError):
            found = []
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

    def _to_call(self, found: _Found) -> ToolCall:
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

    def _arguments(self, found: _Found, tool: Tool) -> str:
        value, repaired = found.arguments, found.repaired
        if found.xml:
            value = _from_xml(value, tool)
        if tool.custom:
            return _free_text(value)
        if value is None or value == "":
            value = {}
        if isinstance(value, str):
            value, repaired = self._json(value)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        rules = tool.parameters or {}
        if (
            repaired
            and isinstance(rules.get("properties"), dict)
            and value.keys() - rules["properties"]
        ):
            raise ValueError("torn apart by the repair")
        checked = tool.strict or (repaired and self.may_retry)
        if checked and (wrong := fault(value, rules)):
            raise self._unmet(f"The arguments for {tool.name} break its schema: {wrong}.")
        return compact(value)


def _opening(text: str, at: int, bare: bool) -> tuple[int, _Block | None]:
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
        if tag or ((bare or body > at) and _KEY.match(text, body)):
            return body, _Block(tag, name, is_json=True)
        return (body if (bare or body > at) and _KEY_PART.match(text, body) else -1), None
    if tag and (name or text[body] == "<"):
        return body, _Block(tag, name, is_json=False)
    return -1, None


def _calls_in(value: Any, name: str, *, loose: bool, repaired: bool) -> list[_Found]:
    """The calls in JSON of any shape that models give them; `loose` where a tag vouches for it."""
    if isinstance(value, list):
        items = [item for item in value if isinstance(item, dict)]
        return [c for i in items for c in _calls_in(i, name, loose=loose, repaired=repaired)]
    if not isinstance(value, dict):
        return []
    if repaired and not name and value.keys() - _CALL_KEYS:
        return []  # A string with raw quotes has been torn apart: the rest cannot be trusted.
    for key in ("tool_calls", "tool_uses", "function"):
        if isinstance(value.get(key), list | dict):
            return _calls_in(value[key], name, loose=loose, repaired=repaired)
    given = [value[key] for key in _ARGUMENT_KEYS if key in value]
    if name and not (given and "name" in value):
        return [_Found(name, value, repaired)]
    name = next((value[k] for k in _NAME_KEYS if isinstance(value.get(k), str)), "")
    if not given and loose:
        given = [{k: v for k, v in value.items() if k not in (*_NAME_KEYS, "id", "type")}]
    return [_Found(name, given[0], repaired)] if name and given else []


def _free_text(arguments: Any) -> str:
    if isinstance(arguments, dict) and len(arguments) == 1:
        arguments = next(iter(arguments.values()))
    return clean(arguments) if isinstance(arguments, str) else compact(arguments)


def _xml_call(block: _Block, body: str) -> _Found:
    end = block.close.search(body, max(0, len(body) - 80))
    body = body[: end.start()] if end else body
    written = None if block.name else _XML_NAME.search(body)
    name = written[1] if written else block.name
    if not name:
        raise ValueError("no name")
    return _Found(name, body, xml=True)


def _from_xml(body: str, tool: Tool) -> Any:
    """Arguments out of tags, typed by the schema; JSON text where the tags hold JSON."""
    rules = (tool.parameters or {}).get("properties")
    rules = rules if isinstance(rules, dict) else {}
    values = _parameters(body)
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


def _parameters(body: str) -> dict[str, str]:
    opened = list(_PARAMETER.finditer(body))
    starts = [found.start() for found in opened] + [len(body)]
    values: dict[str, str] = {}
    for found, end in zip(opened, starts[1:], strict=True):
        value = body[found.end() : end]
        if closed := list(_PARAMETER_END.finditer(value)):
            value = value[: closed[-1].start()]
        values[found[1]] = value.removeprefix("\n").removesuffix("\n")
    return values


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
