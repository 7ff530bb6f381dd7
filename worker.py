"""gunicorn's gevent worker, with one system call for a write where one is enough.

gevent's `sendall` first asks the kernel for the size of its buffer, each time: a tenth of what a
small answer costs (docs/performance.md). Knows nothing of HTTP.
"""

from typing import Any

from gevent import socket
from gunicorn.workers.ggevent import GeventWorker  # type: ignore[import-untyped]


class QuickSocket(socket.socket):
    """Sends what fits at once, and leaves only the rest to `sendall`."""

    __slots__ = ()

    def sendall(self, data: Any, flags: int = 0) -> None:
        sent = self.send(data, flags)
        if sent < len(data):
            super().sendall(memoryview(data)[sent:], flags)


class QuickWorker(GeventWorker):  # type: ignore[misc]
    """The gevent worker, on quick sockets."""

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        client.__class__ = QuickSocket  # same layout; a new object would lose gevent's watchers
        super().handle(listener, client, addr)
