"""What docs/clients.md says of the agents in figures: `python clients/whole_jobs/measure.py`.

For each agent: the characters that the model gets with its first request, and how often it asks
within a minute while every answer is a 502.
"""

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent / "tests")]

from fake_flowith import FakeFlowith, Seen, error  # noqa: E402
from jobs import TASK, Site, end, install  # noqa: E402
from known_agents import AGENTS  # noqa: E402

MINUTE = 60  # seconds, counted from the first request


def characters(seen: Seen) -> int:
    """The length of all texts of a request to Flowith."""
    contents = [message["content"] for message in seen.json["messages"]]
    return sum(len(content) for content in contents if isinstance(content, str))


def measure(name: str) -> str:
    """One line on an agent."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, FakeFlowith() as f:
        site = Site(AGENTS[name], Path(folder), f)
        f.reply(site.play(error(500, "It broke.")), path="/completion")
        process = site.start(TASK)
        try:
            first = site.wait_asked(process)
            process.communicate(timeout=MINUTE)
            ended = f"and ended after {time.monotonic() - first.started:.0f} s"
        except subprocess.TimeoutExpired:
            ended = "and went on"
        finally:
            times = len(site.asked())
            end(process)
            site.server.stop()
    return f"{name}: {characters(first):,} characters; over a 502 it asked {times} times {ended}"


def main() -> None:
    install()
    with ThreadPoolExecutor(2) as pool:
        for line in pool.map(measure, sys.argv[1:] or list(AGENTS)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
