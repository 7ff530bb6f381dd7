"""The shipped nginx site in front of two copies of the service that die and restart."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Self

import pytest
import trustme
from conftest import HELLO, KEY, ROOT, Server, deltas, free_port, stop_all
from fake_flowith import HANG, FakeFlowith, Raw, web

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
CALLERS = 6
MAIN = """\
daemon off;
{user}
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""
# nginx is no dependency of the project, only of this check; in CI its absence is a failure
pytestmark = pytest.mark.skipif(
    not NGINX and "CI" not in os.environ,
    reason="deploy/nginx.conf is run by nginx itself, which is missing: apt-get install nginx",
)


@dataclass
class Front:
    """nginx, and the two copies behind it."""

    folder: Path
    flowith: FakeFlowith
    trust: ssl.SSLContext
    copies: list[Server] = field(default_factory=list)
    http: int = field(default_factory=free_port)
    https: int = field(default_factory=free_port)

    def start(self, port: int) -> Server:
        log = self.folder / f"copy-{time.monotonic_ns()}.log"
        given = {"FLOWITH_API_URL": self.flowith.url, "PORT": str(port), "LOG_FORMAT": "json"}
        return Server(log, given)

    def send(self, body: dict[str, Any], **headers: str) -> tuple[HTTPConnection, HTTPResponse]:
        raw = json.dumps({"model": "gpt-4.1", "messages": HELLO, **body}).encode()
        return self.open("POST", "/v1/chat/completions", raw, **headers)

    def open(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[HTTPConnection, HTTPResponse]:
        connection = HTTPSConnection("localhost", self.https, timeout=30, context=self.trust)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {KEY}", **headers})
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def asked(self) -> Counter[str]:
        """How often Flowith was asked for the sake of each request."""
        return Counter(seen.headers["x-request-id"] for seen in self.flowith.requests)


@contextmanager
def started(folder: Path, flowith: FakeFlowith) -> Iterator[Front]:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    trust = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    front = Front(folder, flowith, trust)
    try:
        front.copies += [front.start(free_port()) for _ in range(2)]
        nginx = subprocess.Popen(command(front))
        try:
            until(lambda: is_up(front) or nginx.poll() is not None)
            assert nginx.poll() is None, (folder / "error.log").read_text()
            yield front
        finally:
            nginx.terminate()
            nginx.wait(20)
    finally:
        stop_all(front.copies)


@pytest.fixture
def front(fake: FakeFlowith, tmp_path: Path) -> Iterator[Front]:
    """One whose copies may die."""
    with started(tmp_path, fake) as front:
        yield front


@pytest.fixture(scope="module")
def lasting(flowith: FakeFlowith, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with started(tmp_path_factory.mktemp("nginx"), flowith) as front:
        yield front


@pytest.fixture
def calm(lasting: Front) -> Front:
    """One for all tests whose copies stay."""
    lasting.flowith.reset()
    for copy in lasting.copies:
        copy.forget_log()
    return lasting


def command(front: Front) -> list[str]:
    """nginx with the shipped file; only ports and certificate are ours."""
    site, folder = (ROOT / "deploy/nginx.conf").read_text("utf-8"), front.folder
    for shipped, here in {
        "127.0.0.1:7861": f"127.0.0.1:{front.copies[0].port}",
        "127.0.0.1:7862": f"127.0.0.1:{front.copies[1].port}",
        "listen 80;": f"listen 127.0.0.1:{front.http};",
        "listen 443 ssl;": f"listen 127.0.0.1:{front.https} ssl;",
        "/etc/letsencrypt/live/proxy.example/fullchain.pem": f"{folder}/cert.pem",
        "/etc/letsencrypt/live/proxy.example/privkey.pem": f"{folder}/key.pem",
    }.items():
        assert site.count(shipped) == 1
        site = site.replace(shipped, here)
    (folder / "site.conf").write_text(site)
    user = "" if os.geteuid() else "user root;"
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
    program = [NGINX or "nginx", "-p", str(folder), "-e", f"{folder}/error.log"]
    return [*program, "-c", f"{folder}/nginx.conf"]


def is_up(front: Front) -> bool:
    try:
        front.open("GET", "/health")[0].close()
    except OSError:
        return False
    return True


def until(true: Callable[[], bool]) -> None:
    for _ in range(1500):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within 30 seconds")


def workers(server: Server) -> set[int]:
    pid = server.process.pid
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


class Load:
    """Callers who ask one thing after the other, streamed and not; `ends` says how each ended."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.ends: dict[str, str] = {}
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(CALLERS)

    def __enter__(self) -> Self:
        self.front.flowith.reply(lambda seen: web("Hello ", 0.03, "world"))
        self._callers = [self._pool.submit(self._ask, name) for name in range(CALLERS)]
        self.wait_for_more(2 * CALLERS)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for caller in self._callers:
            caller.result()

    def wait_for_more(self, count: int) -> None:
        wanted = self.whole() + count
        until(lambda: self.whole() >= wanted)

    def whole(self) -> int:
        return list(self.ends.values()).count("whole")

    def _ask(self, name: int) -> None:
        for turn in range(100_000):
            if self._over.is_set():
                return
            request = f"caller-{name}-{turn}"
            self.ends[request] = self._one(request, stream=turn % 2 == 0)

    def _one(self, request: str, stream: bool) -> str:
        try:
            connection, response = self.front.send({"stream": stream}, **{"X-Request-ID": request})
            with closing(connection):
                body = response.read()
        except (OSError, HTTPException) as wrong:
            return repr(wrong)
        if response.status != 200:
            return f"{response.status} {body!r}"
        if stream:
            return "whole" if deltas(body) == "Hello world" and b"[DONE]" in body else "short"
        said = json.loads(body)["choices"][0]["message"]["content"]
        return "whole" if said == "Hello world" else "short"


def failed(load: Load) -> dict[str, str]:
    return {request: end for request, end in load.ends.items() if end != "whole"}


def test_a_token_arrives_while_the_next_one_is_still_held(calm: Front) -> None:
    calm.flowith.reply(web("first ", HANG))
    connection, response = calm.send({"stream": True})
    said = b""
    while b"first" not in said:
        said += response.readline()
    connection.close()
    assert calm.flowith.requests[0].wait_hung_up()  # a caller who leaves is noticed through nginx


def test_a_copy_that_dies_takes_only_its_own_answers(front: Front) -> None:
    released = threading.Event()

    def steps() -> Iterator[bytes | float]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhalf "
        while not released.is_set():
            yield 0.02
        yield b"and half"

    front.flowith.reply(lambda seen: Raw(steps()))
    streams = [front.send({"stream": True}, **{"X-Request-ID": f"stream-{i}"}) for i in range(8)]
    for _, response in streams:
        response.readline()
    dead, alive = front.copies
    with Load(front) as load:
        for pid in (dead.process.pid, *workers(dead)):
            os.kill(pid, signal.SIGKILL)
        dead.process.wait(20)
        load.wait_for_more(4 * CALLERS)
    log = alive.log()
    assert len(failed(load)) <= CALLERS  # each one had at most one answer under way there
    assert not [request for request in failed(load) if f'"{request}"' in log]
    assert "short" not in load.ends.values()
    released.set()
    ends = []
    for connection, response in streams:
        try:
            ends.append(deltas(response.read()))
        except HTTPException:
            ends.append("cut")
        connection.close()
    assert set(ends) == {"cut", "half and half"}
    assert max(front.asked().values()) == 1
    alive.stop()
    connection, response = front.send({})
    assert response.status == 502
    assert response.headers["x-should-retry"] == "false"
    assert json.loads(response.read())["error"]["code"] == "unavailable"
    connection.close()


def test_a_reload_under_load_fails_no_request(front: Front) -> None:
    with Load(front) as load:
        for copy in front.copies:
            old = workers(copy)
            copy.process.send_signal(signal.SIGHUP)
            until(lambda old=old, copy=copy: not old & workers(copy))  # type: ignore[misc]
            load.wait_for_more(CALLERS)
    assert failed(load) == {}
    assert front.asked() == Counter(load.ends.keys())


def test_restarting_one_after_the_other_fails_no_request(front: Front) -> None:
    with Load(front) as load:
        for i, copy in enumerate(front.copies):
            copy.process.send_signal(signal.SIGTERM)
            assert copy.process.wait(30) == 0
            front.copies[i] = front.start(copy.port)
            load.wait_for_more(CALLERS)
    assert failed(load) == {}
    assert front.asked() == Counter(load.ends.keys())


def test_two_copies_share_the_load_and_need_nothing_from_each_other(calm: Front) -> None:
    with Load(calm) as load:
        load.wait_for_more(4 * CALLERS)
    one, other = ({r for r in load.ends if f'"{r}"' in copy.log()} for copy in calm.copies)
    assert one
    assert other
    assert one | other == set(load.ends)
    assert not one & other


def test_metrics_are_not_for_the_outside_even_with_a_key(calm: Front) -> None:
    for path in ("/metrics", "/metrics/", "//metrics", "/%6detrics", "/x/../metrics"):
        connection, response = calm.open("GET", path)
        assert response.status == 404, path
        assert b"flowith_proxy" not in response.read()
        connection.close()


def test_what_goes_through_and_what_nginx_says_itself(calm: Front) -> None:
    calm.flowith.reply(web("Hi"))
    connection, response = calm.send({}, **{"X-Request-ID": "from-outside"})
    assert response.headers["X-Request-ID"] == "from-outside"
    assert calm.asked() == {"from-outside": 1}
    connection.close()

    connection, response = calm.open("GET", "/", Accept="text/html")
    assert f"https://localhost:{calm.https}/v1".encode() in response.read()
    connection.close()

    too_large = str(32 * 1024 * 1024 + 1)
    connection, response = calm.open(
        "POST", "/v1/chat/completions", None, **{"Content-Length": too_large}
    )
    assert response.status == 413
    assert json.loads(response.read())["error"]["code"] == "request_too_large"
    connection.close()

    connection = HTTPConnection("127.0.0.1", calm.http, timeout=30)
    connection.request("POST", "/v1/chat/completions", b"{}")
    response = connection.getresponse()
    assert response.status == 308
    assert response.headers["Location"].startswith("https://")
    connection.close()
