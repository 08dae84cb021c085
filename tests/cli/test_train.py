"""`reelworld train` and `reelworld systems`: flags of a system, one-line errors, stopping and resuming."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tiny import tiny_config

from reelworld.cli.main import main
from reelworld.cli.parsing import parse
from reelworld.cli.train import options_for
from reelworld.media import encode_mp4
from reelworld.systems import SYSTEMS, find_system
from reelworld.worlds.world import World


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve short clips of a white block that moves where the action says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, rng = tmp_path / "recordings", np.random.default_rng(0)
    folder.mkdir()
    for number in range(12):
        actions = rng.integers(0, 2, 12)
        frames = np.zeros((12, 16, 32, 3), np.uint8)
        column = 1
        for t in range(12):
            frames[t, 8:, 8 * column : 8 * column + 8] = 255
            column = (column + (1 if actions[t] else -1)) % 4
        np.savez(folder / f"clip{number}.npz", frames=frames, actions=actions)
    return folder


@pytest.mark.parametrize("kind", ["videos", "arrays"])
def test_a_world_without_actions_runs_by_itself(
    kind: str, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Films have no actions; recordings that have some may be learned without them."""
    data = recordings
    if kind == "videos":
        data = tmp_path / "videos"
        data.mkdir()
        for path in recordings.glob("*.npz"):
            with np.load(path) as episode:
                (data / path.name).with_suffix(".mp4").write_bytes(encode_mp4(episode["frames"], fps=10.0))
    out = tmp_path / "run"
    words = [
        "--data",
        str(data),
        "--out",
        str(out),
        "--actions",
        "none",
        "--dynamics.steps",
        "2",
        "--tokenizer.steps",
        "2",
    ]
    assert main(["train", "pocket:tiny", *words]) == 0
    world = World.load(out / "world")
    assert not world.info.actions
    session = world.session(2, seed=0)
    assert [session.step().frame.shape for _ in range(3)] == [(2, 16, 32, 3)] * 3
    assert main(["generate", str(out), "--out", str(tmp_path / "x.npz"), "--frames", "4"]) == 0
    with np.load(tmp_path / "x.npz") as made:
        assert made.files == ["frames"]
        assert made["frames"].shape == (world.spec.context[1] + 4, 16, 32, 3)


def test_flags_are_typed_fields_of_the_config() -> None:
    args = [
        "pocket:tiny",
        "--data",
        "d",
        "--out",
        "o",
        "--dynamics.optim.lr",
        "0.5",
        "--tokenizer.levels",
        "4",
        "4",
        "--max-minutes",
        "2",
    ]
    options = parse(options_for(args), args, "reelworld train", "")
    tiny = tiny_config("pocket")
    config = options.config
    assert (config.dynamics.optim.lr, config.tokenizer.levels, config.max_minutes) == (0.5, (4, 4), 2.0)
    assert config.dynamics.width == tiny.dynamics.width
    assert options.read.shape is None


def flags_of(config: type, prefix: str = "") -> list[str]:
    """Names of all fields, those of nested configs with dots."""
    flags: list[str] = []
    for name, kind in typing.get_type_hints(config).items():
        flags += flags_of(kind, f"{prefix}{name}.") if dataclasses.is_dataclass(kind) else [prefix + name]
    return flags


