"""Formats of other projects: every reader keeps actions and frames together, shown by a square that moves as told."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from tests.data.moving_square import check_alignment, episode
from tests.data.written_formats import (
    N,
    aloha,
    from_vectors,
    laid_out,
    laid_out_hdf5,
    marks,
    pictures,
    replay,
    robomimic,
    stable_worldmodel,
    vectors,
    write_minari,
)

from reelworld.cli.main import main
from reelworld.data.dataset import Dataset, ReadOptions
from reelworld.data.formats.registry import FORMATS
from reelworld.types import UserError


def splits(dataset: Dataset) -> dict[str, int]:
    return {s: len(dataset.indices(s)) for s in ("train", "val", "test")}


def test_the_table_names_every_format_once() -> None:
    names = [f.name for f in FORMATS]
    assert len(set(names)) == len(names)
    assert all(f.recognized and (f.endings or f.claims) for f in FORMATS)


def test_the_benchmark_writes_a_recording_of_every_format() -> None:
    from benchmarks import formats

    assert {case.format for case in formats.CASES} == {*(f.name for f in FORMATS), "own folder"}


# ------------------------------------------------------------------ .npz laid end to end


def test_ogbench_is_cut_at_its_terminals_and_the_val_file_is_val(tmp_path: Path) -> None:
    laid_out(tmp_path / "visual-toy-v0.npz", range(12))
    laid_out(tmp_path / "visual-toy-v0-val.npz", range(50, 54))
    dataset = Dataset.open(tmp_path)
    assert [e.n_frames for e in dataset.episodes] == [N] * 16
    assert check_alignment(dataset, from_vectors) == 16 * (N - 1)
    assert splits(dataset)["val"] == 4
    assert {e.split for e in dataset.episodes if "-val" in e.file} == {"val"}
    notes = "\n".join(dataset.notes)
    assert "cut at their marks" in notes and "read off their names (1 val)" in notes


@pytest.mark.parametrize("big", [False, True])
def test_arrays_in_hdf5_are_read_as_in_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, big: bool) -> None:
    if big:  # through the disk
        monkeypatch.setattr("reelworld.data.formats.npz.BIG_BYTES", 5000)
    laid_out_hdf5(tmp_path / "d4rl.hdf5", range(4))
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["frames"], file["actions"] = episode(9)[0], vectors(episode(9)[1])
    dataset = Dataset.open(tmp_path)
    assert [e.n_frames for e in dataset.episodes] == [N] * 5
    check_alignment(dataset, from_vectors)
    np.testing.assert_array_equal(dataset.read(1).frames, episode(1)[0])
    assert any("the HDF5 files do not say" in note for note in dataset.notes)


def test_large_arrays_of_npz_go_through_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out(tmp_path / "visual-toy-v0.npz", range(4))
    plain = Dataset.open(tmp_path).read(2).frames
    monkeypatch.setattr("reelworld.data.formats.npz.BIG_BYTES", 5000)
    monkeypatch.setenv("REELWORLD_CACHE", str(tmp_path / "cache"))
    dataset = Dataset.open(tmp_path)
    check_alignment(dataset, from_vectors)
    np.testing.assert_array_equal(dataset.read(2).frames, plain)


def test_ids_of_dreamerv3_may_begin_with_zero(tmp_path: Path) -> None:
    frames, ids = episode(0)
    ids[0] = 0
    for i in range(3):
        np.savez(tmp_path / f"{i}.npz", image=np.roll(frames, i, 2), action=ids, is_first=marks(0))
    assert Dataset.open(tmp_path).read(0).action[0] == 0
    np.testing.assert_array_equal(Dataset.open(tmp_path).read(0).action[:-1], ids[:-1])


def test_floats_and_one_hot_rows_laid_end_to_end(tmp_path: Path) -> None:
    parts = [episode(seed) for seed in range(4)]
    np.savez(
        tmp_path / "x.npz",
        observations=np.concatenate([f for f, _ in parts]).astype(np.float32) / 255,
        actions=np.eye(3)[np.concatenate([a for _, a in parts])],
        terminals=np.tile(marks(N - 1), 4),
    )
    dataset = Dataset.open(tmp_path)
    assert dataset.info.actions["action"].kind == "discrete"
    check_alignment(dataset)
    np.testing.assert_array_equal(dataset.read(2).frames, parts[2][0])
    assert any("scaled from 0..1" in note for note in dataset.notes)


def test_d4rl_is_cut_at_terminals_and_timeouts(tmp_path: Path) -> None:
    parts = [episode(seed) for seed in range(4)]
    rewards = np.arange(4 * N, dtype=np.float32)
    np.savez(
        tmp_path / "maze.npz",
        observations=np.concatenate([f for f, _ in parts]),
        actions=np.concatenate([vectors(a) for _, a in parts]),
        rewards=rewards,
        terminals=np.concatenate([marks(N - 1), marks(), marks(N - 1), marks()]),
        timeouts=np.concatenate([marks(), marks(N - 1), marks(), marks()]),
    )
    dataset = Dataset.open(tmp_path)
    assert len(dataset.episodes) == 4
    check_alignment(dataset, from_vectors)
    for i in range(4):
        clip = dataset.read(i)
        assert clip.rewards is not None and clip.terminated is None
        np.testing.assert_array_equal(clip.rewards[:-1], rewards[i * N : i * N + N - 1])


def test_windows_do_not_cross_ends_of_plain_npz_with_dones(tmp_path: Path) -> None:
    parts = [episode(seed) for seed in range(4)]
    np.savez(
        tmp_path / "mine.npz",
        frames=np.concatenate([f for f, _ in parts]),
        actions=np.concatenate([a for _, a in parts]),
        dones=np.tile(marks(N - 1), 4),
    )
    dataset = Dataset.open(tmp_path / "mine.npz")
    assert [e.n_frames for e in dataset.episodes] == [N] * 4
    check_alignment(dataset)


@pytest.mark.parametrize("is_version_2", [True, False])
@pytest.mark.parametrize("discrete", [True, False])
def test_dreamer_replays(tmp_path: Path, is_version_2: bool, discrete: bool) -> None:
    for i in range(4):
        replay(tmp_path / f"20260101T00000{i}-abc-{N}.npz", i, is_version_2=is_version_2, discrete=discrete)
    dataset = Dataset.open(tmp_path)
    spec = dataset.info.actions["action"]
    assert (spec.kind, spec.n) == (("discrete", 3) if discrete else ("continuous", 2))
    check_alignment(dataset, (lambda a: a) if discrete else from_vectors)
    clip = dataset.read(0)
    assert clip.rewards is not None and clip.terminated is not None
    np.testing.assert_array_equal(clip.rewards[:-1], np.arange(1, N))
    np.testing.assert_array_equal(np.flatnonzero(clip.terminated), [N - 2])
    assert any(f"DreamerV{2 if is_version_2 else 3}'s" in note for note in dataset.notes)


def test_a_chunk_of_several_replays_is_cut_at_is_first(tmp_path: Path) -> None:
    parts = [episode(seed, n) for seed, n in ((0, 10), (1, 30), (2, 24))]
    first = np.zeros(64, bool)
    first[[0, 10, 40]] = True
    np.savez(
        tmp_path / "chunk.npz",
        image=np.concatenate([f for f, _ in parts]),
        action=np.concatenate([np.eye(3, dtype=np.float32)[a] for _, a in parts]),
        is_first=first,
    )
    dataset = Dataset.open(tmp_path)
    assert [e.n_frames for e in dataset.episodes] == [10, 30, 24]
    check_alignment(dataset)


def test_marks_of_another_length_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames, ids = episode(0)
    np.savez(tmp_path / "x.npz", image=frames, action=ids, is_first=marks(0, 5)[:-1])
    assert main(["inspect", str(tmp_path)]) == 2
    assert "is_first of x.npz has 23 rows for 24 frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.npz", "b-val.npz", "test_1.npz"], ["", "val", "test"]),
        (["a_train.npz", "a_validation.npz"], ["train", "val"]),
        (["a.npz", "latest.npz", "evaluate.npz", "trainer.npz"], ["", "", "", ""]),
        (["test.npz"], [""]),
        (["train_1.mp4", "bus_1.mp4"], ["", ""]),
        (["run-val-v0.npz", "run-v0.npz"], ["val", ""]),
    ],
)
def test_splits_in_names(files: list[str], expected: list[str]) -> None:
    from reelworld.data.formats.folder_conventions import name_splits

    assert list(name_splits(files)[0].values()) == expected


# ------------------------------------------------------------------ pictures


@pytest.mark.parametrize("names", ["{:06d}.png", "frame_{}.png", "shot {} of 24.PNG"])
def test_folders_of_numbered_pictures(tmp_path: Path, names: str) -> None:
    for i in range(4):
        pictures(tmp_path / f"episode_{i:03d}", i, names.replace(" of 24", ""))
    dataset = Dataset.open(tmp_path)
    assert [e.source for e in dataset.episodes] == [f"episode_{i:03d}" for i in range(4)]
    assert check_alignment(dataset) == 4 * (N - 1)
    np.testing.assert_array_equal(dataset.read(0).frames, episode(0)[0])


def test_one_folder_of_pictures_with_actions_beside_it(tmp_path: Path) -> None:
    pictures(tmp_path / "run", 0, actions=False)
    np.save(tmp_path / "run.npy", episode(0)[1][:-1])
    check_alignment(Dataset.open(tmp_path / "run"))


def test_pictures_beside_a_recording_are_none(tmp_path: Path) -> None:
    pictures(tmp_path, 0, actions=False)
    np.savez(tmp_path / "run.npz", frames=episode(1)[0])
    assert {e.file for e in Dataset.open(tmp_path).episodes} == {"run.npz"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "000002.png").write_bytes(b"no picture"), "000002.png cannot be read as a picture"),
        (lambda f: Image.new("RGB", (40, 48)).save(f / "000003.png"), "pictures of 48x48 and 000003.png of 40x48"),
        (lambda f: Image.new("RGB", (48, 48)).save(f / "2.png"), "two pictures of one number"),
        (lambda f: (f / "actions.csv").write_text("0\n1\n"), "has 2 rows for 24 frames"),
    ],
)
def test_bad_pictures_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil, said: str) -> None:
    pictures(tmp_path / "run", 0)
    spoil(tmp_path / "run")
    assert main(["inspect", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error


def test_gaps_between_pictures_are_said(tmp_path: Path) -> None:
    pictures(tmp_path / "run", 0, actions=False)
    (tmp_path / "run" / "000007.png").unlink()
    assert any("1 gaps" in note for note in Dataset.open(tmp_path).notes)


# ------------------------------------------------------------------ HDF5


@pytest.mark.parametrize("storage", [{}, {"compression": "gzip", "chunks": (8, 48, 48, 3)}])
def test_robomimic(tmp_path: Path, storage: dict[str, object]) -> None:
    robomimic(tmp_path / "demo.hdf5", 12, **storage)
    dataset = Dataset.open(tmp_path)
    assert [e.source for e in dataset.episodes] == [f"demo.hdf5/demo_{i}" for i in range(12)]
    assert check_alignment(dataset, from_vectors) == 12 * (N - 1)
    clip = dataset.read(3, 4, 9)
    np.testing.assert_array_equal(clip.frames, episode(3)[0][4:9])
    assert clip.rewards is not None
    np.testing.assert_allclose(clip.rewards, np.arange(4, 9) / 7, rtol=1e-6)
    small = Dataset.open(tmp_path, ReadOptions(size=24, fit="stretch"))
    assert small.read(0).frames.shape == (N, 24, 24, 3)


def test_robomimic_cameras_and_splits(tmp_path: Path) -> None:
    robomimic(tmp_path / "demo.hdf5", cameras=("robot0_eye_in_hand_image", "agentview_image"))
    with h5py.File(tmp_path / "demo.hdf5", "a") as file:
        file["mask/train"] = np.array([b"demo_0", b"demo_1", b"demo_3", b"demo_5"])
        file["mask/valid"] = np.array([b"demo_2", b"demo_4"])
        file["data"].attrs["problem_info"] = json.dumps({"language_instruction": ["move", "the", "square"]})
    dataset = Dataset.open(tmp_path)
    assert any("agentview_image is read" in note for note in dataset.notes)
    assert any("upside down" in note for note in dataset.notes)
    assert {e.task for e in dataset.episodes} == {"move the square"}
    assert {e.source[-6:] for e in dataset.episodes if e.split == "val"} == {"demo_2", "demo_4"}
    other = Dataset.open(tmp_path, ReadOptions(camera="eye_in_hand_image"))
    np.testing.assert_array_equal(other.read(0).frames, episode(0)[0])
    with pytest.raises(UserError, match=r"camera of demo\.hdf5"):
        Dataset.open(tmp_path, ReadOptions(camera="front"))


def test_robomimic_without_pictures_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "low_dim.hdf5", "w") as file:
        file["data/demo_0/obs/object"], file["data/demo_0/actions"] = np.zeros((N, 3)), np.zeros((N, 7))
    assert main(["inspect", str(tmp_path)]) == 2
    assert "holds no pictures (states only)" in capsys.readouterr().err


def test_an_action_shift_moves_the_steps_of_robomimic(tmp_path: Path) -> None:
    robomimic(tmp_path / "demo.hdf5")
    plain, shifted = Dataset.open(tmp_path), Dataset.open(tmp_path, ReadOptions(action_shift=1))
    np.testing.assert_array_equal(shifted.read(0).action[: N - 1], plain.read(0).action[1:])
    back = Dataset.open(tmp_path, ReadOptions(action_shift=-1))
    assert back.episodes[0].n_frames == N - 1
    np.testing.assert_array_equal(back.read(0).frames, plain.read(0).frames[1:])
    np.testing.assert_array_equal(back.read(0).action[:-1], plain.read(0).action[: N - 2])


@pytest.mark.filterwarnings("ignore::UserWarning:minari.*")
@pytest.mark.parametrize("is_dict", [True, False])
@pytest.mark.parametrize("jpeg", [True, False])
def test_minari_written_by_its_own_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_dict: bool, jpeg: bool
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    write_minari(tmp_path, is_dict=is_dict, jpeg=jpeg)
    dataset = Dataset.open(tmp_path / "square")
    assert len(dataset.episodes) == 5
    assert dataset.info.actions["action"].n == 4  # as its space says; one action never occurs
    assert check_alignment(dataset) == 5 * (N - 1)
    import minari

    theirs = minari.load_dataset("square/toy-v0")
    for mine, their in zip(map(dataset.read, range(5)), theirs.iterate_episodes(), strict=True):
        np.testing.assert_array_equal(mine.frames, their.observations["image"] if is_dict else their.observations)
        np.testing.assert_array_equal(mine.action[:-1], their.actions)
        np.testing.assert_allclose(mine.rewards[:-1], their.rewards, rtol=1e-6)
        np.testing.assert_array_equal(mine.terminated[:-1], their.terminations)
        np.testing.assert_array_equal(mine.truncated[:-1], their.truncations)


@pytest.mark.filterwarnings("ignore::UserWarning:minari.*")
def test_minari_spaces_become_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    n, rng = N - 1, np.random.default_rng(0)
    ids = episode(0)[1][:-1]
    spaces = {
        "buttons": (MultiBinary(3), rng.integers(0, 2, (n, 3)).astype(np.int8), {"action": ("buttons", 3)}),
        "several": (
            MultiDiscrete([3, 5]),
            np.stack([ids, rng.integers(0, 5, n)], 1),
            {"action_0": ("discrete", 3), "action_1": ("discrete", 5)},
        ),
        "dict": (
            Dict({"move": Discrete(3, start=-1), "look": Box(-1, 1, (2,))}),
            {"move": ids - 1, "look": rng.uniform(-1, 1, (n, 2)).astype(np.float32)},
            {"look": ("continuous", 2), "move": ("discrete", 3)},
        ),
        "tuple": (
            Tuple((Discrete(3), MultiBinary(2))),
            (ids, rng.integers(0, 2, (n, 2)).astype(np.int8)),
            {"action_0": ("discrete", 3), "action_1": ("buttons", 2)},
        ),
    }
    for name, (space, actions, expected) in spaces.items():
        buffers = [
            EpisodeBuffer(
                id=i,
                observations=episode(0 if not i else i + 9)[0],
                actions=actions,
                rewards=[0.0] * n,
                terminations=[False] * n,
                truncations=[False] * (n - 1) + [True],
                infos={},
            )
            for i in range(3)
        ]
        image = Box(0, 255, (48, 48, 3), np.uint8)
        minari.create_dataset_from_buffers(
            f"{name}-v0", buffer=buffers, observation_space=image, action_space=space, jpeg_encoding=False
        )
        dataset = Dataset.open(tmp_path / f"{name}-v0")
        found = {stream: (spec.kind, spec.n) for stream, spec in dataset.info.actions.items()}
        assert found == expected, name
        moves = {"several": "action_0", "dict": "move", "tuple": "action_0"}.get(name)
        if moves:
            np.testing.assert_array_equal(dataset.read(0).actions[moves][:-1], ids)


@pytest.mark.parametrize("encoded", [False, True])
def test_aloha(tmp_path: Path, encoded: bool) -> None:
    for i in range(4):
        aloha(tmp_path / f"episode_{i}.hdf5", i, encoded=encoded)
    dataset = Dataset.open(tmp_path)
    assert [e.source for e in dataset.episodes] == [f"episode_{i}.hdf5" for i in range(4)]
    assert check_alignment(dataset, from_vectors) == 4 * (N - 1)
    assert any("top is read" in note for note in dataset.notes)
    assert dataset.info.actions["action"].n == 14


@pytest.mark.parametrize("leads_to_frame", [False, True])
def test_stable_worldmodel(tmp_path: Path, leads_to_frame: bool) -> None:
    lengths = [20, 30, 24, 40]
    stable_worldmodel(tmp_path / "pusht.h5", lengths, leads_to_frame=leads_to_frame)
    dataset = Dataset.open(tmp_path)
    assert [e.n_frames for e in dataset.episodes] == lengths
    assert check_alignment(dataset, from_vectors) == sum(lengths) - 4
    np.testing.assert_array_equal(dataset.read(2).frames, episode(2, 24)[0])
    assert any("shifted by one" in note for note in dataset.notes) == leads_to_frame
    assert any("reward of stable-worldmodel files are left out" in note for note in dataset.notes)
