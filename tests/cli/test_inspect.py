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
    assert main(["inspect", str(folder), "--json", "-", "--out", "looks", "--size", "8", "--fit", "stretch"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["episodes"], figures["frames"], figures["height"], figures["width"]) == (4, 48, 8, 8)
    (action,) = figures["actions"]
    assert (action["name"], action["kind"], action["size"], action["names"]) == ("action", "discrete", 3, [])
    assert sum(n["frames"] for n in figures["splits"].values()) == 48
    assert len(figures["skipped"]) == 1 and "broken.npz" in figures["skipped"][0]
    assert any("action-shift" in note for note in figures["notes"])
    assert figures["files"] == [f"looks/{name}.png" for name in ("contact-sheet", "action-strip", "actions")]


def test_json_goes_to_a_file_beside_the_table(folder, capsys):
    assert main(["inspect", str(folder), "--json", "figures/robots.json"]) == 0
    assert "4 of 12 to 12 frames" in capsys.readouterr().out
    assert json.loads(Path("figures/robots.json").read_text())["frames"] == 48
    assert not Path("runs").exists()


def test_a_crop_that_cuts_much_is_said_and_drawn(folder, capsys):
    rng = np.random.default_rng(0)
    Path("wide").mkdir()
    for i in range(4):
        np.savez(Path("wide") / f"{i}.npz", image=rng.integers(0, 256, (12, 18, 32, 3), np.uint8))
    assert main(["inspect", "wide", "--size", "16", "--fit", "crop", "--out", "cropped"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--fit crop cuts off 44% of the picture (18x32, height x width" in shown
    assert main(["inspect", "wide", "--size", "16", "--fit", "stretch", "--out", "stretched"]) == 0
    assert "cuts off" not in capsys.readouterr().out
    with Image.open("cropped/contact-sheet.png") as cropped, Image.open("stretched/contact-sheet.png") as stretched:
        assert cropped.height > stretched.height + 18


def test_classes_are_counted_by_split(folder, capsys):
    rng = np.random.default_rng(1)
    for split, name in (("train", "run"), ("train", "bowl"), ("test", "run"), ("test", "swim")):
        place = folder.parent / "sports" / split / name
        place.mkdir(parents=True)
        for i in range(3):
            np.savez(place / f"{i}.npz", image=rng.integers(0, 256, (5, 8, 8, 3), np.uint8))
    assert main(["inspect", "sports"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for words in ("classes 3; episodes of each", "test 3", "without a training episode: swim"):
        assert any(words in " ".join(line.replace("│", " ").split()) for line in lines)
    assert main(["inspect", "sports", "--json", "-"]) == 0
    classes = json.loads(capsys.readouterr().out)["classes"]
    assert list(classes) == ["bowl", "run", "swim"]
    assert [c["test"] for c in classes.values()] == [0, 3, 3]
    assert [c["train"] + c["val"] for c in classes.values()] == [3, 3, 0]


def test_long_lists_of_classes_are_cut(folder, capsys):
    rng = np.random.default_rng(1)
    for i in range(20):
        (folder.parent / "many" / f"class{i:02d}").mkdir(parents=True)
        for j in range(2):
            frames = rng.integers(0, 256, (3, 8, 8, 3), np.uint8)
            np.savez(folder.parent / "many" / f"class{i:02d}" / f"{j}.npz", image=frames)
    assert main(["inspect", "many"]) == 0
    shown = capsys.readouterr().out
    assert "class11" in shown and "class13:" not in shown and "... and 8 more" in shown


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
