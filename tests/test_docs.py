"""Documentation checks: links resolve, every picture is shown and made by a script, tables equal kept results."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reelworld.systems import SYSTEMS

ROOT = Path(__file__).parent.parent
SCRIPTS = ("pictures.py",)
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    broken = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not broken


def test_every_picture_is_shown_and_made_by_a_command() -> None:
    shown = {Path(t).name for page in PAGES for t in re.findall(r"images/[\w.-]+", page.read_text())}
    named = {word for script in SCRIPTS for word in words_of(ROOT / "benchmarks" / script)}
    pictures = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert pictures and pictures == shown
    assert pictures <= named


def words_of(script: Path) -> set[str]:
    """Return the strings of a script, docstrings left out."""
    constants = [node.value for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Constant)]
    return {value for value in constants if isinstance(value, str) and "\n" not in value}


def test_every_system_has_a_page() -> None:
    assert {p.stem for p in (ROOT / "docs" / "systems").glob("*.md")} == set(SYSTEMS)


def test_tables_equal_the_kept_results() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
