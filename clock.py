"""The one thread that watches deadlines, for callers and upstream calls alike.

Knows nothing of what it watches.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from errors import bug_place

TICK = 0.1  # seconds between two looks at the deadlines, for all calls together
log = logging.getLogger("proxy")


class Ticking(Protocol):
    """What the clock looks after."""

    def tick(self, now: float) -> None: ...


class Limited(Protocol):
    """What has a last moment."""

    def overdue(self) -> None: ...


class Clock:
    """One thread per process that watches the deadlines of all calls under way.

    It spares every wait a timer of its own; started with the first call, because a thread does not
    survive gunicorn's fork. `sleep_until` is how a thread pauses: where threads are greenlets there
    is a cheaper way for many pauses (server/rounds.py).
    """

    def __init__(self) -> None:
        self._calls: set[Ticking] = set()
        self._last: dict[Limited, float] = {}  # monotonic seconds
        self._lock = threading.Lock()
        self._runs = False
        self.sleep_until: Callable[[float], None] = sleep_until

    def __len__(self) -> int:
        """How many calls are under way: readers tell by it whether there is a crowd."""
        return len(self._calls)

    def add(self, call: Ticking) -> None:
        """Have `call.tick` called every TICK seconds, until it fails."""
        with self._lock:
            self._calls.add(call)
            self._start()

    def drop(self, call: Ticking) -> None:
        """Do so no more; one that was never added is no matter."""
        self._calls.discard(call)  # in one step, whoever looks at them

    def limit(self, work: Limited, seconds: float) -> None:
        """Call `work.overdue` once after so many seconds, unless it is released before."""
        with self._lock:
            self._last[work] = time.monotonic() + seconds
            self._start()

    def release(self, work: Limited) -> None:
        """Its work is done; `work.overdue` may be on its way at this very moment."""
        with self._lock:
            self._last.pop(work, None)

    def _start(self) -> None:
        if not self._runs:
            self._runs = True
            threading.Thread(target=self._run, name="clock", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(TICK)
            now = time.monotonic()
            with self._lock:
                calls = list(self._calls)
                overdue = [work for work, until in self._last.items() if until <= now]
                for work in overdue:
                    del self._last[work]
                if not (calls or self._last or overdue):
                    self._runs = False
                    return
            for work in overdue:
                try:
                    work.overdue()
                except Exception as wrong:  # noqa: BLE001 - the others' deadlines have to hold
                    _tell(wrong)
            for call in calls:
                try:
                    call.tick(now)
                except Exception as wrong:  # noqa: BLE001 - as above
                    _tell(wrong)
                    self.drop(call)


def _tell(wrong: Exception) -> None:
    log.error("internal error at a deadline: %s", bug_place(wrong))


def sleep_until(moment: float) -> None:
    """Pause the thread that calls this until `moment`, monotonic seconds."""
    time.sleep(max(0.0, moment - time.monotonic()))
