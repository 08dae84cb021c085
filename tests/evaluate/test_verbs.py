"""eval, bench and generate through the command line, on an untrained pocket world and recorded DoorKey clips."""

from __future__ import annotations

import json
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image
from tests.tiny import tiny_world

from reelworld import system_info as machine
from reelworld.cli.main import main
from reelworld.config import to_json
from reelworld.evaluate import speed
from reelworld.types import UserError

pytest.importorskip("minigrid", reason="the package minigrid is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with recordings and a run that holds a tiny untrained world."""
    from reelworld.data.dataset import Dataset
    from reelworld.envs.recorder import record, record_config

    folder = tmp_path_factory.mktemp("verbs")
    record(record_config("MiniGrid-DoorKey-8x8-v0", episodes=12, max_steps=24), folder / "data")
    dataset = Dataset.open(folder / "data")
    world = tiny_world("pocket", dataset.info, seed=0)
    splits = {s: tuple(dataset.episodes[i].source for i in dataset.indices(s)) for s in ("train", "val", "test")}
    world.info = replace(world.info, splits=splits)
    world.initial_contexts = [dataset.read(i, 0, 2) for i in dataset.indices("val")]
    world.save(folder / "run" / "world")
    return folder


def test_eval_writes_results_and_report_beside_the_world(made, capsys):
    few = ["--clips", "2", "--single-steps", "20", "--free-run-steps", "6", "--key-tests", "2"]
    few += ["--control-starts", "4", "--inverse-steps", "0", "--stability-steps", "50", "--simulator-episodes", "1"]
    assert main(["eval", str(made / "run"), "--data", str(made / "data"), *few]) == 0
    out = capsys.readouterr().out
    assert "Exact next frames" in out and str(made / "run/eval/report.html") in out
    results = json.loads((made / "run/eval/results.json").read_text())
    assert results["data"]["env_id"] == "MiniGrid-DoorKey-8x8-v0" and results["data"]["n_trained_on"] == 0
    names = {f["name"] for s in results["sections"] for f in s["metrics"]}
    assert {"carried_key_works", "nll_per_frame", "delta_uniform_h4", "tokenizer_ssim", "reward_error"} <= names


def test_eval_refuses_training_clips_in_one_line(made, capsys):
    assert main(["eval", str(made / "run"), "--data", str(made / "data"), "--split", "train"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--allow-train" in error


def test_generate_keeps_the_context_and_takes_the_recorded_actions(made, tmp_path):
    from reelworld.data.dataset import Dataset

    out = tmp_path / "x.npz"
    assert main(["generate", str(made / "run"), "--data", str(made / "data"), "--frames", "5", "--out", str(out)]) == 0
    dataset = Dataset.open(made / "data")
    clip = dataset.read(dataset.indices("test")[0])
    with np.load(out, allow_pickle=False) as got:
        assert got["frames"].shape == (7, 64, 64, 3)
        np.testing.assert_array_equal(got["frames"][:2], clip.frames[:2])
        np.testing.assert_array_equal(got["actions"][:-1], np.resize(clip.action[:-1], 6))


def test_generate_is_decided_by_its_seed(made, tmp_path):
    frames = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = tmp_path / f"{name}.npz"
        words = ["--actions", "random", "--frames", "4", "--seed", str(seed), "--out", str(path)]
        assert main(["generate", str(made / "run"), *words]) == 0
        with np.load(path) as got:
            frames.append(got["frames"])
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).any()


def test_generate_by_default_takes_random_actions_where_none_were_recorded(made, tmp_path, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "p.png")
    for name, words in (("start", []), ("image", ["--image", str(tmp_path / "p.png")])):
        made_by = []
        for given in ([], ["--actions", "random"]):
            out = tmp_path / f"{name}{len(given)}.npz"
            assert main(["generate", str(made / "run"), *words, *given, "--frames", "5", "--out", str(out)]) == 0
            said = capsys.readouterr().out
            assert said.count("taking random ones") == (not given)
            with np.load(out) as got:
                made_by.append((got["frames"], got["actions"]))
        np.testing.assert_equal(*made_by)


def test_generate_from_an_image_with_typed_actions(made, tmp_path):
    picture = np.zeros((80, 120, 3), np.uint8)
    picture[:, 20:100] = (10, 200, 30)  # the middle square
    Image.fromarray(picture).save(tmp_path / "p.png")
    out = tmp_path / "x.mp4"
    words = ["--image", str(tmp_path / "p.png"), "--actions", "2,2,0", "--frames", "6", "--out", str(out)]
    assert main(["generate", str(made / "run"), *words]) == 0
    with av.open(str(out)) as video:
        frames = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)]
    assert len(frames) == 2 + 6
    assert np.abs(frames[0].astype(int) - (10, 200, 30)).max() < 12


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--actions", "7"], "0 to 6"),
        (["--actions", "recorded"], "no recorded actions"),
        (["--actions", "left"], "recorded, random"),
        (["--actions", "none.npy"], "no readable actions"),
        (["--image", "none.png"], "does not exist"),
        (["--frames", "0"], "at least 1"),
        (["--out", "x.avi"], ".mp4, .gif, .png, .npz"),
    ],
)
def test_generate_says_what_is_wrong(made, tmp_path, monkeypatch, capsys, words, hint):
    monkeypatch.chdir(tmp_path)
    given = words if "--out" in words else [*words, "--out", "x.npz"]
    assert main(["generate", str(made / "run"), *given]) == 2
    error = capsys.readouterr().err
    assert hint in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_generate_leaves_an_existing_file_alone(made, tmp_path):
    out = tmp_path / "x.npz"
    out.write_text("mine")
    assert main(["generate", str(made / "run"), "--frames", "1", "--actions", "random", "--out", str(out)]) == 2
    assert out.read_text() == "mine"


