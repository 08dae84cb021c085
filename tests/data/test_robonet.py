"""RoboNet's files, built here as its own writer builds them: several robots, three kinds of pictures."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from tests.data.damage import damaged, refusals
from tests.data.drawn_videos import numbered_frames, read_numbers, write_video

from reelworld.cli.main import main
from reelworld.data.dataset import Dataset, ReadOptions
from reelworld.types import UserError

T = 9


def film(frames: np.ndarray, folder: Path) -> np.ndarray:
    """The bytes of an mp4."""
    return np.frombuffer(write_video(folder / "film.mp4", frames).read_bytes(), np.uint8)


def jpeg(frame: np.ndarray) -> np.ndarray:
    """The bytes of a picture whose colours every viewer shows right."""
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=95, subsampling=0)
    return np.frombuffer(out.getvalue(), np.uint8)


def write(
    path: Path,
    actions: np.ndarray,
    robot: str = "sawyer",
    kind: str = "mp4",
    frames: np.ndarray | None = None,
    state: np.ndarray | None = None,
    primitives: str | None = None,
    n_cameras: int = 1,
    order: str = "",
) -> np.ndarray:
    """One recording; returns its frames."""
    frames = numbered_frames(T) if frames is None else frames
    with h5py.File(path, "w") as file:
        env = file.create_group("env")
        env.attrs["n_cams"], env.attrs["cam_encoding"] = n_cameras, kind
        for n in range(n_cameras):
            camera, seen = env.create_group(f"cam{n}_video"), np.roll(frames, n, 0)
            if kind == "jpg":
                stored = [camera.create_dataset(f"frame{t}", data=jpeg(frame)) for t, frame in enumerate(seen)]
            else:
                content = film(seen, path.parent) if kind == "mp4" else seen
                stored = [camera.create_dataset("frames", data=content)]
            for dataset in stored:
                dataset.attrs["shape"] = seen.shape[1:]
                dataset.attrs["T"] = len(seen)
                dataset.attrs["image_format"] = order or ("BGR" if kind == "jpg" else "RGB")
        env["state"] = np.zeros((len(frames), 5)) if state is None else state
        file["policy/actions"] = actions
        about = file.create_group("metadata").attrs
        about["robot"] = robot
        if primitives:
            about["primitives"] = primitives
        file["misc/low_bound"], file["misc/high_bound"] = np.full(5, -1.0), np.full(5, 3.0)
    (path.parent / "film.mp4").unlink(missing_ok=True)
    return frames


def moves(width: int, n: int = T - 1) -> np.ndarray:
    return np.arange(n * width, dtype=np.float64).reshape(n, width) / 10 + 1


def joined(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    clips = [dataset.read(i) for i in dataset.indices("all")]
    return np.concatenate([c.frames for c in clips]), np.concatenate([c.action for c in clips])


@pytest.mark.parametrize("kind", ["mp4", "jpg", "raw"])
def test_frames_and_the_actions_that_lead_away_from_them(tmp_path: Path, kind: str) -> None:
    drawn = write(tmp_path / "a.hdf5", moves(5), kind=kind)
    dataset = Dataset.open(tmp_path / "a.hdf5")
    frames, actions = joined(dataset)
    assert read_numbers(frames) == list(range(T)) and frames.shape == drawn.shape
    assert np.abs(frames.astype(int) - drawn).mean() < (1 if kind == "raw" else 3)
    np.testing.assert_array_equal(actions[:-1], moves(5).astype(np.float32))  # a row per step: nothing to guess
    assert not actions[-1].any() and dataset.notes[0] == "RoboNet's sawyer: 5 numbers per action"


@pytest.mark.parametrize(("kind", "order"), [(k, o) for k in ("mp4", "jpg", "raw") for o in ("RGB", "BGR")])
def test_colours_are_those_of_the_scene(tmp_path: Path, kind: str, order: str) -> None:
    """What is written in which order, as RoboNet's loader undoes it: cv2 reads JPEGs as BGR, imageio films as RGB."""
    scene = np.zeros((T, 48, 64, 3), np.uint8)
    scene[...] = (200, 60, 20)
    is_exchanged = (order == "BGR") != (kind == "jpg")
    write(tmp_path / "a.hdf5", moves(5), kind=kind, frames=scene[..., ::-1] if is_exchanged else scene, order=order)
    frames, _ = joined(Dataset.open(tmp_path / "a.hdf5"))
    assert np.abs(frames.astype(int) - scene[0]).max() < 12


