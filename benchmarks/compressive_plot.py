"""Draw docs/images/compressive.png from the kept result of benchmarks/compressive.py.

python benchmarks/compressive_plot.py
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parent.parent
COPY = "copy of the last frame seen"
KEPT = ROOT / "benchmarks" / "results" / "compressive.json"
PICTURE = ROOT / "docs" / "images" / "compressive.png"


def main(kept: Path = KEPT, picture: Path = PICTURE) -> None:
    """Draw the mean of four samples over steps, with the spread over seeds, beside pictures and speed of each seed."""
    results = json.loads(kept.read_text(encoding="utf-8"))
    figure, (axes, trade) = plt.subplots(1, 2, figsize=(9, 3.6), dpi=110, layout="constrained", width_ratios=(3, 2))
    copied = {}
    for name in dict.fromkeys(row["tokenizer"] for row in results["results"]):
        trained = [row for row in results["results"] if row["tokenizer"] == name]
        rows = [row["figures"] for row in trained]
        steps = sorted(int(key.rpartition("_h")[2]) for key in rows[0] if key.startswith("psnr_mean_h"))
        values = np.array([[row[f"psnr_mean_h{h}"]["value"] for h in steps] for row in rows])
        (line,) = axes.plot(steps, values.mean(0), "o-", ms=4, label=name)
        axes.fill_between(steps, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, lw=0)
        speeds, pictures = ([row[k] for row in trained] for k in ("frames_per_cpu_second", "reconstruction_psnr"))
        trade.plot(speeds, pictures, "o", color=line.get_color())
        copied = {h: np.mean([row[f"psnr_mean_h{h}"]["baselines"][COPY] for row in rows]) for h in steps}
    axes.plot(list(copied), list(copied.values()), "--", color="0.4", lw=1, label=COPY)
    axes.set(xlabel="steps ahead", ylabel="PSNR of the mean of 4 samples (dB)", xticks=list(copied))
    axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.15))
    trade.set(xscale="log", xlabel="frames drawn per CPU-second", ylabel="PSNR of later frames through the codes (dB)")
    trade.set_xticks([2, 5, 10, 20, 50], labels=["2", "5", "10", "20", "50"])
    trade.minorticks_off()
    figure.savefig(picture)


if __name__ == "__main__":
    main()