def test_bench_results_hold_together(made, tmp_path, capsys):
    out = tmp_path / "bench.json"
    words = ["--steps", "10", "--warmup", "2", "--threads", "1", "--allow-busy", "--out", str(out)]
    assert main(["bench", str(made / "run"), *words]) == 0
    assert "frame step" in capsys.readouterr().out
    kept = json.loads(out.read_text())
    assert kept["kind"] == "bench" and kept["allow_busy"] is True and "load_average" in kept and kept["hardware"]["cpu"]
    rows = {r["what"]: r for r in kept["results"]}
    assert {"encode", "decode", "frame step", "play with PNG", "training step", "peak memory", "memory copy"} <= set(
        rows
    )
    for row in rows.values():
        slow = row["unit"] in ("frames/s", "GB/s")
        assert row["median"] > 0 and ((row["p95"] <= row["median"]) if slow else (row["p95"] >= row["median"]))
    assert rows["play with PNG"]["median"] == pytest.approx(1e3 / rows["frame step and PNG"]["median"], rel=0.2)
    assert rows["frame step"]["fraction_of_limit"] == pytest.approx(
        rows["frame step"]["limit"] / rows["frame step"]["median"]
    )
    # the weights of a step, read at the copy speed of the same run, can be no more than the whole world's
    megabytes = sum(kept["world"]["parameters"].values()) * 4 / 1e6
    assert 0 < rows["frame step"]["limit"] <= megabytes / rows["memory copy"]["median"] * 1.001


def test_bench_averages_frames_that_come_at_once():
    times = np.array([9.0, 1.0, 1.0, 1.0, 8.0, 2.0, 2.0, 4.0, 100.0])
    assert speed._bursts(times, 4).tolist() == [3.0, 4.0]
    assert speed._bursts(times, 1).tolist() == times.tolist()
    assert speed._bursts(times[:3], 4).tolist() == [11 / 3]


def test_bench_counts_the_weights_that_run():
    import torch

    used, unused = torch.nn.Linear(10, 5), torch.nn.Linear(100, 100)
    part = torch.nn.ModuleDict({"a": used, "b": unused})
    assert speed._bytes_read([part], lambda: used(torch.zeros(1, 10))) == 4 * 55


