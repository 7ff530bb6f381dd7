"""CPU time for what may take for ever: schemas, and JSON that has to be mended.

Knows nothing of either. Time is that of the thread at work, so that a busy machine refuses nothing
that an idle one takes.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import thread_time
from typing import TypeVar

T = TypeVar("T")
CPU_SECONDS = 0.5  # for one request, however many schemas it has: meanwhile all others wait
_STEPS = 8  # between two looks at the clock


class Spent(ValueError):
    """The budget is used up."""


class Budget:
    """What one request may spend; each piece of work takes from the same `left` (seconds)."""

    def __init__(self, seconds: float | None = None) -> None:
        self.left = CPU_SECONDS if seconds is None else seconds
        self._until = 0.0
        self._steps = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of what is done inside, which calls `step` often. Raises Spent."""
        if self.left <= 0:
            raise Spent("it needs too much work")
        started = thread_time()
        self._until = started + self.left
        try:
            yield
        finally:
            self.left -= thread_time() - started

    def step(self) -> None:
        """One small piece of work. Raises Spent where the time is over."""
        self._steps += 1
        if self._steps % _STEPS == 0 and thread_time() > self._until:
            raise Spent("it needs too much work")

    def watch(self, work: Callable[[], T]) -> T:
        """Run a library's `work` that never calls `step`. Raises Spent.

        Python's profiling hook is the only way in: json_repair has no limit of its own, and 8 KB of
        brackets and quotes keep it busy for 38 s (measured). It is used nowhere else, since it
        makes all Python code some three times slower.
        """

        def look(*_: object) -> None:
            self.step()

        before = sys.getprofile()
        with self.running():
            sys.setprofile(look)
            try:
                return work()
            finally:
                sys.setprofile(before)
