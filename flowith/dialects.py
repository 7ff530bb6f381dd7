"""Flowith's three HTTP APIs: where each is, what it wants, and what its bytes mean.

A dialect makes the payload; its decoder turns blocks of bytes into events and knows what the
proper end of an answer looks like. Nothing here does I/O or knows of OpenAI.
"""

import codecs
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from errors import UpstreamCut, UpstreamError
from events import Citation, Done, Event, Reasoning, Silence, Text, ToolCall, Usage
from flowith.refusal import to_refusal
from prompt import Prompt
from settings import Api, Model

LONGEST_LINE = 4_194_304  # bytes of one upstream line; a longer one is a fault, not an answer
SURROGATES = re.compile("[\ud800-\udfff]")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts",
                  "reasoning_text", "cot")  # fmt: skip
FINISH = {"length": "length", "max_tokens": "length", "content_filter": "content_filter"}


# identity: a compressed stream comes when the compressor likes, not when the model speaks
HEADERS = {"Content-Type": "application/json", "Accept": "*/*", "Accept-Encoding": "identity"}


class Decoder(Protocol):
    """Bytes in, events out. Events of one block are joined where they can be."""

    def decode(self, block: bytes) -> list[Event]:
        """Raises UpstreamError when the bytes say so."""

    def flush(self) -> list[Event]:
        """The body has ended. Raises UpstreamCut when the answer had not."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of Flowith's APIs. `bearer`: which form of the token is tried first."""

    name: Api
    url: str
    bearer: bool
    takes_system: bool = True
    headers: Mapping[str, str] = field(default_factory=lambda: HEADERS)

    def decoder(self) -> Decoder:
        decoders: dict[Api, type[Decoder]] = {"web": WebDecoder, "llm": LlmDecoder}
        return decoders.get(self.name, KnowledgeDecoder)()

    def payload(self, prompt: Prompt, model: Model, upstream: tuple[str, ...]) -> dict[str, Any]:
        """The JSON body for `upstream`, the model ids still to be tried, best first."""
        messages = prompt.messages
        if not (self.takes_system and model.system_role):
            messages = _fold_system(messages)
        if self.name == "llm":
            extra = {**(prompt.options or {}), **(prompt.tools or {})}
            switches = {"stream": True, "thinking": prompt.thinking, "online": prompt.online}
            return {"models": list(upstream), "messages": messages, **switches, **extra}
        if self.name == "knowledge":
            kb = {"kb_list": list(model.kb_list)} if model.kb_list else {}
            return {"model": upstream[0], "messages": messages, "stream": True, **kb}
        ids = {"nodeId": str(uuid.uuid4()), "convId": str(uuid.uuid4())}
        search = {"websearch": True} if prompt.online else {}
        fixed = {"target_feature": "text_completion", "model": upstream[0], "stream": True}
        return {**fixed, "messages": messages, **ids, **search}


WEB = Dialect(
    "web",
    "https://edge.flowith.io/completion",
    bearer=False,
    headers={**HEADERS, "Origin": "https://flowith.io", "Referer": "https://flowith.io/"},
)
LLM = Dialect("llm", "https://edge.flowith.io/external/use/llm", bearer=True)
KNOWLEDGE = Dialect(
    "knowledge",
    "https://edge.flowith.net/external/use/knowledge-base/seek",
    bearer=True,
    takes_system=False,
)
DIALECTS: dict[str, Dialect] = {d.name: d for d in (WEB, LLM, KNOWLEDGE)}


def moved(url: str, given: str) -> str:
    """Where `url` is by the operator's FLOWITH_API_URL; without a path that changes the host."""
    if not given or given.count("/") > 2:
        return given or url
    return f"{given}/{url.split('/', 3)[3]}"


