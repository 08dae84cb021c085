"""Checkpoints and the run's folder: atomic, refused with one line, locked by one process."""

from __future__ import annotations

import errno
import json
import os
import resource
from pathlib import Path

import pytest
import torch

from reelworld.train.checkpoint import State, find_checkpoint, save_checkpoint
from reelworld.train.run import Run
from reelworld.types import UserError


def state(step: int) -> State:
    return State(step=step, stage="a", stage_step=step, minutes=0.5, finished=("b",), log_bytes=3)


def tensors(value: float = 1.0, n: int = 4) -> dict[str, dict[str, torch.Tensor]]:
    tied = torch.full((n,), value)
    return {"part": {"one": tied, "two": tied, "turned": torch.arange(6).reshape(2, 3).T}, "empty": {}}


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_round_trip_and_the_last_two_are_kept(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path) is None
    for step in (5, 10, 15):
        save_checkpoint(tmp_path, state(step), tensors(step))
    found = find_checkpoint(tmp_path)
    assert found.state == state(15)
    assert torch.equal(found.tensors("part")["two"], torch.full((4,), 15.0))
    assert torch.equal(found.tensors("part")["turned"], torch.arange(6).reshape(2, 3).T)
    assert found.tensors("empty") == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step_0000010", "step_0000015"]
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".pt", ".pkl", ".pth")]


