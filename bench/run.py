"""Measure the service beside the bare upstream, nginx and others; treats it as a black box.

`python bench/run.py` builds the tools, runs every scenario interleaved over all targets, prints a
table and writes JSON for `plot.py`. The target has core 0 to itself, the tools share core 1.
"""

import argparse
import json
import os
import platform
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from processes import Process, Processes, cpu_seconds, free_port, memory_mb
from scenarios import SCENARIOS, Job, Run, Scenario
from stalls import NAME as STALLS
from stalls import Stalls

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
TARGET_CORE, TOOL_CORE = "0", "1"
KEY, MODEL = "bench", "gpt-4.1"
ENOUGH = 5  # times the service's rate that the tools must be able to bear
NGINX = """
{user} worker_processes 1; daemon off; pid {dir}/{port}.pid; error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 4m; keepalive_requests 1000000;
  client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;
  uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;
  upstream stand_in {{ server 127.0.0.1:{upstream}; keepalive 2048; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096; tcp_nodelay on;
    location / {{
      proxy_pass http://stand_in; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


class BenchError(Exception):
    """Something that keeps the whole run, or one target, from being measured."""


@dataclass(frozen=True)
class Target:
    """Where requests go. `pid` is the root of the processes whose CPU time counts; `passes` says
    that it hands bytes through, so that it gets what the upstream itself would answer."""

    name: str
    port: int
    pid: int | None
    path: str = "/v1/chat/completions"
    key: str = KEY
    model: str = MODEL
    passes: bool = False


# --- the bench ---


@dataclass
class Bench:
    """The tools at work: stand-ins, targets, load."""

    folder: Path
    processes: Processes
    upstream_port: int = 0
    secure_port: int = 0
    bodies: dict[tuple[str, Job], Path] = field(default_factory=dict)

    def start_upstream(self, port: int, *certificate: Path) -> tuple[int, int]:
        process = self.processes.start(
            TOOL_CORE, BUILD / "upstream", str(port), *certificate, speaks=True
        )
        said = process.stdout.readline() if process.stdout else ""
        if not said.startswith("port "):
            raise BenchError(f"The stand-in does not start on port {port}.")
        return int(said.split()[1]), process.pid

    def boot(self, name: str) -> tuple[Target, Process, float]:
        """Start nginx or the service; returns with the seconds from start to first answer."""
        port, begun = free_port(), time.monotonic()
        if name == "nginx":
            user = "user root;" if os.geteuid() == 0 else ""
            conf = self.folder / f"{port}.conf"
            conf.write_text(
                NGINX.format(user=user, dir=self.folder, upstream=self.upstream_port, port=port)
            )
            process = self.processes.start(
                TARGET_CORE, "nginx", "-e", "stderr", "-p", self.folder, "-c", conf
            )
        else:
            secure = name == "tls"
            url = f"http://127.0.0.1:{self.upstream_port}/completion"
            if secure:
                url = f"https://localhost:{self.secure_port}/completion"
            process = self.processes.start(
                TARGET_CORE,
                Path(sys.executable).with_name("gunicorn"),
                env={
                    "PORT": str(port), "HOST": "127.0.0.1", "API_KEY": KEY,
                    "FLOWITH_AUTH_TOKEN": "bench-token", "FLOWITH_API": "web",
                    "FLOWITH_API_URL": url, "LOG_LEVEL": "warning", "WEB_CONCURRENCY": "1",
                }
                | ({"REQUESTS_CA_BUNDLE": str(self.folder / "ca.pem")} if secure else {}),
            )  # fmt: skip
        target = Target(name, port, process.pid, passes=name == "nginx")
        self.ask_once(target, process, begun + 30)
        return target, process, time.monotonic() - begun

    def ask_once(self, target: Target, process: Process, until: float) -> None:
        """Wait for the first right answer."""
        body = self.body(target, Job(n=5)).read_bytes()
        said = b""
        headers = {"Authorization": f"Bearer {target.key}", "Content-Type": "application/json"}
        while time.monotonic() < until and process.poll() is None:
            connection = HTTPConnection("127.0.0.1", target.port, timeout=10)
            try:
                connection.request("POST", target.path, body, headers)
                said = connection.getresponse().read()
                if b"[DONE]" in said and b'"error"' not in said:
                    return
                break
            except OSError:
                time.sleep(0.005)
            finally:
                connection.close()
        raise BenchError(f"{target.name} does not answer: {said[:300]!r}")

    def body(self, target: Target, job: Job) -> Path:
        """The file with the request for a job, which names the model of the target."""
        key = (target.model, job)
        if key not in self.bodies:
            plan = f"bench-plan n={job.n} rate={job.rate} write={job.write} lead=0 id=AAAA"
            messages = [*prose(job.prompt), {"role": "user", "content": f"Say something. {plan}"}]
            said = {"input" if job.api == "responses" else "messages": messages}
            whole = {"model": target.model, **said, "stream": job.stream}
            if job.api == "messages":
                whole["max_tokens"] = 32_000
            self.bodies[key] = self.folder / f"body{len(self.bodies)}.json"
            text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
            self.bodies[key].write_text(text, "utf-8")
        return self.bodies[key]

    def load(
        self, target: Target, job: Job, at_mark: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Let the callers loose on a target; adds the CPU seconds that it took for it."""
        path = "/completion" if job.bare and target.passes else target.path
        if job.api != "chat":
            path = path.replace("/chat/completions", f"/{job.api}")
        words = {
            "port": target.port, "path": path, "key": target.key, "n": job.n, "rate": job.rate,
            "body": self.body(target, job), "callers": job.callers, "seconds": job.seconds,
            "stream": int(job.stream), "text": int(job.bare and target.passes),
            "each": job.each, "ramp": job.ramp, "limit": job.limit,
            "mark0": job.marks[0], "mark1": job.marks[1],
        }  # fmt: skip
        clock = [cpu_seconds(target.pid) if target.pid else 0.0]
        process = self.processes.start(
            TOOL_CORE, BUILD / "load", *(f"{k}={v}" for k, v in words.items()), speaks=True
        )
        last = ""
        for line in process.stdout or ():
            last = line
            if line.startswith("mark "):
                clock.append(cpu_seconds(target.pid) if target.pid else 0.0)
                at_mark()
        process.wait()
        used = (cpu_seconds(target.pid) if target.pid else 0.0) - clock[0]
        self.processes.end(process)
        if not last.startswith("{"):
            raise BenchError(f"The load generator failed (it said {last!r}).")
        run: dict[str, Any] = {**json.loads(last), "tool_cpu": 0.0}
        run |= {"callers": job.callers, "asked": job.callers * max(job.each, 1)}
        run["tool_cpu"] = run.pop("cpu")
        if target.pid and target.name != "direct":
            run["cpu"] = used
            if len(clock) == 3:
                run["window_cpu"] = clock[2] - clock[1]
        return run


