"""Turns: nobody's work keeps the event loop from all others for long.

Under gevent only who waits lets others run, and what one read has brought is worked through without
a wait. A read is short; what it ends may be one event of megabytes, and some filters take tens of
milliseconds for a few KB. Knows nothing of what the work is.
"""

import time
from collections.abc import Iterator

from events import Event, Reasoning, Text

LONGEST = 8_192  # characters of one event
LONG = 0.02  # seconds of work without a wait
MOMENT = 0.001  # seconds; with 0 gevent would go on before it looks at sockets


def let_others(began: float) -> None:
    """Others have their turn where the work that began then, in monotonic seconds, took long."""
    if time.monotonic() - began > LONG:
        time.sleep(MOMENT)


def in_turns(events: Iterator[Event]) -> Iterator[Event]:
    """The same events, the text of a long one in pieces; others have their turn between two."""
    for event in events:
        if not isinstance(event, (Text, Reasoning)) or len(event.text) <= LONGEST:
            yield event
            continue
        kind, text = type(event), event.text
        for at in range(0, len(text), LONGEST):
            yield kind(text[at : at + LONGEST])
            time.sleep(MOMENT)
