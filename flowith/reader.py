"""One answer, read by whoever wants it, whatever phase it is in: a thread sends the request, so
that silence, deadlines and a caller who leaves are noticed before there is an answer, too.

Once the answer's head is there, its reader waits on the socket itself: a wait that runs out loses
nothing (`http_answer.py`). Knows nothing of what the bytes mean.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import requests

from clock import MOMENT, TURN
from errors import UpstreamCut, UpstreamError
from flowith.connection import SHORTEST, Exchange
from flowith.crew import Crew, Signal
from flowith.transport import FOREIGN, forget_frames, to_error

LINGER = 2.0  # seconds to look for the end of the HTTP body after the answer's end
# Calls at once above which tokens gather, and for how many seconds: as long as there is CPU time
# left nobody is made later than need be; at the usual pace 0.05 are two or three of them
CROWD, SHORT_PAUSE = 100, 0.028
THRONG, PAUSE = 300, 0.05
CRUSH, LONG_PAUSE = 600, 0.07
BEAT = 0.005  # seconds between the moments at which such pauses end
BURST = 0.0025  # seconds that reads wait, in a moving mean, below which tokens come without a gap
WEIGHT = 0.1  # of the latest read in that mean
FIRST_MEAN = 0.25  # seconds; 44 reads away from a burst, so that no short answer is taken for one
STEP, LONGEST = 0.0005, 0.01  # seconds to let a burst gather: more each time, up to that
GATHERED = 2_048  # bytes of a read (of 8 KB with its framing) that has nothing to gain by more


class Reader:
    """One request under way and the bytes of its answer.

    `send` makes the response, in a thread of the crew, which wakes `signal`. `finished` once the
    body has come to its end.
    """

    def __init__(
        self,
        send: Callable[[Exchange], requests.Response],
        url: str,
        crew: Crew,
        signal: Signal,
    ) -> None:
        self.finished = False
        self._exchange = Exchange()
        self._url, self._crew, self._signal = url, crew, signal
        self._wrong: Exception | None = None
        self._take: Callable[[], bytes] | None = None  # reads the body, once there is one
        self._busy = True  # whether a thread is at it, which then clears away by itself
        self._closed = False
        self._told = False  # whether it was cancelled
        self._patience = 0.0  # seconds that the socket waits at most
        self._size = 0  # bytes of the latest read
        self._working_since = 0.0  # without a wait, in monotonic seconds
        self._mean, self._pause = FIRST_MEAN, 0.0
        crew.do(partial(self._send, send))
        crew.readers.add(self)  # last: one that could not begin is closed by nobody

    def _send(self, send: Callable[[Exchange], requests.Response]) -> None:
        try:
            self._exchange.response = send(self._exchange)
            self._take = self._exchange.reader()
        except FOREIGN as wrong:
            self._wrong = to_error(wrong, self._url)
        except Exception as wrong:  # noqa: BLE001 - raised again by `read`
            if isinstance(wrong, UpstreamError):
                forget_frames(wrong)
            self._wrong = wrong
        self._leave()
        self._signal.wake()

    def read(self, until: float) -> bytes:
        """All of the body that has arrived. b"" when `until` (monotonic seconds) came first, after
        a wake, or at the end. Raises UpstreamError, and what sending raised; after `cancel` that
        comes with the second call, as whoever cancels knows better what to say."""
        if self._busy:
            self._signal.wait(until)
        if self._busy:
            return b""
        if self._exchange.cancelled and not self._told:
            self._told = True
            return b""
        if self._wrong is not None or self._exchange.cancelled:
            raise self._take_error()
        self._busy = True
        try:
            if self._size:
                self._let_gather()
            asked = time.monotonic()
            left = max(SHORTEST, until - asked)
            if not left / 4 <= self._patience <= left:
                # half of it, or it would have to be set anew for each token; a wait that runs out
                # too early costs no more than another look
                self._patience = left / 2
                self._exchange.wait_at_most(self._patience)
            block = self._take()  # type: ignore[misc]  # it is there, or there is an error
        except FOREIGN as wrong:
            self._told = self._exchange.cancelled
            if self._told or _is_time_out(wrong):
                return b""
            raise to_error(wrong, self._url) from None
        finally:
            self._busy = False  # as `_leave`, a function less for each token
            if self._closed:
                self._exchange.release()
        came = time.monotonic()
        if came - asked > MOMENT or not self._size:
            self._working_since = came  # others had their turn
        self._mean += (came - asked - self._mean) * WEIGHT
        self._size = len(block)
        if not block:
            self.finished = True
            self._exchange.release()
        return block

    def _let_gather(self) -> None:
        """A token that travels alone costs a wake-up. Among many calls, or many tokens without a
        gap, that is what fills the core and makes everybody late (docs/performance.md): there they
        are let gather. Elsewhere nothing waits."""
        calls = len(self._crew.readers)
        if calls > CROWD:
            # ends together with others: a worker that is woken for one of them at a time spends a
            # third of its time on waking up (docs/performance.md)
            if calls < THRONG:
                pause = SHORT_PAUSE
            elif calls < CRUSH:
                pause = PAUSE
            else:
                pause = LONG_PAUSE
            self._crew.sleep_until(int((time.monotonic() + pause) / BEAT) * BEAT)
        elif self._mean < BURST and self._size < GATHERED:
            self._pause = min(self._pause + STEP, LONGEST)
            time.sleep(self._pause)
        elif time.monotonic() - self._working_since > TURN:
            time.sleep(MOMENT)
            self._working_since = time.monotonic()
        elif self._size >= GATHERED:
            time.sleep(0)  # others have their turn, however fast it comes
        else:
            self._pause = 0.0

    def _take_error(self) -> Exception:
        """What to raise. It is let go of here: its traceback will lead back here."""
        wrong, self._wrong = self._wrong, None
        return wrong or UpstreamCut("Flowith's answer ended.")

    def cancel(self) -> None:
        """End whatever waits for Flowith. May be called from anywhere, more than once."""
        self._exchange.cancel()

    def close(self, finished: bool) -> None:
        """Stop reading, in whatever phase it is. An answer that has `finished` may bring its HTTP
        body to an end, so that the connection can be used again; a body left unread costs the
        connection. May be called from anywhere, once."""
        self._crew.readers.discard(self)
        if finished and not self.finished and not self._busy:
            self._busy = self._closed = True
            if self._exchange.has_arrived():
                self._linger()
            else:
                self._crew.do(self._linger)
            return
        self._closed = True
        if not finished:
            self._exchange.cancel()
        if not self._busy:
            self._exchange.release()

    def _linger(self) -> None:
        until = time.monotonic() + LINGER
        with suppress(*FOREIGN):
            while (left := until - time.monotonic()) > 0:
                self._exchange.wait_at_most(left)
                if not self._take():  # type: ignore[misc]
                    break
        self._leave()

    def _leave(self) -> None:
        """Whoever was at it is done. Both sides note what they did before they look at the other:
        so at least one clears away."""
        self._busy = False
        if self._closed:
            self._exchange.release()


def _is_time_out(wrong: Exception) -> bool:
    """Whether our own wait ran out; the kernel's (of TCP) has a number."""
    return isinstance(wrong, TimeoutError) and wrong.errno is None
