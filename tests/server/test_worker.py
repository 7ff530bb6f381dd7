"""gunicorn's worker: what it writes leaves in few calls, whole and in order; and what it loads."""

import gc
import json
import os
import resource
import signal
import socket as blocking
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.request import Request, urlopen

import gevent.event
import pytest
from conftest import KEY, Serve, Server
from gevent import socket
from gevent.pool import Pool
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from server import gevent_worker
from server.gevent_worker import Door, QuietSocket, QuietWorker

Pair = tuple[QuietSocket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A quiet socket and the other end of its connection."""
    here, there = socket.socketpair()
    there.settimeout(5)
    yield QuietSocket(here), there
    here.close()
    there.close()


def read_all(there: socket.socket) -> bytes:
    blocks = []
    while block := there.recv(1 << 20):
        blocks.append(block)
    return b"".join(blocks)


def test_what_is_written_in_one_go_leaves_in_one_write(pair: Pair) -> None:
    ours, there = pair
    written: list[object] = []
    ours.sendall(bytes(100_000))  # by itself, and over before what is looked at
    taken = 0
    while taken < 100_000:
        taken += len(there.recv(100_000))

    def count(_: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and function is os.write:
            written.append(function)

    sys.setprofile(count)
    for piece in (b"head", b"chunk", b"chunk", b"end"):
        ours.sendall(piece)
    assert not written
    said = there.recv(100)  # waits, and so lets the loop run
    sys.setprofile(None)
    assert said == b"headchunkchunkend"
    assert len(written) == 1


def test_a_slow_reader_gets_everything_in_order(pair: Pair) -> None:
    ours, there = pair
    pieces = [bytes([i % 251]) * 40_000 for i in range(200)]
    taken: list[bytes] = []

    def write() -> None:
        for piece in pieces:
            ours.sendall(piece)
            taken.append(piece)
        ours.close()

    writer = gevent.spawn(write)
    gevent.sleep(0.05)
    assert len(taken) < len(pieces)  # it is held up, and has not put all of it into memory
    assert read_all(there) == b"".join(pieces)
    writer.get()


def test_what_follows_waits_for_the_rest_of_what_was_written_before(pair: Pair) -> None:
    ours, there = pair
    much = bytes(3_000_000)
    ours.sendall(much)
    gevent.sleep(0)  # the kernel takes what it can, and not all of it

    def write() -> None:
        ours.sendall(b"end")
        ours.close()

    writer = gevent.spawn(write)
    assert read_all(there) == much + b"end"
    writer.get()


def test_a_kernel_that_takes_nothing_at_the_moment_is_waited_for(pair: Pair) -> None:
    ours, there = pair
    full = 0
    with suppress(BlockingIOError):
        while True:
            full += os.write(ours.fileno(), bytes(10_000))
    ours.sendall(b"end")
    gevent.sleep(0)
    closing = gevent.spawn(ours.close)
    assert read_all(there) == bytes(full) + b"end"
    closing.get()


def test_what_was_written_last_is_out_before_the_connection_closes(pair: Pair) -> None:
    ours, there = pair
    ours.sendall(b"goodbye")
    ours.close()
    assert read_all(there) == b"goodbye"


def test_a_file_follows_what_was_written_before_it(pair: Pair, tmp_path: Path) -> None:
    ours, there = pair
    (tmp_path / "file").write_bytes(b"file")
    ours.sendall(b"head ")
    with (tmp_path / "file").open("rb") as file:
        ours.sendfile(file)
    ours.sendall(b" and ")
    ours.send(b"more")
    ours.close()
    assert read_all(there) == b"head file and more"


def test_what_a_write_met_is_raised_by_the_next(pair: Pair) -> None:
    ours, there = pair
    there.close()
    ours.sendall(b"nobody reads this")
    gevent.sleep(0)
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        ours.sendall(b"nor this")


def test_a_socket_that_nobody_reads_is_freed_with_its_request(pair: Pair) -> None:
    """An error that it kept would hold the frame that raised it, and that frame the socket."""
    ours, there = pair
    there.close()
    ours.sendall(b"nobody reads this")
    gevent.sleep(0)
    gc.disable()
    try:
        with suppress(OSError):
            ours.sendall(b"nor this")
        frames = [one for one in gc.get_referrers(ours) if isinstance(one, FrameType)]
        assert "flush" not in [frame.f_code.co_name for frame in frames]
    finally:
        gc.enable()


def test_who_takes_nothing_is_not_waited_for_for_ever(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gevent_worker, "PATIENCE", 0.1)
    ours, _ = pair

    def write() -> None:
        while True:
            ours.sendall(b"x" * 100_000)

    with pytest.raises(ConnectionResetError, match="takes nothing"), gevent.Timeout(20):
        write()


def test_who_takes_a_little_now_and_then_is_waited_for(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gevent_worker, "PATIENCE", 2)
    ours, there = pair
    sent = bytes(2_000_000)
    ours.sendall(sent)
    closing = gevent.spawn(ours.close)
    taken = 0
    while block := there.recv(100_000):
        taken += len(block)
        gevent.sleep(0.15)
    assert taken == len(sent)
    closing.get()


def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]


def test_an_answer_leaves_in_one_write() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        there.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        config = Config()
        worker = QuietWorker(1, os.getppid(), [], None, 30, config, Logger(config))
        worker.wsgi = answer
        worker.handle(None, here, "")
        worker.tmp.close()
        assert there.recv(10_000).endswith(b"\r\n\r\ndone")


def test_a_worker_that_ends_serves_those_who_wait_to_be_let_in() -> None:
    """The kernel took them in; if the listener just closed, it would reset them."""
    config = Config()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        address = listener.getsockname()
        worker = QuietWorker(1, os.getppid(), [listener], None, 30, config, Logger(config))
        worker.wsgi = answer
        worker.alive = False  # it has been told to end, before it could accept anybody
        waiting = [blocking.create_connection(address, 5) for _ in range(20)]
        for caller in waiting:
            caller.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        worker.run()
        with pytest.raises(ConnectionRefusedError):
            blocking.create_connection(address, 5)
    worker.tmp.close()
    for caller in waiting:
        said = caller.makefile("rb").read()
        caller.close()
        assert said.startswith(b"HTTP/1.1 200 OK")
        assert said.endswith(b"done")


def test_a_worker_that_ends_lets_nobody_in_for_whom_there_is_no_place() -> None:
    """It would wait for one, and meanwhile tell nobody inside that it ends."""
    inside, over = gevent.event.Event(), gevent.event.Event()

    def serve(client: Any, address: Any) -> None:
        inside.set()
        over.wait()

    with socket.socket() as listener, ExitStack() as callers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        door = Door(listener, serve, Pool(1))
        door.start()
        for _ in range(2):
            callers.enter_context(blocking.create_connection(listener.getsockname(), 5))
        with gevent.Timeout(20):
            inside.wait()
            door.close()
        over.set()


def test_a_worker_that_is_out_of_descriptors_ends_as_any_other() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        door = Door(listener, lambda client, address: None)
        door.start()
        with blocking.create_connection(listener.getsockname(), 5), no_more_descriptors():
            door.close()
    assert not door.started


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_crowd_is_let_in_a_few_at_a_time() -> None:
    """Those who are inside get their turn in between."""
    turn, came = 0, Counter[int]()

    def count() -> None:
        nonlocal turn
        turn += 1

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        door = Door(listener, lambda client, address: came.update([turn]))
        waiting = [blocking.create_connection(listener.getsockname(), 5) for _ in range(20)]
        turns = gevent.get_hub().loop.check()
        turns.start(count)
        door.start()
        with gevent.Timeout(20):
            while came.total() < len(waiting):
                gevent.sleep(0.001)
        turns.stop()
        turns.close()
        door.close()
    for caller in waiting:
        caller.close()
    assert max(came.values()) <= 2


def test_only_the_workers_load_gevent(serve: Serve) -> None:
    """The master does without: 7 MB less, which is a tenth of what resides at rest."""
    master = serve(WEB_CONCURRENCY="2").process.pid
    workers = children(master)
    assert len(workers) == 2
    assert "gevent" not in Path(f"/proc/{master}/maps").read_text()
    assert all("gevent" in Path(f"/proc/{pid}/maps").read_text() for pid in workers)


def test_a_worker_that_has_just_begun_hears_that_it_is_to_end(serve: Serve) -> None:
    """gunicorn would wait for GRACEFUL_TIMEOUT, 30 seconds, and then kill it."""
    service = serve().process
    (old,) = children(service.pid)
    os.kill(int(old), signal.SIGKILL)
    while old in children(service.pid) or not loads_gevent(service.pid):
        time.sleep(0.001)
    service.send_signal(signal.SIGQUIT)
    assert service.wait(15) == 0


def test_who_was_refused_by_gunicorn_does_not_keep_the_connection(serve: Serve) -> None:
    """Neither by silence nor by going on: what was said to it has long been read."""
    address = ("127.0.0.1", serve().port)
    with (
        blocking.create_connection(address, 20) as silent,
        blocking.create_connection(address, 20) as talking,
    ):
        for sock in (silent, talking):
            sock.sendall(b"nonsense\r\n\r\n")
            assert sock.recv(10_000).startswith(b"HTTP/1.1 400 ")
        until = time.monotonic() + 20
        while is_held(silent) or is_held(talking):
            assert time.monotonic() < until
            with suppress(OSError):
                talking.send(b"x")
            time.sleep(0.05)


def is_held(sock: blocking.socket) -> bool:
    """Whether a process still has the other end, which is on this machine."""
    ends = [f":{end[1]:04X}" for end in (sock.getpeername(), sock.getsockname())]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *_, inode = line.split()[:10]
        if [local[-5:], remote[-5:]] == ends:
            return inode != "0"
    return False


def test_a_reload_with_a_wrong_setting_changes_nothing(serve: Serve, tmp_path: Path) -> None:
    models = tmp_path / "models.json"
    models.write_text('{"old": "gpt-4.1"}')
    server = serve(MODELS_FILE=str(models))
    models.write_text('{"new": ')
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log(f"not reloaded: {models} is not usable JSON")
    assert names(server) == ["old"]
    models.write_text('{"new": "gpt-4.1"}')
    before = children(server.process.pid)
    server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 15
    while set(before) & set(children(server.process.pid)):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert names(server) == ["new"]


def names(server: Server) -> list[str]:
    with urlopen(
        Request(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    ) as r:
        return [row["id"] for row in json.load(r)["data"]]


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def loads_gevent(pid: int) -> bool:
    return any("greenlet" in Path(f"/proc/{one}/maps").read_text() for one in children(pid))
