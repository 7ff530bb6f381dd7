"""The moments of one call: signs of life to the caller, and when to give up."""

import time
from dataclasses import dataclass
from typing import Self

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

    def silence_is_due(self, now: float) -> bool:
        """Whether it is time for a sign of life; the next one is due a heartbeat later."""
        due = now >= self.tick_at
        if due:
            self.tick_at = self.works_at = now + self.heartbeat
        return due

    def working_is_due(self, now: float) -> bool:
        """The same where words have come, of which perhaps none has reached the caller."""
        due = now >= self.works_at
        if due:
            self.works_at = now + self.heartbeat
        return due
