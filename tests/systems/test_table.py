"""The table of systems: presets say what they build, and no other room names a system."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import reelworld
from reelworld.cli.systems import count_parameters
from reelworld.systems import SYSTEMS, find_system

SOURCE = Path(reelworld.__file__).parent


def test_systems_are_named_in_their_folders_only() -> None:
    """Papers are cited by their names in capitals."""
    names = re.compile(rf"\b({'|'.join(SYSTEMS)})\b")
    found = []
    for path in (p for kind in ("py", "js", "html", "c") for p in SOURCE.rglob(f"*.{kind}")):
        if path.relative_to(SOURCE).parts[0] not in ("systems", "shipped"):
            lines = path.read_text(encoding="utf-8").splitlines()
            found += [f"{path.relative_to(SOURCE)}:{i}" for i, line in enumerate(lines, 1) if names.search(line)]
    assert found == []


@pytest.mark.parametrize("preset", [name for name in find_system("genie").presets if "platformers" in name])
def test_descriptions_of_large_presets_are_what_is_built(preset: str) -> None:
    system = find_system("genie")
    assert system.presets[preset].size == (96, 160)
    said = re.search(r"([\d,]+\.\d)M", system.about[preset])
    built = count_parameters(system, system.presets[preset])["dynamics"]
    assert said and said.group(1) == f"{built / 1e6:,.1f}"
