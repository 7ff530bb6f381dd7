"""How long one hostile request keeps the event loop from everybody else.

For each input a second caller asks for `/health` over and over while the request is served; the
longest answer, less the usual one, is the longest stall. Flowith is the stand-in of the tests,
because the inputs are answers too.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from processes import ROOT, Process, Processes, free_port

sys.path.insert(0, str(ROOT / "tests"))
from fake_flowith import FakeFlowith
from hostile import INPUTS, PATIENCE, Body, ask_health, says

NAME = "stalls"
GOAL = "<= 200"  # ms
KEY = "bench"


class Stalls:
    """One service for each of Flowith's APIs, and the second caller."""

    def __init__(self, processes: Processes, target_core: str, tool_core: str) -> None:
        self._processes = processes
        self._cores = target_core, tool_core
        self._ports: dict[str, int] = {}

    def measure(self) -> Iterator[dict[str, Any]]:
        """A row of the table for each input: the longest stall in milliseconds."""
        with FakeFlowith() as fake:
            for given in INPUTS:
                if given.api not in self._ports:
                    self._ports[given.api] = self._boot(fake.url, given.api)
                fake.reset()
                fake.reply(given.reply())
                print(f"\r{given.name[:70]:70}", end="", file=sys.stderr, flush=True)
                stall = self._stall(self._ports[given.api], given.body())
                yield {
                    "scenario": NAME, "title": f"longest stall: {given.name}", "unit": "ms",
                    "values": {"ours": stall}, "goal": GOAL, "digits": 0, "over": "",
                    "met": stall <= float(GOAL.split()[1]),
                }  # fmt: skip

    def _boot(self, url: str, api: str) -> int:
        port = free_port()
        environ = {
            "PORT": str(port), "HOST": "127.0.0.1", "API_KEY": KEY, "LOG_LEVEL": "error",
            "FLOWITH_AUTH_TOKEN": "bench-token", "FLOWITH_API": api, "FLOWITH_API_URL": url,
            "RETRY_ATTEMPTS": "1",
        }  # fmt: skip
        gunicorn = Path(sys.executable).with_name("gunicorn")
        self._processes.start(self._cores[0], gunicorn, env=environ)
        until = time.monotonic() + 30
        while ask_health(port) is None and time.monotonic() < until:
            time.sleep(0.05)
        return port

    def _stall(self, port: int, body: Body) -> float:
        asked = {"model": "gpt-4.1", "messages": says("Hi"), "stream": True, **body}
        raw = json.dumps(asked).encode()
        with self._second_caller(port) as told:
            time.sleep(0.3)
            send(port, raw)
            time.sleep(0.2)
        usual, longest = told
        return 1000 * max(0.0, longest - usual)

    @contextmanager
    def _second_caller(self, port: int) -> Iterator[list[float]]:
        """The usual and the longest answer, in seconds; there when the block is left."""
        told: list[float] = []
        caller: Process = self._processes.start(
            self._cores[1], sys.executable, ROOT / "tests" / "hostile.py", str(port), speaks=True
        )
        assert caller.stdout
        caller.stdout.readline()
        try:
            yield told
        finally:
            caller.terminate()
            told += map(float, caller.stdout.read().split()[-2:])
            self._processes.end(caller)


def send(port: int, raw: bytes) -> None:
    """The hostile request, and its whole answer, whatever that is."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", raw, headers)
        response = connection.getresponse()
        while response.read1(1_000_000):
            pass
    except (OSError, HTTPException):
        pass  # what becomes of such a request is a matter of the tests
    finally:
        connection.close()
