"""The pipe between upstream and caller: small filters, each from events to events.

A filter is only put in where it applies, and passes on what does not concern it with `yield from`,
so plain text pays nothing. Knows nothing of JSON, HTTP or Flowith.
"""

import re
from bisect import bisect
from collections.abc import Callable, Generator, Iterator

from bridge.tokens import MOST_PER_CHARACTER, estimate_tokens
from errors import ThoughtsOnly, Unmet
from events import Done, Event, Reasoning, Silence, Text, ToolCall, Usage, Working

OPEN, CLOSE = "<think>", "</think>"
CALL, CALL_END = "<tool_call>", "</tool_call>"
_TAGS = (
    "think", "thinking", "thought", "seed:think", "mm:think", "longcat_think", "think:opensource",
    "ifm|think", "ifm|think_fast", "ifm|think_faster",
)  # fmt: skip
# What thoughts begin and end with, in small letters. Of a closing tag that nothing opened no more
# is said than that what follows are none.
THOUGHTS = {f"<{tag}>": f"</{tag}>" for tag in _TAGS} | {f"</{tag}>": "" for tag in _TAGS}
THOUGHTS |= {
    "[think]": "[/think]",
    "<|channel>thought": "<channel|>",
    "<|start_thinking|>": "<|end_thinking|>",
    "<|think|>": "<|end|>",
    "<|think:start|>": "<|think:end|>",
    "<|thought_start|>": "<|thought_end|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|open|>think<|sep|>": "<|close|>think<|sep|>",
    "<|plamo:begin_think:plamo|>": "<|plamo:end_think:plamo|>",
    "◁think▷": "◁/think▷",
}
# Those in messages of their own, of which the first may lack its beginning.
_MESSAGES = (
    ("<|message_model|>", "<|content_thinking|>", "<|end_message|>"),
    ("<|start|>assistant", "<|channel|>analysis<|message|>", "<|end|>"),
    ("<|start|> assistant", "<|channel|> analysis<|message|>", "<|end|>"),
    ("<|start|>assistant ", "to=self<|message|>", "<|eom|>"),
)
THOUGHTS |= {first + kind: end for begin, kind, end in _MESSAGES for first in ("", begin)}
_OPENERS = tuple(THOUGHTS)
_PARTS = frozenset(tag[:end] for tag in THOUGHTS for end in range(len(tag)))
_LONGEST = max(map(len, THOUGHTS))
TAIL = 256  # characters whose tokens are counted together, so that small pieces add up right


def split_think(events: Iterator[Event], *, calls: bool = False) -> Iterator[Event]:
    """Make think blocks at the start of an answer reasoning; later ones are the model's prose.

    Only a possible part of a tag and white space next to a tag are held back. With `calls` a call
    in the taught form is text again where it ends an answer whose thoughts were never closed: the
    model has forgotten the tag and waits for the result. No other call in thoughts is one. Without
    `calls` there is no tool on offer, and a native call is left out. Raises ThoughtsOnly where the
    answer ends properly and was never begun, Unmet where it was that call.
    """
    splitter = _Splitter()
    thoughts: list[str] = []
    called = stray = False
    for event in events:
        if isinstance(event, Text):
            for one in splitter.feed(event.text):
                if calls and isinstance(one, Reasoning):
                    thoughts.append(one.text)
                yield one
            if splitter.over:
                for rest in events:
                    if calls or type(rest) is not ToolCall:
                        yield rest
                return
            continue
        if isinstance(event, ToolCall) and not calls:
            stray = True
            continue
        if not isinstance(event, (Silence, Working)):
            yield from splitter.flush()
        called = called or isinstance(event, ToolCall)
        if isinstance(event, Done) and event.is_own and not (splitter.said or called):
            call = _last_call(thoughts) if splitter.close else ""
            if stray:
                raise Unmet("The answer is the call of a tool, but none is on offer.", said="")
            if not call:
                raise ThoughtsOnly
            yield Text(call)
        yield event
    yield from splitter.flush()


def _last_call(thoughts: list[str]) -> str:
    """The call that ends the thoughts; empty where they end otherwise."""
    text = "".join(thoughts).rstrip()
    at = text.rfind(CALL)
    return text[at:] if at >= 0 and text.endswith(CALL_END) else ""


