"""CPU time for what may take for ever: schemas, and JSON that has to be mended.

Knows nothing of either. Time is that of the thread at work, so that a busy machine refuses nothing
that an idle one takes; others have their turn meanwhile.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from time import thread_time

from clock import MOMENT, TURN

CPU_SECONDS = 0.5  # for one request, however many schemas it has
_STEPS = 8  # between two looks at the clock


class Spent(ValueError):
    """The budget is used up."""


class Budget:
    """What one request may spend; each piece of work takes from the same `left` (seconds)."""

    def __init__(self, seconds: float | None = None) -> None:
        self.left = CPU_SECONDS if seconds is None else seconds
        self._until = self._turn_ends = 0.0  # by the clock of the thread
        self._steps = 0
        self._others = 0.0  # seconds that others had, in their turns

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of what is done inside, which calls `step` often. Raises Spent."""
        if self.left <= 0:
            raise Spent("it needs too much work")
        started = thread_time() - self._others
        self._begin(self.left)
        try:
            yield
        finally:
            self.left -= thread_time() - self._others - started

    def step(self) -> None:
        """One small piece of work. Raises Spent where the time is over."""
        self._steps += 1
        if self._steps % _STEPS:
            return
        now = thread_time()
        if now > self._until:
            raise Spent("it needs too much work")
        if now > self._turn_ends:
            left = self._until - now
            time.sleep(MOMENT)
            self._others += thread_time() - now
            self._begin(left)

    def _begin(self, left: float) -> None:
        now = thread_time()
        self._until, self._turn_ends = now + left, now + TURN
