"""Metrics on a world's card, tied to the hashes of the weights they were measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reelworld.types import UserError
from reelworld.worlds.registry import PartInfo


@dataclass(frozen=True, kw_only=True)
class MeasuredFigure:
    """One metric, formatted as in the report."""

    label: str
    value: str
    interval: str
    """Its 95% interval."""
    n: int
    """Trials."""
    beside: tuple[str, ...] = ()
    """Results of baselines on the same clips."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Summary of an evaluation for a card."""

    command: str
    commit: str
    created: str
    hardware: Mapping[str, Any]
    data: str
    """Evaluated recordings and split."""
    seed: int
    weights: Mapping[str, str]
    """Part -> sha256 of the evaluated weights."""
    figures: tuple[MeasuredFigure, ...] = field(default_factory=tuple)


def weights_of(parts: Mapping[str, PartInfo]) -> dict[str, str]:
    """Return part -> sha256 of its weights."""
    return {name: part.sha256 for name, part in parts.items()}


def check_measured(measured: Measured | None, parts: Mapping[str, PartInfo], where: str) -> None:
    """Refuse metrics of other weights.

    Raises:
        UserError: If a hash differs.
    """
    if measured is not None and dict(measured.weights) != weights_of(parts):
        wrong = sorted(k for k, v in weights_of(parts).items() if measured.weights.get(k) != v)
        raise UserError(
            f"{where}: the card's figures were measured on other weights of {', '.join(wrong) or 'its parts'} than "
            "are here: copy the world again, or measure these (reelworld eval ... --card)."
        )


def measured_lines(measured: Measured | None, known_limitations: Sequence[str]) -> list[str]:
    """Return the card's sections on metrics and known limitations, Markdown."""
    lines = []
    if measured is not None:
        machine = ", ".join(str(measured.hardware[k]) for k in ("cpu", "gpu") if measured.hardware.get(k))
        lines += ["## Measured", "", "| | world | 95% interval | beside it | n |", "|---|---|---|---|---|"]
        lines += [
            f"| {f.label} | **{f.value}** | {f.interval} | {'; '.join(f.beside)} | {f.n:,} |" for f in measured.figures
        ]
        lines += [
            "",
            f"`{measured.command}` on {measured.data}, seed {measured.seed}, commit {measured.commit}, "
            f"{measured.created}, {machine}. What each figure means: docs/evaluation.md.",
            "",
        ]
    if known_limitations:
        lines += ["## Known failures", "", *(f"- {text}" for text in known_limitations), ""]
    return lines