def _fold_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put what the system messages say in front of the first user message; nothing is dropped."""
    said = [str(m["content"]) for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    if not said:
        return rest
    first = next((i for i, m in enumerate(rest) if m["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": "\n\n".join(said)}, *rest]
    content = rest[first]["content"]
    if isinstance(content, str):
        content = "\n\n".join([*said, content])
    else:
        content = [{"type": "text", "text": "\n\n".join(said)}, *content]
    return [*rest[:first], {"role": "user", "content": content}, *rest[first + 1 :]]


class WebDecoder:
    """The body is the answer itself, UTF-8 text without any frame; its end is the end."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def decode(self, block: bytes) -> list[Event]:
        text = self._utf8.decode(block)
        return [Text(text)] if text else []

    def flush(self) -> list[Event]:
        rest = self._utf8.decode(b"", final=True)
        return [Text(rest), Done()] if rest else [Done()]


class _LineDecoder:
    """Common to the two APIs that send JSON on lines, with `data:` in front or without."""

    def __init__(self) -> None:
        self._rest = b""
        self._half = ""  # a high surrogate whose other half comes with the next piece
        self.ended = False

    def decode(self, block: bytes) -> list[Event]:
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LONGEST_LINE:
            raise UpstreamError("Flowith sent an endless line.")
        events: list[Event] = []
        for line in lines:
            if line and not self.ended:
                self._read_line(line.rstrip(b"\r"), events)
        return events if len(events) < 2 else _joined(events)

    def flush(self) -> list[Event]:
        events: list[Event] = []
        if self._rest and not self.ended:
            self._read_line(self._rest.rstrip(b"\r"), events)
        if not self.ended:
            self._end(events)
        return _joined(events)

    def _read_line(self, line: bytes, events: list[Event]) -> None:
        framed = line.startswith(b"data:")
        if framed:
            line = line[5:]
        line = line.strip()
        if line == b"[DONE]":
            self._done(events)
        elif line[:1] == b"{":
            try:
                frame = json.loads(line)
            except (ValueError, RecursionError):
                if framed:
                    raise UpstreamError("Flowith sent a frame that is not JSON.") from None
                return
            if error := frame.get("error"):
                raise to_refusal(None, error)
            self._read_frame(frame, events)

    def _text(self, text: object) -> str:
        """Text of a JSON string, with surrogate pairs that were split over two frames joined."""
        text, self._half = self._half + text if isinstance(text, str) else self._half, ""
        if text and SURROGATES.search(text):
            if "\ud800" <= text[-1] <= "\udbff":
                text, self._half = text[:-1], text[-1]
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    def _read_frame(self, frame: dict[str, Any], events: list[Event]) -> None:
        raise NotImplementedError

    def _done(self, events: list[Event]) -> None:
        raise NotImplementedError

    def _end(self, events: list[Event]) -> None:
        raise NotImplementedError


