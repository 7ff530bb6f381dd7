"""Time that all share: the one thread that watches deadlines, and turns, so that nobody's work
keeps the event loop from all others for long.

Knows nothing of what it watches, or of what the work is.
"""

import logging
import threading
import time
from typing import Protocol

from errors import bug_place

TICK = 0.1  # seconds between two looks at the deadlines, for all calls together
TURN = 0.02  # seconds of work without a wait, after which others have their turn
MOMENT = 0.001  # seconds of that; with 0 gevent would go on before it looks at sockets
log = logging.getLogger("proxy")


def let_others(began: float) -> None:
    """Others have their turn where the work that began then, in monotonic seconds, took long. Under
    gevent only who waits lets others run."""
    if time.monotonic() - began > TURN:
        time.sleep(MOMENT)


class Ticking(Protocol):
    """What the clock looks after; it knows by itself what is due at `now` (monotonic seconds)."""

    def tick(self, now: float) -> None: ...


class Clock:
    """One thread per process that watches all deadlines.

    It spares every wait a timer of its own; started with the first work, because a thread does not
    survive gunicorn's fork.
    """

    def __init__(self) -> None:
        self._watched: dict[Ticking, float] = {}  # since when, in monotonic seconds
        self._lock = threading.Lock()
        self._runs = False

    def add(self, work: Ticking, after: float = 0.0) -> None:
        """Have `work.tick` called every TICK seconds, until it fails; not before so many seconds
        have passed, as a thousand calls for nothing cost 2 % of a crowd."""
        with self._lock:
            self._watched[work] = time.monotonic() + after
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="clock", daemon=True).start()

    def drop(self, work: Ticking) -> None:
        """Do so no more, but for a call that is on its way at this moment; one that was never added
        is no matter."""
        self._watched.pop(work, None)  # in one step, whoever looks at them

    def _run(self) -> None:
        while True:
            time.sleep(TICK)
            with self._lock:
                watched = list(self._watched.items())  # in one step, whoever drops some
                if not watched:
                    self._runs = False
                    return
            now = time.monotonic()
            for work, since in watched:
                if now < since:
                    continue
                try:
                    work.tick(now)
                except Exception as wrong:  # noqa: BLE001 - the others' deadlines have to hold
                    log.error("internal error at a deadline: %s", bug_place(wrong))
                    self.drop(work)
