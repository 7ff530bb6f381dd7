"""The pipe between upstream and caller: small filters, each from events to events.

A filter is only put in where it applies, and passes on what does not concern it with `yield from`,
so plain text pays nothing. Knows nothing of JSON, HTTP or Flowith.
"""

from bisect import bisect
from collections.abc import Callable, Iterator

from bridge.tokens import estimate_tokens
from errors import EmptyAnswer
from events import Done, Event, Reasoning, Silence, Text, ToolCall, Usage, Working

OPEN, CLOSE = "<think>", "</think>"
TAIL = 256  # characters whose tokens are counted together, so that small pieces add up right


def split_think(events: Iterator[Event]) -> Iterator[Event]:
    """Make `<think>` blocks at the start of an answer reasoning; later ones are the model's prose.

    Only a possible part of a tag and white space next to a tag are held back.
    """
    held, thinking, found, begun = "", False, False, False
    for event in events:
        if not isinstance(event, Text):
            if held and not isinstance(event, (Silence, Working)):
                yield Reasoning(held) if thinking else Text(held)
                held = ""
            yield event
            continue
        held += event.text
        while held:
            if thinking:
                thought, held, closed = _until_close(held if begun else held.lstrip("\n"))
                if thought:
                    begun = True
                    yield Reasoning(thought)
                if not closed:
                    break
                thinking = False
                continue
            start = held.lstrip()
            if start[: len(OPEN)].lower() == OPEN:
                held, thinking, found, begun = start[len(OPEN) :], True, True, False
            elif OPEN.startswith(start.lower()):
                break
            else:
                yield Text(start if found else held)
                yield from events
                return
    if held:
        yield Reasoning(held) if thinking else Text(held)


def _until_close(held: str) -> tuple[str, str, bool]:
    """Split what was thought from the rest: (thought, rest, whether the closing tag was there)."""
    at = held.lower().find(CLOSE)
    if at >= 0:
        return held[:at].rstrip("\n"), held[at + len(CLOSE) :], True
    keep = len(held) - partial_suffix(held.lower(), (CLOSE,))
    keep = len(held[:keep].rstrip("\n"))
    return held[:keep], held[keep:], False


def partial_suffix(text: str, words: tuple[str, ...]) -> int:
    """Length of the longest end of `text` that may be the beginning of one of `words`."""
    longest = max(map(len, words)) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(word.startswith(text[-size:]) for word in words):
            return size
    return 0


def cut_at_stop(events: Iterator[Event], stops: tuple[str, ...]) -> Iterator[Event]:
    """End the answer before the stop string that is complete first, however it was cut up."""
    held = ""
    for event in events:
        if not isinstance(event, Text):
            if held and not isinstance(event, (Silence, Working)):
                yield Text(held)
                held = ""
            yield event
            continue
        held += event.text
        found = [(held.find(stop) + len(stop), held.find(stop)) for stop in stops if stop in held]
        if found:
            if before := held[: min(found)[1]]:
                yield Text(before)
            yield Done("stop")
            return
        keep = len(held) - partial_suffix(held, stops)
        if keep:
            yield Text(held[:keep])
        held = held[keep:]


def cut_at_length(events: Iterator[Event], limit: int) -> Iterator[Event]:
    """End the answer after `limit` (estimated) tokens, thoughts included."""
    counted, tail = 0, ""
    for event in events:
        if not isinstance(event, (Text, Reasoning)):
            yield event
            continue
        kind, text = type(event), event.text
        while text:
            piece, text = text[:TAIL], text[TAIL:]
            if counted + estimate_tokens(tail + piece) > limit:
                ends = range(1, len(piece) + 1)
                left = limit - counted
                fits = bisect(ends, left, key=lambda end: estimate_tokens(tail + piece[:end]))
                if fits:
                    yield kind(piece[:fits])
                yield Done("length")
                return
            yield kind(piece)
            tail += piece
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
    """Put exactly one `Usage` before the `Done`: upstream's numbers, else an estimate of the
    thoughts and of the `raw` text, or of the text that passes here."""
    usage: Usage | None = None
    said: list[str] = [] if raw is None else raw
    thought: list[str] = []
    for event in events:
        kind = type(event)
        if kind is Text:
            if raw is None:
                said.append(event.text)  # type: ignore[union-attr]
        elif kind is Reasoning:
            thought.append(event.text)  # type: ignore[union-attr]
        elif isinstance(event, ToolCall) and not said:
            said.append(f"{event.name} {event.arguments}")  # a native call, which is no text
        elif isinstance(event, Usage):
            usage = event
            continue
        elif kind is Done:
            if usage is None:
                reasoning, answer = (estimate_tokens("".join(pieces)) for pieces in (thought, said))
                usage = Usage(prompt_tokens(), reasoning + answer, reasoning)
            yield usage
        yield event


def hide_reasoning(events: Iterator[Event]) -> Iterator[Event]:
    """Drop thoughts; the caller still gets signs of life while the model thinks. Raises
    EmptyAnswer where there is nothing else."""
    said = False
    for event in events:
        if isinstance(event, Reasoning):
            yield Working()
            continue
        said = said or isinstance(event, (Text, ToolCall))
        if event == Done("stop") and not said:
            raise EmptyAnswer("The model thought, but gave no answer.")
        yield event


def tag_reasoning(events: Iterator[Event]) -> Iterator[Event]:
    """Put thoughts back into the text, between think tags."""
    thinking = False
    for event in events:
        if isinstance(event, Reasoning):
            yield Text(event.text if thinking else f"{OPEN}\n{event.text}")
            thinking = True
        elif thinking and not isinstance(event, (Silence, Working)):
            thinking = False
            yield Text(f"\n{CLOSE}\n\n")
            yield event
        else:
            yield event
