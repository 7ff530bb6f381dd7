"""Whether this worker has been told to stop, and when its streams have to end."""

from typing import Any

MARGIN = 2.5  # seconds before gunicorn kills


class Drain:
    """gunicorn kills a worker after `graceful_timeout` without a word to anybody (measured), so the
    streams end themselves a little earlier. `worker` is set by gunicorn.conf.py.
    """

    def __init__(self) -> None:
        self.worker: Any = None
        self._due: float | None = None

    def closing(self) -> bool:
        """Whether the worker has been told to stop."""
        return self.worker is not None and not self.worker.alive

    def is_due(self, now: float) -> bool:
        """Whether streams must end; `now` in monotonic seconds."""
        if not self.closing():
            return False
        if self._due is None:
            self._due = now + self.worker.cfg.graceful_timeout - MARGIN
        return now >= self._due
