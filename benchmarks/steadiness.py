"""Tables of what a world remembers, what keeps it from drifting, how it learned: kept results in, Markdown out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["curve_lines", "memory_lines", "noise_lines"]

NOISE = {
    "psnr_h1": ("PSNR after 1 step", "dB"),
    "gain_h4": ("above a copy of the last frame, 4 steps", "dB"),
    "free_run_frames_exact": ("100 free steps: frames exact", "share"),
    "free_run_motion": ("100 free steps: PSNR between neighbours", "dB"),
    "drift_within": ("long run: blocks like the game's", "share"),
    "driving_motion": ("drive: PSNR between neighbours", "dB"),
    "driving_moves": ("drive: blocks that move as driving does", "share"),
    "driving_keeps_road": ("drive: blocks that keep their road", "share"),
    "driving_connected": ("drive: frames whose road hangs together", "share"),
}


def shown(value: float, unit: str) -> str:
    """Show a share in per cent, decibels with a decimal."""
    return f"{100 * value:.1f}%" if unit == "share" else f"{value:.2f} dB"


def curve_lines(results: Mapping[str, Any]) -> list[str]:
    """Show how well batches were rebuilt between two numbers of steps."""
    lines = ["| steps | PSNR of the batches |", "|---|---|"]
    return lines + [f"| {row['after']:,} to {row['up_to']:,} | {row['psnr']:.1f} dB |" for row in results["rows"]]


def memory_lines(results: Mapping[str, Any]) -> list[str]:
    """Show recall by the time an object was out of sight: a column per window, chance beside it."""
    windows = list(dict.fromkeys(row["window"] for row in results["rows"]))
    found = {(row["window"], row["away"]): row for row in results["rows"]}
    lines = [f"| frames away | {' | '.join(f'window of {w}' for w in windows)} | always the commonest object |"]
    lines.append("|---" * (len(windows) + 2) + "|")
    for away in dict.fromkeys(row["away"] for row in results["rows"]):
        rows = [found[window, away] for window in windows]
        cells = [f"**{100 * r['recall']:.1f}%** ({100 * r['low']:.1f} to {100 * r['high']:.1f}%)" for r in rows]
        lines.append(f"| {away} | {' | '.join(cells)} | {100 * results['commonest_object']:.1f}% |")
    return lines


def noise_lines(results: Mapping[str, Any]) -> list[str]:
    """Show figures by share of replaced codes: mean over seeds, and every seed in brackets."""
    rows = results["results"]
    shares = list(dict.fromkeys(row["noise"] for row in rows))
    lines = [
        f"| | {' | '.join(f'noise {share:g}' for share in shares)} | beside it |",
        "|---" * (len(shares) + 2) + "|",
    ]
    for name, (label, unit) in NOISE.items():
        if name not in rows[0]["figures"]:
            continue
        cells = []
        for share in shares:
            values = [row["figures"][name]["value"] for row in rows if row["noise"] == share]
            each = ", ".join(shown(v, unit) for v in values)
            cells.append(f"**{shown(sum(values) / len(values), unit)}** ({each})")
        beside = "; ".join(f"{shown(v, unit)} ({k})" for k, v in rows[0]["figures"][name]["baselines"].items())
        lines.append(f"| {label} | {' | '.join(cells)} | {beside} |")
    return lines
