"""What is measured: the scenarios, the rows of the table that each one makes, and the goals.

Knows nothing of how anything is run.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

Run = dict[str, Any]  # what one run of the load generator said, and the CPU and memory beside it


@dataclass(frozen=True)
class Job:
    """What the callers do: see load.c and upstream.c. `bare`: a byte pipe passes plain text; `api`
    is the one that they speak, "chat", "responses" or "messages"."""

    n: int = 50
    rate: int = 0
    write: int = 1
    callers: int = 1
    stream: bool = True
    bare: bool = False
    prompt: int = 0
    seconds: float = 0.8
    each: int = 0
    ramp: float = 0.0
    marks: tuple[float, float] = (0.0, 0.0)
    limit: float = 30.0
    api: str = "chat"


@dataclass(frozen=True)
class Row:
    """One line of the table. With `over` the medians of that target are subtracted, with `part`
    all are divided by them."""

    title: str
    value: Callable[[Run], float | None]
    goal: str = ""
    unit: str = ""
    digits: int = 2
    over: str = ""
    part: str = ""

    def meets(self, value: float) -> bool:
        sign, bound = self.goal.split()[:2]
        limit = float(bound.replace(",", ""))
        return value <= limit if sign == "<=" else value >= limit


@dataclass(frozen=True)
class Scenario:
    """`boots`: the target is started anew for each run. `checked`: the tools must be faster than
    the service by far. `tls`: the service speaks TLS to its upstream."""

    name: str
    job: Job
    rows: tuple[Row, ...]
    boots: bool = False
    checked: bool = False
    tls: bool = False
    direct_reps: int = 100


def of(name: str) -> Callable[[Run], float | None]:
    return lambda run: run.get(name)


def per_cpu(name: str) -> Callable[[Run], float | None]:
    """Per CPU second of the target; for the bare upstream per second."""

    def value(run: Run) -> float | None:
        if "cpu" not in run:
            return float(run[name] / run["seconds"])
        return float(run[name] / run["cpu"]) if run["cpu"] else None

    return value


def completed(run: Run) -> float:
    return 100 * float(run["answers"] / run["asked"])


def us_per_token(run: Run) -> float | None:
    """While all streams run; over the whole run where nothing came in that time."""
    if "window_cpu" not in run:
        return None
    cpu, tokens = run["window_cpu"], run["window_tokens"]
    return 1e6 * float(cpu / tokens if tokens else run["cpu"] / max(run["tokens"], 1))


def us_per_token_in_all(run: Run) -> float | None:
    """Over the whole run, openings and closings too."""
    return 1e6 * float(run["cpu"] / run["tokens"]) if "cpu" in run and run["tokens"] else None


def coming_and_going(callers: int, late: str, cost: str) -> "Scenario":
    """Callers who start within two seconds, and ask twice each on a connection of their own."""
    return Scenario(
        f"visitors-{callers}",
        Job(n=200, rate=50, callers=callers, each=2, ramp=2.0),
        (
            Row(f"{callers:,} come and go: completed", completed, ">= 100", "%", 1),
            Row("  lateness p50", of("late_ms_p50"), "", "ms"),
            Row("  lateness p99", of("late_ms_p99"), late, "ms"),
            Row("  CPU per token, in all", us_per_token_in_all, cost, "us", 1),
        ),
        direct_reps=2,
    )


def crowd(callers: int, ramp: float, n: int) -> Job:
    """Streams of 50 tokens a second; the marks are when all of them run."""
    marks = (ramp + 0.3, n / 50)
    return Job(n=n, rate=50, callers=callers, each=1, ramp=ramp, marks=marks)


def crowd_rows(callers: int, late: str, cost: str, steady: str = "") -> tuple[Row, ...]:
    return (
        Row(f"crowd of {callers:,}: completed", completed, ">= 100", "%", 1),
        Row("  lateness p50", of("late_ms_p50"), "", "ms"),
        Row("  lateness p99", of("late_ms_p99"), late, "ms"),
        Row("  lateness p99, all running", of("steady_ms_p99"), steady, "ms"),
        Row("  CPU per token", us_per_token, cost, "us", 1),
    )


def in_other_api(api: str) -> tuple["Scenario", ...]:
    """Another API of the service beside its chat completions, for small answers and in a crowd."""
    title = f"{api.capitalize()} API"
    small = Row(f"{title}: small streamed, of chat's", per_cpu("answers"), ">= 0.85", part="chat")
    cost = Row(
        f"{title}: CPU per token, 500 streams, of chat's", us_per_token, "<= 1.15", part="chat"
    )
    return (
        Scenario(f"{api}-small", Job(n=5, write=0, callers=32, api=api), (small,)),
        Scenario(f"{api}-crowd", replace(crowd(500, ramp=1.0, n=125), api=api), (cost,)),
    )


THOUSAND = crowd(1000, ramp=2.5, n=225)
P50 = of("latency_ms_p50")
SCENARIOS = (
    Scenario(
        "answer", Job(n=50, seconds=0.6),
        (Row("50-token answer, 1 caller, p50 over direct", P50, "<= 0.6", "ms", 2, "direct"),),
    ),
    Scenario(
        "small-stream", Job(n=5, write=0, callers=32),
        (
            Row("small streamed, 32 callers", per_cpu("answers"), "", "per CPU-s", 0),
            Row("  of nginx's", per_cpu("answers"), ">= 0.05", digits=3, part="nginx"),
        ),
        checked=True,
    ),
    Scenario(
        "small-whole", Job(n=5, write=0, callers=32, stream=False),
        (
            Row("small non-stream, 32 callers", per_cpu("answers"), "", "per CPU-s", 0),
            Row("  of nginx's", per_cpu("answers"), ">= 0.033", digits=3, part="nginx"),
        ),
        checked=True,
    ),
    Scenario(
        "burst", Job(n=20_000, write=0, callers=16, bare=True, seconds=0.6),
        (Row("tokens at full speed, 16 streams", per_cpu("tokens"), ">= 400,000", "per CPU-s", 0),),
        checked=True,
    ),
    Scenario(
        "burst-single", Job(n=10_000, callers=16, bare=True, seconds=0.6),
        (
            Row("  one write per token", per_cpu("tokens"), "", "per CPU-s", 0),
            Row("  of nginx's", per_cpu("tokens"), ">= 5", part="nginx"),
        ),
    ),
    Scenario(
        "crowd-1000", THOUSAND,
        (
            *crowd_rows(1000, "<= 90", "", "<= 60"),
            Row("  of nginx's", us_per_token, "<= 1", part="nginx"),
        ),
        direct_reps=2,
    ),
    Scenario(
        "crowd-500", crowd(500, ramp=1.0, n=125), crowd_rows(500, "<= 30", "<= 24"), direct_reps=2
    ),
    Scenario(
        "crowd-200", crowd(200, ramp=0.5, n=100), crowd_rows(200, "<= 30", "<= 24"), direct_reps=2
    ),
    Scenario("crowd-10", crowd(10, ramp=0.2, n=75), crowd_rows(10, "<= 10", ""), direct_reps=2),
    coming_and_going(1000, "<= 120", "<= 18"),
    coming_and_going(500, "<= 60", "<= 22"),
    *in_other_api("responses"),
    *in_other_api("messages"),
    Scenario(
        "prompt", Job(n=5, prompt=1_000_000),
        (Row("1 MB prompt of 200 messages, stream, p50", P50, "<= 4.0", "ms"),),
    ),
    Scenario(
        "boot", Job(n=4, rate=2, callers=500, each=1, ramp=0.8, marks=(1.3, 1.45)),
        (
            Row("memory per running stream", of("stream_kb"), "<= 62", "KB", 1),
            Row("RSS at rest", of("rss_mb"), "", "MB", 1),
            Row("  of it own (PSS)", of("pss_mb"), "<= 50", "MB", 1),
            Row("start to first answer", of("start_s"), "<= 1.0", "s"),
        ),
        boots=True,
    ),
    Scenario(
        "tls-answer", Job(n=50, seconds=0.6),
        (Row("TLS upstream: 50-token answer, over plain", P50, "<= 0.3", "ms", 2, "plain"),),
        tls=True,
    ),
    Scenario(
        "tls-small", Job(n=5, write=0, callers=32),
        (Row("TLS upstream: small streamed, of the plain row", per_cpu("answers"), ">= 0.9",
             part="plain"),),
        tls=True,
    ),
    Scenario(
        "tls-burst", Job(n=20_000, write=0, callers=16, bare=True, seconds=0.6),
        (Row("TLS upstream: tokens at full speed, of the plain row", per_cpu("tokens"),
             part="plain"),),
        tls=True,
    ),
    Scenario(
        "tls-crowd", THOUSAND,
        (
            *(
                replace(row, title=row.title.replace("crowd", "TLS upstream: crowd"))
                for row in crowd_rows(1000, "", "")
            ),
            Row("  lateness p99, of the plain row", of("late_ms_p99"), "<= 1.3", part="plain"),
            Row("  CPU per token, of the plain row", us_per_token, "<= 1.15", part="plain"),
        ),
        tls=True,
    ),
)  # fmt: skip
