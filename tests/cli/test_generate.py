"""``reelworld generate`` with clip models: contexts, outputs, refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.rollout.toy import CLASSES, CLIP, SIDE, frames, start_clips, toy_world
from tests.tiny import tiny_world

from reelworld.cli.main import main
from reelworld.data.dataset import DataInfo
from reelworld.models.samplers import SamplerConfig
from reelworld.types import ActionSpec, Clip
from reelworld.worlds.continuation import context_of, continue_clip
from reelworld.worlds.world import World

Generate = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Worlds and recordings, read by all tests."""
    folder = tmp_path_factory.mktemp("generate")
    toy_world().save(folder / "free")
    world = toy_world(1, CLASSES)
    world.initial_contexts = start_clips(4, CLASSES)
    world.save(folder / "classes")
    tiny_world("pocket", DataInfo(height=SIDE, width=SIDE)).save(folder / "pocket")
    steered = DataInfo(height=SIDE, width=SIDE, actions={"action": ActionSpec(kind="discrete", n=3)})
    tiny_world("pocket", steered).save(folder / "steered")
    for i in range(4):
        (folder / "data").mkdir(exist_ok=True)
        np.savez(folder / "data" / f"e{i}.npz", frames=frames(1, 12, seed=20 + i)[0])
    Image.fromarray(frames(1, 1, seed=3)[0, 0]).save(folder / "picture.png")
    return folder


