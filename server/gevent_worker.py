"""gunicorn's gevent worker, with one system call for all that is written in one go.

gunicorn writes head, each chunk and the end of a body by themselves: five calls for a small answer,
each of which wakes the other side (docs/performance.md). A worker that ends serves those who wait
in its door. Knows nothing of HTTP.
"""

import os
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any

import gevent
from gevent import socket
from gevent.server import StreamServer
from gunicorn import util  # type: ignore[import-untyped]
from gunicorn.workers import ggevent  # type: ignore[import-untyped]

MOST_HELD = 65_536  # bytes


class Door(StreamServer):
    """Lets in a few at a time; before it closes all who have connected, or the kernel would reset
    them."""

    # per turn of the event loop: those who come must not hold up those who are inside. gevent's 100
    # make tokens twice as late while a crowd opens (docs/performance.md)
    max_accept = 2

    def close(self) -> None:
        if self.started:
            self.stop_accepting()
            with suppress(OSError):  # out of descriptors; those inside still need this worker
                while not self.full() and (accepted := self.do_read()):
                    self.do_handle(*accepted)
        super().close()


def http_date(timestamp: float | None = None) -> str:
    """gunicorn's own, which formats the same second again for every response."""
    date: str = _date_at(int(time.time() if timestamp is None else timestamp))
    return date


ggevent.StreamServer = Door  # GeventWorker.run() makes its servers from it
_date_at = lru_cache(maxsize=2)(util.http_date)
util.http_date = http_date


class QuietWorker(ggevent.GeventWorker):  # type: ignore[misc]
    """The gevent worker, on quiet sockets."""

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        plain = type(client) is socket.socket  # what is written to a TLS socket must be encrypted
        # gunicorn wants the listener for its address only; a closed one has none, the client has
        super().handle(client, QuietSocket(client) if plain else client, addr)


class QuietSocket:
    """A caller's socket; what is written to it leaves when the greenlet next waits for anything.

    So nothing is ever late, and nobody is held up: while the greenlet runs, no other one could.
    """

    __slots__ = ("_held", "_rest", "_size", "_socket", "_wrong")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._held: list[bytes] = []
        self._size = 0
        self._rest: gevent.Greenlet[Any, Any] | None = (
            None  # sends what the kernel did not take at once
        )
        self._wrong: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

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
            raise self._wrong

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
        except OSError as wrong:
            self._wrong = wrong
            return
        if sent < len(data):
            self._rest = gevent.spawn(self._socket.sendall, memoryview(data)[sent:])
