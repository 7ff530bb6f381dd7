"""OpenAI's frames, as Flowith's LLM API and the models behind it really write them.

Every list here is closed: an end, a block or a frame that is not known is an error. Does no I/O.
"""

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from io import StringIO
from itertools import groupby
from operator import itemgetter
from typing import Any

from errors import UpstreamError
from events import Event, Reasoning, Text, ToolCall, Usage
from flowith.line_decoder import LineDecoder, Said, check_parts, flat, unknown, with_whole_pairs
from flowith.refusal import to_refusal

MOST_OPEN_CALLS = 128  # tool calls that are under way at the same time
MOST_LOOKED = 5_000_000  # characters of calls that are looked through before the answer's end
MOST_ODD = 500_000  # characters of calls that are no JSON, of which it is found out why
MOST_TOKENS = 10**12  # of a count that can be true
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts",
                  "reasoning_text", "cot", "reasoning_details")  # fmt: skip
CALL_KEYS = ("tool_calls", "function_call")
# The words of OpenAI, Anthropic, Google and DeepSeek for ends that are no faults.
FINISH = {
    "stop": "stop", "end_turn": "stop", "stop_sequence": "stop", "eos": "stop", "eos_token": "stop",
    "end": "stop", "complete": "stop", "completed": "stop",
    "tool_calls": "tool_calls", "tool_use": "tool_calls", "function_call": "tool_calls",
    "length": "length", "max_tokens": "length", "max_output_tokens": "length",
    "model_length": "length", "model_context_window_exceeded": "length",
    "content_filter": "content_filter", "safety": "content_filter", "refusal": "content_filter",
    "recitation": "content_filter", "blocklist": "content_filter", "spii": "content_filter",
    "prohibited_content": "content_filter", "image_safety": "content_filter",
}  # fmt: skip
TEXT_BLOCKS = (None, "text", "output_text")
THOUGHT_BLOCKS = ("thinking", "reasoning", "redacted_thinking")
ABOUT_THE_ANSWER = {
    "id", "object", "created", "model", "usage", "provider", "service_tier", "system_fingerprint",
}  # fmt: skip  # members of a frame that says nothing of the answer itself
JSON_MARKS = re.compile(r'"(?:[^"\\]|\\.)*("?)|([\[{])|[\]}]', re.DOTALL)


@dataclass(slots=True)
class _Call:
    """A native tool call whose fragments are being gathered."""

    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    size: int = 0  # characters of its pieces


