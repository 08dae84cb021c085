"""LeRobot data sets of versions 2.1 and 3.0, written here in their documented layouts with pyarrow and PyAV."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.drawn_videos import write_video
from tests.data.moving_square import check_alignment, episode

from reelworld.cli.main import main
from reelworld.data.dataset import Dataset, ReadOptions
from reelworld.types import UserError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
LENGTHS = [24, 30, 20, 26]
FPS = 10
TOP, WRIST = "observation.images.top", "observation.images.wrist"


def vectors(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids - 1.0, ids * 0.5, ids * 0], 1).astype(np.float32)


def from_vectors(actions: np.ndarray) -> np.ndarray:
    return np.round(actions[:, 0]).astype(int) + 1


def seen(index: int, camera: str) -> np.ndarray:
    frames = episode(index, LENGTHS[index])[0]
    return frames if camera == TOP else np.flip(frames, 1).copy()


def steps(index: int) -> dict[str, list[object]]:
    ids = episode(index, LENGTHS[index])[1]
    n, first = LENGTHS[index], sum(LENGTHS[:index])
    return {
        "action": list(vectors(ids)),
        "observation.state": list(np.zeros((n, 3), np.float32)),
        "timestamp": list((np.arange(n) / FPS).astype(np.float32)),
        "frame_index": list(range(n)),
        "episode_index": [index] * n,
        "index": list(range(first, first + n)),
        "task_index": [index % 2] * n,
        "next.reward": list(np.arange(n, dtype=np.float32)),
    }


def joined(parts: list[dict[str, list[object]]]) -> dict[str, list[object]]:
    return {key: [value for part in parts for value in part[key]] for key in parts[0]}


def save(path: Path, columns: dict[str, list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {k: [v.tolist() if isinstance(v, np.ndarray) else v for v in values] for k, values in columns.items()}
    parquet.write_table(pa.table(plain), path)


def info(folder: Path, version: str, kind: str = "video", **more: object) -> None:
    picture = {"dtype": kind, "shape": [48, 48, 3], "names": ["height", "width", "channels"]}
    values = {
        "codebase_version": version,
        "robot_type": "so100",
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "fps": FPS,
        "chunks_size": 1000,
        "splits": {"train": f"0:{len(LENGTHS)}"},
        "features": {
            "action": {"dtype": "float32", "shape": [3], "names": {"motors": ["pan", "lift", "grip"]}},
            "observation.state": {"dtype": "float32", "shape": [3], "names": None},
            WRIST: picture,
            TOP: picture,
            "next.reward": {"dtype": "float32", "shape": [1]},
            **{k: {"dtype": "int64", "shape": [1]} for k in ("frame_index", "episode_index", "index", "task_index")},
            "timestamp": {"dtype": "float32", "shape": [1]},
        },
        **more,
    }
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps(values))


TASKS = ["move the square", "leave the square"]


def version_2(folder: Path, **film: object) -> Path:
    """Write a file per episode and camera."""
    info(
        folder,
        "v2.1",
        data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    )
    lines = [{"episode_index": i, "tasks": [TASKS[i % 2]], "length": n} for i, n in enumerate(LENGTHS)]
    (folder / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for i in range(len(LENGTHS)):
        save(folder / f"data/chunk-000/episode_{i:06d}.parquet", steps(i))
        for camera in (TOP, WRIST):
            path = folder / f"videos/chunk-000/{camera}/episode_{i:06d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, seen(i, camera), FPS, **film)
    return folder


def version_3(folder: Path, kind: str = "video", **film: object) -> Path:
    """Write two files, of three episodes and of one."""
    info(
        folder,
        "v3.0",
        kind,
        data_path="data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        video_path="videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    )
    listed: dict[str, list[object]] = {}
    for number, group in enumerate(([0, 1, 2], [3])):
        rows = [steps(i) for i in group]
        for camera in (TOP, WRIST):
            if kind == "image":
                for i, row in zip(group, rows, strict=True):
                    row[camera] = [{"bytes": png(x), "path": f"frame_{t}.png"} for t, x in enumerate(seen(i, camera))]
            else:
                path = folder / f"videos/{camera}/chunk-000/file-{number:03d}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, np.concatenate([seen(i, camera) for i in group]), FPS, **film)
        save(folder / f"data/chunk-000/file-{number:03d}.parquet", joined(rows))
        for i in group:
            start = sum(LENGTHS[j] for j in group if j < i) / FPS
            row = {
                "episode_index": i,
                "tasks": [TASKS[i % 2]],
                "length": LENGTHS[i],
                "data/chunk_index": 0,
                "data/file_index": number,
                "dataset_from_index": sum(LENGTHS[:i]),
                "dataset_to_index": sum(LENGTHS[: i + 1]),
            }
            for camera in (TOP, WRIST) if kind == "video" else ():
                row |= {
                    f"videos/{camera}/chunk_index": 0,
                    f"videos/{camera}/file_index": number,
                    f"videos/{camera}/from_timestamp": start,
                    f"videos/{camera}/to_timestamp": start + LENGTHS[i] / FPS,
                }
            for key, value in row.items():
                listed.setdefault(key, []).append(value)
    save(folder / "meta/episodes/chunk-000/file-000.parquet", listed)
    save(folder / "meta/tasks.parquet", {"task_index": [0, 1], "task": TASKS})
    return folder


def png(frame: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("write", [version_2, version_3])
def test_both_versions_keep_actions_and_frames_together(tmp_path: Path, write) -> None:
    write(tmp_path / "so100")
    dataset = Dataset.open(tmp_path / "so100")
    assert [e.n_frames for e in dataset.episodes] == LENGTHS
    assert check_alignment(dataset, from_vectors) == sum(LENGTHS) - len(LENGTHS)
    assert [e.task for e in dataset.episodes] == [TASKS[i % 2] for i in range(4)]
    spec = dataset.info.actions["action"]
    assert (spec.kind, spec.n, spec.names) == ("continuous", 3, ("pan", "lift", "grip"))
    assert dataset.info.fps == FPS
    np.testing.assert_array_equal(dataset.read(1).rewards[:-1], np.arange(LENGTHS[1] - 1))
    assert any("observation.images.top is read" in note for note in dataset.notes)


@pytest.mark.parametrize("write", [version_2, version_3])
def test_every_frame_is_the_one_of_its_row(tmp_path: Path, write) -> None:
    write(tmp_path, codec=("libx264rgb", "rgb24"))
    for camera, name in ((TOP, ""), (WRIST, "wrist")):
        dataset = Dataset.open(tmp_path, ReadOptions(camera=name))
        for i in range(4):
            errors = np.abs(dataset.read(i).frames.astype(int) - seen(i, camera)).mean((1, 2, 3))
            assert errors.max() < 3  # of another frame: 10 and more


def test_av1_as_lerobot_records_by_default(tmp_path: Path) -> None:
    version_3(tmp_path, codec=("libsvtav1", "yuv420p"))
    assert check_alignment(Dataset.open(tmp_path), from_vectors, slack=1) == sum(LENGTHS) - 4


def test_pictures_inside_parquet_are_lossless(tmp_path: Path) -> None:
    version_3(tmp_path, "image")
    dataset = Dataset.open(tmp_path)
    for i in range(4):
        np.testing.assert_array_equal(dataset.read(i).frames, seen(i, TOP))
    assert check_alignment(dataset, from_vectors)


def test_a_folder_of_data_sets_and_splits_of_the_metadata(tmp_path: Path) -> None:
    version_3(tmp_path / "a")
    described = json.loads((tmp_path / "a/meta/info.json").read_text())
    described["splits"] = {"train": "0:3", "test": "3:4"}
    (tmp_path / "a/meta/info.json").write_text(json.dumps(described))
    version_2(tmp_path / "b")
    dataset = Dataset.open(tmp_path)
    assert [e.source for e in dataset.episodes][:2] == ["a/episode_000000", "a/episode_000001"]
    assert "a/episode_000003" in {e.source for e in dataset.episodes if e.split == "test"}


def test_metadata_that_lack_what_the_files_show(tmp_path: Path) -> None:
    version_2(tmp_path / "old")
    (tmp_path / "old/meta/info.json").write_text('{"codebase_version": "v2.1", "fps": 10, "total_episodes": 4}')
    (tmp_path / "old/meta/episodes.jsonl").unlink()
    for i in range(4):  # bare columns
        save(tmp_path / f"old/data/chunk-000/episode_{i:06d}.parquet", {"action": steps(i)["action"]})
    version_3(tmp_path / "new")
    path = tmp_path / "new/meta/episodes/chunk-000/file-000.parquet"
    columns = parquet.read_table(path).to_pydict()
    save(path, {k: v for k, v in columns.items() if "timestamp" not in k})
    for name in ("old", "new"):
        dataset = Dataset.open(tmp_path / name)
        assert [e.n_frames for e in dataset.episodes] == LENGTHS
        check_alignment(dataset, from_vectors)


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert main(["inspect", str(folder), *flags]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return error


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: (d / "data/chunk-000/file-000.parquet").write_bytes(b"PAR1....PAR1"), "no parquet file"),
        (lambda d: (d / "meta/info.json").write_text("{"), "info.json"),
        (lambda d: (d / "videos" / TOP / "chunk-000/file-001.mp4").unlink(), "file-001.mp4 of toy is missing"),
        (lambda d: info(d, "v1.6"), "of version v1.6"),
        (lambda d: save(d / "meta/episodes/chunk-000/file-000.parquet", {"episode_index": [0]}), "are incomplete"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil, said: str) -> None:
    spoil(version_3(tmp_path / "toy"))
    assert said in refused(tmp_path / "toy", capsys)


def test_wrong_flags_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version_3(tmp_path / "toy")
    assert "camera of toy" in refused(tmp_path / "toy", capsys, "--camera", "left")
    assert "not resampled to 5" in refused(tmp_path / "toy", capsys, "--fps", "5")
    assert "feature of toy" in refused(tmp_path / "toy", capsys, "--action", "actoin")


def test_a_film_that_lacks_frames_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version_2(tmp_path / "toy")
    write_video(tmp_path / "toy/videos/chunk-000" / TOP / "episode_000001.mp4", seen(1, TOP)[:12], FPS)
    assert "episode_000001.mp4 has no frame at 1.200 s" in refused(tmp_path / "toy", capsys)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version_3(tmp_path / "toy")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'reelworld\[lerobot\]'"):
        Dataset.open(tmp_path / "toy")
