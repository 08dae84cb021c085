"""Texts of values, intervals and baselines, and the choice of headlines: for the report, the card and the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

EXACT_DB = 60.0
"""PSNR above this is written as "exact": 8-bit frames differ by less than a quarter of a grey level."""

PUBLISHED_HEADLINES = ("best_psnr", "best_ssim", "best_lpips", "fvd_published")
"""First headlines for the published protocol."""
HEADLINES = (
    "tokenizer_tiles_right",
    "one_step_frames_exact",
    "events_exact",
    "open_loop_frames_exact",
    "carried_key_works",
    "tokenizer_psnr",
    "gain_h1",
    "gain_h4",
    "delta_shuffled_h4",
    "open_loop_motion",
    "action_recovery",
    "stability_within",
)
"""Headline metrics; the first six that were measured are displayed."""
OPEN_HEADLINES = (
    "nll_per_code",
    "nll_over_best",
    "gain_mean_h4",
    "agent_h4",
    "gain_agent_h4",
    "fvd",
    "tokenizer_tiles_right",
    "tokenizer_psnr",
    "open_loop_motion",
)
"""Headline metrics of worlds with several sampled futures."""
N_HEADLINES = 6

Json = Mapping[str, Any]


def number_of(value: float | str | None) -> float:
    """Read a number of results.json: "inf" and null become floats."""
    return math.nan if value is None else float(value)


def show_value(value: float | str | None, unit: str, is_gain: bool = False) -> str:
    """Format a value: 99.85%, +1.8 dB, 0.00089 nats; nonzero values are never written as zero."""
    number = number_of(value)
    if math.isnan(number):
        return "not known"
    if unit == "dB":
        if number > EXACT_DB and not is_gain:
            return "exact"
        if math.isinf(number):
            return "&infin; dB" if number > 0 else "&minus;&infin; dB"
        return _decimals(number, 1, "+" if is_gain else "").replace("-", "&minus;") + " dB"
    if unit == "share":
        percent = 100 * number
        distance = min(abs(percent), abs(100 - percent))
        if distance < 1e-9:
            return f"{percent:.0f}%"
        return f"{percent:.{max(2, math.ceil(-math.log10(distance))) if distance < 1 else 1}f}%"
    if unit == "codes":
        return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
    if unit == "points":
        return f"{_decimals(100 * number, 1, '+')} points".replace("-", "&minus;")
    if unit == "distance":
        return f"{number:,.1f}" if abs(number) >= 1 else _decimals(number, 2)
    if unit == "nats":
        return (
            f"{number:,.0f} nats"
            if number >= 100
            else f"{_decimals(number, 2)} nats".replace("-", "&minus;", number < 0)
        )
    distance = abs(1 - number)  # of a similarity: values below 1 must not be written as 1
    return _decimals(number, max(3, math.ceil(-math.log10(distance))) if 1e-9 < distance < 1e-3 else 3)


def _decimals(number: float, digits: int, sign: str = "") -> str:
    """Write a number with so many decimals, or as many more as two significant digits take."""
    size = abs(number)
    if 0 < size < 1e-6:
        return f"{number:{sign}.1e}"
    if 0 < size < 10.0**-digits:
        digits = 1 - math.floor(math.log10(size))
    return f"{number:{sign}.{digits}f}"


def value_text(metric: Json, key: str = "value") -> str:
    """Write a metric's value, or one end of its interval, as text (HTML entities included)."""
    if not metric.get("n", 1):
        return "not measured"
    return show_value(metric[key], metric["unit"], metric["name"].startswith(("gain", "delta")))


def interval_text(metric: Json) -> str:
    """Write a metric's 95% interval as text."""
    if not metric.get("n", 1):
        return ""
    if math.isnan(number_of(metric["low"])):
        return "no interval"
    low, high = value_text(metric, "low"), value_text(metric, "high")
    if low == high == "exact":
        return f"above {EXACT_DB:.0f} dB"
    unit = f" {metric['unit']}"
    return f"{low.removesuffix(unit)} to {high}"


def baseline_texts(metric: Json) -> list[str]:
    """Write the baselines of a metric, one text each."""
    return [f"{escape(name)}: {show_value(value, metric['unit'])}" for name, value in metric["baselines"].items()]


def decibels(value: float) -> str:
    """Write a PSNR in dB as text."""
    return "exact" if value > EXACT_DB else f"{value:.1f} dB"


def headlines(results: Json) -> list[Json]:
    """Choose the headline metrics of this kind of world."""
    metrics = {m["name"]: m for section in results["sections"] for m in section["metrics"]}
    unconditional = any(section["name"] == "samples" for section in results["sections"])
    names = (*PUBLISHED_HEADLINES, *(OPEN_HEADLINES if unconditional else HEADLINES))
    is_tiled = "tokenizer_tiles_right" in metrics  # elsewhere no predicted frame is right to the last pixel
    shown = (name for name in names if name in metrics and (is_tiled or not name.endswith("frames_exact")))
    return [metrics[name] for name in shown][:N_HEADLINES]


def protocol_text(results: Json) -> str:
    """Write the number of compared clips and samples, and the protocol; empty without video metrics."""
    for section in results["sections"]:
        if section["name"] == "video_metrics":
            n_clips = max(metric["n_clips"] for metric in section["metrics"])
            n_samples = results["data"]["n_samples"]
            samples = f"{n_samples} sample{'' if n_samples == 1 else 's'}"
            return f"{n_clips} clips x {samples}, {results['config']['protocol']} protocol"
    return ""