class _Splitter:
    """Where in an answer `split_think` is: before a tag, in thoughts, or `over` them.

    What is held is never looked at twice, whatever the pieces it comes in.
    """

    def __init__(self) -> None:
        self.over = False
        self.said = False  # whether a word of the answer itself has been passed on
        self.close = ""  # the tag that ends the thoughts we are in
        self.closing = re.compile("")  # the same, in letters of any case
        self.held = ""  # a possible part of a tag
        self.spaces: list[str] = []  # before the first tag
        self.breaks = 0  # line ends behind a thought, which go where the tag closes
        self.found = self.begun = False

    def feed(self, piece: str) -> Iterator[Event]:
        while piece:
            piece = yield from self._think(piece) if self.close else self._look(piece)

    def _look(self, piece: str) -> Generator[Event, None, str]:
        """Wait for a tag or for the first word; returns what stands behind a tag."""
        if not self.held:
            bare = piece.lstrip()
            self.spaces.append(piece[: len(piece) - len(bare)])
            piece = bare
        self.held += piece
        beginning = self.held[:_LONGEST].lower()
        if beginning.startswith(_OPENERS):
            tag = next(tag for tag in _OPENERS if beginning.startswith(tag))
            rest, self.held = self.held[len(tag) :], ""
            self.close, self.found, self.begun = THOUGHTS[tag], True, False
            self.closing = re.compile(re.escape(self.close), re.IGNORECASE | re.ASCII)
            self.spaces.clear()
            return rest
        if beginning not in _PARTS:
            self.over = True
            yield from self.flush()
        return ""

    def _think(self, piece: str) -> Generator[Event, None, str]:
        """Pass thoughts on up to their end; returns what stands behind it."""
        text, self.held = self.held + piece, ""
        closed = self.closing.search(text)
        if closed:
            end, rest = closed.start(), text[closed.end() :]
        else:
            end, rest = len(text) - _partial_suffix(text[-_LONGEST:].lower(), self.close), ""
            self.held = text[end:]
        thought = text[:end].rstrip("\n")
        breaks = end - len(thought)
        if not self.begun:
            thought = thought.lstrip("\n")
        if thought:
            yield Reasoning("\n" * self.breaks + thought)
            self.begun, self.breaks = True, 0
        self.breaks += breaks if self.begun else 0
        if closed:
            self.close, self.breaks = "", 0
        return rest

    def flush(self) -> Iterator[Event]:
        """What is held, since no tag came of it."""
        if self.close:
            text = "\n" * self.breaks + self.held
        else:
            text = self.held if self.found else "".join(self.spaces) + self.held
        self.held, self.breaks = "", 0
        self.spaces.clear()
        if text and self.close:
            yield Reasoning(text)
        elif text:
            self.said = self.said or not text.isspace()
            yield Text(text)


def _partial_suffix(text: str, word: str) -> int:
    """Length of the longest end of `text` that may be the beginning of `word`, which is short: it
    takes time in proportion to the square of its length."""
    for size in range(min(len(word) - 1, len(text)), 0, -1):
        if word.startswith(text[-size:]):
            return size
    return 0


def cut_at_stop(events: Iterator[Event], stops: tuple[str, ...]) -> Iterator[Event]:
    """End the answer before the stop string that is complete first, however it was cut up; of
    several that end there the longest."""
    watched = [_Stop(stop) for stop in stops]
    held = ""  # the end of the text, which may begin a stop string
    for event in events:
        if isinstance(event, Text):
            ends = [(end, stop) for stop in watched if (end := stop.end_in(event.text)) >= 0]
            begin = len(held)
            held += event.text
            if ends:
                end, stop = min(ends, key=lambda one: (one[0], -len(one[1].text)))
                if left := held[: begin + end - len(stop.text)]:
                    yield Text(left)
                yield Done("stop", stop.text)
                return
            free = len(held) - max(stop.seen for stop in watched)
            if free:
                yield Text(held[:free])
                held = held[free:]
            continue
        if held and not isinstance(event, (Silence, Working)):
            yield Text(held)
            held = ""
            for stop in watched:
                stop.seen = 0
        yield event