def test_help_shows_the_values_of_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for word in ("pocket:tiny", "pocket"):
        assert main(["train", word, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
        shown[word] = text[text.index("--dynamics.steps INT") :][:80]
        for field in flags_of(find_system("pocket").config):
            assert f"--{field.replace('_', '-')}" in text
    assert "(default: 20)" in shown["pocket:tiny"]
    small: Any = find_system("pocket").presets["small"]
    assert f"(default: {small.dynamics.steps})" in shown["pocket"]


def test_help_without_a_system_names_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"reelworld train {name}" in text for name in SYSTEMS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pockte"], "unknown system 'pockte'; did you mean 'pocket'?"),
        (["pocket:tinny"], "unknown preset of pocket 'tinny'; did you mean 'tiny'?"),
        (["pocket", "--tokenizer.step", "3"], "unknown flag --tokenizer.step; did you mean '--tokenizer.steps'?"),
        (["pocket", "--dynamics.optim.lr", "fast"], "could not convert string to float: 'fast'"),
        (["pocket", "--threads", "-1"], "threads is -1"),
        (["pocket", "--clip-frames", "1"], "clip_frames is 1"),
        (["pocket", "--device", "gpu"], "device 'gpu' cannot be used"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], said: str, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words, "--data", str(recordings), "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert not list((tmp_path / "run").glob("step_*"))


def test_systems_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["systems"]) == 0
    text = capsys.readouterr().out
    for name in SYSTEMS:
        assert all(f"{name}:{preset}" in text for preset in find_system(name).presets)
    assert "tokenizer 0." in text


@pytest.mark.slow
def test_stop_by_signal_then_resume_to_a_world(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "pocket:tiny", "--data", str(recordings), "--out", str(out), "--log-every", "1"]
    words += ["--precision", "fp32", "--tokenizer.steps", "3000", "--dynamics.steps", "4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "reelworld", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = iter(process.stdout.readline, "")
    assert any(line.startswith("tokenizer ") and "step 1/3000" in line for line in lines)
    process.send_signal(signal.SIGTERM)
    err = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM, err
    assert err.splitlines()[-1].startswith("stopped at step ")
    assert err.endswith("Run the same command again to resume.\n")
    state_file = out / (out / "latest").read_text().strip() / "state.json"
    state = json.loads(state_file.read_text())
    assert 1 <= state["stage_step"] < 3000

    # To the end in reasonable time: pretend that it had come further before it was stopped.
    state_file.write_text(json.dumps({**state, "stage_step": 2998, "step": 2998}))
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "3000 steps from step 2998" in said
    assert f"reelworld play {out / 'world'}" in said
    assert (out / "world" / "world.json").exists()
    log = (out / "log.jsonl").read_bytes()
    assert json.loads(log.splitlines()[-1])["step"] == 3004

    assert main(words) == 0
    assert "is finished; nothing to do" in capsys.readouterr().out
    assert main([*words, "--seed", "7"]) == 2
    assert "fields.seed was 0, now 7" in capsys.readouterr().err
    assert (out / "log.jsonl").read_bytes() == log


def test_a_finished_run_may_be_trained_for_more_steps(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"

    def train(dynamics: int, tokenizer: int = 3) -> int:
        words = ["train", "pocket:tiny", "--data", str(recordings), "--out", str(out), "--log-every", "1"]
        lengths = [
            "--tokenizer.steps",
            str(tokenizer),
            "--dynamics.steps",
            str(dynamics),
            "--dynamics.optim.ema",
            "0.5",
        ]
        return main([*words, "--precision", "fp32", *lengths])

    def weights() -> dict[str, np.ndarray]:
        model = World.load(out / "world").model
        return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}

    def steps() -> list[int]:
        return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]

    assert train(4) == 0
    first = weights()
    capsys.readouterr()
    assert train(9) == 0
    said = capsys.readouterr().out
    assert "dynamics.steps from 4 to 9: the training goes on with the trained weights" in said
    assert "9 steps from step 4" in said
    assert [s for s in dict.fromkeys(steps()) if s > 3] == [4, 5, 6, 7, 8, 9, 10, 11, 12]
    second = weights()
    assert all(np.array_equal(first[k], second[k]) for k in first if k.startswith("tokenizer"))
    assert any(not np.array_equal(first[k], second[k]) for k in first if k.startswith("dynamics"))

    assert train(9) == 0
    assert "is finished; nothing to do" in capsys.readouterr().out
    assert train(9, tokenizer=5) == 2
    assert "tokenizer.steps of" in (said := capsys.readouterr().err) and "stage 'dynamics' has learned" in said
    assert train(6) == 2
    assert "dynamics.steps was 9, now 6" in capsys.readouterr().err
    assert all(np.array_equal(second[k], v) for k, v in weights().items())
