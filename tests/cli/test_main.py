"""The frame of the command line: dispatch, exit codes, one-line errors, help without torch."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal

import pytest
import tyro

import reelworld
from reelworld.cli import main as cli
from reelworld.cli.parsing import parse
from reelworld.train.graceful_interrupt import Interrupted
from reelworld.types import UserError

CLI_FOLDER = Path(cli.__file__).parent
FRAME = {"__init__", "load_options", "main", "serve_options", "parsing", "record_screen"}


def test_verbs_table_names_every_verb_file() -> None:
    files = {path.stem for path in CLI_FOLDER.glob("*.py")} - FRAME
    assert {module.rsplit(".", 1)[1] for module, _ in cli.VERBS.values()} == files


def test_overview_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in cli.VERBS)
    assert "reelworld demo" in text
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"reelworld {reelworld.__version__}\n"


@pytest.mark.parametrize("verb", ["", *cli.VERBS])
def test_help_imports_no_heavy_library(verb: str) -> None:
    heavy = ("torch", "av", "gymnasium", "matplotlib", "starlette", "uvicorn", "torchmetrics")
    code = (
        "import sys\nfrom reelworld.cli.main import main\n"
        f"code = main({[verb, '--help'] if verb else ['--help']!r})\n"
        f"found = sorted(set({heavy!r}) & set(sys.modules))\n"
        "sys.exit(f'imported {found}' if found else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: reelworld" in done.stdout
    assert not verb or "--" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "did you mean 'train'?"),
        (["xyzzy"], "Known: actions, bench, convert, demo"),
        (["--verbose"], "unknown verb"),
    ],
)
def test_unknown_verb_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Flags that several verbs share."""

    log_every: int = 20
    """Steps."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of a made-up verb."""

    source: tyro.conf.Positional[Path]
    """Where from."""
    max_minutes: float = 3.0
    """Minutes."""
    loop: Annotated[Loop, tyro.conf.arg(name="")] = Loop()


def test_parse_reads_flags_and_positionals() -> None:
    parsed = parse(Options, ["here", "--max-minutes", "0.5"], "reelworld x", "")
    assert parsed == Options(source=Path("here"), max_minutes=0.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["here", "--max-minuts", "3"], "unknown flag --max-minuts; did you mean '--max-minutes'?"),
        (["here", "--max-minuts=3"], "unknown flag --max-minuts; did you mean"),
        (["here", "--log-evry", "3"], "unknown flag --log-evry; did you mean '--log-every'?"),
        (["here", "--sourc"], "unknown flag --sourc. See"),  # a positional is no flag
        (["--max-minuts", "3"], "unknown flag --max-minuts; did you mean '--max-minutes'?"),  # not: PATH is missing
        (["--max_minutes", "3"], "Missing from reelworld x: PATH"),
        (["here", "there"], "unexpected argument 'there'"),
        (["here", "--max-minutes", "soon"], "--max-minutes: could not convert string to float: 'soon'"),
        (["here", "--max-minutes"], "--max-minutes"),
        ([], "Missing from reelworld x: PATH Where from."),
    ],
)
def test_parse_errors_are_one_line(words: list[str], said: str) -> None:
    columns = os.environ.get("COLUMNS")
    with pytest.raises(UserError) as caught:
        parse(Options, words, "reelworld x", "")
    assert said.lower() in str(caught.value).lower()
    assert "See reelworld x --help." in str(caught.value)
    assert not set(str(caught.value)) & set("\n\u2502\u2500\u256d")
    assert os.environ.get("COLUMNS") == columns


def test_errors_fold_the_same_without_box_drawing() -> None:
    """A terminal whose encoding has no frames gets other boxes."""
    words = ["train", "pocket", "--data", "d", "--out", "o", "--dynamics.width", "x"]
    code = f"from reelworld.cli.main import main; main({words})"
    for language in ("C", "C.UTF-8"):
        environment = {**os.environ, "LC_ALL": language, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.stderr.startswith("error: Error parsing --dynamics.width: invalid literal"), done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", [[verb] for verb in cli.VERBS] + [["train", "pocket"]])
def test_help_reads_well(verb: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*verb, "--help"]) == 0
    page = capsys.readouterr().out
    assert "None" not in page, "a word of Python"
    examples = page.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert examples and all(line.startswith("  reelworld ") for line in examples)
    prose = [line for line in page.splitlines() if line not in examples and not line.startswith("usage:")]
    assert max(map(len, prose)) <= 80


@dataclass(frozen=True, kw_only=True)
class Absent:
    """Flags that may be absent."""

    size: int | tuple[int, int] | None = None
    """Pixels."""
    kind: Literal["a", "b"] | None = None
    """Kinds."""
    minutes: float | None = 3.0
    """Minutes."""
    name: str | None = None
    """Any text."""


def test_flags_that_may_be_absent() -> None:
    assert parse(Absent, [], "x", "") == Absent()
    given = parse(Absent, ["--size", "3", "4", "--kind", "b", "--minutes", "none", "--name", "none"], "x", "")
    assert given == Absent(size=(3, 4), kind="b", minutes=None, name="none")
    assert parse(Absent, ["--size", "5"], "x", "").size == 5
    for words in (["--size", "big"], ["--kind", "c"], ["--minutes", "soon"]):
        with pytest.raises(UserError, match=words[0]):
            parse(Absent, words, "x", "")


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the verb `systems` a module whose run raises."""

    def run(options: Options) -> None:
        raise error

    fake = SimpleNamespace(Options=Options, run=run, __doc__="A verb.")
    monkeypatch.setattr(importlib, "import_module", lambda name: fake)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("three came;\ntwo were wanted"), 2, "error: three came; two were wanted\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (Interrupted("stopped; run it again", signal.SIGTERM), 143, "stopped; run it again\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "w/a.npz"),
            2,
            "error: No space left on device (w/a.npz); free some space, then run it again.\n",
        ),
        (
            OSError(errno.ENOTDIR, "Not a directory", "file/run"),
            2,
            "error: Not a directory (file/run); a part of this path is a file: choose another, then run it again.\n",
        ),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising(error, monkeypatch)
    assert cli.main(["systems", "here"]) == code
    assert capsys.readouterr().err == said


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(RuntimeError("ours"), monkeypatch)
    with pytest.raises(RuntimeError, match="ours"):
        cli.main(["systems", "here"])
    raising(OSError(errno.EIO, "broken disk"), monkeypatch)
    with pytest.raises(OSError, match="broken disk"):
        cli.main(["systems", "here"])


def test_debug_shows_the_traceback_of_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(UserError("came"), monkeypatch)
    monkeypatch.setenv("REELWORLD_DEBUG", "1")
    with pytest.raises(UserError, match="came"):
        cli.main(["systems", "here"])


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "reelworld", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.stderr, done.returncode) == ("", 0)
