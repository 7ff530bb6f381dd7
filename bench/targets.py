"""What is measured, and the tools that measure it: started, asked once, loaded, ended.

Knows nothing of scenarios' order, of medians or of tables.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from processes import Process, Processes, cpu_seconds, free_port
from scenarios import Job, Scenario

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
TARGET_CORE, TOOL_CORE = "0", "1"
KEY, MODEL = "bench", "gpt-4.1"
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
        run: dict[str, Any] = json.loads(last)
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
        "the", "quick", "naive", "answer", '"quoted"', "line\n", "code();", "of", "words", "is",
    ]  # fmt: skip
    messages = []
    for i in range(199):
        text = " ".join(draw.choices(words, k=size // 200 // 6))
        messages.append({"role": "assistant" if i % 2 else "user", "content": text})
    return messages


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
