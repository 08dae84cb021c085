"""From an evaluation to the figures on a world's card."""

from __future__ import annotations

from collections.abc import Mapping
from html import unescape
from typing import Any

from reelworld.evaluate.report import beside_text, interval_text, value_text
from reelworld.worlds.card_metrics import Measured, MeasuredFigure

__all__ = ["measured_from"]


def measured_from(results: Mapping[str, Any], weights: Mapping[str, str]) -> Measured:
    """Shorten results to what a card has room for.

    Args:
        results: As in results.json.
        weights: Part -> sha256 of the weights that were measured.
    """
    data, config = results["data"], results["config"]
    figures = [figure for section in results["sections"] for figure in section["figures"] if figure["n"]]
    return Measured(
        command=results["command"],
        commit=results["commit"],
        created=results["created"],
        hardware=results["hardware"],
        data=f"{data['n_clips']} episodes of {data['name']} (split {data['split']}, held out)"
        if not data["n_trained_on"]
        else f"{data['n_clips']} episodes of {data['name']}, {data['n_trained_on']} of them trained on",
        seed=config["seed"],
        weights=weights,
        figures=tuple(_short(figure) for figure in figures),
    )


def _short(figure: Mapping[str, Any]) -> MeasuredFigure:
    beside = tuple(unescape(text) for text in beside_text(dict(figure)))
    value, interval = unescape(value_text(dict(figure))), unescape(interval_text(dict(figure)))
    return MeasuredFigure(label=figure["label"], value=value, interval=interval, n=figure["n"], beside=beside)
