"""Section of an evaluation: its metrics, the worlds it applies to, and its measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reelworld.evaluate.protocol import EvalConfig
from reelworld.evaluate.report.videos import Videos
from reelworld.evaluate.results import Metric, Series
from reelworld.evaluate.samples import EvalData, Evaluation
from reelworld.types import ModelSpec


class Details(dict[str, str]):
    """Values of the {names} in a section's title and description."""


Item = Metric | Series | Videos | Details


@dataclass(frozen=True, kw_only=True)
class Section:
    """One group of metrics. Sections of the same name are merged in the report."""

    name: str
    """Key in results.json."""
    title: str = ""
    description: str = ""
    """Of the measurement, in one or two sentences for the report."""
    applies: Callable[[ModelSpec, EvalData, EvalConfig], bool] = lambda _spec, _data, _config: True
    measure: Callable[[Evaluation], Iterator[Item]]
    """Yields metrics, series and videos; without any metric the report leaves the section out."""
