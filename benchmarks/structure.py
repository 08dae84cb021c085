"""Scoreboard of the code's structure, from the syntax trees and the import graph of src/.

    python benchmarks/structure.py              the table: measure, first design, now, target
    python benchmarks/structure.py MEASURE...   the places that a measure counts, e.g. `any` or `seam_reads`

tests/test_structure.py holds what has been reached. "First design" is commit 3fe6502.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
PACKAGE = SRC / "reelworld"
SYSTEM_TABLE = PACKAGE / "systems" / "__init__.py"
MAX_LINES = 500
"""Longest file."""

MODELS = {"model", "world", "world_model", "tokenizer", "dynamics", "prior", "latent_actions", "part"}
"""Names of variables and attributes that hold a model, or a part of one."""
PARTS = {"tokenizer", "dynamics", "latent_actions"}
"""Attributes of a model that only models/ and systems/ may read."""
KINDS = {"FrameModel", "ContextModel", "ClipModel", "MappedActions"}
"""Kinds of WorldModel; every class of a system counts too."""
KIND_FIELDS = {"clip_frames", "cond_frames", "remembers", "has_pictures", "is_open", "whole", "chunk", "unconditional"}
"""Fields that say which kind of model it is."""
STREAM_METHODS = {"select", "joined", "replace", "index_select", "index_copy_", "cat"}
"""Methods that `Streams` writes once for every state class."""
QUESTION = re.compile(r"(what|how|where|who|whose|whom|whether|which|when|why)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Module:
    """A parsed module of the package."""

    name: str
    """Dotted, e.g. ``reelworld.nn.attention``."""
    path: Path
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """First name below the package, e.g. ``nn``."""
        return self.name.split(".")[1] if "." in self.name else ""

    @property
    def system(self) -> str | None:
        """Name of the system whose folder this is in."""
        names = self.name.split(".")
        is_folder = self.room == "systems" and len(names) > 2 and (PACKAGE / "systems" / names[2]).is_dir()
        return names[2] if is_folder else None

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the tree."""
        return list(ast.walk(self.tree))

    @property
    def n_lines(self) -> int:
        """Number of lines."""
        return len(self.text.splitlines())

    def at(self, node: ast.AST, note: str = "") -> str:
        """Format a place in this module."""
        return f"{self.path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)} {note}".rstrip()


@cache
def modules() -> dict[str, Module]:
    """Parse every module of the package: dotted name -> module."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = path.relative_to(SRC).with_suffix("").parts
        name = ".".join(names[:-1] if names[-1] == "__init__" else names)
        text = path.read_text(encoding="utf-8")
        found[name] = Module(name, path, text, ast.parse(text))
    return found


def outside() -> Iterator[Module]:
    """Yield the modules that may know no kind of model: all but those in models/ and systems/."""
    yield from (m for m in modules().values() if m.room not in ("models", "systems"))


# ------------------------------------------------------------------ import graph


def imported(module: Module) -> set[str]:
    """Return the modules of the package that a module imports, anywhere in its file."""
    table, found = modules(), set()
    for node in module.nodes:
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name in table}
        elif isinstance(node, ast.ImportFrom) and node.module in table:
            submodules = {f"{node.module}.{a.name}" for a in node.names} & set(table)
            is_whole = len(submodules) < len(node.names)  # something is defined in the module itself
            found |= submodules | ({node.module} if is_whole else set())
    return found - {module.name}


@cache
def graph() -> dict[str, set[str]]:
    """Return the import graph: module -> modules that it imports."""
    return {name: imported(module) for name, module in modules().items()}


def reachable(start: set[str], rooms: set[str]) -> set[str]:
    """Return the modules of some rooms that are imported by ``start``, directly or through those rooms."""
    seen: set[str] = set()
    todo = set(start)
    while todo:
        below = {n for name in todo for n in graph()[name] if modules()[n].room in rooms}
        seen, todo = seen | below, below - seen
    return seen


def cycles() -> list[str]:
    """Find import cycles: groups of modules that reach each other (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph()[name]):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for name in sorted(graph()):
        if name not in index:
            visit(name)
    return [" <-> ".join(group) for group in groups]


def systems() -> list[str]:
    """Return the names of the folders of systems."""
    return sorted(p.parent.name for p in PACKAGE.glob("systems/*/__init__.py"))


