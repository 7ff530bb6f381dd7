"""The reader thread and its bounded queue: bytes come in here, whatever the caller does there.

A thread for each upstream call (a greenlet under gunicorn's gevent worker) reads; the caller's own
thread waits on a `Channel`, so that silence, deadlines and a caller who leaves are noticed at
once. Knows nothing of what the bytes mean.
"""

import _thread
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from clock import Clock
from flowith.connection import Exchange
from flowith.transport import FOREIGN, forget_frames, to_error

ROOM = 262_144  # bytes a slow caller may leave unread before the reader stops reading
LINGER = 2.0  # seconds the reader may look for the end of the HTTP body after the answer's end
SPARE = 64  # threads that wait for the next call
CROWD = 100  # calls at once, up to which every token travels alone
PAUSE = 0.05  # seconds to let tokens gather above that: two or three, at the usual pace
BURST = 0.0025  # seconds that reads wait, in a moving mean, below which tokens come without a gap
WEIGHT = 0.1  # of the latest read in that mean
FIRST_MEAN = 0.25  # seconds; 44 reads away from a burst, so that no short answer is taken for one
STEP, LONGEST = 0.0005, 0.01  # seconds to let a burst gather: more each time, up to that
CRUSH, LONG_PAUSE = 600, 0.07  # the same for a worker that is near its end


class Channel:
    """Blocks of bytes from one reader to one consumer, bounded in bytes.

    Two bare locks serve as signals: a third of the cost of queue.Queue, which takes three
    conditions and a timer for each wait (docs/performance.md). Time-outs come from the `Clock`.
    """

    __slots__ = ("_blocks", "_given", "_ready", "_room", "_taken", "closed", "wake_at")

    def __init__(self) -> None:
        self._blocks: deque[Any] = deque()
        self._ready, self._room = threading.Lock(), threading.Lock()
        self._ready.acquire()
        self._room.acquire()
        self._given = self._taken = 0  # each written by one side only
        self.closed = False
        self.wake_at = float("inf")

    def put(self, block: bytes) -> bool:
        """Hand over a block, waiting for room. False when nobody will take it."""
        while self._given - self._taken > ROOM and not self.closed:
            self._room.acquire()
        self._given += len(block)
        self.tell(block)
        return not self.closed

    def tell(self, item: Any) -> None:
        """Hand over what is not a block of bytes: an error, or None for the end."""
        if not self.closed:
            self._blocks.append(item)
            self.wake()

    def wake(self) -> None:
        """Let the consumer look up from its wait. Never blocks; may be called from anywhere."""
        if self._ready.locked():
            with suppress(RuntimeError):  # somebody else was quicker
                self._ready.release()

    def take(self, until: float) -> list[Any]:
        """All that waits; [] when `until` (monotonic seconds) came first, or after a `wake`."""
        if not self._blocks:
            self.wake_at = until
            self._ready.acquire()
            self.wake_at = float("inf")
        items = []
        while self._blocks:
            items.append(self._blocks.popleft())
        self._taken += sum([len(item) for item in items if type(item) is bytes])
        if self._room.locked():
            with suppress(RuntimeError):
                self._room.release()
        return items

    def close(self) -> None:
        """Nobody takes any more: frees the reader and what it left."""
        self.closed = True
        self._blocks.clear()
        if self._room.locked():
            with suppress(RuntimeError):
                self._room.release()


class _Seat:
    """Where one thread of a crew waits for its next work."""

    __slots__ = ("called", "work")

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.called = threading.Lock()
        self.called.acquire()


class Crew:
    """Threads that do one piece of work after the other; to start one for each takes 15 us."""

    def __init__(self) -> None:
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


class Reader:
    """Reads one answer into a channel: blocks of bytes, then None or an error."""

    def __init__(self, send: Callable[[Exchange], Any], url: str, clock: Clock, crew: Crew) -> None:
        self.channel = Channel()
        self.exchange = Exchange()
        self._send, self._url, self._clock = send, url, clock
        self._lingers_until = 0.0
        self._running = True
        self._paused = threading.Lock()
        self._paused.acquire()
        crew.do(self._run)

    def tick(self, now: float) -> None:
        """Called by the clock while the end of a body is awaited."""
        if now >= self._lingers_until or not self._running:
            self._clock.drop(self)
            self.exchange.cancel()

    def close(self, finished: bool) -> None:
        """Stop reading. An answer that has `finished` may bring its HTTP body to an end, so that
        the connection can be used again; a body left unread costs the connection."""
        if finished and self._running:
            self._lingers_until = time.monotonic() + LINGER
            self._clock.add(self)
        self.channel.close()
        if not finished:
            self.exchange.cancel()

    def _run(self) -> None:
        """A token that travels alone costs two wake-ups. Among many calls, or many tokens without a
        gap, that is what fills the core and makes everybody late (docs/performance.md): there they
        are let gather. Elsewhere nothing waits."""
        channel, response = self.channel, None
        try:
            response = self._send(self.exchange)
            read = self.exchange.reader(response)
            asked, mean, pause = time.monotonic(), FIRST_MEAN, 0.0
            while block := read():
                mean += (time.monotonic() - asked - mean) * WEIGHT
                if not channel.put(block) and not self._lingers_until:
                    break
                if (calls := len(self._clock)) > CROWD:
                    self._clock.pause(PAUSE if calls < CRUSH else LONG_PAUSE, self._paused)
                elif mean < BURST:
                    pause = min(pause + STEP, LONGEST)
                    time.sleep(pause)
                else:
                    pause = 0.0
                asked = time.monotonic()
            channel.tell(None)
        except FOREIGN as wrong:
            channel.tell(to_error(wrong, self._url))
            forget_frames(wrong)
        except Exception as wrong:  # noqa: BLE001 - raised again by the consumer, whose it is
            forget_frames(wrong)
            channel.tell(wrong)
        finally:
            self._running = False
            if response is not None:
                response.raw.close()
            self.exchange.release()
