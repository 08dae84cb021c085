"""User errors: each gives one line with a remedy, exit code 2, and changes no file."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.tiny import tiny_world

from reelworld.cli.main import main
from reelworld.data.dataset import DataInfo
from reelworld.media import encode_mp4
from reelworld.types import ActionSpec

ROWS = 12


def episode(path: Path, n_frames: int = ROWS, side: int = 64, **arrays: Any) -> Path:
    """Write an .npz of random pictures with four actions; ``arrays`` replace or add members."""
    rng = np.random.default_rng(list(path.stem.encode()))
    members = {
        "frames": rng.integers(0, 256, (n_frames, side, side, 3), dtype=np.uint8),
        "actions": rng.integers(0, 4, n_frames),
        **arrays,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **members)
    return path


def recordings(folder: Path, n: int = 12, **arrays: Any) -> Path:
    """Write a folder of sound episodes."""
    for i in range(n):
        episode(folder / f"e{i:02d}.npz", **arrays)
    return folder


def video(path: Path, n_frames: int = ROWS) -> Path:
    """Write an mp4 of random blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(0).integers(0, 256, (n_frames, 8, 8, 3), dtype=np.uint8)
    path.write_bytes(encode_mp4(blocks.repeat(8, 1).repeat(8, 2), fps=10.0))
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world with four actions, on disk."""
    info = DataInfo(fps=10.0, height=64, width=64, actions={"action": ActionSpec(kind="discrete", n=4)})
    folder = tmp_path_factory.mktemp("world") / "world"
    tiny_world("pocket", info).save(folder)
    return folder


@pytest.fixture
def own_world(world: Path, tmp_path: Path) -> Path:
    """A copy of the world that may be damaged."""
    folder = tmp_path / "world"
    folder.mkdir()
    for path in world.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command line that must fail and leave every file as it was; return its one line."""
    before = contents(folder)
    capsys.readouterr()
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert code == 2, out + err
    lines = err.strip().splitlines()
    assert lines, out
    assert lines[-1].startswith("error: ")
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert "Traceback" not in err + out
    assert len(lines) == 1, err
    assert contents(folder) == before, "it changed files"
    return lines[0]


# ------------------------------------------------------------------ recordings

Prepare = Callable[[Path], Any]
BAD_RECORDINGS: dict[str, tuple[Prepare, list[str]]] = {
    "absent": (lambda d: None, ["does not exist"]),
    "empty": (lambda d: d.mkdir(), ["no recording", "mp4"]),
    "only-text": (lambda d: (d.mkdir(), (d / "a.txt").write_text("x")), ["no recording", "mp4"]),
    "no-video-in-mp4": (lambda d: (d.mkdir(), (d / "a.mp4").write_bytes(b"not a video" * 99)), ["a.mp4"]),
    "truncated-mp4": (lambda d: truncate(video(d / "a.mp4", 60)), ["a.mp4"]),
    "truncated-npz": (lambda d: truncate(episode(d / "a.npz")), ["a.npz"]),
    "pickle": (lambda d: episode(d / "a.npz", frames=np.array([{"a": 1}] * ROWS, object)), ["a.npz", "pickle"]),
    "pickled-actions": (lambda d: recordings(d, actions=np.array([None] * ROWS, object)), ["e00.npz", "pickle"]),
    "wrong-dtype": (
        lambda d: recordings(d, frames=np.array([["x"] * 64] * ROWS)),
        ["frames"],
    ),
    "out-of-range": (
        lambda d: recordings(d, frames=np.full((ROWS, 64, 64, 3), 300, np.int64)),
        ["300", "255"],
    ),
    "nan-actions": (
        lambda d: recordings(d, actions=np.full((ROWS, 2), np.nan, np.float32)),
        ["NaN"],
    ),
    "actions-of-other-length": (
        lambda d: recordings(d, actions=np.zeros((ROWS + 5, 2), np.float32)),
        [str(ROWS + 5), str(ROWS)],
    ),
    "single-frames": (lambda d: recordings(d, n_frames=1), ["single frame"]),
    "mixed-sizes": (lambda d: (episode(d / "a.npz"), episode(d / "b.npz", side=32)), ["64x64", "32x32", "--size"]),
}