def users() -> dict[str, set[str]]:
    """Map every module of nn/ and models/ to the systems that reach it."""
    rooms = {"nn", "models"}
    found: dict[str, set[str]] = {name: set() for name, m in modules().items() if m.room in rooms}
    for system in systems():
        start = {name for name, m in modules().items() if m.system == system}
        for name in reachable(start, rooms):
            found[name].add(system)
    return found


def one_user() -> list[str]:
    """List the modules of nn/ and models/ that exactly one system reaches."""
    single = ((name, sets) for name, sets in users().items() if len(sets) == 1)
    return [f"{modules()[name].n_lines:4d} {name} ({', '.join(sets)})" for name, sets in single]


def one_user_share() -> float:
    """Return the percentage of lines, among those that any system reaches, that exactly one reaches."""
    lines = [(modules()[name].n_lines, len(sets)) for name, sets in users().items() if sets]
    return 100 * sum(n for n, k in lines if k == 1) / max(1, sum(n for n, _ in lines))


def opened_for(system: str) -> list[str]:
    """List the files that a reader opens for a system: its folder, and what that reaches in nn/ and models/."""
    own = {name for name, m in modules().items() if m.system == system}
    return sorted(own | reachable(own, {"nn", "models"}))


# ------------------------------------------------------------------ the seam


def last_name(node: ast.AST) -> str:
    """Return the last name of an expression: ``b`` of ``a.b``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def seam_reads() -> list[str]:
    """List reads of `.tokenizer`, `.dynamics`, `.latent_actions`, or of a model's `.config`, outside."""
    return [
        module.at(node, f".{node.attr}")
        for module in outside()
        for node in module.nodes
        if isinstance(node, ast.Attribute)
        and (node.attr in PARTS or (node.attr == "config" and last_name(node.value) in MODELS))
    ]


def probes() -> list[str]:
    """List getattr and hasattr on models, outside."""
    return [
        module.at(node, ast.unparse(node))
        for module in outside()
        for node in module.nodes
        if isinstance(node, ast.Call)
        and last_name(node.func) in ("getattr", "hasattr")
        and node.args
        and last_name(node.args[0]) in MODELS
    ]


def system_classes() -> set[str]:
    """Return the names of the classes that systems define."""
    nodes = (node for m in modules().values() if m.system for node in m.nodes)
    return {node.name for node in nodes if isinstance(node, ast.ClassDef)} - {"Config"}


def kind_branches() -> list[str]:
    """List conditions on the kind of a model, outside: isinstance, and fields that say the kind."""
    classes = KINDS | system_classes()
    found = []
    for module in outside():
        if module.room == "envs":  # holds no models; doors of MiniGrid have is_open
            continue
        for node in module.nodes:
            if isinstance(node, ast.Call) and last_name(node.func) == "isinstance":
                if {last_name(n) for n in ast.walk(node.args[1])} & classes:
                    found.append(module.at(node, ast.unparse(node)))
                continue
            tests = [node.test] if isinstance(node, ast.If | ast.IfExp | ast.While) else []
            tests += node.ifs if isinstance(node, ast.comprehension) else []
            for test in tests:
                if any(isinstance(n, ast.Attribute) and n.attr in KIND_FIELDS for n in ast.walk(test)):
                    found.append(module.at(test, ast.unparse(test)))
    return found


def system_names() -> list[str]:
    """List the places outside systems/ that name a system, in code and on the page."""
    names = re.compile(rf"(?<![a-z0-9])({'|'.join(systems())})(?![a-z0-9])")
    found = []
    for path in sorted(p for ending in ("py", "js", "html", "css") for p in PACKAGE.rglob(f"*.{ending}")):
        inside = path.relative_to(PACKAGE).parts
        if inside[0] in ("systems", "shipped"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if names.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number} {line.strip()}")
    return found


# ------------------------------------------------------------------ text and types


def any_in_signatures() -> list[str]:
    """List parameters and return types that say Any."""
    found = []
    for module in modules().values():
        for node in module.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                a = node.args
                parameters = [p for p in (*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg) if p]
                annotations = [(p.arg, p.annotation) for p in parameters] + [("return", node.returns)]
                for name, annotation in annotations:
                    if annotation is not None and any(last_name(n) == "Any" for n in ast.walk(annotation)):
                        found.append(module.at(annotation, f"{node.name}: {name}"))
    return found


