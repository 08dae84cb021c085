"""A cache of its own for every test, and the folder of real samples."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Keep every test's cache apart from the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("REELWORLD_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def real():
    """Folder of the real samples."""
    folder = Path(os.environ.get("REELWORLD_SHARED", REPOSITORY.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: set REELWORLD_SHARED to the folder with the real samples")
    return folder