class _Stop:
    """A stop string, and how much of it the text so far ends with.

    Knuth, Morris and Pratt's search: no character of the text is looked at twice, however long the
    string and however small the pieces.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.seen = 0
        self.shorter = [0] * len(text)  # the next shorter beginning that each beginning ends with
        size = 0
        for i in range(1, len(text)):
            while size and text[i] != text[size]:
                size = self.shorter[size - 1]
            size += text[i] == text[size]
            self.shorter[i] = size

    def end_in(self, piece: str) -> int:
        """Where in the next piece the stop string is complete, else -1."""
        text, seen, at = self.text, self.seen, 0
        while at < len(piece):
            if not seen:
                at = piece.find(text[0], at)
                if at < 0:
                    break
            if piece[at] == text[seen]:
                seen, at = seen + 1, at + 1
                if seen == len(text):
                    return at
            else:
                seen = self.shorter[seen - 1]
        self.seen = seen
        return -1


def cut_at_length(events: Iterator[Event], limit: int) -> Iterator[Event]:
    """End the answer after `limit` (estimated) tokens, thoughts included."""
    counted, tail = 0, ""
    for event in events:
        if not isinstance(event, (Text, Reasoning)):
            yield event
            continue
        kind, text = type(event), event.text
        # far from it nothing is cut up, and little is counted: an estimate for each token costs ten
        # times what the token does (docs/performance.md)
        far = counted + MOST_PER_CHARACTER * (len(tail) + len(text)) <= limit
        parts = [text] if far else [text[at : at + TAIL] for at in range(0, len(text), TAIL)]
        for part in parts:
            if not far and counted + estimate_tokens(tail + part) > limit:
                ends = range(1, len(part) + 1)
                left = limit - counted
                fits = bisect(ends, left, key=lambda end: estimate_tokens(tail + part[:end]))
                if fits:
                    yield kind(part[:fits])
                yield Done("length")
                return
            yield event if far else kind(part)
            tail += part
            if len(tail) > TAIL:
                counted, tail = counted + estimate_tokens(tail), ""


def note_text(events: Iterator[Event], raw: list[str]) -> Iterator[Event]:
    """Write down what the model wrote, for the count, before calls or JSON are taken out of it."""
    for event in events:
        if isinstance(event, Text):
            raw.append(event.text)
        yield event


def count_usage(
    events: Iterator[Event], prompt_tokens: Callable[[], int], raw: list[str] | None = None
) -> Iterator[Event]:
    """Put exactly one `Usage` before the `Done`: upstream's numbers, and where these are none an
    estimate of the thoughts and of the `raw` text, or of the text that passes here."""
    usage = Usage(0, 0)
    said: list[str] = [] if raw is None else raw
    thought: list[str] = []
    for event in events:
        if isinstance(event, Text):
            if raw is None:
                said.append(event.text)
        elif isinstance(event, Reasoning):
            thought.append(event.text)
        elif isinstance(event, ToolCall) and not said:
            said.append(f"{event.name} {event.arguments}")  # a native call, which is no text
        elif isinstance(event, Usage):
            usage = event
            continue
        elif isinstance(event, Done):
            prompt = usage.prompt or prompt_tokens()
            completion, reasoning = usage.completion, usage.reasoning
            if not completion:
                reasoning = estimate_tokens("".join(thought))
                completion = reasoning + estimate_tokens("".join(said))
            yield Usage(prompt, completion, reasoning, usage.cached)
        yield event


def hide_reasoning(events: Iterator[Event]) -> Iterator[Event]:
    """Drop thoughts; while they flow, `Working` comes from where they come from."""
    for event in events:
        if not isinstance(event, Reasoning):
            yield event


def tag_reasoning(events: Iterator[Event]) -> Iterator[Event]:
    """Put thoughts back into the text, between think tags."""
    thinking = False
    for event in events:
        if isinstance(event, Reasoning):
            yield Text(event.text if thinking else f"{OPEN}\n{event.text}")
            thinking = True
            continue
        if thinking and not isinstance(event, (Silence, Working)):
            thinking = False
            yield Text(f"\n{CLOSE}\n\n")
        yield event