def test_everything_is_synced_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may keep a rename and lose the bytes: files first, then their folder, then the name."""
    events: list[tuple[str, str]] = []
    sync, rename, replace = os.fsync, Path.rename, Path.replace

    def note_sync(handle: int) -> None:
        events.append(("sync", Path(f"/proc/self/fd/{handle}").readlink().name))
        sync(handle)

    def note_rename(self: Path, target: Path) -> Path:
        events.append(("rename", target.name))
        return rename(self, target)

    def note_replace(self: Path, target: Path) -> Path:
        events.append(("rename", target.name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    monkeypatch.setattr(Path, "replace", note_replace)
    save_checkpoint(tmp_path, state(7), tensors())
    assert sorted(events[:3]) == [("sync", n) for n in ("empty.safetensors", "part.safetensors", "state.json")]
    assert events[3:] == [
        ("sync", "step_0000007.tmp"),
        ("rename", "step_0000007"),
        ("sync", tmp_path.name),
        ("sync", f".latest.{os.getpid()}.tmp"),
        ("rename", "latest"),
        ("sync", tmp_path.name),
    ]


@pytest.mark.parametrize("n_bytes", [0, 100, 50_000, 400_000])
def test_no_room_for_a_file(tmp_path: Path, n_bytes: int) -> None:
    """The system refuses to write on, in the middle of a file."""
    folder = tmp_path / "run"
    folder.mkdir()
    save_checkpoint(folder, state(5), tensors(1.0))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    pid = os.fork()
    if pid == 0:  # the limit holds for a whole process
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))
            save_checkpoint(folder, state(10), tensors(2.0, n=100_000))
        except UserError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            (tmp_path / "said").write_text(str(error))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    said = (tmp_path / "said").read_text()
    assert said.startswith("the checkpoint of step 10 could not be written to ")
    assert "File too large" in said
    assert "step_0000005 is intact" in said
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("failing", range(1, 7))
def test_disk_full_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    save_checkpoint(tmp_path, state(5), tensors(1.0))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    sync, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError) as caught:
        save_checkpoint(tmp_path, state(10), tensors(2.0))
    assert "(No space left on device); step_0000005 is intact. Make room" in one_line(caught)
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert {p: after.get(p) for p in before} == before
    monkeypatch.undo()
    save_checkpoint(tmp_path, state(11), tensors(3.0))
    assert find_checkpoint(tmp_path).state.step == 11


def test_broken_checkpoints_are_named(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, state(5), tensors())
    (folder / "part.safetensors").write_bytes(b"\x09")
    with pytest.raises(UserError, match=r"part\.safetensors cannot be read") as caught:
        find_checkpoint(tmp_path).tensors("part")
    one_line(caught)
    with pytest.raises(UserError, match=r"absent\.safetensors cannot be read"):
        find_checkpoint(tmp_path).tensors("absent")
    record = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**record, "format_version": 2, "new_field": 1}))
    with pytest.raises(UserError, match="checkpoint format 2; this reelworld reads up to 1"):
        find_checkpoint(tmp_path)
    for damaged, said in (
        ([], "is \\[\\]; wanted an object"),
        ({**record, "format_version": "2"}, "format_version is '2'"),
    ):
        (folder / "state.json").write_text(json.dumps(damaged))
        with pytest.raises(UserError, match=said):
            find_checkpoint(tmp_path)
    (tmp_path / "latest").write_bytes(b"step_\xff")
    with pytest.raises(UserError, match="which is not a checkpoint"):
        find_checkpoint(tmp_path)
    (tmp_path / "latest").write_text("../elsewhere\n")
    with pytest.raises(UserError, match=r"names '\.\./elsewhere', which is not a checkpoint"):
        find_checkpoint(tmp_path)


CONFIG = {"recipe": "toy", "fields": {"lr": 0.1, "levels": (8, 5), "size": None}, "seed": 0}


def begun(folder: Path) -> None:
    with Run.open(folder, CONFIG) as run:
        run.save(state(5), tensors())


def test_run_resumes_with_the_same_config_only(tmp_path: Path) -> None:
    begun(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with Run.open(tmp_path, CONFIG) as run:
        assert run.checkpoint.state.step == 5
    other = {"recipe": "toy", "fields": {"lr": 0.2, "levels": (8, 6), "new": 1}, "seed": 1}
    with pytest.raises(UserError) as caught:
        Run.open(tmp_path, other)
    text = one_line(caught)
    assert "fields.lr was 0.1, now 0.2; fields.levels was [8, 5], now [8, 6]; fields.size was null, now absent" in text
    assert "and 2 more" in text
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert set(json.loads((tmp_path / "config.json").read_text())["versions"]) == {"reelworld", "torch", "python"}


def test_a_config_that_is_no_object_is_one_line(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config\.json holds no JSON object"):
        Run.open(tmp_path, CONFIG)


def test_run_without_a_checkpoint_takes_a_new_config(tmp_path: Path) -> None:
    """A first command that failed on its data must not lock the folder."""
    with Run.open(tmp_path, CONFIG) as run:
        run.choose("precision", lambda: "bf16")
    with Run.open(tmp_path, {"recipe": "other"}) as run:
        assert run.choose("precision", lambda: "fp32") == "fp32"
    assert json.loads((tmp_path / "config.json").read_text())["recipe"] == "other"


def test_a_run_that_failed_before_it_learned_anything_leaves_nothing(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        with pytest.raises(UserError, match="no such device"), Run.open(folder, CONFIG) as run:
            run.choose("precision", lambda: "bf16")
            raise UserError("no such device")

    fails(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    begun(tmp_path / "begun")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    fails(tmp_path / "begun")
    before[tmp_path / "begun/choices.json"] = b'{\n  "precision": "bf16"\n}\n'
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_folders_that_are_no_runs_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"is no run \(it holds thesis\.txt\)"):
        Run.open(tmp_path, CONFIG)
    with pytest.raises(UserError, match="is a file; give --out a folder"):
        Run.open(tmp_path / "thesis.txt", CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Run.open(tmp_path, CONFIG), pytest.raises(UserError, match="another process is training"):
        Run.open(tmp_path, CONFIG)
    Run.open(tmp_path, CONFIG).close()


def test_choices_are_made_once(tmp_path: Path) -> None:
    with Run.open(tmp_path, CONFIG) as run:
        assert run.choose("precision", lambda: "bf16") == "bf16"
    with Run.open(tmp_path, CONFIG) as run:
        assert run.choose("precision", lambda: "fp32") == "bf16"
        assert run.choose("another", lambda: "yes") == "yes"


def test_log_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    with Run.open(tmp_path, CONFIG) as run:
        seen = []
        run.sinks.append(seen.append)
        run.log({"step": 1})
        length = run.sync_log()
        run.log({"step": 2})
        run.rewind_log(length)
        run.log({"step": 3})
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 3]
    assert [record["step"] for record in seen] == [1, 2, 3]
