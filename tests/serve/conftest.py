"""One server per module for the tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.serve.squares import running, turn_world


@pytest.fixture(scope="module")
def turns() -> Iterator[str]:
    with running(turn_world(), card="# Square") as address:
        yield address