def truncate(path: Path) -> None:
    """Keep the first half of a file."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("verb", ["inspect", "train"])
@pytest.mark.parametrize("name", BAD_RECORDINGS)
def test_bad_recordings(name: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare, said = BAD_RECORDINGS[name]
    prepare(tmp_path / "data")
    out = tmp_path / "out"
    words = ["train", "pocket:tiny", "--data"] if verb == "train" else ["inspect"]
    line = refused(tmp_path, capsys, *words, tmp_path / "data", "--out", out)
    assert all(word in line for word in said), line


@pytest.mark.parametrize(
    ("n_frames", "side", "flags", "said"),
    [
        (3, 64, [], ["train episode", "4 frames that --clip-frames 4", "has 3", "give --clip-frames 3"]),
        (ROWS, 64, ["--frame-stride", 6], ["19 frames", "--frame-stride 6", "give --clip-frames 2"]),
        (3, 64, ["--frame-stride", 6], ["has 3); give longer recordings"]),
        (5, 64, ["--context-frames", 6], ["val episode", "give --context-frames 5"]),
        (ROWS, 60, [], ["60", "56", "64"]),
        (ROWS, 64, ["--device", "gpu"], ["gpu"]),
    ],
    ids=["shorter-than-the-window", "stride", "stride-too-long", "context", "size-not-divisible", "device"],
)
def test_recordings_that_do_not_fit_the_recipe(
    n_frames: int,
    side: int,
    flags: list[object],
    said: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for i in range(12):
        episode(tmp_path / "data" / f"e{i:02d}.npz", n_frames, side)
    words = ["train", "pocket:tiny", "--data", tmp_path / "data", "--out", tmp_path / "run", *flags]
    line = refused(tmp_path, capsys, *words)
    assert all(word in line for word in said), line
    assert not (tmp_path / "run").exists()


def test_videos_without_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(3):
        video(tmp_path / "data" / f"v{i}.mp4")
    line = refused(tmp_path, capsys, "train", "pocket:tiny", "--data", tmp_path / "data", "--out", tmp_path / "run")
    assert "has no actions" in line
    assert "--actions none" in line
    assert not (tmp_path / "run").exists()


def test_damaged_files_are_skipped_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = recordings(tmp_path / "data")
    truncate(episode(data / "broken.npz"))
    before = contents(data)
    assert main(["inspect", str(data), "--out", str(tmp_path / "look")]) == 0
    out, err = capsys.readouterr()
    assert "broken.npz" in out + err
    assert contents(data) == before


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "pockt", "--data", "d", "--out", "o"], ["pockt", "did you mean 'pocket'"]),
        (["train", "pocket:tinny", "--data", "d", "--out", "o"], ["did you mean 'tiny'"]),
        (
            ["train", "pocket", "--data", "d", "--out", "o", "--dynamics.widht", "8"],
            ["--dynamics.widht", "did you mean '--dynamics.width'"],
        ),
        (["train", "pocket", "--data", "d", "--out", "o", "--dynamics.width", "ten"], ["--dynamics.width", "ten"]),
        (["record", "MiniGrid-DoorKy-8x8-v0", "--out", "o"], ["MiniGrid-DoorKy-8x8-v0", "did you mean"]),
        (["record", "MiniGrid-DoorKey-8x8-v0", "--out", "o", "--policy", "explorr"], ["explorr"]),
        (["eval", "no-world", "--data", "d"], ["no-world", "world.json"]),
        (["play", "no-world"], ["no-world", "world.json"]),
        (["bench", "no-world"], ["no-world", "world.json"]),
        (["generate", "no-world", "--out", "a.mp4"], ["no-world", "world.json"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_unknown_names(
    words: list[str],
    said: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(tmp_path, capsys, *words)
    assert all(word in line for word in said), line


# ------------------------------------------------------------------ worlds


def newer(folder: Path) -> None:
    edit(folder, lambda info: info.update(format_version=99))


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "world.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def flip_a_byte(folder: Path) -> None:
    path = folder / "dynamics.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors of the dynamics and make the hash agree."""
    path = folder / "dynamics.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(folder, lambda info: info["parts"]["dynamics"].update(sha256=digest))


def drop_seven(tensors: dict[str, torch.Tensor]) -> None:
    for name in sorted(tensors)[:7]:
        del tensors[name]