@pytest.fixture
def generate(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Generate:
    """Run the verb; returns exit code and what it printed."""

    def run(world: str, *words: object, out: str = "film.npz") -> tuple[int, str, str]:
        argv = ["generate", folder / world, "--out", tmp_path / out, "--allow-code", "tests.rollout", *words]
        code = main([str(word) for word in argv])
        return code, *capsys.readouterr()

    return run


def film(tmp_path: Path) -> dict[str, np.ndarray]:
    with np.load(tmp_path / "film.npz") as stored:
        return dict(stored)


def test_a_film_from_nothing_is_that_of_the_world(generate: Generate, folder: Path, tmp_path: Path) -> None:
    code, out, err = generate("free", "--frames", 20, "--seed", 3, "--top-k", 2)
    assert code == 0, err
    assert "0 given frames and 20 generated ones" in out
    world = World.load(folder / "free", allow_code=["tests.rollout"])
    nothing = np.zeros((1, 0, SIDE, SIDE, 3), np.uint8)
    expected = world.generate(nothing, n_frames=20, seed=3, sampler=SamplerConfig(top_k=2))
    assert np.array_equal(film(tmp_path)["frames"], expected[0])
    assert not np.array_equal(expected, world.generate(nothing, n_frames=20, seed=3))


@pytest.mark.parametrize("flags", [["--top-k", 1], ["--top-p", 0.01], ["--temperature", 0]])
def test_sampling_flags_reach_the_draws(generate: Generate, tmp_path: Path, flags: list[object]) -> None:
    """Each of these leaves only the likeliest code, so that the seed says nothing."""
    films = []
    for seed in (1, 2):
        assert generate("free", "--frames", CLIP, "--seed", seed, "--force", *flags)[0] == 0
        films.append(film(tmp_path)["frames"])
    assert np.array_equal(*films)


def test_the_context_is_as_long_as_asked_and_comes_back_as_given(
    generate: Generate, folder: Path, tmp_path: Path
) -> None:
    words = ["--data", folder / "data", "--split", "all", "--episode", 2, "--start", 1, "--context", 6, "--frames", 9]
    assert generate("free", *words)[0] == 0
    recorded = frames(1, 12, seed=22)[0]
    assert np.array_equal(film(tmp_path)["frames"][:6], recorded[1:7])
    assert film(tmp_path)["frames"].shape == (15, SIDE, SIDE, 3)


def test_a_picture_is_looked_at_also_where_nothing_is_needed(generate: Generate, folder: Path, tmp_path: Path) -> None:
    assert generate("free", "--image", folder / "picture.png", "--frames", 3)[0] == 0
    assert np.array_equal(film(tmp_path)["frames"][0], frames(1, 1, seed=3)[0, 0])
    assert len(film(tmp_path)["frames"]) == 4


@pytest.mark.parametrize("given", ["2", "jump"])
def test_classes_are_given_by_number_or_name(generate: Generate, folder: Path, tmp_path: Path, given: str) -> None:
    assert generate("classes", "--class-id", given, "--frames", 5, "--context", 4)[0] == 0
    start = start_clips(4, CLASSES)[4]  # the first of class 2
    assert np.array_equal(film(tmp_path)["frames"][:4], start.frames)
    world = World.load(folder / "classes", allow_code=["tests.rollout"])
    assert np.array_equal(film(tmp_path)["frames"][4:], continue_clip(world, context_of(start, 4), {}, 5)[0])


def test_samples_begin_alike_and_the_first_is_that_of_a_single_run(generate: Generate, tmp_path: Path) -> None:
    assert generate("classes", "--frames", 12, "--samples", 5)[0] == 0
    many = film(tmp_path)
    assert many["samples"].shape == (5, 13, SIDE, SIDE, 3)
    assert len({x.tobytes() for x in many["samples"][:, :1]}) == 1
    assert len({x.tobytes() for x in many["samples"][:, 1:]}) == 5
    assert generate("classes", "--frames", 12, "--force")[0] == 0
    assert np.array_equal(many["frames"], film(tmp_path)["frames"])
    assert np.array_equal(many["frames"], many["samples"][0])


@pytest.mark.parametrize("out", ["film.gif", "film.png", "film.mp4"])
def test_samples_of_any_form_are_beside_what_was_recorded(
    generate: Generate, folder: Path, tmp_path: Path, out: str
) -> None:
    """Six panels, the recording among them, in two rows of three; a sheet has a row for each."""
    words = ["--data", folder / "data", "--split", "all", "--context", 4, "--frames", 10, "--samples", 5]
    assert generate("free", *words, out=out)[0] == 0
    if out == "film.mp4":
        assert (tmp_path / out).stat().st_size > 1000
        return
    with Image.open(tmp_path / out) as image:
        cell, label, gap = 192, 18, 4
        rows, columns = (2, 3) if out == "film.gif" else (6, 8)
        assert image.size == (columns * (cell + gap) + gap, rows * (cell + label + gap) + gap)
        shown = np.asarray(image.convert("RGB"))
    first = frames(1, 12, seed=20)[0, 0]
    for row in range(rows):  # at the beginning all are the given frame
        top = gap + label + row * (cell + label + gap)
        assert np.array_equal(shown[top : top + cell : 12, gap : gap + cell : 12], first)


def test_worlds_that_go_on_frame_by_frame_know_the_new_flags(generate: Generate, folder: Path, tmp_path: Path) -> None:
    words = ["--data", folder / "data", "--split", "all", "--context", 3, "--frames", 5, "--samples", 2, "--top-p", 0.9]
    assert generate("pocket", *words)[0] == 0
    assert film(tmp_path)["samples"].shape == (2, 8, SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("world", "words", "said"),
    [
        ("free", ["--context", -1], "--context is -1"),
        ("free", ["--context", 9, "--data", "DATA", "--split", "all"], "9 context frames were given.*8 frames at a"),
        ("free", ["--context", 13, "--data", "DATA", "--split", "all"], "has 12 frames.*--context wants 13"),
        ("free", ["--context", 0, "--image", "picture.png"], "--context 0 begins from nothing"),
        ("free", ["--data", "DATA", "--split", "all"], "say with --context how many frames"),
        ("free", ["--context", 2], "ships no clips to start from"),
        ("free", ["--class-id", 1], "--class-id 1 was given, but this world has no classes"),
        ("free", ["--actions", "1,2"], "takes no actions"),
        ("classes", ["--class-id", "jmup"], "did you mean 'jump'"),
        ("classes", ["--class-id", 7], r"--class-id is 7; wanted 0 to 2 \(0 walk, 1 run, 2 jump\)"),
        ("classes", ["--class-id", "-1"], "--class-id is -1"),
        ("classes", ["--context", 5], "start clips have 4 frames: give --data"),
        ("classes", ["--context", 0], "--context is 0, but this world goes on from given frames"),
        ("classes", ["--image", "PICTURE"], "makes clips of a class; give class_id"),
        ("steered", ["--context", 0], "--context is 0, but this world goes on from given frames"),
        ("free", ["--samples", 0], "--samples is 0"),
        ("free", ["--top-k", -1], "--top-k is -1"),
        ("free", ["--top-p", 1.5], "--top-p is 1.5"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    generate: Generate, folder: Path, tmp_path: Path, world: str, words: list[object], said: str
) -> None:
    names = {"DATA": folder / "data", "PICTURE": folder / "picture.png"}
    code, _, err = generate(world, *[names.get(word, word) for word in words])
    assert code == 2
    (line,) = err.strip().splitlines()
    assert line.startswith("error: ") and re.search(said, line), line
    assert list(tmp_path.iterdir()) == []


def test_the_bar_moves_within_a_window_and_never_back() -> None:
    seen: list[tuple[float, int]] = []
    continue_clip(toy_world(), context_of(start_clips(4)[0], 2), {}, 9, progress=lambda *x: seen.append(x))
    shares = [share for share, _ in seen]
    assert shares == sorted(shares) and shares[0] < 0.1
    assert len({share for share, n in seen if n == 0}) == 12  # three latent frames of four tokens before any is shown
    assert [x for x in seen if x[0] == 1.0] == [(1.0, 9)]  # a line per call beyond the end would flood a log


def test_buttons_are_given_by_a_file_of_zeros_and_ones(generate: Generate, tmp_path: Path) -> None:
    streams = {"keys": ActionSpec(kind="buttons", n=2), "item": ActionSpec(kind="discrete", n=3)}
    world = tiny_world("pocket", DataInfo(height=SIDE, width=SIDE, actions=streams))
    pictures = frames(1, 2, seed=3)[0]
    rest = {"keys": np.zeros((2, 2), np.float32), "item": np.zeros(2, int)}
    world.initial_contexts = [Clip(frames=pictures, actions=rest)]
    world.save(tmp_path / "world")
    rng = np.random.default_rng(0)
    keys, items = rng.integers(0, 2, (6, 2)), rng.integers(0, 3, 6)
    np.savez(tmp_path / "moves.npz", **{"actions/keys": keys, "actions/item": items})
    code, _, error = generate(str(tmp_path / "world"), "--actions", tmp_path / "moves.npz")
    assert code == 0, error
    with np.load(tmp_path / "film.npz") as film:
        assert film["frames"].shape[0] >= 6
    np.savez(tmp_path / "moves.npz", **{"actions/keys": np.full((6, 2), 0.5), "actions/item": items})
    code, _, error = generate(str(tmp_path / "world"), "--actions", tmp_path / "moves.npz", out="other.npz")
    assert code == 2 and "give 0 (up) and 1 (held) only" in error
    np.savez(tmp_path / "moves.npz", actions=keys)
    code, _, error = generate(str(tmp_path / "world"), "--actions", tmp_path / "moves.npz", out="other.npz")
    assert code == 2 and "lacks the arrays actions/keys, actions/item; it has actions" in error
