"""Real agents do whole jobs through the service: `python clients/whole_jobs/jobs.py [NAME ...]`.

Installs them from npm and PyPI beside this file (once). Each agent gets a service, a home and a
folder of its own, and Flowith's stand-in plays the model: it reads a file, edits it, runs a
command and answers, one step for each tool result. What is on disk afterwards is what counts.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(HERE.parent)]

from conftest import KEY, WEB_TOKEN, Server  # noqa: E402
from drive import report  # noqa: E402
from fake_flowith import CUT, HANG, FakeFlowith, Reply, Seen, error, web  # noqa: E402
from known_agents import AGENTS, ANSWER, Agent  # noqa: E402

BEFORE = "# Greeting\n\nHello wrold, this is <b>it</b>.\n\n"
AFTER = BEFORE.replace("wrold", "world")
TASK = "Fix the spelling in greeting.md, then count its lines into lines.txt."
SECONDS = 180  # for one run of one agent, of which some need half a minute to start
SOON = 20  # seconds after its first request, for an agent to say what no second try can mend


class Site:
    """One agent's surroundings: a stand-in, a service, a home, and a git checkout to work in."""

    def __init__(self, agent: Agent, folder: Path, flowith: FakeFlowith) -> None:
        self.agent, self.flowith = agent, flowith
        self.home, self.work = folder / "home", folder / "work"
        for place in (self.home, self.work):
            place.mkdir()
        (self.work / "greeting.md").write_text(BEFORE, "utf-8")
        for order in (["init", "-q"], ["add", "."], ["commit", "-qm", "Begin"]):
            named = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
            subprocess.run(["git", *named, *order], cwd=self.work, check=True, capture_output=True)
        given = {"FLOWITH_API_URL": flowith.url, "FLOWITH_AUTH_TOKEN": WEB_TOKEN}
        given |= {"STATE_FILE": str(folder / "state"), "RETRY_ATTEMPTS": "1", "HEARTBEAT": "0.5"}
        self.server = Server(folder / "service.log", given)

    def start(self, task: str) -> subprocess.Popen[bytes]:
        """The agent at work, in a process group of its own."""
        environ = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "TERM", "TMPDIR")}
        # Node itself is installed with the agents, as some need a newer one than systems have
        environ["PATH"] = f"{HERE / 'node_modules/.bin'}{os.pathsep}{environ['PATH']}"
        environ |= {"HOME": str(self.home), "NO_COLOR": "1", "CI": "1", "PYTHONIOENCODING": "utf-8"}
        environ |= {"BASE_URL": f"{self.server.url}/v1", "API_KEY": KEY, "TASK": task}
        environ |= {"BIN": str(HERE / "node_modules/.bin"), "PYTHON": str(python_of("agents"))}
        environ |= {"AIDER_PYTHON": str(python_of("aider")), "HERE": str(HERE)}
        return subprocess.Popen(
            ["bash", "-c", self.agent.command],
            cwd=self.work,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, task: str) -> str:
        """What the agent printed; it is ended where it does not end."""
        process = self.start(task)
        try:
            said, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            said = end(process)
            raise AssertionError(f"not done after {SECONDS} s: {tail(said)}") from None
        return said.decode("utf-8", "replace")

    def play(self, last: Reply | None = None) -> Callable[[Seen], Reply]:
        """The model: the step that follows the results so far; `last` in place of all steps."""

        def answer(seen: Seen) -> Reply:
            if not self.of_the_job(seen):
                return web("A title")
            if last:
                return last
            results = len(re.findall(self.agent.result, conversation(seen)))
            steps = self.agent.steps(self.work)
            said = steps[results] if results < len(steps) else ANSWER
            return web(*[said[i : i + 7] for i in range(0, len(said), 7)])

        return answer

    def of_the_job(self, seen: Seen) -> bool:
        """Whether a request offers the agent's tools; others, for a title, say, stand beside it."""
        return all(tool.encode() in seen.body for tool in self.agent.tools)

    def asked(self) -> list[Seen]:
        """What the model was asked for the job so far."""
        return [seen for seen in self.flowith.requests if self.of_the_job(seen)]

    def wait_asked(self, process: subprocess.Popen[bytes]) -> Seen:
        """The job's first request."""
        until = time.monotonic() + SECONDS
        while not self.asked():
            assert time.monotonic() < until, "it never asked"
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.05)
        return self.asked()[0]


def conversation(seen: Seen) -> str:
    """What a prompt holds beside the system's words, which show results too, as examples."""
    messages = seen.json["messages"]
    return "\n".join(str(m["content"]) for m in messages if m["role"] != "system")


