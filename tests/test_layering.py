"""Import rules of the rooms, and modules that must import quickly."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "reelworld"


def layers() -> list[list[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return [[room.strip() for room in row.split("|")] for row in contracts[0]["layers"]]


def test_rooms_import_only_the_rows_below() -> None:
    # in a process of its own: import-linter configures logging, which silences every logger that is there already
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_room_stands_in_the_table() -> None:
    rooms = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    rooms |= {p.stem for p in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert {f"reelworld.{room}" for room in rooms} == {room for row in layers() for room in row}


def test_names_that_help_needs_do_not_import_torch() -> None:
    light = [*PACKAGE.glob("systems/*/config.py"), *PACKAGE.glob("systems/*/importer.py")]
    configs = [f"reelworld.systems.{p.parent.name}.{p.stem}" for p in light]
    assert configs
    names = ["reelworld", "reelworld.types", "reelworld.config", "reelworld.systems", *configs]
    code = f"import sys, {', '.join(names)}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
