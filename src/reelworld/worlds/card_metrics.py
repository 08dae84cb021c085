"""What is written on a world's card about how good it is, and of which weights it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.worlds.registry import PartInfo

__all__ = ["Measured", "MeasuredFigure", "check_measured", "measured_lines", "weights_of"]


@dataclass(frozen=True, kw_only=True)
class MeasuredFigure:
    """One figure, in the words and digits of the report."""

    label: str
    value: str
    interval: str
    """Its 95% interval."""
    n: int
    """Trials."""
    beside: tuple[str, ...] = ()
    """What something simpler gets on the same clips."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An evaluation, short enough for a card."""

    command: str
    commit: str
    created: str
    hardware: Mapping[str, Any]
    data: str
    """Recordings and split that were measured on."""
    seed: int
    weights: Mapping[str, str]
    """Part -> sha256 of the weights that were measured."""
    figures: tuple[MeasuredFigure, ...] = field(default_factory=tuple)


def weights_of(parts: Mapping[str, PartInfo]) -> dict[str, str]:
    """Name the weights of a world's parts by their hashes."""
    return {name: part.sha256 for name, part in parts.items()}


def check_measured(measured: Measured | None, parts: Mapping[str, PartInfo], where: str) -> None:
    """Refuse a card whose figures are those of other weights.

    Raises:
        UserError: If they are.
    """
    if measured is not None and dict(measured.weights) != weights_of(parts):
        wrong = sorted(k for k, v in weights_of(parts).items() if measured.weights.get(k) != v)
        raise UserError(
            f"{where}: the card's figures were measured on other weights of {', '.join(wrong) or 'its parts'} than "
            "are here: copy the world again, or measure these (reelworld eval ... --card)."
        )


def measured_lines(measured: Measured | None, limits: Sequence[str]) -> list[str]:
    """Write the card's sections on what was measured and what is known to fail, Markdown."""
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
    if limits:
        lines += ["## Known failures", "", *(f"- {text}" for text in limits), ""]
    return lines
