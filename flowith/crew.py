"""Threads that send requests and do what must not hold up its caller; how one wakes another.

Knows nothing of what they do.
"""

import _thread
import threading
import time
from collections.abc import Callable

SPARE = 64  # threads that wait for the next call


class Signal:
    """Where one thread waits until another wakes it, or the `Clock` does in its time.

    A bare lock: it spares each wait a timer and three conditions (docs/performance.md).
    """

    __slots__ = ("_lock", "wake_at")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.wake_at = float("inf")

    def wait(self, until: float) -> None:
        """Until it is woken. Whoever ticks has to do that at `until`, monotonic seconds."""
        self.wake_at = until
        self._lock.acquire()
        self.wake_at = float("inf")

    def wake(self) -> None:
        """Never blocks; may be called from anywhere. A wait that has yet to begin ends at once."""
        if self._lock.locked():
            try:  # noqa: SIM105 - thrice a call, and `suppress` takes three functions each time
                self._lock.release()
            except RuntimeError:  # somebody else was quicker
                pass


class _Seat:
    """Where one thread of a crew waits for its next work."""

    __slots__ = ("called", "work")

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.called = threading.Lock()
        self.called.acquire()


def sleep_until(moment: float) -> None:
    """Pause the thread that calls this until `moment`, monotonic seconds."""
    time.sleep(max(0.0, moment - time.monotonic()))


class Crew:
    """Threads that do one piece of work after the other; to start one for each takes 15 us.

    `readers` have a request under way: each tells by them whether there is a crowd. `sleep_until`
    is how they pause: where threads are greenlets there is a cheaper way (server/shared_timer.py).
    """

    def __init__(self) -> None:
        self.readers: set[object] = set()
        self.sleep_until: Callable[[float], None] = sleep_until
        self._idle: list[_Seat] = []

    def do(self, work: Callable[[], None]) -> None:
        """Have it done at once, by a thread that is free or a new one. It must not raise."""
        try:
            seat = self._idle.pop()
        except IndexError:
            _thread.start_new_thread(self._stay, (_Seat(work),))
        else:
            seat.work = work
            seat.called.release()

    def _stay(self, seat: _Seat) -> None:
        while True:
            seat.work()
            del seat.work  # it would keep the whole answer
            if len(self._idle) >= SPARE:
                return
            self._idle.append(seat)
            seat.called.acquire()