def test_robots_of_all_widths_have_five_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = np.zeros((T, 5))
    state[:, -1] = [-1, -1, 2, 2, 0.5, 1.5, 3, -1, 3]
    robots = [("baxter", 5, None), ("sawyer", 4, "autograsp"), ("widowx", 3, None), ("kuka", 4, None)]
    for i, (name, width, primitives) in enumerate([*robots, ("franka", 7, None)]):
        frames = numbered_frames(5 * T)[i * T : (i + 1) * T]
        write(tmp_path / f"{name}.hdf5", moves(width), name, "jpg", frames, state, primitives)
    dataset = Dataset.open(tmp_path)
    assert len(dataset.episodes) == 5 and dataset.info.actions["action"].n == 5
    got = {e.source: dataset.read(i).action[:-1] for i, e in enumerate(dataset.episodes)}
    np.testing.assert_allclose(got["baxter.hdf5"], moves(5), rtol=1e-6)
    np.testing.assert_allclose(got["sawyer.hdf5"][:, :4], moves(4), rtol=1e-6)
    assert got["sawyer.hdf5"][:, 4].tolist() == [-1, 3, 3, -1, 3, 3, -1, 3]  # of the state that each step leads to
    for name, width in (("widowx", 3), ("kuka", 4)):
        np.testing.assert_allclose(got[f"{name}.hdf5"][:, :width], moves(width), rtol=1e-6)
        assert not got[f"{name}.hdf5"][:, width:].any()
    np.testing.assert_allclose(got["franka.hdf5"], moves(7)[:, :5], rtol=1e-6)
    assert main(["inspect", str(tmp_path), "--out", str(tmp_path / "looks")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "continuous, 5 wide" in said and "RoboNet's baxter: 5 numbers per action" in said
    assert "RoboNet's sawyer: 4 numbers per action, and the grip read off the next state" in said
    assert "RoboNet's franka: 7 numbers per action, of which the first 5 are kept" in said
    assert "RoboNet's kuka: 4 numbers per action, filled up with zeros to 5" in said


def test_another_camera_another_size_and_shorter_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", moves(5, 6), n_cameras=3)
    frames, actions = joined(Dataset.open(tmp_path / "a.hdf5", ReadOptions(frames="cam2_video", size=32, fit="crop")))
    assert frames.shape == (7, 32, 32, 3) and len(actions) == 7  # six steps
    assert any("3 cameras: cam0_video is read" in n for n in Dataset.open(tmp_path / "a.hdf5").notes)
    with pytest.raises(UserError, match=r"unknown camera of a.hdf5 'cam3_video'; did you mean 'cam"):
        Dataset.open(tmp_path / "a.hdf5", ReadOptions(frames="cam3_video"))
    with pytest.raises(UserError, match=r"frames of 48x64 .* 16x16 are wanted"):
        Dataset.open(tmp_path / "a.hdf5", ReadOptions(size=16))


def test_both_layouts_may_lie_in_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", moves(5), kind="raw")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["train_data"] = numbered_frames(3 * (T + 1))
        file["train_idx"] = np.arange(3) * (T + 1)
        file["train_actions"] = np.ones((3 * (T + 1), 5))
    assert len(Dataset.open(tmp_path).episodes) == 4


def change(path: Path, name: str) -> None:
    """Spoil one thing."""
    with h5py.File(path, "a") as file:
        if name == "no camera":
            del file["env/cam0_video"]
        elif name == "no frames":
            del file["env/cam0_video/frames"]
        elif name == "no actions":
            del file["policy/actions"]
        elif name == "flat actions":
            del file["policy/actions"]
            file["policy/actions"] = np.zeros(8)
        elif name == "nan":
            file["policy/actions"][3, 1] = np.nan
        elif name == "no film":
            del file["env/cam0_video/frames"]
            file["env/cam0_video/frames"] = np.arange(200, dtype=np.uint8)
        elif name == "half a film":
            content = file["env/cam0_video/frames"][:]
            del file["env/cam0_video/frames"]
            file["env/cam0_video/frames"] = content[: len(content) // 2]
        elif name == "words":
            del file["env/cam0_video/frames"]
            file["env/cam0_video/frames"] = "hello"
        elif name == "one frame":
            file["env/cam0_video/frames"].attrs["T"] = 1
        elif name == "no bounds":
            file["metadata"].attrs["primitives"] = "autograsp"
            del file["policy/actions"], file["misc/low_bound"]
            file["policy/actions"] = moves(4)
        elif name == "a group of frames":
            del file["env/cam0_video/frames"]
            file.create_group("env/cam0_video/frames")


BAD = {
    "no camera": "a.hdf5 has no camera; wanted env/cam0_video",
    "no frames": "a.hdf5 has a camera without frames",
    "no actions": "a.hdf5 is corrupt, or not laid out as RoboNet's",
    "flat actions": r"policy/actions of a.hdf5 is float64 \(8,\); wanted numbers, \(T - 1, A\)",
    "nan": r"a.hdf5 hold NaN or infinity \(first in row 3\)",
    "no film": "a.hdf5 cam0_video.mp4 is truncated",
    "half a film": "a.hdf5 cam0_video.mp4 is truncated",
    "words": "a.hdf5 is corrupt, or not laid out as RoboNet's",
    "one frame": "a.hdf5 holds 1 frames with 8 actions; wanted two frames at least",
    "no bounds": "a.hdf5 grips by itself .autograsp. but lacks env/state, low_bound or high_bound",
    "a group of frames": "a.hdf5 is corrupt, or not laid out as RoboNet's",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_in_one_line(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.hdf5", moves(5))
    change(tmp_path / "a.hdf5", name)
    with pytest.raises(UserError, match=BAD[name]) as caught:
        Dataset.open(tmp_path / "a.hdf5")
    assert "\n" not in str(caught.value)
    assert main(["inspect", str(tmp_path / "a.hdf5"), "--out", str(tmp_path / "looks")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "looks").exists()


def test_every_truncation_and_damage_is_one_line_or_a_skipped_file(tmp_path: Path, cache: Path) -> None:
    write(path := tmp_path / "a.hdf5", moves(4), kind="jpg", primitives="autograsp")
    whole = path.read_bytes()
    broken = damaged(whole, every=1999, n=60, hits=12, reach=len(whole))
    assert refusals(path, broken, Dataset.open) > len(range(0, len(whole), 1999)) - 2
