"""Fixtures: Flowith's stand-in, the app in this process, and the service as gunicorn runs it."""

import gc
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import trustme
from fake_flowith import FakeFlowith
from flask.testing import FlaskClient

from proxy import create_app
from settings import Settings

hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("patient")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
PACKAGES = ("bridge", "commands", "flowith", "formats", "jsontools", "server")
KEY = "a-key"
TOKEN = "flo_0123456789abcdef0123456789abcdef"
WEB_TOKEN = "eyJhbGciOiJub25lIn0.a-web-login.signature"
DEFAULTS = {"API_KEY": KEY, "FLOWITH_AUTH_TOKEN": WEB_TOKEN, "LOG_LEVEL": "info"}
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]


def pytest_collection_finish() -> None:
    """What the import of all tests has made is no garbage: without this each look for some, which
    the tests of what a request leaves behind ask for, takes 0.3 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def fake() -> Iterator[FakeFlowith]:
    with FakeFlowith() as stand_in:
        yield stand_in


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context, for names that this process trusts it to have."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost", "files.example").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    return context


@dataclass
class Api:
    """The app in this process, asked as a client would."""

    client: FlaskClient

    def post(self, path: str = "/v1/chat/completions", **body: Any) -> Any:
        return self.send({"model": "gpt-4.1", "messages": HELLO, **body}, path)

    def send(self, body: Any, path: str = "/v1/chat/completions") -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {KEY}"}
        return self.client.post(path, data=raw, headers=headers, buffered=False)

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers={"Authorization": f"Bearer {KEY}", **headers})


MakeApi = Callable[..., Api]


@pytest.fixture
def api(fake: FakeFlowith) -> MakeApi:
    """`api(HOLD="1", ...)`: the app with these settings, talking to the stand-in."""

    def make(**environ: str) -> Api:
        given = {**DEFAULTS, "FLOWITH_API_URL": fake.url, **environ}
        return Api(create_app(Settings.from_env(given)).test_client())

    return make


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Server:
    """The service as gunicorn runs it, on a port of its own."""

    COMMAND = (sys.executable, "-m", "gunicorn", "--chdir", str(ROOT))

    def __init__(
        self, log: Path, environ: dict[str, str], command: Sequence[str] = COMMAND
    ) -> None:
        self.port = int(environ.get("PORT") or free_port())
        clean = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
        given = {**clean, **DEFAULTS, "HOST": "127.0.0.1", "PORT": str(self.port), **environ}
        self._log = log
        self._log_begin = 0
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**given, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            self.wait_until_up()
        except BaseException:
            self.stop()  # nobody else could
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        return self._log.read_bytes()[self._log_begin :].decode()

    def forget_log(self) -> None:
        """`log` begins here: what was said so far is about others."""
        self._log_begin = self._log.stat().st_size

    def wait_until_up(self) -> None:
        for _ in range(300):
            try:
                with closing(HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
                    connection.request("GET", "/health")
                    connection.getresponse().read()
                    return
            except OSError:
                assert self.process.poll() is None, self.log()
                time.sleep(0.05)
        raise AssertionError(f"not up:\n{self.log()}")

    def post(self, body: Any, **headers: str) -> tuple[HTTPConnection, HTTPResponse]:
        """POST a chat completion; the response is unread, the connection is the caller's."""
        connection = self.send(body, **headers)
        return connection, connection.getresponse()

    def send(self, body: Any, path: str = "/v1/chat/completions", **headers: str) -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = {"model": "gpt-4.1", "messages": HELLO, **body} if isinstance(body, dict) else body
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(
            "POST",
            path,
            raw,
            {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **headers},
        )
        return connection

    def wait_for_log(self, words: str, timeout: float = 10) -> str:
        until = time.monotonic() + timeout
        while words not in (log := self.log()):
            assert time.monotonic() < until, f"{words!r} is not in the log:\n{log}"
            time.sleep(0.02)
        return log

    def tell_to_stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)

    def stop(self) -> int:
        """Tell it, and wait. On a busy machine gunicorn's worker of threads may get the signal
        while it starts a thread, and then stands still (it takes one lock twice) until it is
        killed, after GRACEFUL_TIMEOUT."""
        self.tell_to_stop()
        return self.process.wait(40)


def stop_all(servers: Sequence[Server]) -> None:
    """All at once: each needs a third of a second for it."""
    for server in servers:
        server.tell_to_stop()
    for server in servers:
        server.stop()


Serve = Callable[..., Server]


@pytest.fixture(scope="session")
def lasting_fake() -> Iterator[FakeFlowith]:
    """What services that outlive a test talk to."""
    with FakeFlowith() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def flowith(lasting_fake: FakeFlowith) -> FakeFlowith:
    """The stand-in for all tests of a module that share one service."""
    lasting_fake.reset()
    return lasting_fake


@pytest.fixture(scope="session")
def services(
    lasting_fake: FakeFlowith, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serve]:
    """What `share` gives, for fixtures of a wider scope."""
    folder = tmp_path_factory.mktemp("services")
    started: dict[frozenset[tuple[str, str]], Server] = {}

    def find(**environ: str) -> Server:
        settings = frozenset(environ.items())
        if settings not in started:
            log = folder / f"service-{len(started)}.log"
            started[settings] = Server(log, {"FLOWITH_API_URL": lasting_fake.url, **environ})
        started[settings].forget_log()
        return started[settings]

    yield find
    stop_all(list(started.values()))


@pytest.fixture
def share(services: Serve, flowith: FakeFlowith) -> Iterator[Serve]:
    """`share(HEARTBEAT="0.2", ...)`: one service for all tests that ask for these settings, talking
    to `flowith`, over connections of the test's own. For tests after which it is as it was before:
    no account rests, nothing is stopped. To start one takes half a second of a core.
    """
    flowith.close_connections()
    flowith.reset()
    yield services
    assert flowith.failures == []


@pytest.fixture
def serve(fake: FakeFlowith, tmp_path: Path) -> Iterator[Serve]:
    """`serve(HEARTBEAT="0.2", ...)`: a service of its own, talking to the stand-in."""
    started: list[Server] = []

    def start(command: Sequence[str] = Server.COMMAND, **environ: str) -> Server:
        log = tmp_path / f"service-{len(started)}.log"
        server = Server(log, {"FLOWITH_API_URL": fake.url, **environ}, command)
        started.append(server)
        return server

    yield start
    stop_all(started)


def chunks(body: bytes | str) -> list[Any]:
    """The data of a stream's events, in order; comments are left out."""
    text = body.decode() if isinstance(body, bytes) else body
    found = []
    for line in text.split("\n"):
        if line.startswith("data: "):
            found.append(line[6:] if line == "data: [DONE]" else json.loads(line[6:]))
        else:
            assert not line or line.startswith(":"), line
    return found


def deltas(body: bytes | str, field: str = "content") -> str:
    """All of one field of the deltas, joined."""
    found = [c["choices"][0]["delta"] for c in chunks(body) if c != "[DONE]" and c.get("choices")]
    return "".join(delta.get(field) or "" for delta in found)
