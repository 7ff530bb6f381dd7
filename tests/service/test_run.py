"""`make run` in a copy of the project, with this test run's Python in place of a fresh .venv."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import PACKAGES, ROOT

TOKEN = "flo_0123456789abcdef0123456789abcdef"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    copy = tmp_path / "tree"
    (copy / "tests").mkdir(parents=True)
    for name in [path.name for path in ROOT.glob("*.py")] + ["models.json", ".env.example"]:
        shutil.copy(ROOT / name, copy)
    for name in ("fake_flowith.py", "fake_images.py"):
        shutil.copy(ROOT / "tests" / name, copy / "tests")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


class Run:
    """One `run.py`, as make starts it, on a free port. An empty text unsets a variable."""

    def __init__(self, tree: Path, **environ: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._log = tree.parent / "run.log"
        clean = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
        given = {**clean, "PORT": str(self.port), "PYTHONDONTWRITEBYTECODE": "1", **environ}
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "run.py"],
                cwd=tree,
                env={name: text for name, text in given.items() if text},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self._log.read_text("utf-8")

    def wait_until_up(self) -> str:
        for _ in range(300):
            if "curl" in self.said():
                return self.said()
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)
        raise AssertionError(f"not up:\n{self.said()}")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


Start = Callable[..., Run]


@pytest.fixture
def start(tree: Path) -> Iterator[Start]:
    runs: list[Run] = []

    def begin(**environ: str) -> Run:
        runs.append(Run(tree, **environ))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.end(signal.SIGTERM)


def paste(said: str) -> tuple[HTTPConnection, str]:
    """Do what the printed curl command does; the connection, and the first KB of the answer."""
    command = said[said.index("curl ") :].split("\n\n")[0].replace("\\\n", "")
    url, *options = shlex.split(command.removeprefix("curl -N "))
    given = list(zip(options[::2], options[1::2], strict=True))
    headers = dict(value.split(": ", 1) for name, value in given if name == "-H")
    address = urlsplit(url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=20)
    connection.request("POST", address.path, dict(given)["-d"], headers)
    answer = connection.getresponse()
    assert answer.status == 200
    return connection, answer.read(1024).decode("utf-8", "replace")


def is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_without_a_token_it_says_so_and_the_printed_curl_gets_a_demo_answer(start: Start) -> None:
    run = start()
    said = run.wait_until_up()
    assert f"http://localhost:{run.port}/v1\n" in said
    assert "No Flowith token is set" in said
    assert re.search(r"^\d\d models", said, re.MULTILINE)
    connection, answer = paste(said)
    connection.close()
    assert '"role":"assistant"' in answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_ends_everything_even_in_the_middle_of_an_answer(
    start: Start, number: signal.Signals
) -> None:
    run = start()
    said = run.wait_until_up()
    stand_in = re.search(r"FLOWITH_API_URL=http://127.0.0.1:(\d+)", said)
    assert stand_in
    connection, _ = paste(said)
    assert run.end(number) == 0
    connection.close()
    assert is_closed(run.port)
    assert is_closed(int(stand_in[1]))
    assert "Traceback" not in run.said()


def test_a_port_in_use_is_said_plainly(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = start(PORT=str(port))
        assert run.process.wait(20) == 1
    assert f"port {port}: Address already in use" in run.said()
    assert "make run PORT=" in run.said()
    assert "Traceback" not in run.said()


@pytest.mark.parametrize("host", ["nowhere.invalid", "203.0.113.7"])
def test_an_address_that_is_not_this_machine_s_is_said_plainly(start: Start, host: str) -> None:
    run = start(HOST=host)
    assert run.process.wait(20) == 1
    said = f"Cannot listen on {host}: it is no address of this machine. Correct HOST.\n"
    assert run.said().endswith(said)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_an_ipv6_address_may_stand_in_brackets(start: Start) -> None:
    run = start(HOST="[::1]")
    said = run.wait_until_up()
    assert f"listening on [::1]:{run.port}" in said
    assert f"http://localhost:{run.port}/v1\n" in said


def test_without_its_stand_in_nothing_starts(start: Start, tree: Path) -> None:
    """Calls would go to Flowith itself, with a token that is none."""
    (tree / "tests" / "fake_flowith.py").write_text("raise SystemExit(1)")
    run = start()
    assert run.process.wait(20) == 1
    assert run.said().endswith("The bundled stand-in did not start.\n")


def test_a_refresh_token_is_an_account(start: Start) -> None:
    said = start(
        FLOWITH_REFRESH_TOKEN=TOKEN, FLOWITH_IDENTITY_KEY="sb_publishable_x", FLOWITH_API="web"
    ).wait_until_up()
    assert "No Flowith token is set" not in said
    assert "Flowith account: flo_..." in said
    assert "FLOWITH_API_URL=http" not in said  # the stand-in's
    assert TOKEN not in said


def test_env_is_written_once_and_is_its_owner_s(start: Start, tree: Path) -> None:
    run = start()
    run.wait_until_up()
    run.end()
    env = tree / ".env"
    assert env.read_bytes() == (tree / ".env.example").read_bytes()
    assert env.stat().st_mode & 0o777 == 0o600


def test_a_token_in_env_is_used_and_shown_masked(start: Start, tree: Path) -> None:
    env = tree / ".env"
    env.write_text(f"FLOWITH_AUTH_TOKEN={TOKEN}\nAPI_KEY=it's mine\nHOST=0.0.0.0\n")
    before = env.read_bytes()
    run = start()
    said = run.wait_until_up()
    assert "Flowith account: flo_...cdef\n" in said
    assert TOKEN not in said
    assert "stand-in" not in said
    assert "Bearer it" in said
    assert "HOST=0.0.0.0" in said
    assert run.end() == 0
    assert env.read_bytes() == before


def test_the_port_of_env_is_honoured(start: Start, tree: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tree / ".env").write_text(f"PORT={port}\n")
        run = start(PORT="")
        assert run.process.wait(20) == 1
    assert f"port {port}: Address already in use" in run.said()


def test_a_wrong_setting_is_named_without_a_traceback(start: Start, tree: Path) -> None:
    (tree / ".env").write_text("HEARTBEAT=often\n")
    run = start()
    assert run.process.wait(20) == 1
    assert "HEARTBEAT must be a number" in run.said()
    assert "Traceback" not in run.said()


def test_the_work_tree_stays_clean(start: Start, tree: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        command = ["git", *who, *arguments]
        return subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True).stdout

    shutil.copy(ROOT / ".gitignore", tree)
    git("init", "-q")
    git("add", "--all")
    git("commit", "-qm", "all")
    run = start(PYTHONDONTWRITEBYTECODE="")
    run.wait_until_up()
    run.end()
    assert git("status", "--porcelain") == ""
