"""gunicorn's gevent worker: one system call for all that is written in one go, and a door that
nobody can block.

gunicorn writes head, each chunk and the end of a body by themselves: five calls for a small answer,
each of which wakes the other side (docs/performance.md). Knows nothing of HTTP.
"""

import errno
import os
import socket as blocking
import time
from contextlib import suppress
from functools import partial
from typing import Any

import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.workers import ggevent  # type: ignore[import-untyped]

from clock import MOMENT

MOST_HELD = 65_536  # bytes
TURN = 0.005  # seconds for which one caller's bytes may keep the event loop
PATIENCE = 120.0  # seconds for which a caller may take not one byte of what is sent
STUCK = "the caller takes nothing"


class WaitingRoom:
    """The callers whose next request is awaited: those who have just come, those who dawdle in the
    middle of a head, and those whose connection is kept. Each is served by a greenlet of its own,
    which has the caller's socket (`client`), and the round of the event loop in which its latest
    wait began (`round`), from `QuietWorker.handle`.
    """

    def __init__(self) -> None:
        self._waiting: dict[Any, None] = {}  # in the order in which their waits began

    def begin_wait(self) -> None:
        """Others first where all of the last request was done within one round: who sends many in a
        row would keep the event loop for as long as it goes on."""
        current: Any = gevent.getcurrent()
        loop = gevent.get_hub().loop
        if current.round == loop.iteration:
            gevent.sleep(MOMENT)
        current.round = loop.iteration
        self._waiting[current] = None

    def end_wait(self) -> None:
        self._waiting.pop(gevent.getcurrent(), None)

    def make_room(self) -> None:
        """Send the one away who has waited longest, if there is one."""
        longest = next(iter(self._waiting), None)
        if longest is not None:
            del self._waiting[longest]
            # to its reader it now looks as if the caller had hung up. A twin, since gevent would
            # raise in the reader where it is shut down for reading itself, and gunicorn log that
            with suppress(OSError), blocking.fromfd(longest.client.fileno(), -1, -1) as twin:
                twin.shutdown(blocking.SHUT_RD)


WAITING = WaitingRoom()  # a process has one worker


class HeadTimeout(gevent.Timeout):
    """gunicorn's time limit for the wait for a request and its head; who waits is noted."""

    def __enter__(self) -> Any:
        WAITING.begin_wait()
        return super().__enter__()

    def __exit__(self, *wrong: Any) -> Any:
        WAITING.end_wait()
        return super().__exit__(*wrong)


class Door(StreamServer):
    """Lets in a few at a time; keeps a place free, at the cost of who dawdles; before it closes it
    lets in all who have connected, or the kernel would reset them."""

    # per turn of the event loop: those who come must not hold up those who are inside. gevent's 100
    # make tokens twice as late while a crowd opens (docs/performance.md)
    max_accept = 2

    def __init__(self, listener: Any, handle: Any, spawn: Any = "default") -> None:
        super().__init__(listener, handle, spawn=spawn)
        # gevent has put the pool's own there
        self.full = self._is_full  # type: ignore[method-assign]

    def _is_full(self) -> bool:
        """Asked before anybody is let in. Who is sent away frees a place a moment later."""
        full = self.pool is not None and self.pool.full()
        if full:
            WAITING.make_room()
        return full

    def close(self) -> None:
        if self.started:
            with suppress(OSError):  # out of descriptors; those inside still need this worker
                while not self.full() and (accepted := self.do_read()):
                    self.do_handle(*accepted)
        super().close()


class QuietWorker(ggevent.GeventWorker):  # type: ignore[misc]
    """The gevent worker, with our door and on quiet sockets."""

    def server_class(self, listener: Any, *, spawn: Pool, **_for_pywsgi: Any) -> Door:
        """`run` calls it with what gevent's WSGI server would need; what it gets is our door."""
        door = Door(listener, partial(self.handle, listener), spawn)
        if self.cfg.workers > 1:
            door.max_accept = 1  # as gunicorn has it: the other workers are to get some too
        return door

    def timeout_ctx(self) -> HeadTimeout:
        return HeadTimeout(self.cfg.keepalive, False)  # type: ignore[arg-type]  # ends in silence

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        plain = type(client) is socket.socket  # what is written to a TLS socket must be encrypted
        quiet = QuietSocket(client) if plain else client
        current: Any = gevent.getcurrent()
        current.client, current.round = quiet, -1
        # gunicorn asks the listener for its address; a closed one has none, the client has
        super().handle(client, quiet, addr)


class QuietSocket:
    """A caller's socket; what is written to it leaves when the greenlet next waits for anything.

    So nothing is ever late, and nobody is held up: while the greenlet runs, no other one could.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        # of what `__getattr__` would find, that which each request asks for, eight times in all
        self.fileno, self.gettimeout = sock.fileno, sock.gettimeout
        self.settimeout = sock.settimeout
        self._held: list[bytes] = []
        self._size = 0
        self._loop = gevent.get_hub().loop
        self._round, self._began = 0, 0.0  # of the event loop, and when it was first seen here
        # sends what the kernel did not take at once
        self._rest: gevent.Greenlet[Any, Any] | None = None
        # why no write can succeed any more; words, because an error would hold the frame that
        # raises it, which holds this socket: a circle, and the whole request with it
        self._wrong = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As the socket's. Where bytes come as fast as they are taken nothing ever waits, and the
        sender of an endless body held up all others (measured): so they have their turn here."""
        if self._loop.iteration != self._round:
            self._round, self._began = self._loop.iteration, time.monotonic()
        elif time.monotonic() - self._began > TURN:
            gevent.sleep(MOMENT)
        data: bytes = self._socket.recv(size, flags)
        return data

    def sendall(self, data: bytes, flags: int = 0) -> None:
        """Send soon; waits for a slow reader. Raises the OSError of an earlier write."""
        if self._rest or self._wrong or self._size > MOST_HELD:
            self.flush()
        if not self._held:
            gevent.get_hub().loop.run_callback(self._write)
        self._held.append(data)
        self._size += len(data)

    def send(self, data: bytes, flags: int = 0) -> int:
        self.flush()
        return self._socket.send(data, flags)

    def sendfile(self, *args: Any, **kwargs: Any) -> int:
        self.flush()
        return self._socket.sendfile(*args, **kwargs)

    def shutdown(self, how: int) -> None:
        self._write()
        self._socket.shutdown(how)

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._socket.close()

    def flush(self) -> None:
        """Wait until all has been handed to the kernel. Raises OSError."""
        self._write()
        if self._rest:
            rest, self._rest = self._rest, None
            rest.get()
        if self._wrong:
            raise ConnectionResetError(errno.ECONNRESET, self._wrong)

    def _write(self) -> None:
        """Runs in the event loop too, so it must not wait."""
        if not self._held:
            return
        data = b"".join(self._held)
        self._held, self._size = [], 0
        try:
            sent = os.write(self._socket.fileno(), data)
        except BlockingIOError:
            sent = 0
        except OSError as wrong:  # also gevent's own, where somebody else broke it off
            self._wrong = str(wrong)
            return
        if sent < len(data):
            self._rest = gevent.spawn(self._send_rest, memoryview(data)[sent:])

    def _send_rest(self, data: memoryview) -> None:
        try:
            while data:
                with gevent.Timeout(PATIENCE, ConnectionResetError(errno.ECONNRESET, STUCK)):
                    sent = self._socket.send(data)
                data = data[sent:]
        except OSError as wrong:  # also gevent's own, where somebody else broke it off
            self._wrong = str(wrong)