class LlmDecoder(_LineDecoder):
    """OpenAI's frames, as Flowith's LLM API and the models behind it really write them."""

    def __init__(self) -> None:
        super().__init__()
        self._finish: str | None = None
        self._calls: dict[int, dict[str, str]] = {}
        self._called = False

    def _read_frame(self, frame: dict[str, Any], events: list[Event]) -> None:
        for choice in frame.get("choices") or ():
            if not isinstance(choice, dict):
                continue
            delta = choice.get("delta") or choice.get("message") or {}
            if isinstance(delta, dict):
                self._read_delta(delta, events)
            if reason := choice.get("finish_reason"):
                self._finish = FINISH.get(str(reason), "stop")
        if isinstance(usage := frame.get("usage"), dict) and usage:
            events.append(_to_usage(usage))

    def _read_delta(self, delta: dict[str, Any], events: list[Event]) -> None:
        for key in REASONING_KEYS:
            if delta.get(key):
                thought = self._text(_flat(delta[key]))
                if thought:
                    events.append(Reasoning(thought))
                break
        content = delta.get("content")
        if isinstance(content, str):
            if text := self._text(content):
                events.append(Text(text))
        elif isinstance(content, list):
            for block in content:
                self._read_block(block, events)
        for part in delta.get("tool_calls") or ():
            self._read_call(part, events)

    def _read_block(self, block: Any, events: list[Event]) -> None:
        if not isinstance(block, dict):
            block = {"text": block}
        thinks = block.get("type") in ("thinking", "reasoning")
        text = self._text(_flat(block.get("thinking") or block.get("text")))
        if text:
            events.append(Reasoning(text) if thinks else Text(text))

    def _read_call(self, part: Any, events: list[Event]) -> None:
        """Gather the fragments of a native call; a whole one leaves when the next one begins."""
        if not isinstance(part, dict):
            return
        index = part.get("index")
        if not isinstance(index, int):
            index = len(self._calls) - (0 if part.get("id") or not self._calls else 1)
        if index not in self._calls:
            self._send_calls(events, whole=True)
            self._calls[index] = {"id": "", "name": "", "arguments": ""}
        call, function = self._calls[index], part.get("function")
        function = function if isinstance(function, dict) else {}
        call["id"] = call["id"] or str(part.get("id") or "")
        call["name"] = call["name"] or str(function.get("name") or "")
        arguments = function.get("arguments") or ""
        call["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def _send_calls(self, events: list[Event], whole: bool = False) -> None:
        for call in self._calls.values():
            if call["name"] and (not whole or _is_json(call["arguments"])):
                events.append(ToolCall(call["id"], call["name"], call["arguments"] or "{}"))
                call["name"] = ""
                self._called = True

    def _done(self, events: list[Event]) -> None:
        self.ended = True
        self._send_calls(events)
        reason = self._finish or "stop"
        events.append(Done("tool_calls" if self._called and reason == "stop" else reason))

    def _end(self, events: list[Event]) -> None:
        if self._finish is None:
            raise UpstreamCut("Flowith's answer ended before it was complete.")
        self._done(events)


class KnowledgeDecoder(_LineDecoder):
    """`{"tag","content"}` frames; `final` is a delta, and plain text lines happen as well."""

    def _read_frame(self, frame: dict[str, Any], events: list[Event]) -> None:
        tag, content = frame.get("tag") or frame.get("type"), frame.get("content")
        if tag == "final":
            if content == "[DONE]":
                self._done(events)
            elif text := self._text(content):
                events.append(Text(text))
        elif tag == "thinking":
            if thought := self._text(_flat(content)):
                events.append(Reasoning(thought))
        elif tag == "seeds" and isinstance(content, list):
            events.extend(_to_citation(seed) for seed in content if isinstance(seed, dict))
        else:
            events.append(Silence())

    def _done(self, events: list[Event]) -> None:
        self.ended = True
        events.append(Done())

    def _end(self, events: list[Event]) -> None:
        self._done(events)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _joined(events: list[Event]) -> list[Event]:
    """Neighbours of one kind as one event: what arrives together leaves together."""
    whole: list[Event] = []
    kind: type[Text] | type[Reasoning] | None = None
    pieces: list[str] = []
    for event in events:
        if isinstance(event, (Text, Reasoning)) and type(event) is kind:
            pieces.append(event.text)
            continue
        if kind is not None:
            whole.append(kind("".join(pieces)))
        if isinstance(event, (Text, Reasoning)):
            kind, pieces = type(event), [event.text]
        else:
            kind = None
            whole.append(event)
    if kind is not None:
        whole.append(kind("".join(pieces)))
    return whole


def _flat(thought: Any) -> str:
    """Reasoning as text, whether it came as a string, an object or a list of either."""
    if isinstance(thought, str):
        return thought
    if isinstance(thought, dict):
        return _flat(thought.get("text") or thought.get("content") or thought.get("thinking"))
    if isinstance(thought, list):
        return "".join(_flat(part) for part in thought)
    return ""


def _to_usage(usage: dict[str, Any]) -> Usage:
    def count(source: Any, key: str) -> int:
        value = source.get(key) if isinstance(source, dict) else None
        return value if isinstance(value, int) and value > 0 else 0

    return Usage(
        count(usage, "prompt_tokens"),
        count(usage, "completion_tokens"),
        count(usage.get("completion_tokens_details"), "reasoning_tokens"),
        count(usage.get("prompt_tokens_details"), "cached_tokens"),
    )


def _to_citation(seed: dict[str, Any]) -> Citation:
    def text(*keys: str) -> str:
        return next((v for k in keys if isinstance(v := seed.get(k), str) and v), "")

    title = text("source_title", "title")
    url = text("url", "source_url", "link")
    url = url or (title if title.startswith(("http://", "https://")) else "")
    return Citation(title, url, text("content"), text("source_id", "id"))