BAD_WORLDS: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "newer": (newer, ["99", "upgrade"]),
    "hash": (flip_a_byte, ["dynamics.safetensors", "sha256"]),
    "missing-tensors": (lambda w: rewrite(w, drop_seven), ["7 tensors missing"]),
    "surplus-tensors": (lambda w: rewrite(w, lambda t: t.update(extra=torch.zeros(1))), ["1 surplus (extra)"]),
    "other-shape": (lambda w: rewrite(w, lambda t: t.update({max(t): torch.zeros(1, 2, 3)})), ["shape"]),
    "no-part-file": (lambda w: (w / "tokenizer.safetensors").unlink(), ["tokenizer.safetensors"]),
    "no-json": (lambda w: (w / "world.json").write_text("{"), ["world.json", "JSON"]),
    "unknown-field": (lambda w: edit(w, lambda i: i.update(nmae="x")), ["nmae", "did you mean 'name'"]),
    "foreign-code": (
        lambda w: edit(w, lambda i: i["parts"]["dynamics"].update(type="os:system")),
        ["--allow-code os"],
    ),
    "broken-starts": (lambda w: (w / "starts.npz").write_bytes(b"PK broken"), ["starts.npz"]),
}


@pytest.mark.parametrize("name", BAD_WORLDS)
def test_bad_worlds(name: str, own_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, said = BAD_WORLDS[name]
    damage(own_world)
    data = recordings(tmp_path / "data", 3)
    line = refused(tmp_path, capsys, "eval", own_world, "--data", data, "--out", tmp_path / "eval")
    assert all(word in line for word in said), line


def test_at_most_five_tensors_are_named(own_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(own_world, drop_seven)
    line = refused(tmp_path, capsys, "play", own_world)
    assert line.split("missing (")[1].split(")")[0].count(",") == 4


def test_a_world_with_actions_needs_actions(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video(tmp_path / "data" / "a.mp4")
    line = refused(tmp_path, capsys, "eval", world, "--data", tmp_path / "data", "--out", tmp_path / "eval")
    assert "action" in line


# ------------------------------------------------------------------ folders and disks


def test_folders_that_hold_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = recordings(tmp_path / "data")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "letter.txt").write_text("dear")
    line = refused(tmp_path, capsys, "train", "pocket:tiny", "--data", data, "--out", taken)
    assert "taken" in line
    line = refused(tmp_path, capsys, "record", "MiniGrid-DoorKey-8x8-v0", "--out", taken)
    assert "taken" in line


def limited(kilobytes: int, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command whose files cannot grow beyond a size, as on a disk that fills."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes * 1024},) * 2)\n"
        "from reelworld.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("kilobytes", "what"), [(100, "checkpoint"), (1, "config")])
def test_a_disk_that_fills_while_training(kilobytes: int, what: str, tmp_path: Path) -> None:
    data = recordings(tmp_path / "data")
    before = contents(data)
    done = limited(kilobytes, "train", "pocket:tiny", "--data", data, "--out", tmp_path / "run", "--dynamics.steps", 5)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert contents(data) == before


def test_a_disk_that_fills_while_saving_a_world(own_world: Path, tmp_path: Path) -> None:
    """The old world survives; nothing half-written stays."""
    before = contents(tmp_path)
    code = (
        "import resource, signal, sys\n"
        "from reelworld.worlds.world import World\nfrom reelworld.types import UserError\n"
        "world = World.load(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2)\n"
        "try:\n    world.save(sys.argv[1])\nexcept UserError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code, str(own_world)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "could not write the world" in done.stdout
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--dynamics.steps", "-4", "dynamics.steps is -4; it must be at least 1."),
        ("--dynamics.batch", "0", "dynamics.batch is 0; it must be at least 1."),
        ("--context-frames", "0", "context_frames is 0; it must be at least 1."),
        ("--dynamics.optim.lr", "nan", "dynamics.optim.lr is nan; it must be above 0."),
        ("--max-minutes", "-1", "max_minutes is -1.0; it must be above 0."),
        ("--tokenizer.time-fraction", "1", "tokenizer.time_fraction is 1.0; it must be at least 0 and below 1."),
        ("--dynamics.rare-event-fraction", "2", "dynamics.rare_event_fraction is 2.0; it must be from 0 to 1."),
        ("--tokenizer.levels", "1", "it must be one or more numbers of at least 2."),
        ("--dynamics.width", "0", "dynamics.width is 0; it must be a multiple of 4 (attention heads)."),
    ],
)
def test_values_that_cannot_be_are_refused_before_anything_is_trained(
    flag: str, value: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "pocket:tiny", "--data", str(tmp_path), "--out", str(tmp_path / "run"), flag, value]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not error.startswith("error: Error parsing")  # the name of a dataclass says nothing
    assert not (tmp_path / "run").exists()
