"""How gunicorn runs the service; read by `gunicorn wsgi:app` by itself.

Every value has been measured with long streams; the reasons stand beside them.
"""

import ctypes
import gc
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from settings import SettingsError, load

BESIDE_STREAMS = 500  # connections

worker_class = os.environ.get("WORKER_CLASS", "gevent")
if worker_class == "gevent":
    worker_class = "server.worker.LateWorker"

try:
    settings = load()
except SettingsError as wrong:
    sys.exit(f"The service cannot start: {wrong}")

wsgi_app = "wsgi:app"
host = f"[{settings.host}]" if ":" in settings.host else settings.host
bind = f"{host}:{settings.port}"
workers = settings.web_concurrency
# one connection is one greenlet; above the limit of streams there is room for those who get a 503
worker_connections = settings.max_streams + BESIDE_STREAMS
threads = 64  # for WORKER_CLASS=gthread only, which holds one caller per thread
timeout = 60  # seconds the event loop may stand still, no limit for requests
graceful_timeout = settings.graceful_timeout  # must stay below Docker's stop_grace_period
limit_request_field_size = 32_768  # bytes; on localhost a browser sends other programs' cookies
keepalive = 10  # also the deadline for a request's headers; 0 would mean none at all
preload_app = False  # gevent has to be there first, or every HTTPS call ends in a RecursionError
# no max_requests: with one worker it would shut everybody out while the last stream ends
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
control_socket_disable = True  # needs a writable home, and nothing here uses it
accesslog = None  # the service writes its own line, which knows how a stream ended
logger_class = "server.log.ServerLog"
loglevel = "warning" if settings.log_level == "info" else settings.log_level
# else gunicorn refuses a request whose headers on the scheme differ, or that has SCRIPT_NAME, as
# some proxies send them; the page at `/` reads X-Forwarded-Proto by itself
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
# so there is nothing that a trusted peer may do and another one may not, but gunicorn would read
# each peer's address for every request to tell which it is
forwarded_allow_ips = "*"


def on_starting(server):  # type: ignore[no-untyped-def]
    """Say once what runs here, before the workers start."""
    from server.log import log_reload, log_settings

    log_settings(settings, server.address)
    server.counts = ""  # not above: a reload reads this file again and must not lose the counts
    reload = server.handle_hup

    def reload_if_right():  # type: ignore[no-untyped-def]
        """What is wrong here would end the master, and with it the service."""
        try:
            found = load()
        except SettingsError as wrong:
            server.log.error("not reloaded: %s", wrong)
        else:
            reload()
            log_reload(found)

    server.handle_hup = reload_if_right


def pre_fork(server, worker):  # type: ignore[no-untyped-def]
    """Give the worker a directory for its metrics, and the first free seat to name them after."""
    if not os.path.isdir(server.counts):  # noqa: PTH112 - the first worker, or a cleaner was here
        server.counts = tempfile.mkdtemp(prefix="flowith-proxy-", dir=worker_tmp_dir)
    taken = {other.seat for other in server.WORKERS.values()}
    worker.counts, worker.seat = server.counts, min(set(range(len(taken) + 1)) - taken)


def post_worker_init(worker):  # type: ignore[no-untyped-def]
    """Let the app see when this worker is told to stop, so that streams end with a word; give it
    the files that all workers count in. Not in post_fork: signals are lost as long as that runs."""
    from server.gunicorn_fixes import fix_gunicorn
    from server.metrics import attach

    fix_gunicorn(worker)
    # no more than there are descriptors for: who cannot be let in at all cannot be told so either
    worker.worker_connections = worker.wsgi.extensions["flowith"].limit + BESIDE_STREAMS
    attach(worker.wsgi, worker.counts, worker.seat)
    worker.wsgi.extensions["drain"].worker = worker
    if worker_class == "server.worker.LateWorker":
        from server.shared_timer import SharedTimer

        worker.wsgi.extensions["flowith"].crew.sleep_until = SharedTimer().sleep_until
    gc.collect()
    gc.freeze()  # what start-up made is never garbage: 7 % less time per request (measured)
    # With 1,000 streams a look at all objects stops every stream for 70 ms, and finds next to
    # nothing: almost all is freed without it (measured)
    gc.set_threshold(5_000, 20, 100)
    give_large_blocks_back()  # type: ignore[no-untyped-call]


def give_large_blocks_back():  # type: ignore[no-untyped-def]
    """Let glibc map each block of 2 MB or more by itself, and unmap it when it is freed. By its own
    rule it soon keeps them for the next: after twelve refused prompts of 10 MB 63 MB stayed
    resident, and now 1; the peak fell from 405 MB to 285 (measured). From 256 KB on it made a
    prompt of 1 MB 4 ms slower; so did giving back of smaller blocks all above the last one in use,
    by 1.6 ms, where 8 MB may stay. Other C libraries have no such call."""
    trim_threshold, map_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD in malloc.h
    with suppress(OSError, AttributeError):
        glibc = ctypes.CDLL(None)
        glibc.mallopt(map_threshold, 2_097_152)
        glibc.mallopt(trim_threshold, 8_388_608)


def child_exit(server, worker):  # type: ignore[no-untyped-def]
    """What a dead worker's gauges said is over; its counters stay (mark_process_dead does the
    same, but to load prometheus_client costs the master 1.7 MB)."""
    for file in Path(worker.counts).glob(f"gauge_live*_{worker.seat}.db"):
        file.unlink()


def on_exit(server):  # type: ignore[no-untyped-def]
    """Leave nothing behind."""
    shutil.rmtree(server.counts, ignore_errors=True)
