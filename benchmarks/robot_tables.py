"""Tables of worlds of recorded robots and of what they bring to other robots: kept results in, Markdown out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["tuning_lines", "world_lines"]

WORLD = {
    "tokenizer_psnr": ("frames through the codes (dB)", ""),
    "psnr_mean_h4": ("mean of 4 samples, 4 steps (dB)", ""),
    "gain_mean_h2": ("above a copy of the last frame, 2 steps (dB)", "0"),
    "gain_mean_h4": ("... 4 steps", "0"),
    "gain_mean_h8": ("... 8 steps", "0"),
    "gain_mean_h15": ("... 15 steps", "0"),
    "delta_uniform_h4": ("worth of the true actions, 4 steps, against random ones (dB)", "0"),
    "delta_shuffled_h4": ("... against another clip's", "0"),
    "reward_r2": ("R2 of expected rewards", "0 (always the mean)"),
    "reward_auc": ("AUC: steps that pay told from others", "0.5 (by chance)"),
}
BEGINNINGS = ("from other robots", "at random")


def world_lines(results: Mapping[str, Any]) -> list[str]:
    """Show each task's figures: a column per seed, with the interval over episodes, what needs no skill beside it."""
    rows = results["results"]
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    lines = [f"| | {' | '.join(f'seed {seed}' for seed in seeds)} | without skill |", "|---" * (len(seeds) + 2) + "|"]
    for task in dict.fromkeys(row["task"] for row in rows):
        found = {row["seed"]: row["figures"] for row in rows if row["task"] == task}
        for name, (label, idle) in WORLD.items():
            if all(name in figures for figures in found.values()):
                cells = " | ".join(with_interval(found[seed][name]) if seed in found else "" for seed in seeds)
                lines.append(f"| {task}: {label} | {cells} | {idle} |")
        gains = {s: [f["value"] for n, f in found[s].items() if n.startswith("gain_mean_h")] for s in found}
        cells = " | ".join(f"**{decimals(min(gains[seed]))}**" if seed in found else "" for seed in seeds)
        lines.append(f"| {task}: least above a copy, 2 to 15 steps (dB) | {cells} | 0 |")
    return lines


def tuning_lines(results: Mapping[str, Any]) -> list[str]:
    """Show how far the mean of samples is above a copy, by episodes and beginning: mean over seeds, and each seed."""
    rows = results["results"]
    lines = [
        "| episodes | begins | through the codes (dB) | mean of 4 above a copy, 2 steps (dB) | 8 steps | 15 steps |"
    ]
    lines.append("|---" * 6 + "|")
    for episodes in dict.fromkeys(row["episodes"] for row in rows):
        for begins in BEGINNINGS:
            found = [r["figures"] for r in rows if (r["episodes"], r["begins"]) == (episodes, begins)]
            names = ("tokenizer_psnr", "gain_mean_h2", "gain_mean_h8", "gain_mean_h15")
            cells = [over_seeds([figures[name]["value"] for figures in found]) for name in names]
            lines.append(f"| {episodes} | {begins} | {' | '.join(cells)} |")
    return lines


def with_interval(figure: Mapping[str, float]) -> str:
    """Show a value and its interval."""
    return f"**{decimals(figure['value'])}** ({decimals(figure['low'])} to {decimals(figure['high'])})"


def over_seeds(values: list[float]) -> str:
    """Show a mean and what it is of."""
    return f"**{decimals(sum(values) / len(values))}** ({', '.join(map(decimals, values))})"


def decimals(value: float) -> str:
    """Show two."""
    return f"{value:.2f}"