def docstrings(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield the docstrings of a module, its classes, functions and fields."""
    for node in module.nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for before, statement in zip([None, *node.body], node.body, strict=False):
                if (
                    isinstance(statement, ast.Expr)
                    and isinstance(statement.value, ast.Constant)
                    and isinstance(statement.value.value, str)
                    and (before is None or isinstance(before, ast.Assign | ast.AnnAssign))
                ):
                    yield statement, statement.value.value


def questions() -> list[str]:
    """List docstrings that begin with a question word."""
    return [
        module.at(node, text.strip().splitlines()[0])
        for module in modules().values()
        for node, text in docstrings(module)
        if QUESTION.match(text.strip())
    ]


def long_files() -> list[str]:
    """List modules of more than `MAX_LINES` lines."""
    return [f"{m.n_lines} {m.path.relative_to(ROOT)}" for m in modules().values() if m.n_lines > MAX_LINES]


def hand_written_streams() -> list[str]:
    """List classes that write methods of `Streams` by hand."""
    return [
        module.at(node, node.name)
        for module in modules().values()
        if module.name != "reelworld.nn.streams"
        for node in module.nodes
        if isinstance(node, ast.ClassDef)
        and STREAM_METHODS & {f.name for f in node.body if isinstance(f, ast.FunctionDef)}
    ]


def readme_words() -> int:
    """Count the words of README.md outside tables, code blocks, comments and HTML tags."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"```.*?```|<!--.*?-->|<[^>]+>", " ", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "] ", "\n".join(x for x in text.splitlines() if not x.lstrip("> ").startswith("|")))
    return sum(any(c.isalnum() for c in word) for word in text.split())


def src_lines() -> int:
    """Count the Python lines of src/."""
    return sum(m.n_lines for m in modules().values())


def edits_for_a_system() -> int:
    """Count the lines that a system needs outside its folder and tests: its entry in the table of systems."""
    entries = [line for line in SYSTEM_TABLE.read_text(encoding="utf-8").splitlines() if '"reelworld.systems.' in line]
    return (len(entries) + len(system_names())) // max(1, len(systems()))


# ------------------------------------------------------------------ the table


@dataclass(frozen=True)
class Measure:
    """A row of the scoreboard."""

    title: str
    before: str
    target: float
    count: Callable[[], float]
    places: Callable[[], list[str]] | None = None
    """The places that are counted; the count is their number where `count` is len."""


def counted(title: str, before: str, target: float, places: Callable[[], list[str]]) -> Measure:
    """Make a measure that counts places."""
    return Measure(title, before, target, lambda: len(places()), places)


MEASURES: dict[str, Measure] = {
    "edits": Measure("lines to edit outside its folder, per system", "32 to 44 files", 1, edits_for_a_system),
    "one_user": Measure("% of lines in nn and models with one system", "79", 15, one_user_share, one_user),
    "kind_branches": counted("branches on the kind of model, outside", "~70", 0, kind_branches),
    "probes": counted("getattr/hasattr on models, outside", "19", 0, probes),
    "seam_reads": counted("reads of a model's parts or config, outside", "41", 0, seam_reads),
    "system_names": counted("lines with a system's name outside systems/", "several files", 0, system_names),
    "any": counted("Any in signatures", "350", 120, any_in_signatures),
    "src_lines": Measure("Python lines in src", "38,170", 30_000, src_lines),
    "cycles": counted("import cycles, also inside rooms", "3", 0, cycles),
    "streams": counted("classes with hand-written select, joined, replace", "27", 0, hand_written_streams),
    "long_files": counted(f"files of more than {MAX_LINES} lines", "0", 0, long_files),
    "questions": counted("docstrings that begin with a question word", "240", 0, questions),
    "readme_words": Measure("README words outside tables and code", "1,057", 1_100, readme_words),
}


def main(names: list[str]) -> int:
    """Print the table, or the places of the named measures."""
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        print(f"error: no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}.", file=sys.stderr)
        return 2
    for name in names:
        measure = MEASURES[name]
        places = measure.places() if measure.places else []
        print(f"{measure.title}: {measure.count():g} (target {measure.target:g})", *places, sep="\n  ")
    if not names:
        print(f"{'measure':<52} {'name':<14} {'first design':>14} {'now':>8} {'target':>8}")
        for name, measure in MEASURES.items():
            now = measure.count()
            mark = "" if now <= measure.target else "  *"
            print(f"{measure.title:<52} {name:<14} {measure.before:>14} {now:>8,.0f} {measure.target:>8,g}{mark}")
        opened = ", ".join(f"{system} {len(opened_for(system))}" for system in systems())
        print(f"\n* target missed. Files a reader opens for a system, shared ones included: {opened}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
