"""A training whose recordings and run were moved goes on bit for bit; other recordings are refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from reelworld.cli.main import main
from reelworld.data.dataset import Dataset
from reelworld.data.formats import npz
from reelworld.train.run import Run
from reelworld.worlds.world import World

N_TOKENIZER, N_DYNAMICS = 3, 6
STOP = N_TOKENIZER + 4


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REELWORLD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, seed: int, flip: int | None = None) -> None:
    """Write a compressed clip of a block that moves where the action says; ``flip`` changes one pixel of that frame."""
    rng = np.random.default_rng(seed)
    actions, column = rng.integers(0, 2, 12), 1
    frames = np.zeros((12, 16, 32, 3), np.uint8)
    for t in range(12):
        frames[t, 8:, 8 * column : 8 * column + 8] = 255 - seed
        column = (column + (1 if actions[t] else -1)) % 4
    if flip is not None:
        frames[flip, 0, 0, 0] += 1
    np.savez_compressed(path, frames=frames, actions=actions)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Twelve clips; the splits of the first three were decided before the others came."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(12):
        write(folder / f"clip{number}.npz", number)
        if number == 2:
            Dataset.open(folder)
    return folder


def train(data: Path | list[str], out: Path, system: str = "pocket:tiny", *more: str) -> int:
    named = [str(data)] if isinstance(data, Path) else data
    words = ["train", system, *(w for d in named for w in ("--data", d)), "--out", str(out), "--checkpoint-every", "2"]
    lengths = ["--tokenizer.steps", str(N_TOKENIZER), "--dynamics.steps", str(N_DYNAMICS)]
    return main([*words, "--log-every", "1", "--precision", "fp32", *lengths, *more])


def train_a_part(monkeypatch: pytest.MonkeyPatch, *args: object) -> None:
    """Train until a crash in the middle of the last stage."""
    log = Run.log

    def crash(self: Run, record: Mapping[str, object]) -> None:
        if record.get("step") == STOP:
            raise KeyboardInterrupt
        log(self, record)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "log", crash)
        with pytest.raises(SystemExit):
            train(*args)  # type: ignore[arg-type]


def weights(out: Path) -> dict[str, bytes]:
    return {k: v.numpy().tobytes() for k, v in World.load(out / "world").model.state_dict().items()}


def losses(out: Path) -> list[object]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(line["stage"], line["step"], line["loss"]) for line in lines if "loss" in line]


def splits(dataset: Dataset) -> dict[str, str]:
    return {e.source: e.split for e in dataset.episodes}


def test_a_moved_run_on_moved_recordings_goes_on_bit_for_bit(
    recordings: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(recordings, tmp_path / "whole") == 0
    remembered = splits(Dataset.open(recordings))
    train_a_part(monkeypatch, recordings, tmp_path / "run")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")[: STOP - 1]

    out, data = tmp_path / "other" / "project", tmp_path / "disk" / "games"
    out.parent.mkdir()
    data.parent.mkdir()
    (tmp_path / "run").rename(out)
    recordings.rename(data)
    codes = {p.name: p.stat().st_mtime_ns for p in (out / "codes").iterdir()}
    frames = sorted(p.name for p in (cache / "episodes").iterdir())
    monkeypatch.setattr(npz, "decode", lambda *_: pytest.fail("decoded again"))
    assert train(data, out) == 0

    assert weights(out) == weights(tmp_path / "whole")
    assert losses(out) == losses(tmp_path / "whole")
    assert {p.name: p.stat().st_mtime_ns for p in (out / "codes").iterdir()} == codes
    assert sorted(p.name for p in (cache / "episodes").iterdir()) == frames
    # the moved folder is split as it was, which its names alone do not decide
    assert splits(Dataset.open(data)) == remembered
    shutil.rmtree(cache / "splits")
    assert splits(Dataset.open(data)) != remembered


CHANGES = {
    "a pixel": (lambda folder: write(folder / "clip4.npz", 4, flip=5), "1 changed, e.g. clip4"),
    "another clip": (lambda folder: write(folder / "clip4.npz", 40), "1 changed, e.g. clip4"),
    "one more": (lambda folder: write(folder / "clip12.npz", 12), "13 episodes, wanted 12: 1 new, e.g. clip12"),
    "one less": (lambda folder: (folder / "clip4.npz").unlink(), "11 episodes, wanted 12: 1 missing, e.g. clip4"),
    "another name": (lambda folder: (folder / "clip4.npz").rename(folder / "x.npz"), "1 missing, e.g. clip4; 1 new"),
}


def test_other_recordings_are_refused_also_under_the_same_path(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train_a_part(monkeypatch, recordings, out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    shutil.move(recordings, tmp_path / "kept")
    for change, said in CHANGES.values():
        shutil.copytree(tmp_path / "kept", recordings)
        change(recordings)
        capsys.readouterr()
        assert train(recordings, out) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith(f"error: {recordings} holds other recordings than {out} has learned from (")
        assert said in lines[-1] and lines[-1].endswith(
            f"give --data the recordings that were in {recordings}, or another --out."
        )
        assert not any("Traceback" in line for line in lines)
        assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
        shutil.rmtree(recordings)
    assert train(tmp_path / "kept", out) == 0


def test_before_the_first_checkpoint_any_recordings_will_do(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(recordings, out, "pocket:tiny", "--clip-frames", "100") == 2
    assert not out.exists()
    write(recordings / "clip12.npz", 12)
    assert train(recordings, out) == 0


def test_members_of_a_mixture_may_be_moved(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "more"
    other.mkdir()
    for number in range(12, 24):
        write(other / f"clip{number}.npz", number)
    system = ("ivideogpt:tiny", "--size", "32", "--fit", "stretch", "--actions", "none")
    both = [f"{recordings}=0.5", f"{other}=0.5"]
    assert train(both, tmp_path / "whole", *system) == 0
    train_a_part(monkeypatch, both, tmp_path / "run", *system)
    moved = [recordings.rename(tmp_path / "a"), other.rename(tmp_path / "b")]
    both = [f"{folder}=0.5" for folder in moved]
    assert train(both[::-1], tmp_path / "run", *system) == 2
    assert f"{moved[1]} holds other recordings" in capsys.readouterr().err
    assert train(both[:1], tmp_path / "run", *system) == 2
    assert "has learned from 2 data sets" in capsys.readouterr().err
    assert train(both, tmp_path / "run", *system) == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
