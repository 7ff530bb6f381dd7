"""gunicorn's worker, which loads gevent only after the fork. Knows nothing of HTTP.

gunicorn's master loads the class of its workers; without gevent it is 7 MB smaller (measured).
"""

import signal

from gunicorn.workers.base import Worker  # type: ignore[import-untyped]


class LateWorker(Worker):  # type: ignore[misc]
    """Becomes a gevent worker in the new process, before the service is loaded there.

    It changes its own class, because the master keeps this very object: its heartbeat file, its
    seat and its counts were given to it before the fork, and a second worker in its place would
    have to be handed each of them.
    """

    def init_process(self) -> None:
        # until gunicorn sets its own, which is after the import, the master's would swallow them
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGQUIT, self.handle_quit)
        from server.gevent_worker import QuietWorker

        self.__class__ = QuietWorker
        self.worker_connections = self.cfg.worker_connections
        self.init_process()
