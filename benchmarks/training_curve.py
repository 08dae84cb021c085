"""Keep how well a tokenizer of pocket rebuilt its batches while it learned: what more steps would have brought.

    python benchmarks/training_curve.py --run runs/driving/run --out benchmarks/results/driving-tokenizer.json

Reads the run's log. Each row is the mean of the logged batches between two numbers of steps, squared errors averaged
before they become dB; the last entry is the check on validation frames when training ended.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from keeping import flags, keep

from reelworld.config import read_json
from reelworld.evaluate.figures import db

ENDS = (250, 500, 1000, 2000, 4000, 8000, 12_000, 16_000, 20_000)
"""Steps at which rows end."""
WHITE = 255 / 2
"""Grey levels per unit of a pixel in [-1, 1]."""
SETTINGS = ("tokenizer_width", "tokenizer_steps", "tokenizer_batch", "tokenizer_lr", "levels")


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a training of pocket")
    arguments = parser.parse_args()
    lines = (arguments.run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [entry for entry in map(json.loads, lines) if entry["stage"] == "tokenizer"]
    logged = [(entry["stage_step"], entry["losses"]["plain_square"]) for entry in entries if "losses" in entry]
    rows: list[dict[str, Any]] = []
    for first, last in zip((0, *ENDS), ENDS, strict=False):
        errors = [error for step, error in logged if first < step <= last]
        if errors:
            psnr = float(db(np.mean(errors) * WHITE**2))
            rows.append({"after": first, "up_to": last, "batches": len(errors), "psnr": psnr})
    fields = read_json(arguments.run / "config.json")["fields"]
    keep(
        "training-curve",
        arguments.out,
        seed=fields["seed"],
        settings={name: fields[name] for name in SETTINGS},
        minutes=entries[-1]["minutes"],
        rows=rows,
        validation=next((entry["validation"] for entry in reversed(entries) if "validation" in entry), None),
    )


if __name__ == "__main__":
    main()
