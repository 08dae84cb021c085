"""Kill trainings with SIGKILL and resume them; run by test_kill.py in a process of its own.

One process imports torch, then forks a child per training: a kill costs milliseconds, not an import.

    python kill_driver.py FOLDER between     kill before every file operation, half-written files included
    python kill_driver.py FOLDER random      kill at random times until the run is through
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from reelworld.train import checkpoint
from reelworld.train.checkpoint import find_checkpoint
from train.toys import assert_same, log_lines, toy_parts, toy_stages, toy_train

CHANGES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")
EVERY = 3


def kill_before(operation: int, folder: Path) -> None:
    """Arrange a SIGKILL before the n-th change to files of the run (0: never, but count in a file)."""
    count = 0

    def change() -> None:
        nonlocal count
        count += 1
        if count == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple) -> None:
        if event not in CHANGES or not args:
            return
        is_ours = isinstance(args[0], int) or str(folder) in os.fspath(args[0])
        is_reading = event == "open" and args[1] in ("r", "rb")
        if is_ours and not is_reading:
            change()

    def write_halves(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            change()
            file.write(content[: len(content) // 2])
            file.flush()
            change()
            file.write(content[len(content) // 2 :])
        return len(content)

    Path.write_bytes = write_halves
    sys.addaudithook(hook)


def fork(work: Callable[[], None]) -> int:
    """Run work in a child; return its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 (the child must not return into the parent's code)
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def wait(pid: int) -> bool:
    """Wait for a child; True when it was killed, False when it ended well."""
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "a training failed; its traceback is above"
    return False


def train_to(folder: Path, steps: tuple[int, int], operation: int = 0) -> None:
    if operation:
        kill_before(operation, folder)
    parts = toy_parts()
    weights = toy_train(folder, parts, toy_stages(parts, steps=steps), checkpoint_every=EVERY)
    torch.save(weights, folder.with_suffix(".pt"))


def check_finished(folder: Path, expected: dict[str, Tensor], expected_log: list[dict]) -> None:
    assert_same(torch.load(folder.with_suffix(".pt"), weights_only=True), expected)
    assert log_lines(folder) == expected_log
    assert not list(folder.glob("*.tmp")), "a leftover of a kill is still there"
    assert len(list(folder.glob("step_*"))) == checkpoint.KEEP


def check_killed(folder: Path, least_step: int) -> int:
    """What a kill leaves opens, every tensor of it, and does not go back; return its step."""
    found = find_checkpoint(folder)
    if found is None:
        assert least_step == 0
        return 0
    for path in found.folder.glob("*.safetensors"):
        found.tensors(path.stem)
    assert found.state.step >= least_step, (found.state, least_step)
    return found.state.step


def between(root: Path, expected: dict[str, Tensor], expected_log: list[dict], steps: tuple[int, int]) -> dict:
    n_kills, steps_seen, operation, step = 0, set(), 1, 0
    while True:
        folder = root / f"op{operation}"
        if not wait(fork(partial(train_to, folder, steps, operation))):
            break
        n_kills += 1
        after = check_killed(folder, step)
        assert after <= step + EVERY, "more than the steps since the last checkpoint went by"
        step = after  # the same operations come in the same order: a later kill never finds less
        steps_seen.add(step)
        assert not wait(fork(partial(train_to, folder, steps)))
        check_finished(folder, expected, expected_log)
        operation += 1
    return {"kills": n_kills, "steps": sorted(steps_seen)}


def at_random(root: Path, expected: dict[str, Tensor], expected_log: list[dict], steps: tuple[int, int]) -> dict:
    n_kills, rng = 0, random.Random(0)
    started = time.monotonic()
    wait(fork(partial(train_to, root / "timing", steps)))
    whole_seconds = time.monotonic() - started
    for number in range(3):
        folder, step = root / f"random{number}", 0
        for _ in range(200):
            pid = fork(partial(train_to, folder, steps))
            time.sleep(rng.uniform(0.1, 0.7) * whole_seconds)
            os.kill(pid, signal.SIGKILL)
            if not wait(pid):
                break
            if (folder.with_suffix(".pt")).exists():
                break
            n_kills += 1
            step = check_killed(folder, step)
        assert not wait(fork(partial(train_to, folder, steps)))
        check_finished(folder, expected, expected_log)
    return {"kills": n_kills, "steps": []}


def main() -> None:
    root, mode = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    os.fsync = lambda handle: None  # a killed process loses nothing that was written; only slow here
    steps = (5, 2) if mode == "between" else (60, 60)
    train_to(root / "whole", steps)  # here, so that what torch imports late is there in every child
    expected = torch.load(root / "whole.pt", weights_only=True)
    work = between if mode == "between" else at_random
    print(json.dumps(work(root, expected, log_lines(root / "whole"), steps)))


if __name__ == "__main__":
    main()
