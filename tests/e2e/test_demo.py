"""Demo: its stages in order, their outputs, and a second run that skips all of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reelworld.cli import demo, record
from reelworld.cli.main import main
from reelworld.data.dataset import Dataset


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the quick demo to a few seconds."""
    train, measurement = demo._train, demo._measurement

    def few(out: Path, episodes: int, seed: int, policy: str) -> None:
        record.run(
            record.Options(
                env_id=demo.ENV_ID, out=out, episodes=12, seed=seed, policy=policy, max_steps=30, processes=1
            )
        )

    monkeypatch.setattr(demo, "_record", few)

    def briefly(out: Path, word: str, config: Any) -> None:
        parts = {name: replace(getattr(config, name), steps=5) for name in ("tokenizer", "dynamics")}
        train(out, word, replace(config, **parts))

    def quick_measurement(plan: Any, options: demo.Options, out: Path) -> Any:
        return replace(measurement(plan, options, out), clips=2, key_tests=0)

    monkeypatch.setattr(demo, "_train", briefly)
    monkeypatch.setattr(demo, "_measurement", quick_measurement)


@pytest.mark.usefixtures("small_demo")
def test_demo_leaves_everything_and_reuses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--quick", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    places = [said.index(f"[{i}/5]") for i in (1, 2, 3, 4)]
    assert places == sorted(places)
    assert f"play it:  reelworld play {out / 'world'}" in said
    for name in ("world/world.json", "report.html", "results.json", "run/log.jsonl"):
        assert (out / name).is_file(), name
    assert {p.suffix for p in (out / "videos").iterdir()} == {".mp4", ".gif"}
    learned = {e.source for e in Dataset.open(out / "recording").episodes}
    measured = {e.source for e in Dataset.open(out / "test-recording").episodes}
    assert len(learned) == len(measured) == 12
    assert not learned & measured

    unchanging = [p for p in out.rglob("*") if p.is_file() and p.name not in (".lock", "dataset.json")]
    times = {p: p.stat().st_mtime_ns for p in unchanging}
    assert main(["demo", "--quick", "--out", str(out)]) == 0
    assert "already measured" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in unchanging} == times

    (out / "report.html").unlink()  # half done: only the missing stage runs
    measurements: list[object] = []
    monkeypatch.setattr(demo.measuring, "run", measurements.append)
    assert main(["demo", "--quick", "--out", str(out)]) == 0
    assert len(measurements) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("small_demo")
def test_demo_of_videogpt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--system", "videogpt", "--quick", "--out", str(out)]) == 0
    assert f"play it:  reelworld play {out / 'world'}" in capsys.readouterr().out
    for name in ("world/world.json", "report.html", "results.json"):
        assert (out / name).is_file(), name
    assert not (out / "test-recording").exists()


def test_a_demo_without_time_is_refused(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "reelworld", "demo", "--minutes", "0"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "minutes is 0" in done.stderr
    assert not list(tmp_path.iterdir())
