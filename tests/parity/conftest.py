"""Deselect tests of reference numbers that a set does not contain."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.parity.golden import UNKNOWN

HERE = Path(__file__).parent


def is_of_the_set(item: pytest.Item) -> bool:
    """Say whether the set has what a test compares: all its entries, or one in the list of its parameters."""
    if HERE not in item.path.parents:
        return True
    reasons = [str(mark.kwargs.get("reason", "")) for mark in item.iter_markers("skip")]
    is_empty = any(reason.startswith("got empty parameter set") for reason in reasons)
    return not is_empty and not any(mark.args for mark in item.iter_markers("lacks"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    without = [item for item in items if not is_of_the_set(item)]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in set(without)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name in UNKNOWN:
        terminalreporter.write_line(f"no test knows {name}")
