"""The pages tell the truth: links lead somewhere, every file is listed, every recipe has a page.

``python tests/test_docs.py`` rewrites the file list of docs/architecture.md from the module docstrings.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reelworld.systems import SYSTEMS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "reelworld"
LIST = ROOT / "docs" / "architecture.md"
HEADING = "## Every file\n"
SCRIPTS = ("pictures.py", "clone_plot.py", "compressive_plot.py")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]


def file_list() -> str:
    """Return the section: a table per room, one linked row per module with the first line of its docstring."""
    rows = []
    for room in [PACKAGE, *sorted({p.parent for p in PACKAGE.rglob("*.py")} - {PACKAGE})]:
        name = room.relative_to(PACKAGE.parent).as_posix()
        rows += [f"\n**[{name}](../src/{name})**\n", "| file | what it is |", "|---|---|"]
        for path in sorted(room.glob("*.py")):
            line = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
            if path.name != "__init__.py" or room == PACKAGE:
                rows.append(f"| [{path.name}](../src/{name}/{path.name}) | {line.replace('|', '/')} |")
    return "\n".join(rows) + "\n"


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


def test_architecture_lists_every_file() -> None:
    wanted = set(re.findall(r"\(\.\./(src/reelworld/[^)]+\.py)\)", file_list()))
    listed = set(re.findall(r"\(\.\./(src/reelworld/[^)]+\.py)\)", LIST.read_text().split(HEADING)[1]))
    assert listed == wanted, "run: python tests/test_docs.py"


def test_every_recipe_has_a_page() -> None:
    assert {p.stem for p in (ROOT / "docs" / "systems").glob("*.md")} == set(SYSTEMS)


def test_tables_equal_the_kept_results() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    LIST.write_text(LIST.read_text().split(HEADING)[0] + HEADING + file_list())
