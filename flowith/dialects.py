"""Flowith's three HTTP APIs: where each is, what it wants, and what its bytes mean.

A dialect makes the payload; its decoder turns blocks of bytes into events and knows what the
proper end of an answer looks like. Nothing here does I/O or knows of OpenAI.
"""

import codecs
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chat_request import Prompt
from errors import UpstreamCut, UpstreamError
from events import Citation, Done, Event, Reasoning, Silence, Text, ToolCall, Usage
from flowith.refusal import to_refusal
from settings import Api, Model

LONGEST_LINE = 4_194_304  # bytes of one upstream line; a longer one is a fault, not an answer
SURROGATES = re.compile("[\ud800-\udfff]")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts",
                  "reasoning_text", "cot")  # fmt: skip
FINISH = {"length": "length", "max_tokens": "length", "content_filter": "content_filter"}


# identity: a compressed stream comes when the compressor likes, not when the model speaks
HEADERS = {"Content-Type": "application/json", "Accept": "*/*", "Accept-Encoding": "identity"}


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

    _finish: str | None = None

    def __init__(self) -> None:
        self._rest = b""
        self._half = ""  # a high surrogate whose other half comes with the next piece
        self._ended = False

    def decode(self, block: bytes) -> list[Event]:
        """Raises UpstreamError when the bytes say so."""
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LONGEST_LINE:
            raise UpstreamError("Flowith sent an endless line.")
        events: list[Event] = []
        for line in lines:
            if line and not self._ended:
                self._read_line(line, events)
        return events

    def flush(self) -> list[Event]:
        """The body has ended. Raises UpstreamCut when the answer had not."""
        events = self.decode(b"\n")
        if not self._ended:
            if self._finish is None:
                raise UpstreamCut("Flowith's answer ended before it was complete.")
            self._end(events)
        return events

    def _read_line(self, line: bytes, events: list[Event]) -> None:
        framed = line.startswith(b"data:")
        line = line.removeprefix(b"data:").strip()
        if line == b"[DONE]":
            self._end(events)
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

    def _say(self, kind: type[Text] | type[Reasoning], said: object, events: list[Event]) -> None:
        """Add a JSON string to the event before it, if that is of its kind: what arrives together
        leaves together. Surrogate pairs that were split over two frames are joined."""
        text, self._half = self._half + said if isinstance(said, str) else self._half, ""
        if text and SURROGATES.search(text):
            if "\ud800" <= text[-1] <= "\udbff":
                text, self._half = text[:-1], text[-1]
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if text and events and isinstance(last := events[-1], kind):
            events.pop()
            text = last.text + text
        if text:
            events.append(kind(text))

    def _read_frame(self, frame: dict[str, Any], events: list[Event]) -> None:
        raise NotImplementedError

    def _end(self, events: list[Event]) -> None:
        self._ended = True
        events.append(Done(self._finish or "stop"))


class LlmDecoder(_LineDecoder):
    """OpenAI's frames, as Flowith's LLM API and the models behind it really write them."""

    def __init__(self) -> None:
        super().__init__()
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
                self._say(Reasoning, _flat(delta[key]), events)
                break
        content = delta.get("content")
        if isinstance(content, list):
            for block in content:
                self._read_block(block, events)
        else:
            self._say(Text, content, events)
        for part in delta.get("tool_calls") or ():
            self._read_call(part, events)

    def _read_block(self, block: Any, events: list[Event]) -> None:
        if not isinstance(block, dict):
            block = {"text": block}
        thinks = block.get("type") in ("thinking", "reasoning")
        said = _flat(block.get("thinking") or block.get("text"))
        self._say(Reasoning if thinks else Text, said, events)

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

    def _end(self, events: list[Event]) -> None:
        self._send_calls(events)
        if self._called and self._finish in (None, "stop"):
            self._finish = "tool_calls"
        super()._end(events)


class KnowledgeDecoder(_LineDecoder):
    """`{"tag","content"}` frames; `final` is a delta, and plain text lines happen as well."""

    _finish = "stop"  # nothing but the end of the body tells the end of the answer for certain

    def _read_frame(self, frame: dict[str, Any], events: list[Event]) -> None:
        tag, content = frame.get("tag") or frame.get("type"), frame.get("content")
        if tag == "final" and content == "[DONE]":
            self._end(events)
        elif tag == "final":
            self._say(Text, content, events)
        elif tag == "thinking":
            self._say(Reasoning, _flat(content), events)
        elif tag == "seeds" and isinstance(content, list):
            events.extend(_to_citation(seed) for seed in content if isinstance(seed, dict))
        else:
            events.append(Silence())


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


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


Decoder = WebDecoder | LlmDecoder | KnowledgeDecoder


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of Flowith's APIs. `decoder` makes one answer's bytes events; `bearer`: which form of
    the token is tried first."""

    name: Api
    url: str
    decoder: type[Decoder]
    headers: Mapping[str, str]
    bearer: bool = True
    takes_system: bool = True

    def to_refusal(self, status: int, body: bytes, headers: Mapping[str, str]) -> UpstreamError:
        """The error for a status that is none of success."""
        return to_refusal(status, body, headers)

    def payload(self, prompt: Prompt, model: Model, upstream: tuple[str, ...]) -> dict[str, Any]:
        """The JSON body for `upstream`, the model ids still to be tried, best first."""
        messages = prompt.messages
        if not (self.takes_system and model.system_role):
            messages = _fold_system(messages)
        payload = {"messages": messages, "stream": True}
        if self.name == "llm":
            payload |= {"models": list(upstream), "thinking": prompt.thinking}
            return (
                payload | {"online": prompt.online} | (prompt.options or {}) | (prompt.tools or {})
            )
        payload["model"] = upstream[0]
        if self.name == "knowledge":
            return payload | ({"kb_list": list(model.kb_list)} if model.kb_list else {})
        payload |= {"nodeId": _random_id(), "convId": _random_id()}
        payload["target_feature"] = "text_completion"
        return payload | ({"websearch": True} if prompt.online else {})


DIALECTS: dict[str, Dialect] = {
    "web": Dialect(
        "web",
        "https://edge.flowith.io/completion",
        WebDecoder,
        {**HEADERS, "Origin": "https://flowith.io", "Referer": "https://flowith.io/"},
        bearer=False,
    ),
    "llm": Dialect("llm", "https://edge.flowith.io/external/use/llm", LlmDecoder, HEADERS),
    "knowledge": Dialect(
        "knowledge",
        "https://edge.flowith.net/external/use/knowledge-base/seek",
        KnowledgeDecoder,
        HEADERS,
        takes_system=False,
    ),
}


def moved(url: str, given: str) -> str:
    """Where `url` is by the operator's FLOWITH_API_URL; without a path that changes the host."""
    if not given or given.count("/") > 2:
        return given or url
    return f"{given}/{url.split('/', 3)[3]}"


def _random_id() -> str:
    """A version 4 UUID without a system call: it has to be new, not unguessable."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _fold_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put what the system messages say in front of the first user message; nothing is dropped."""
    said = [str(m["content"]) for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    if not said:
        return rest
    for i, message in enumerate(rest):
        if message["role"] == "user":
            content = message["content"]
            if isinstance(content, str):
                content = "\n\n".join([*said, content])
            else:
                content = [{"type": "text", "text": "\n\n".join(said)}, *content]
            return [*rest[:i], {"role": "user", "content": content}, *rest[i + 1 :]]
    return [{"role": "user", "content": "\n\n".join(said)}, *rest]
