"""Draw docs/images/clone-from-video.png from the kept result of examples/clone_from_video.py.

python benchmarks/clone_plot.py
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parent.parent
LINES = {"video": ("watching, then naming the codes", "tab:blue"), "labels": ("labels alone", "tab:orange")}
LEVELS = {"random": "random actions", "solver": "the expert"}


def main() -> None:
    """Draw return over labels, with intervals, between random actions and the expert."""
    result = json.loads((ROOT / "benchmarks" / "results" / "clone-from-video.json").read_text(encoding="utf-8"))
    all_steps = max(row["labels"] for row in result["results"])
    figure, axes = plt.subplots(figsize=(6, 3.6), dpi=110, layout="constrained")
    for who, (name, color) in LINES.items():
        rows = [row for row in result["results"] if row["who"] == who and row["labels"] < all_steps]
        x = [row["labels"] for row in rows]
        axes.plot(x, [row["return"] for row in rows], "o-", color=color, label=name)
        axes.fill_between(x, [r["low"] for r in rows], [r["high"] for r in rows], color=color, alpha=0.2, lw=0)
    for row in result["results"]:
        if row["who"] in LEVELS or row["labels"] == all_steps:
            name = LEVELS.get(row["who"], f"labels of all {all_steps:,} steps")
            style = {"random": ":", "solver": "-."}.get(row["who"], "--")
            axes.axhline(row["return"], color="0.4", ls=style, lw=1, label=name)
    axes.set(xscale="log", xlabel="labelled steps", ylabel="return", ylim=(-0.03, 1.03), xticks=x)
    axes.set_xticks(x, [f"{n:,}" for n in x])
    axes.minorticks_off()
    axes.legend(loc="center right", fontsize=8)
    figure.savefig(ROOT / "docs" / "images" / "clone-from-video.png")


if __name__ == "__main__":
    main()
