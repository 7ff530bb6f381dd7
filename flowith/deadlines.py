"""The moments of one call: signs of life to the caller, and when to give up."""

import time
from dataclasses import dataclass
from typing import Self

from events import Silence, Working
from settings import Settings


@dataclass(slots=True)
class Deadlines:
    """When one call has to say something, and when it has to give up; all in monotonic seconds."""

    heartbeat: float  # seconds between two signs of life
    tick_at: float  # when silence has lasted long enough for one
    works_at: float  # when one is due to callers who have heard nothing of the words that came
    total_by: float
    retry_by: float

    @classmethod
    def start(cls, settings: Settings) -> Self:
        """Those of a call that begins now."""
        now = time.monotonic()
        first = now + settings.hold
        total_by = now + settings.total_timeout
        return cls(settings.heartbeat, first, first, total_by, now + settings.retry_seconds)

    def signs(self, now: float) -> list[Silence | Working]:
        """The sign of life that is due, if one is; the next one is due a heartbeat later."""
        next_at = now + self.heartbeat
        if now >= self.tick_at:
            self.tick_at = self.works_at = next_at
            return [Silence()]
        if now >= self.works_at:
            self.works_at = next_at
            return [Working()]
        return []
