"""One try of a call: one order under way, and what comes back of it as events.

Knows nothing of retries.
"""

import time
from functools import partial

import requests

from errors import EmptyAnswer, ThoughtsOnly, UpstreamError
from events import Done, Event, Picture, Reasoning, Silence, Text, ToolCall
from flowith.connection import Exchange
from flowith.crew import Crew, Signal
from flowith.dialects import Decoder, to_content_type
from flowith.order import Order
from flowith.reader import Reader
from flowith.transport import Transport

LONGEST_ANSWER = 67_108_864  # bytes; more than any model writes


class Attempt:
    """What a reader reads, made into events.

    `begun` once anything has been passed on that a caller may see, `finished` once the answer has
    come to its end; `heard_at`, monotonic seconds, is for who waits. The answer's head wakes
    `signal`.
    """

    def __init__(self, order: Order, transport: Transport, crew: Crew, signal: Signal) -> None:
        self.begun = self.finished = False
        self.heard_at = time.monotonic()
        self._spoke = False  # whether there are words or calls, and not thoughts alone
        self._held: list[Event] = []
        self._received = 0
        self._decoder: Decoder  # made when the head of the answer tells its type
        send = partial(self._send, order, transport)
        self._reader = Reader(send, order.dialect.url, crew, signal)

    def _send(self, order: Order, transport: Transport, exchange: Exchange) -> requests.Response:
        """In a thread of the crew: a caller who leaves, or a deadline, must not wait for it."""
        response = order.send(transport, exchange)
        content_type = to_content_type(response.headers.get("Content-Type", ""))
        self._decoder = order.dialect.decoder(content_type)
        return response

    def read(self, until: float) -> list[Event]:
        """What the bytes that have arrived mean, as far as it may be passed on. Waits for them
        until `until` (monotonic seconds) at most. Raises UpstreamError."""
        block = self._reader.read(until)
        if block:
            self._received += len(block)
            if self._received > LONGEST_ANSWER:
                raise UpstreamError("Flowith's answer does not end.")
            events = self._decoder.decode(block)
        elif self._reader.finished:
            events = self._decoder.flush()
        else:
            return []
        self.finished = bool(events) and type(events[-1]) is Done
        return events if self._spoke else self._hold(events)

    def _hold(self, events: list[Event]) -> list[Event]:
        """Nothing is passed on before there is a word or a thought, so that an empty answer can be
        tried again."""
        self._spoke = any(map(_is_word, events))
        last = events[-1] if events else None
        if isinstance(last, Done) and last.is_own and not self._spoke:
            raise ThoughtsOnly if self.begun else EmptyAnswer("Flowith sent an empty answer.")
        self.begun = self.begun or self._spoke or any(map(_is_thought, events))
        if self.begun or self.finished:
            held, self._held = self._held, []
            return [*held, *events]
        self._held += (event for event in events if type(event) is not Silence)
        return [event for event in events if type(event) is Silence]

    def cancel(self) -> None:
        """End whatever waits for Flowith. May be called from anywhere, more than once."""
        self._reader.cancel()

    def close(self) -> None:
        """Stop it in whatever phase it is."""
        self._reader.close(self.finished)


def _is_word(event: Event) -> bool:
    if isinstance(event, Text):
        return not event.text.isspace()
    return isinstance(event, (ToolCall, Picture))


def _is_thought(event: Event) -> bool:
    return isinstance(event, Reasoning) and not event.text.isspace()
