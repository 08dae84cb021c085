import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reelworld.cli.main import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REELWORLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "robots").mkdir()
    for i in range(4):
        image = rng.integers(0, 256, (12, 16, 16, 3), np.uint8)
        np.savez_compressed(tmp_path / "robots" / f"{i}.npz", image=image, action=rng.integers(0, 3, 12))
    (tmp_path / "robots" / "broken.npz").write_bytes(b"PK")
    return Path("robots")


def test_the_table_and_the_pictures(folder, capsys):
    assert main(["inspect", str(folder)]) == 0
    shown = capsys.readouterr().out
    for words in ("4 of 12 to 12 frames", "16 x 16", "discrete, 3", "100.0% of 44 steps", "1 files skipped", "train"):
        assert words in shown
    assert "problem: broken.npz is truncated" in shown
    assert "--action-shift 1" in " ".join(shown.split())
    for name in ("contact-sheet.png", "actions.png"):
        with Image.open(Path("runs/inspect/robots") / name) as picture:
            assert picture.size[0] > 300


def test_json_has_the_figures_and_stdout_nothing_else(folder, capsys):
    assert main(["inspect", str(folder), "--json", "--out", "looks", "--size", "8", "--fit", "stretch"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["n_frames"], figures["height"], figures["actions"]["action"]["spec"]["n"]) == (48, 8, 3)
    assert figures["files"] == ["looks/contact-sheet.png", "looks/actions.png"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["nowhere"], "does not exist"),
        (["robots", "--size", "8"], "--fit crop"),
        (["robots", "--frames", "imgae"], "did you mean 'image'"),
        (["robots", "--out", "robots/0.npz"], "is a file"),
        (["robots", "--size", "0"], "size"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(folder, capsys, words, wanted):
    assert main(["inspect", *words]) == 2
    error = capsys.readouterr().err
    assert wanted in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_help_needs_neither_torch_nor_numpy(folder):
    code = (
        "import sys; from reelworld.cli.main import main; main(['inspect', '--help']);"
        "assert not {'torch', 'numpy', 'av', 'matplotlib'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert run.returncode == 0, run.stderr
    assert "--action-shift" in run.stdout
