"""Measure the service beside the bare upstream, nginx and others; treats it as a black box.

`python bench/run.py` builds the tools, runs every scenario interleaved over all targets, prints a
table and writes JSON for `plot.py`. The target has core 0 to itself, the tools share core 1.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from processes import cpu_seconds, memory_mb
from scenarios import SCENARIOS, Job, Row, Run, Scenario
from stalls import NAME as STALLS
from stalls import Stalls
from targets import HERE, TARGET_CORE, TOOL_CORE, Bench, BenchError, Target, at_work, start_targets

ENOUGH = 5  # times the service's rate that the tools must be able to bear


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
    """All runs of a scenario, one target after the other, over and over, there and back."""
    runs: dict[str, list[Run]] = {t.name: [] for t in targets}
    for rep in range(reps):
        for target in targets if rep % 2 == 0 else reversed(targets):
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


def figures(row: Row, name: str, runs: dict[str, list[Run]]) -> list[float]:
    """A row's figure in each run of a target. Where the row compares it with another, each run is
    held against the one just before or after it: a minute later the machine is not the same."""
    base = row.part or row.over
    if not base or name == row.over:
        return [value for run in runs[name] if (value := row.value(run)) is not None]
    beside = zip(runs[name], runs.get(base, []), strict=False)  # direct may have run less often
    pairs = [(row.value(run), row.value(other)) for run, other in beside]
    if row.over:
        return [value - other for value, other in pairs if value is not None and other is not None]
    return [value / other for value, other in pairs if value is not None and other]


def tabulate(scenario: Scenario, runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """The rows that a scenario adds to the table: medians."""
    table = []
    for row in scenario.rows:
        values = {}
        for name in runs:
            if found := figures(row, name, runs):
                values[name] = statistics.median(found)
        if row.part and row.part not in values:
            continue
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
