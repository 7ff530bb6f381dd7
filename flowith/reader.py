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
from errors import UpstreamCut, UpstreamError
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
GATHERED = 2_048  # bytes of a read (of 8 KB with its framing) that has nothing to gain by more
CRUSH, LONG_PAUSE = 600, 0.07  # the same for a worker that is near its end


class Channel:
    """Blocks of bytes from one reader to one consumer, bounded in bytes.

    Two bare locks serve as signals: a third of the cost of queue.Queue, which takes three
    conditions and a timer for each wait (docs/performance.md). Time-outs come from the `Clock`.
    """

    __slots__ = (
        "_blocks", "_given", "_over", "_ready", "_room", "_taken", "_wrong",
        "closed", "finished", "wake_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self._blocks: deque[bytes] = deque()
        self._over = False  # whether the reader has told the end
        self._wrong: Exception | None = None
        self.finished = False  # whether the end has been taken, and with it all that came before
        self._ready, self._room = threading.Lock(), threading.Lock()
        self._ready.acquire()
        self._given = self._taken = 0  # each written by one side only
        self.closed = False
        self.wake_at = float("inf")

    def put(self, block: bytes) -> bool:
        """Hand over a block, waiting for room. False when nobody will take it.

        A wait may find its lock open, left by a `take` before: then it looks again.
        """
        while self._given - self._taken > ROOM and not self.closed:
            self._room.acquire()
        self._given += len(block)
        self._blocks.append(block)
        self.wake()
        return not self.closed

    def end(self, wrong: Exception | None = None) -> None:
        """Tell that no more comes, and what went wrong if anything did."""
        self._wrong = None if self.closed else wrong
        self._over = True
        self.wake()

    def wake(self) -> None:
        """Let the consumer look up from its wait. Never blocks; may be called from anywhere."""
        if self._ready.locked():
            try:  # noqa: SIM105 - for each token; `suppress` takes longer than all else here
                self._ready.release()
            except RuntimeError:
                pass  # somebody else was quicker

    def take(self, until: float) -> bytes:
        """All that waits, joined; b"" when `until` (monotonic seconds) came first, after a `wake`,
        or at the end."""
        if not self._blocks and not self._over:
            self.wake_at = until
            self._ready.acquire()
            self.wake_at = float("inf")
        over = self._over  # looked at first: what was put before it is among the blocks below
        blocks = []
        while self._blocks:
            blocks.append(self._blocks.popleft())
        block = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        self._taken += len(block)
        if self._room.locked():
            with suppress(RuntimeError):
                self._room.release()
        self.finished = over
        return block

    def failed(self) -> bool:
        """Whether the end was an error; `take_error` gives it, once."""
        return self._wrong is not None

    def take_error(self) -> Exception:
        """What to raise. The channel lets go of it: its traceback will lead back here."""
        wrong, self._wrong = self._wrong, None
        return wrong or UpstreamCut("Flowith's answer ended.")

    def close(self) -> None:
        """Nobody takes any more: frees the reader and what it left."""
        self.closed = True
        self._blocks.clear()
        self._wrong = None
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
    """Reads one answer into a channel: blocks of bytes, then the end or an error.

    `send` makes the response, in the reader's own thread.
    """

    def __init__(self, send: Callable[[Exchange], Any], url: str, clock: Clock, crew: Crew) -> None:
        self.channel = Channel()
        self.exchange = Exchange()
        self._sends, self._url, self._clock = [send], url, clock
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
        """Send, read, and tell the end once the connection has been given back."""
        channel, response = self.channel, None
        failure: Exception | None = None
        try:
            response = self._sends.pop()(self.exchange)  # popped: it holds the whole prompt
            self._read(self.exchange.reader(response))
        except FOREIGN as wrong:
            failure = to_error(wrong, self._url)
        except Exception as wrong:  # noqa: BLE001 - raised again by the consumer, whose it is
            if isinstance(wrong, UpstreamError):
                forget_frames(wrong)
            failure = wrong
        finally:
            self._running = False
            if response is not None:
                response.raw.close()
            self.exchange.release()
        channel.end(failure)

    def _read(self, read: Callable[[], bytes]) -> None:
        """A token that travels alone costs two wake-ups. Among many calls, or many tokens without a
        gap, that is what fills the core and makes everybody late (docs/performance.md): there they
        are let gather. Elsewhere nothing waits."""
        channel = self.channel
        asked, mean, pause = time.monotonic(), FIRST_MEAN, 0.0
        while block := read():
            mean += (time.monotonic() - asked - mean) * WEIGHT
            if not channel.put(block) and not self._lingers_until:
                break
            if (calls := len(self._clock)) > CROWD:
                self._clock.pause(PAUSE if calls < CRUSH else LONG_PAUSE, self._paused)
            elif mean < BURST and len(block) < GATHERED:
                pause = min(pause + STEP, LONGEST)
                time.sleep(pause)
            elif mean < BURST:
                time.sleep(0)  # whoever takes it gets no more of it at once than one read
            else:
                pause = 0.0
            asked = time.monotonic()
