"""Turns: nobody's work keeps the event loop from all others for long.

Under gevent only who waits lets others run, and whoever reads what has arrived already does not
wait. Knows nothing of what the work is.
"""

import time
from collections.abc import Iterator, Sequence

from events import Event, Reasoning, Text

LONGEST = 8_192  # characters of one event; some filters may take tens of milliseconds for them
TURN = 0.02  # seconds of work without a break


def in_turns(events: Iterator[Event]) -> Iterator[Event]:
    """The same events, of which none is longer than `LONGEST`; when `TURN` is over others have
    theirs before the next one."""
    until = time.monotonic() + TURN
    for event in events:
        pieces: Sequence[Event] = (event,)
        if isinstance(event, (Text, Reasoning)) and len(event.text) > LONGEST:
            pieces = _pieces(event)
        for piece in pieces:
            yield piece
            if time.monotonic() > until:
                time.sleep(0)
                until = time.monotonic() + TURN


def _pieces(event: Text | Reasoning) -> Sequence[Event]:
    kind, text = type(event), event.text
    return [kind(text[at : at + LONGEST]) for at in range(0, len(text), LONGEST)]