def prose(size: int) -> list[dict[str, str]]:
    """About `size` bytes of conversation in 200 messages, the same in every run."""
    if not size:
        return []
    draw = random.Random(5)
    words = [
        "the",
        "quick",
        "naive",
        "answer",
        '"quoted"',
        "line\n",
        "code();",
        "of",
        "words",
        "is",
    ]
    messages = []
    for i in range(199):
        text = " ".join(draw.choices(words, k=size // 200 // 6))
        messages.append({"role": "assistant" if i % 2 else "user", "content": text})
    return messages


# --- scenarios over targets ---


def once(bench: Bench, scenario: Scenario, target: Target) -> Run:
    """One run of one scenario on one target."""
    if not scenario.boots:
        api = "chat" if target.name == "chat" else scenario.job.api
        return bench.load(target, replace(scenario.job, api=api))
    target, process, start = bench.boot(target.name)
    rss, pss = memory_mb(process.pid)
    bench.load(target, Job(n=5, callers=32, seconds=0.3))
    before, during = memory_mb(process.pid)[1], [0.0]

    def look() -> None:
        during[0] = max(during[0], memory_mb(process.pid)[1])

    run = bench.load(target, scenario.job, look)
    bench.processes.end(process)
    grown = (during[0] - before) * 1024 / scenario.job.callers
    return {**run, "start_s": start, "rss_mb": rss, "pss_mb": pss, "stream_kb": grown}


def shorter(scenario: Scenario) -> Scenario:
    return replace(scenario, job=replace(scenario.job, seconds=min(0.4, scenario.job.seconds)))


def measure(
    bench: Bench, scenario: Scenario, targets: list[Target], reps: int
) -> dict[str, list[Run]]:
    """All runs of a scenario, one target after the other, over and over."""
    runs: dict[str, list[Run]] = {t.name: [] for t in targets}
    for rep in range(reps):
        for target in targets:
            if target.name == "direct" and rep >= scenario.direct_reps:
                continue
            told = f"\r{scenario.name:14} {rep + 1}/{reps} {target.name:12}"
            print(told, end="", file=sys.stderr, flush=True)
            runs[target.name].append(once(bench, scenario, target))
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    return runs


def chosen(scenario: Scenario, all_targets: dict[str, Target]) -> list[Target]:
    """Those that a scenario can be run on; over TLS, and for an API that is not chat completions,
    the service is compared with itself."""
    if scenario.job.api != "chat":
        others = [t for t in all_targets.values() if not t.passes and t.name != "tls"]
        return [replace(all_targets["ours"], name="chat"), *others]
    if scenario.tls:
        if "tls" not in all_targets:
            return []
        pair = [
            replace(all_targets["ours"], name="plain"),
            replace(all_targets["tls"], name="ours"),
        ]
        compared = any("plain" in (row.over, row.part) for row in scenario.rows)
        return pair if compared else pair[1:]
    if scenario.boots:
        return [t for t in all_targets.values() if t.name in ("nginx", "ours")]
    return [t for t in all_targets.values() if t.name != "tls"]


def tabulate(scenario: Scenario, runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """The rows that a scenario adds to the table: medians, less those of the base where asked."""
    table = []
    for row in scenario.rows:
        values = {}
        for name, all_runs in runs.items():
            found = [v for run in all_runs if (v := row.value(run)) is not None]
            if found:
                values[name] = statistics.median(found)
        base = values.get(row.over or row.part)
        if row.part and not base:
            continue
        for name in values:
            if row.over and name != row.over:
                values[name] -= base or 0.0
            elif row.part and base:
                values[name] /= base
        entry: dict[str, Any] = {"scenario": scenario.name, "title": row.title, "unit": row.unit}
        entry |= {"values": values, "goal": row.goal, "digits": row.digits, "over": row.over}
        if "ours" in values and values.get("nginx"):
            entry["ratio"] = values["ours"] / values["nginx"]
        if "ours" in values and row.goal:
            entry["met"] = row.meets(values["ours"])
        table.append(entry)
    return table


def complaints(scenario: Scenario, runs: dict[str, list[Run]]) -> Iterator[str]:
    """Wrong, cut and missing answers, and tools that were too slow to measure with."""
    for name, all_runs in runs.items():
        wrong = sum(run["wrong"] for run in all_runs)
        missing = sum(run["unfinished"] for run in all_runs)
        if wrong or missing:
            said = next((run["first_wrong"] for run in all_runs if run["first_wrong"]), "")
            yield f"{scenario.name}, {name}: {wrong} wrong, {missing} unfinished. {said}"
    if scenario.checked and {"direct", "ours"} <= runs.keys():
        rate = {
            name: statistics.median(run["tokens"] / run["seconds"] for run in runs[name])
            for name in ("direct", "ours")
        }
        if rate["direct"] < ENOUGH * rate["ours"]:
            times = rate["direct"] / max(rate["ours"], 1e-9)
            yield f"{scenario.name}, tools: only {times:.1f} times as fast as the service alone."


def print_table(table: list[dict[str, Any]], names: list[str]) -> None:
    heads = ["scenario", *names, "goal", "", "ours/nginx"]
    lines = [heads]
    for row in table:
        cells = [row["title"] + (f" ({row['unit']})" if row["unit"] else "")]
        for name in names:
            value = row["values"].get(name)
            sign = "+" if row["over"] and name != row["over"] else ""
            cells.append("-" if value is None else f"{value:{sign},.{row['digits']}f}")
        met = ("met" if row["met"] else "MISSED") if "met" in row else ""
        ratio = f"{row['ratio']:.3g}" if "ratio" in row else ""
        lines.append([*cells, row["goal"], met, ratio])
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        cells = [cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)]
        print(line[0].ljust(widths[0]), *cells, sep="  ")


# --- setting up ---


def build() -> str:
    """Compile the tools; returns why TLS is not there, if it is not."""
    BUILD.mkdir(exist_ok=True)
    compiler = ["cc", "-O2", "-Wall", "-o"]
    subprocess.run([*compiler, str(BUILD / "load"), str(HERE / "load.c")], check=True)
    source = [str(BUILD / "upstream"), str(HERE / "upstream.c")]
    with_tls = [*compiler, *source, "-DWITH_TLS", "-lssl", "-lcrypto"]
    if subprocess.run(with_tls, capture_output=True, check=False).returncode == 0:
        return ""
    subprocess.run([*compiler, *source], check=True)
    return "OpenSSL's headers are missing (Debian: libssl-dev)"


def start_tls(bench: Bench) -> Target:
    """The service again, with a stand-in behind a certificate of our own."""
    key, certificate = bench.folder / "key.pem", bench.folder / "ca.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    bench.secure_port, _ = bench.start_upstream(0, certificate, key)
    return bench.boot("tls")[0]


def start_targets(
    bench: Bench, options: argparse.Namespace, wanted: list[Scenario]
) -> dict[str, Target]:
    """All targets that can be had; says which cannot."""
    no_tls = build()
    bench.upstream_port, pid = bench.start_upstream(options.upstream_port)
    targets = {"direct": Target("direct", bench.upstream_port, pid, passes=True)}
    if shutil.which("nginx"):
        targets["nginx"] = bench.boot("nginx")[0]
    else:
        print("No nginx column: there is no nginx (Debian: apt-get install nginx).")
    targets["ours"] = bench.boot("ours")[0]
    if any(scenario.tls for scenario in wanted):
        try:
            if no_tls:
                raise BenchError(no_tls)
            targets["tls"] = start_tls(bench)
        except (BenchError, OSError, subprocess.CalledProcessError) as wrong:
            print(f"No TLS rows: {wrong}")
    if options.targets.exists():
        asked = tomllib.loads(options.targets.read_text("utf-8"))
        if unknown := asked.keys() - {"target"}:
            raise BenchError(f"{options.targets}: a server is a [[target]], not {unknown}.")
        for row in asked.get("target", []):
            if missing := {"name", "base_url", "key", "model"} - row.keys():
                raise BenchError(f"{options.targets}: a target has no {missing}.")
            url = urlsplit(row["base_url"])
            if url.hostname not in ("127.0.0.1", "localhost") or url.scheme != "http":
                raise BenchError(f"{row['name']}: only http on this machine is measured.")
            path = url.path.rstrip("/") + "/chat/completions"
            targets[row["name"]] = Target(
                row["name"], url.port or 80, row.get("pid"), path, row["key"], row["model"]
            )
    return targets


def busy_seconds() -> float:
    """CPU time that anybody has used on this machine, or that was stolen from it."""
    fields = Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields[:8])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def machine(others: float) -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text()
    model = next((ln.split(":")[1].strip() for ln in info.splitlines() if "model name" in ln), "?")
    return {
        "processor": model, "cores": os.cpu_count(), "kernel": platform.release(),
        "python": platform.python_version(), "others": round(others, 2),
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


@contextmanager
def at_work() -> Iterator[Bench]:
    """A bench whose processes end with it, whatever happens."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder), Processes())
        try:
            yield bench
        finally:
            bench.processes.end_all()


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="name of a scenario; may be repeated")
    parser.add_argument("--quick", action="store_true", help="one short run of each, no medians")
    parser.add_argument("--reps", type=int, default=5, help="runs per scenario and target")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "latest.json")
    parser.add_argument("--targets", type=Path, default=HERE / "targets.toml")
    parser.add_argument("--upstream-port", type=int, default=0, help="default: any free port")
    options = parser.parse_args()
    names = [*(scenario.name for scenario in SCENARIOS), STALLS]
    unknown = set(options.only or ()) - set(names)
    if unknown:
        parser.error(f"no scenario {unknown}; there are {', '.join(names)}")
    return options


def main() -> int:
    options, begun = parse_options(), time.monotonic()
    wanted = [s for s in SCENARIOS if not options.only or s.name in options.only]
    table: list[dict[str, Any]] = []
    raw: dict[str, dict[str, list[Run]]] = {}
    wrong: list[str] = []
    with at_work() as bench:
        busy = busy_seconds() - cpu_seconds(os.getpid())
        targets = start_targets(bench, options, wanted)
        for target in targets.values():
            bench.load(target, Job(n=5, callers=8, seconds=0.5))
        for scenario in wanted:
            if not (able := chosen(scenario, targets)):
                continue
            scenario = shorter(scenario) if options.quick else scenario
            try:
                runs = measure(bench, scenario, able, 1 if options.quick else options.reps)
            except BenchError as problem:
                wrong.append(f"{scenario.name}, tools: {problem}")
                continue
            raw[scenario.name] = runs
            table += tabulate(scenario, runs)
            wrong += complaints(scenario, runs)
        if not options.only or STALLS in options.only:
            table += Stalls(bench.processes, TARGET_CORE, TOOL_CORE).measure()
        others = busy_seconds() - cpu_seconds(os.getpid()) - busy
    took = time.monotonic() - begun
    names = [name for name in targets if name != "tls"]
    print_table(table, names)
    print(f"{'One run' if options.quick else f'Medians of {options.reps}'}; {took:.0f} seconds, in"
          f" which other work took {100 * others / took:.0f} % of a core.")  # fmt: skip
    for complaint in wrong:
        print("WRONG:", complaint)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(others / took), "quick": options.quick, "reps": options.reps}
    report |= {"targets": names, "table": table, "wrong": wrong, "runs": raw}
    options.json.write_text(json.dumps(report, indent=1), "utf-8")
    return bool(wrong)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Stopped.")
    except BenchError as wrong:
        sys.exit(str(wrong))