def test_bench_refuses_a_busy_machine(monkeypatch):
    monkeypatch.setattr(speed, "load_average", lambda: 0.0)
    monkeypatch.setattr(speed, "_used_cores", lambda: 0.0)
    assert speed.check_idle(False)["is_busy"] is False
    monkeypatch.setattr(speed, "load_average", lambda: 1000.0)
    with pytest.raises(UserError, match="--allow-busy"):
        speed.check_idle(False)
    assert speed.check_idle(True)["is_busy"] is True


def test_the_machine_is_described_in_json():
    described = machine.describe_machine()
    assert json.loads(json.dumps(to_json(described))) == described
    assert described["cores"] >= 1 and described["memory_gb"] > 0
    assert machine.peak_memory_mb() > 50


@pytest.mark.parametrize("verb", [["eval", "--data"], ["generate", "--out", "x.gif", "--data"]])
def test_recordings_of_another_game_are_refused_in_one_line(verb, made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "other"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        frames = rng.integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
        np.savez(folder / f"{i}.npz", frames=frames, actions=rng.normal(size=(20, 4)).astype(np.float32))
    assert main([verb[0], str(made / "run"), *verb[1:], str(folder), "--split", "all"]) == 2
    error = capsys.readouterr().err
    assert "has continuous actions 'action' (4); the world takes discrete ones (7)" in error
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("verb", ["eval", "generate", "bench", "play"])
def test_a_device_that_is_not_there_is_one_line(verb, made, tmp_path, capsys):
    more = {"eval": ["--data", str(made / "data")], "generate": ["--out", str(tmp_path / "x.gif")]}
    assert main([verb, str(made / "run"), "--device", "tpu", *more.get(verb, [])]) == 2
    assert "device 'tpu' cannot be used" in (error := capsys.readouterr().err) and error.count("\n") == 1
    if verb in more:
        assert main([verb, str(made / "run"), "--threads", "-1", *more[verb]]) == 2
        assert capsys.readouterr().err == "error: --threads is -1; wanted 1 or more, or 0 for torch's choice.\n"


def test_generate_names_a_wrong_temperature_and_actions_for_a_world_without(made, tmp_path, capsys):
    from reelworld.data.dataset import Dataset

    out = ["--frames", "2", "--out", str(tmp_path / "x.gif")]
    assert main(["generate", str(made / "run"), "--temperature", "-1", *out]) == 2
    assert capsys.readouterr().err == "error: --temperature is -1.0; it must be from 0 to 10.\n"
    info = replace(Dataset.open(made / "data").info, actions={})
    world = tiny_world("pocket", info, seed=0, actions="none")
    world.initial_contexts = [replace(Dataset.open(made / "data").read(0, 0, 2), actions={})]
    world.save(tmp_path / "film")
    assert main(["generate", str(tmp_path / "film"), "--actions", "1,2", *out]) == 2
    assert "this world takes no actions" in capsys.readouterr().err
    assert main(["generate", str(tmp_path / "film"), *out]) == 0


def test_results_that_could_not_be_written_are_not_measured(made, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("kept")
    for verb, out, said in (
        ("eval", "file/deeper", "file is a file; --out wants a folder there."),
        ("bench", "file/x.json", "file is a file; --out wants a folder there."),
        ("bench", ".", "is a folder; --out wants a JSON file"),
    ):
        data = ["--data", str(made / "data")] if verb == "eval" else []
        assert main([verb, str(made / "run"), "--out", str(tmp_path / out), *data]) == 2
        captured = capsys.readouterr()
        assert said in captured.err and captured.err.count("\n") == 1 and "tiles" not in captured.out
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    words = ["eval", str(made / "run"), "--out", str(tmp_path / "e"), "--data", str(made / "data")]
    assert main(words) == 2
    assert "may not be written; give --out another place." in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