def end(process: subprocess.Popen[bytes]) -> bytes:
    """End an agent and all that it started; what it had printed."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    said, _ = process.communicate()
    return said


def tail(said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return " ".join(text.split())[-400:]


def does_the_job(site: Site) -> None:
    site.flowith.reply(site.play(), path="/completion")
    said = site.run(TASK)
    assert (site.work / "greeting.md").read_text("utf-8") == AFTER, tail(said)
    if site.agent.runs_commands:
        lines = site.work / "lines.txt"
        assert lines.exists(), f"no command ran: {tail(said)}"
        assert lines.read_text("utf-8").split()[0] == "4"
    assert ANSWER in said or not site.agent.prints, tail(said)


def a_stop_closes_the_upstream(site: Site) -> None:
    site.flowith.reply(site.play(web("I think ", HANG)), path="/completion")
    process = site.start(TASK)
    try:
        waits = site.wait_asked(process)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        assert waits.wait_hung_up(15), "the call to Flowith went on"
    finally:
        end(process)


def says_at_once(status: int, words: str) -> Callable[[Site], None]:
    def case(site: Site) -> None:
        site.flowith.reply(site.play(error(status, "No more of it.")), path="/completion")
        process = site.start(TASK)
        try:
            site.wait_asked(process)
            process.communicate(timeout=SOON)
            goes_on = False
        except subprocess.TimeoutExpired:
            goes_on = True
        finally:
            printed = end(process)
        said = printed.decode("utf-8", "replace")
        assert re.search(words, said, re.IGNORECASE), f"nothing said of it: {tail(said)}"
        if not site.agent.insists:
            assert len(site.asked()) <= 2, f"asked {len(site.asked())} times"
            assert not goes_on, f"still there after {SOON} s"

    return case


def a_cut_is_not_taken_for_whole(site: Site) -> None:
    """It says so, ends badly, or tries again; some wait for that in silence."""
    site.flowith.reply(site.play(web("I shall ", CUT, framing="length")), path="/completion")
    process = site.start(TASK)
    try:
        site.wait_asked(process)
        said, _ = process.communicate(timeout=SOON)
    except subprocess.TimeoutExpired:
        return
    finally:
        end(process)
    told = b"broke off" in said or b"rror" in said
    again = len(site.asked()) > 1
    assert told or process.returncode or again, f"passed for whole: {tail(said)}"


CASES: dict[str, Callable[[Site], None]] = {
    "does the whole job": does_the_job,
    "a stop closes the upstream": a_stop_closes_the_upstream,
    "out of credits, said at once": says_at_once(402, "credits|402"),
    "account refused, said at once": says_at_once(401, "token|refused|424"),
    "a cut is not taken for whole": a_cut_is_not_taken_for_whole,
}


def try_agent(name: str) -> tuple[float, list[tuple[str, str | None]]]:
    """Seconds, and each case with what was wrong."""
    started, agent = time.monotonic(), AGENTS[name]
    found: list[tuple[str, str | None]] = []
    for case, test in CASES.items():
        if case in agent.without:
            continue
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, FakeFlowith() as f:
            site = Site(agent, Path(folder), f)
            wrong = None
            try:
                test(site)
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is what the case found
                wrong = f"{type(exc).__name__}: {exc}"
            finally:
                site.server.stop()
            print(f"{name}: {case}: {wrong or 'passed'}", flush=True)
            found.append((case, wrong))
    return time.monotonic() - started, found


def python_of(name: str) -> Path:
    return HERE / ".venv" / name / "bin" / "python"


def install() -> None:
    """npm and pip, when what they are told has changed since they last ran."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        sys.exit("Node.js with npm is needed for the agents.")
    lock, stamp = HERE / "package-lock.json", HERE / "node_modules" / "installed"
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
        print("installing package-lock.json ...", flush=True)
        # Not `ci`: the lock holds the programs of one platform, and others are found beside it.
        order = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(order, cwd=HERE, check=True)
        stamp.write_bytes(lock.read_bytes())
    for name, file in (("agents", "requirements.txt"), ("aider", "requirements-aider.txt")):
        wanted, stamp = HERE / file, HERE / ".venv" / name / "installed"
        if stamp.exists() and stamp.read_bytes() == wanted.read_bytes():
            continue
        print(f"installing {file} ...", flush=True)
        venv.create(HERE / ".venv" / name, with_pip=True, clear=True)
        pip = [str(python_of(name)), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", file], cwd=HERE, check=True)
        stamp.write_bytes(wanted.read_bytes())


def main() -> None:
    names = sys.argv[1:] or list(AGENTS)
    if unknown := [name for name in names if name not in AGENTS]:
        sys.exit(f"Unknown agent {unknown[0]!r}; there are: {', '.join(AGENTS)}")
    install()
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(names, pool.map(try_agent, names), strict=True))
    sys.exit(report(found))


if __name__ == "__main__":
    main()
