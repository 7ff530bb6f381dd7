"""What monitoring gets to see: `/metrics`, in Prometheus' text format.

A request is counted once, when it is over, from its `Record`; nothing happens per token. Worker
processes share files in a directory that gunicorn.conf.py makes; without one (tests, `flask`
commands) the numbers are this process's own. Knows nothing of OpenAI's or Flowith's wire.
"""

import os
import time
from functools import cache, partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, current_app, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

from flowith.accounts import Accounts
from server.keys import require_api_key
from server.log import CALLER_LEFT, Record
from server.pages import VERSION
from settings import Settings

OTHER = "other"  # a caller may ask for any model; only those of models.json become labels
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)  # seconds
HOSTS = ("localhost", "127.0.0.1", "::1")
# what proxies add, and browsers on behalf of a page
HOPS = ("HTTP_X_FORWARDED", "HTTP_X_REAL_IP", "HTTP_FORWARDED", "HTTP_VIA", "HTTP_ORIGIN")

monitoring = Blueprint("monitoring", __name__)


def attach(app: Flask, folder: str = "", seat: int = 0) -> None:
    """Give the app its metrics. With a `folder` they are kept in files there, named after a
    worker's `seat`, and those of all seats add up.

    Seats are used again, process ids are not: a service that is reloaded or loses workers for
    months keeps as many files as it has workers, and its counters go on where they were.
    """
    if folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # where prometheus_client looks for it
        values.ValueClass = values.MultiProcessValue(lambda: seat)  # type: ignore[no-untyped-call]
    else:
        values.ValueClass = values.MutexValue
    flowith = app.extensions["flowith"]
    metrics = Metrics(app.extensions["settings"], flowith.accounts)
    app.extensions["metrics"], flowith.tell_running = metrics, metrics.running.set


class Metrics:
    """The counters of this process; the label values of each are resolved once."""

    def __init__(self, settings: Settings, accounts: Accounts) -> None:
        self._models = {name for name in settings.models if name != "*"}
        self._accounts = accounts
        ours = self._registry = CollectorRegistry()
        if values.ValueClass is not values.MutexValue:
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]
        common: dict[str, Any] = {"namespace": "flowith_proxy", "registry": ours}

        def counter(name: str, text: str, *labels: str) -> Any:
            return cache(Counter(name, text, labels, **common).labels)

        def seconds(name: str, text: str) -> Any:
            how = {"unit": "seconds", "buckets": BUCKETS, **common}
            return cache(Histogram(name, text, ("model",), **how).labels)

        told = ("format", "model", "status", "ending")
        self._requests = counter("requests", "Requests that are over.", *told)
        self._first = seconds("first_token", "Until the first token.")
        self._duration = seconds("duration", "Until the end of the answer.")
        self._tokens = counter("tokens", "Tokens, partly estimated.", "model", "kind")
        self._attempts = counter("upstream_attempts", "Tries at Flowith.", "account", "api")
        self._failures = counter("upstream_failures", "Tries that failed.", "account", "reason")
        self._heartbeats = Counter("heartbeats", "Signs of life sent to callers.", **common)
        self._left = Counter("callers_left", "Callers who left before the end.", **common)
        gauge: Any = partial(Gauge, **common)
        self.running = gauge("running_streams", "Answers under way.", multiprocess_mode="livesum")
        self._healthy = gauge(
            "healthy_accounts",
            "Accounts that do not rest for all models.",
            multiprocess_mode="livemin",
        )
        total = gauge("accounts", "Flowith accounts.", multiprocess_mode="livemax")
        total.set(len(accounts.all))
        info = gauge("info", "Always 1.", ("version",), multiprocess_mode="livemax")
        info.labels(VERSION).set(1)
        self.running.set(0)
        self._look_at_accounts()

    def count(self, record: Record) -> None:
        """Count a request that is over and had a format; probes and lists of models have none."""
        if not record.format:
            return
        model = record.model if record.model in self._models else OTHER
        ending = to_label(record.ending)
        self._requests(record.format, model, record.status, ending).inc()
        if record.ending == CALLER_LEFT:
            self._left.inc()
        if record.first is not None:
            self._first(model).observe(record.first - record.started)
        if record.attempts:
            self._duration(model).observe(time.monotonic() - record.started)
        if record.prompt_tokens:
            self._tokens(model, "prompt").inc(record.prompt_tokens)
        if record.completion_tokens:
            self._tokens(model, "completion").inc(record.completion_tokens)
        for account, api in record.attempts:
            self._attempts(account, api).inc()
        for account, reason in record.failures:
            self._failures(account, reason).inc()
        if record.heartbeats:
            self._heartbeats.inc(record.heartbeats)
        if record.failures or self._resting:
            self._look_at_accounts()

    def text(self) -> bytes:
        """All of it, of all workers."""
        self._look_at_accounts()
        return generate_latest(self._registry)

    def _look_at_accounts(self) -> None:
        healthy = self._accounts.healthy()
        self._resting = healthy < len(self._accounts.all)
        self._healthy.set(healthy)


def to_label(ending: str) -> str:
    """How a request ended, without the details that the log has."""
    return ending.partition(":")[0].replace(" ", "_") or "done"


@monitoring.get("/metrics")
def show() -> Response:
    """For a caller with a key, or one on this machine whom no proxy stands in front of."""
    if not is_near(request.environ):
        require_api_key()
    metrics: Metrics = current_app.extensions["metrics"]
    return Response(metrics.text(), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def is_near(environ: dict[str, Any]) -> bool:
    """Whether a request surely comes from this machine itself.

    Behind a proxy on this machine everybody's address is a loopback one; most proxies give
    themselves away by a header, by the host that was asked for, or by HTTP/1.0 (nginx).
    """
    try:
        near = ip_address(environ.get("REMOTE_ADDR", "")).is_loopback
        named = urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname
    except ValueError:
        return False
    direct = environ.get("SERVER_PROTOCOL") == "HTTP/1.1" and named in HOSTS
    return near and direct and not any(name.startswith(HOPS) for name in environ)
