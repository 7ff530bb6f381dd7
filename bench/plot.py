"""Draw what `run.py` measured: `python bench/plot.py` makes PNG and SVG from the JSON beside them.

Needs matplotlib; knows nothing of how the figures came about.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # before pyplot: there is no display

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

COLOURS = {"direct": "#b0b0b0", "nginx": "#3b8a4f", "ours": "#c8502d"}
OTHERS = ("#4a6fa5", "#8a5fa8", "#b58900", "#2aa198", "#6c6c6c")
ROWS = (  # scenario, start of the row's title
    ("answer", "50-token"), ("small-stream", "small"), ("small-whole", "small"),
    ("burst", "tokens"), ("prompt", "1 MB"), ("boot", "memory"), ("boot", "RSS"),
    ("boot", "start"),
)  # fmt: skip
CROWDS = (10, 200, 500, 1000)


def colour(name: str, names: list[str]) -> str:
    others = [n for n in names if n not in COLOURS]
    return COLOURS.get(name) or OTHERS[others.index(name) % len(OTHERS)]


def draw_row(axes: Axes, row: dict[str, Any], names: list[str]) -> None:
    """One row of the table as bars, with its goal as a line."""
    shown = [n for n in names if n in row["values"] and n != row["over"]]
    bars = axes.barh(
        shown, [row["values"][n] for n in shown], color=[colour(n, names) for n in shown]
    )
    axes.bar_label(bars, fmt=f"{{:,.{row['digits']}f}}", padding=3, fontsize=8)
    values = [row["values"][n] for n in shown]
    if row["goal"]:
        bound = float(row["goal"].split()[1].replace(",", ""))
        axes.axvline(bound, color="black", linestyle=":", linewidth=1)
        values.append(bound)
    if min(values) > 0 and max(values) > 30 * min(values):
        axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.invert_yaxis()
    axes.set_title(f"{row['title'].strip()} [{row['unit']}], goal {row['goal']}", fontsize=9)
    axes.tick_params(labelsize=8)


def draw_crowds(
    axes: Axes, report: dict[str, Any], title: str, unit: str, goal: dict[int, float]
) -> None:
    """One figure of the crowds over the number of streams."""
    names: list[str] = report["targets"]
    rows = {
        int(r["scenario"].removeprefix("crowd-")): r["values"]
        for r in report["table"]
        if r["scenario"].startswith("crowd-") and r["title"].strip() == title
    }
    for name in names:
        points = [(n, rows[n][name]) for n in CROWDS if name in rows.get(n, {})]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, "o-", color=colour(name, names), label=name)
    axes.plot(list(goal), list(goal.values()), "_", color="black", markersize=14, label="goal")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(CROWDS, [str(n) for n in CROWDS])
    axes.minorticks_off()
    axes.set_xlabel("streams of 50 tokens/s", fontsize=8)
    axes.set_title(f"{title} [{unit}]", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def goals(report: dict[str, Any], title: str) -> dict[int, float]:
    """The goals of a row in the crowds, by number of streams."""
    return {
        int(r["scenario"].removeprefix("crowd-")): float(r["goal"].split()[1])
        for r in report["table"]
        if r["scenario"].startswith("crowd-") and r["title"].strip() == title and r["goal"]
    }


def draw(report: dict[str, Any]) -> None:
    """All on one page: bars for what is one number, lines for the crowds."""
    names: list[str] = report["targets"]
    found = [
        row
        for scenario, start in ROWS
        for row in report["table"]
        if row["scenario"] == scenario and row["title"].startswith(start)
    ]
    crowds = any(row["scenario"].startswith("crowd-") for row in report["table"])
    height = (len(found) + 1) // 2
    figure = plt.figure(figsize=(11, 1.6 * height + 4.2 * crowds), layout="constrained")
    grid = figure.add_gridspec(height + crowds, 2, height_ratios=[1] * height + [2.5] * crowds)
    for i, row in enumerate(found):
        draw_row(figure.add_subplot(grid[i // 2, i % 2]), row, names)
    if crowds:
        late, cost = "lateness p99", "CPU per token"
        draw_crowds(figure.add_subplot(grid[height, 0]), report, late, "ms", goals(report, late))
        draw_crowds(figure.add_subplot(grid[height, 1]), report, cost, "us", goals(report, cost))
    machine = report["machine"]
    figure.suptitle(
        f"One worker on one core; {machine['processor']}, Python {machine['python']},"
        f" {100 * machine['others']:.0f} % of a core taken by other work, {machine['date']}",
        fontsize=9,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).resolve().parent / "results" / "latest.json"
    parser.add_argument("json", type=Path, nargs="?", default=default)
    path: Path = parser.parse_args().json
    draw(json.loads(path.read_text("utf-8")))
    for ending in (".png", ".svg"):
        plt.savefig(path.with_suffix(ending), dpi=150)
        print(path.with_suffix(ending).name)


if __name__ == "__main__":
    main()
