"""Conversion: what is written reads back equal, here and in Minari; interruptions lose no finished episode."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.data.moving_square import check_alignment, episode

from reelworld.cli.main import main
from reelworld.data.conversion import WRITERS, convert
from reelworld.data.dataset import DataInfo, Dataset, Episode, ReadOptions, write_episode, write_info
from reelworld.data.writers.own import OwnWriter
from reelworld.types import ActionSpec, Clip, UserError

N = 24
SPECS = {
    "discrete": {"action": ActionSpec(kind="discrete", n=3, names=("left", "stay", "right"))},
    "continuous": {"action": ActionSpec(kind="continuous", n=2, low=(-1, 0), high=(1, 2), names=("dx", "key"))},
    "streams": {
        "move": ActionSpec(kind="discrete", n=3),
        "look": ActionSpec(kind="continuous", n=2, low=(-1, 0), high=(1, 2)),
    },
    "buttons": {
        "keys": ActionSpec(kind="buttons", n=2, names=("left", "right")),
        "mouse": ActionSpec(kind="continuous", n=2, low=(-1, 0), high=(1, 2), names=("dx", "dy")),
    },
    "none": {},
}


def rows_of(spec: ActionSpec, ids: np.ndarray) -> np.ndarray:
    if spec.kind == "buttons":
        return np.stack([ids != 2, ids != 0], 1).astype(np.float32)  # both at once, too
    return ids if spec.kind == "discrete" else np.stack([ids - 1.0, ids], 1).astype(np.float32)


def recording(folder: Path, kind: str = "discrete", n: int = 6, steps: bool = True) -> Dataset:
    """Write a data set of ours."""
    folder.mkdir()
    listed = []
    for i in range(n):
        frames, ids = episode(i)
        last = np.arange(N) == N - 2
        clip = Clip(
            frames=frames,
            actions={stream: rows_of(spec, ids) for stream, spec in SPECS[kind].items()},
            rewards=np.arange(N, dtype=np.float32) / 7 if steps else None,
            terminated=last & bool(i % 2) if steps else None,
            truncated=last & (not i % 2) if steps else None,
        )
        write_episode(folder / f"{i}.npz", clip)
        split = ("train", "val", "train", "test", "train", "train")[i]
        listed.append(Episode(source=f"game-{i}", n_frames=N, split=split, file=f"{i}.npz", task=f"task {i % 2}"))
    write_info(folder, DataInfo(fps=10, height=48, width=48, actions=SPECS[kind]), listed)
    return Dataset.open(folder)


def by_frames(dataset: Dataset) -> dict[bytes, tuple[Clip, Episode]]:
    return {(clip := dataset.read(i)).frames.tobytes(): (clip, dataset.episodes[i]) for i in dataset.indices("all")}


def same_steps(a: Clip, b: Clip, names: tuple[str, ...]) -> None:
    assert a.actions.keys() == b.actions.keys()
    for stream in a.actions:
        np.testing.assert_array_equal(a.actions[stream][:-1], b.actions[stream][:-1])
        assert a.actions[stream].dtype == b.actions[stream].dtype
    for name in names:
        np.testing.assert_array_equal(getattr(a, name)[:-1], getattr(b, name)[:-1], err_msg=name)


KEPT = {
    "reelworld": ("rewards", "terminated", "truncated"),
    "npz": ("rewards", "terminated", "truncated"),
    "minari": ("rewards", "terminated", "truncated"),
    "lerobot": ("rewards",),
}


@pytest.mark.parametrize("kind", ["discrete", "continuous", "streams", "buttons"])
@pytest.mark.parametrize("to", WRITERS)
def test_what_is_written_reads_back_equal(tmp_path: Path, to: str, kind: str) -> None:
    if to == "lerobot":
        pytest.importorskip("pyarrow")
    source = recording(tmp_path / "mine", kind)
    done = convert(tmp_path / "mine", tmp_path / "theirs", to, ReadOptions())
    assert (done.n_episodes, done.n_new, done.n_frames) == (6, 6, 6 * N)
    back = Dataset.open(tmp_path / "theirs")
    before, after = by_frames(source), by_frames(back)
    assert before.keys() == after.keys()
    for key, (clip, e) in before.items():
        same_steps(clip, after[key][0], KEPT[to])
        if to != "minari":
            assert after[key][1].split == e.split
        if to in ("reelworld", "lerobot"):
            assert after[key][1].task == e.task
        if to == "reelworld":
            assert after[key][1].source == e.source
    if to == "reelworld":
        assert back.info.actions == source.info.actions
    if to in ("reelworld", "lerobot"):
        assert back.info.fps == 10
    kinds = {stream: spec.kind for stream, spec in source.info.actions.items()}
    assert {stream: spec.kind for stream, spec in back.info.actions.items()} == kinds
    if kind == "discrete":
        assert check_alignment(back) == 6 * (N - 1)


def test_minari_reads_what_is_written_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    source = recording(tmp_path / "mine")
    convert(tmp_path / "mine", tmp_path / "square-v0", "minari", ReadOptions())
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    theirs = minari.load_dataset("square-v0")
    assert theirs.total_episodes == 6 and theirs.total_steps == 6 * (N - 1)
    assert theirs.action_space.n == 3
    before = by_frames(source)
    for e in theirs.iterate_episodes():
        assert all(theirs.observation_space.contains(x) for x in e.observations)
        clip, _ = before[np.asarray(e.observations).tobytes()]
        np.testing.assert_array_equal(e.actions, clip.action[:-1])
        np.testing.assert_array_equal(e.rewards.astype(np.float32), clip.rewards[:-1])
        np.testing.assert_array_equal(e.terminations, clip.terminated[:-1])
        np.testing.assert_array_equal(e.truncations, clip.truncated[:-1])


def test_lerobot_files_have_what_its_readers_look_for(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    recording(tmp_path / "mine", "continuous")
    convert(tmp_path / "mine", tmp_path / "theirs", "lerobot", ReadOptions())
    info = json.loads((tmp_path / "theirs/meta/info.json").read_text())
    assert info["splits"] == {"train": "0:4", "val": "4:5", "test": "5:6"}
    assert info["features"]["action"] == {"dtype": "float32", "shape": [2], "names": ["dx", "key"]}
    row = parquet.read_table(tmp_path / "theirs" / info["data_path"].format(chunk_index=0, file_index=2)).to_pydict()
    assert set(info["features"]) == set(row)
    assert row["index"] == list(range(2 * N, 3 * N)) and row["episode_index"] == [2] * N
    np.testing.assert_allclose(row["timestamp"], np.arange(N) / 10, rtol=1e-6)
    tasks = parquet.read_schema(tmp_path / "theirs/meta/tasks.parquet")
    assert json.loads(tasks.metadata[b"pandas"])["index_columns"] == ["task"]
    statistics = json.loads((tmp_path / "theirs/meta/stats.json").read_text())
    assert statistics["action"]["count"] == [6 * N]


@pytest.mark.parametrize("to", ["reelworld", "npz", "lerobot"])
def test_an_interrupted_conversion_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    recording(tmp_path / "mine")
    out = tmp_path / "theirs"

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "mine", out, to, ReadOptions(), stop)
    written: list[int] = []
    done = convert(tmp_path / "mine", out, to, ReadOptions(), lambda n, total: written.append(n))
    assert (done.n_new, written) == (3, [1, 2, 3, 4, 5, 6])
    assert len(Dataset.open(out).episodes) == 6
    assert not list(out.rglob("*.tmp"))


def test_an_interrupted_conversion_is_readable_and_says_what_is_missing(tmp_path: Path) -> None:
    recording(tmp_path / "mine")

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "mine", tmp_path / "half", "reelworld", ReadOptions(), stop)
    half = Dataset.open(tmp_path / "half")
    assert len(half.episodes) == 4 and len(half.problems) == 2
    assert all("missing" in line for line in half.problems)


def test_a_failed_write_leaves_no_half_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording(tmp_path / "mine")
    plain = OwnWriter.write

    def write(self, job, number, clip) -> None:
        if number == 2:
            clip = replace(clip, frames=clip.frames.astype(np.float32))
        plain(self, job, number, clip)

    monkeypatch.setattr(OwnWriter, "write", write)
    with pytest.raises(UserError):
        convert(tmp_path / "mine", tmp_path / "out", "reelworld", ReadOptions())
    assert sorted(p.name for p in (tmp_path / "out").glob("*.npz")) == ["000000.npz", "000001.npz"]


def test_reading_options_apply_and_notes_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw").mkdir()
    for i in range(4):
        frames, ids = episode(i)
        np.savez(tmp_path / "raw" / f"{i}.npz", image=frames, action=np.eye(3)[ids], is_first=np.arange(N) == 0)
    flags = ["--size", "24", "--fit", "stretch", "--fps", "8"]
    assert main(["convert", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), *flags]) == 0
    said = capsys.readouterr().out
    assert "note: one-hot actions are read as the ids 0 to 2" in said
    assert "4 episodes, 96 frames" in said and "(4 are new)" in said
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.read(0).frames.shape == (N, 24, 24, 3) and dataset.info.fps == 8
    assert "one-hot actions are read as the ids 0 to 2" in dataset.info.provenance["notes"]


@pytest.mark.parametrize("to", ["reelworld", "npz"])
def test_one_long_recording_stays_one_episode(tmp_path: Path, to: str) -> None:
    frames, ids = episode(0, 90)
    np.savez(tmp_path / "run.npz", image=frames, action=ids)
    source = Dataset.open(tmp_path / "run.npz")
    assert len(source.episodes) > 1  # cut, to hold something out
    done = convert(tmp_path / "run.npz", tmp_path / "out", to, ReadOptions())
    assert (done.n_episodes, done.n_frames) == (1, 90)
    assert not any("stretches" in note for note in done.notes)
    (path,) = (tmp_path / "out").rglob("*.npz")
    with np.load(path) as stored:
        np.testing.assert_array_equal(stored["frames" if to == "reelworld" else "observations"], frames)
        np.testing.assert_array_equal(stored["actions"][:89], ids[:89])
    back = Dataset.open(tmp_path / "out")
    assert sum(e.n_frames for e in back.episodes) == 90


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["convert", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error
    return error


def test_refusals_are_one_line_and_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = str(tmp_path / "mine"), tmp_path / "out"
    recording(tmp_path / "mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    assert "does not exist" in refused(capsys, str(tmp_path / "nothing"), "--out", str(out))
    assert "is not empty" in refused(capsys, source, "--out", str(tmp_path / "full"))
    assert "is in the folder of the recordings" in refused(capsys, source, "--out", f"{source}/copy")
    assert "Missing" in refused(capsys, source)
    assert "rlds" in refused(capsys, source, "--out", str(out), "--to", "rlds")
    assert not out.exists()
    convert(tmp_path / "mine", out, "npz", ReadOptions())
    assert "another conversion (other format)" in refused(capsys, source, "--out", str(out))


def test_formats_refuse_what_they_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording(tmp_path / "film", "none", steps=False)
    assert "Minari data sets need actions" in refused(
        capsys, str(tmp_path / "film"), "--out", str(tmp_path / "out"), "--to", "minari"
    )
    np.savez(tmp_path / "x.npz", frames=episode(0)[0])
    pytest.importorskip("pyarrow")
    assert "need a frame rate" in refused(
        capsys, str(tmp_path / "x.npz"), "--out", str(tmp_path / "out"), "--to", "lerobot"
    )
    assert not (tmp_path / "out").exists()