class LlmDecoder(LineDecoder):
    """OpenAI's frames, as Flowith's LLM API and the models behind it really write them."""

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._calls: dict[int, _Call] = {}  # those under way
        self._newest = -1  # index of a call
        self._looked = 0  # characters of calls, to see whether they are whole
        self._called = False
        self._worded = self._thought = False  # whether deltas have brought words, or thoughts
        # what messages without deltas have said, by member
        self._told: defaultdict[str, StringIO] = defaultdict(StringIO)

    def _read_frame(self, frame: dict[str, Any], events: list[Event]) -> None:
        if "choices" not in frame and not _is_about_the_answer(frame):
            raise unknown("frame")
        choices = _list(frame.get("choices"), "choices")
        if len(choices) > 1:
            raise unknown("choice")
        for choice in choices:
            if not isinstance(choice, dict) or choice.get("index") not in (None, 0):
                raise unknown("choice")
            self._read_choice(choice, events)
        if isinstance(usage := frame.get("usage"), dict) and usage:
            events.append(_to_usage(usage))

    def _read_choice(self, choice: dict[str, Any], events: list[Event]) -> None:
        if error := choice.get("error"):
            raise to_refusal(None, error)
        delta = choice.get("delta")
        if not delta:
            delta = self._news(choice)
        elif not self._worded:
            self._note(delta)
        if not isinstance(delta, dict):
            raise unknown("delta")
        self._read_delta(delta, events)
        if reason := choice.get("finish_reason"):
            self._finish = _to_finish(reason)

    def _note(self, delta: Any) -> None:
        """What deltas bring, up to the first word: behind it there are no thoughts to wait for."""
        if isinstance(delta, dict):
            self._worded = bool(delta.get("content"))
            if self._worded or any(delta.get(key) for key in REASONING_KEYS):
                self._thought = True

    def _news(self, choice: dict[str, Any]) -> Any:
        """What a choice without a delta adds: its `message` may hold all that was said before, be
        it by deltas or by shorter messages. Some servers put a bare `text` there."""
        message = choice.get("message") or {"content": choice.get("text")}
        if not isinstance(message, dict):
            return message
        new = {key: value for key, value in message.items() if not self._has(key)}
        for key, said in new.items():
            if isinstance(said, str):
                told = self._told[key]
                if len(said) >= told.tell() and said.startswith(told.getvalue()):
                    new[key] = said[told.tell() :]
                told.write(new[key])
        return new

    def _has(self, key: str) -> bool:
        """Whether deltas have brought what this member of a message holds."""
        if key in CALL_KEYS:
            return bool(self._calls) or self._called
        return self._thought if key in REASONING_KEYS else self._worded

    def _read_delta(self, delta: dict[str, Any], events: list[Event]) -> None:
        for key in REASONING_KEYS:
            if delta.get(key):
                self._say(Reasoning, flat(delta[key]), events)
                break
        content = delta.get("content")
        if isinstance(content, (list, dict)):
            blocks = _list(content if isinstance(content, list) else [content], "content")
            for kind, said in groupby(map(_said_in, blocks), itemgetter(0)):
                self._say(kind, "".join(text for _, text in said), events)
        else:
            self._say(Text, content, events)
        if refusal := delta.get("refusal"):
            self._say(Text, refusal, events)
        for part in _list(delta.get("tool_calls"), "tool_calls"):
            self._read_call(part, events)
        if legacy := delta.get("function_call"):
            self._read_call({"index": 0, "function": legacy}, events)

    def _read_call(self, part: Any, events: list[Event]) -> None:
        """Gather the fragments of a native call; a whole one leaves when the next one begins."""
        function = part.get("function") if isinstance(part, dict) else 0
        if function is None:
            function = {}
        if not isinstance(function, dict):
            raise unknown("tool call")
        index = part.get("index")
        if not isinstance(index, int):
            index = self._newest + (1 if part.get("id") or self._newest < 0 else 0)
        if index in self._calls and self._is_another(self._calls[index], part, function):
            self._send(self._calls.pop(index), events)
        if index not in self._calls:
            self._send_whole_calls(events)
            if len(self._calls) >= MOST_OPEN_CALLS:
                raise UpstreamError("Flowith sent more tool calls at once than can be true.")
            self._calls[index] = _Call()
            self._newest = index
        call, arguments = self._calls[index], function.get("arguments")
        call.id = call.id or str(part.get("id") or "")
        call.name = call.name or str(function.get("name") or "")
        if arguments:
            call.pieces.append(arguments if isinstance(arguments, str) else json.dumps(arguments))
            call.size += len(call.pieces[-1])

    def _send_whole_calls(self, events: list[Event]) -> None:
        for index, call in list(self._calls.items()):
            if call.name and self._is_whole(call):
                del self._calls[index]
                self._send(call, events)

    def _is_whole(self, call: _Call) -> bool:
        """Whether all of a call has come. Where too much was looked through to see that, only the
        end of the answer will tell."""
        self._looked += call.size
        return self._looked <= MOST_LOOKED and is_json("".join(call.pieces))

    def _is_another(self, call: _Call, part: dict[str, Any], function: dict[str, Any]) -> bool:
        """Whether a fragment begins another call than the one at its index: some servers give all
        calls of an answer the index 0, others repeat name or id with each fragment."""
        name, given = function.get("name"), part.get("id")
        if not (name and call.name) or (given and given == call.id):
            return False
        if not call.pieces:
            return bool(given) and name != call.name
        return call.pieces[-1].endswith("}") and self._is_whole(call)

    def _send(self, call: _Call, events: list[Event]) -> None:
        self._give_up_halves(events)
        arguments = with_whole_pairs("".join(call.pieces)) or "{}"
        events.append(ToolCall(call.id, call.name, arguments))
        self._called = True

    def _end(self, events: list[Event]) -> None:
        """A call that broke off is no call: nobody can say what it was going to do."""
        self._looked = 0
        self._send_whole_calls(events)
        odd = 0  # characters
        for call in self._calls.values():
            arguments = "".join(call.pieces)
            if not call.name and (arguments or call.id):
                raise unknown("tool call")
            if self._finish in ("length", "content_filter"):
                continue
            odd += len(arguments)
            if odd > MOST_ODD or _broke_off(arguments):
                self._finish = "length"
            elif call.name:
                self._send(call, events)
        self._calls.clear()
        if self._called and self._finish in (None, "stop"):
            self._finish = "tool_calls"
        super()._end(events)


def _is_about_the_answer(frame: dict[str, Any]) -> bool:
    """Whether a frame says nothing of the answer itself; null is as good as absent."""
    return all(name in ABOUT_THE_ANSWER for name, value in frame.items() if value is not None)


def _list(value: Any, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise unknown(what)
    check_parts(value)
    return value


def _said_in(block: Any) -> tuple[Said, str]:
    """The words of one block of a delta's content, and what they are. Raises UpstreamError."""
    if block is None or isinstance(block, str):
        return Text, block or ""
    if isinstance(block, dict):
        kind, text = block.get("type"), block.get("text")
        if kind in THOUGHT_BLOCKS:
            return Reasoning, flat(block.get("thinking") or text)
        if kind in TEXT_BLOCKS and isinstance(text, str):
            return Text, text
    raise unknown("block")


def _to_finish(reason: Any) -> str:
    """One of OpenAI's finish reasons. Raises UpstreamError for a fault, and for an unknown word."""
    word = reason.lower() if isinstance(reason, str) else ""
    if word in FINISH:
        return FINISH[word]
    shown = f" ({word})" if re.fullmatch("[a-z_]{1,40}", word) else ""
    raise UpstreamError(f"Flowith ended the answer for a reason that is no proper end{shown}.")


def is_json(text: str) -> bool:
    """Whether a text is JSON, and not too deep to be read."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _broke_off(text: str) -> bool:
    """Whether JSON text ends inside a string, an object or an array."""
    depth = 0
    for mark in JSON_MARKS.finditer(text):
        if mark[0].startswith('"'):
            if not mark[1]:
                return True
        else:
            depth += 1 if mark[2] else -1
    return depth > 0


def _to_usage(usage: dict[str, Any]) -> Usage:
    """OpenAI's counts. A part that is more than its whole is left out, as is what is no count."""

    def count(source: Any, key: str) -> int:
        value = source.get(key) if isinstance(source, dict) else None
        if isinstance(value, int) and value > MOST_TOKENS:
            raise unknown("count of tokens")
        return value if isinstance(value, int) and value > 0 else 0

    prompt, completion = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    reasoning = count(usage.get("completion_tokens_details"), "reasoning_tokens")
    cached = count(usage.get("prompt_tokens_details"), "cached_tokens")
    return Usage(
        prompt,
        completion,
        reasoning if reasoning <= completion else 0,
        cached if cached <= prompt else 0,
    )
