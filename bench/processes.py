"""Start and end processes, each on one core, and read what they use from /proc.

Knows nothing of what the processes are.
"""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
Process = subprocess.Popen[str]


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, of all below it, and of their children that ended."""
    ticks = 0
    for one in tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def memory_mb(pid: int) -> tuple[float, float]:
    """Rss and Pss, summed over a process and all below it."""
    rss = pss = 0
    for one in tree(pid):
        with suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                rss += int(line.split()[1]) if line.startswith("Rss:") else 0
                pss += int(line.split()[1]) if line.startswith("Pss:") else 0
    return rss / 1024, pss / 1024


class Processes:
    """What this run has started, and nothing else; all of it ends with the run."""

    def __init__(self) -> None:
        self._running: list[Process] = []

    def start(
        self,
        core: str,
        *command: str | Path,
        env: dict[str, str] | None = None,
        speaks: bool = False,
    ) -> Process:
        """Start a command on one core; the output of one that `speaks` can be read."""
        clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        process = subprocess.Popen(
            ["taskset", "-c", core, *map(str, command)],
            cwd=ROOT, env={**clean, **(env or {})}, text=True,
            stdout=subprocess.PIPE if speaks else sys.stderr,
        )  # fmt: skip
        self._running.append(process)
        return process

    def end(self, process: Process) -> None:
        family = tree(process.pid) if process.poll() is None else []
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        if process.stdout:
            process.stdout.close()
        self._running.remove(process)

    def end_all(self) -> None:
        for process in reversed(self._running.copy()):
            self.end(process)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
