from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from reelworld.files import LOCK_FILE, FolderLock
from reelworld.types import UserError


def test_a_second_holder_is_refused_in_one_line(tmp_path):
    lock = FolderLock(tmp_path, "training")
    with pytest.raises(UserError, match=r"^another process is training .*; wait for it or give another --out\.$"):
        FolderLock(tmp_path, "training")
    lock.close()
    assert list(tmp_path.iterdir()) == []
    other = FolderLock(tmp_path, "training")
    lock.close()  # a second time: it is the other's now
    assert (tmp_path / LOCK_FILE).exists()
    other.close()


def test_a_killed_process_lets_go(tmp_path):
    code = (
        "import sys, time, pathlib\nfrom reelworld.files import FolderLock\n"
        "lock = FolderLock(pathlib.Path(sys.argv[1]), 'training')\nprint('held', flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another process"):
        FolderLock(tmp_path, "training")
    process.kill()
    process.communicate()
    FolderLock(tmp_path, "training").close()


def test_never_two_at_once(tmp_path):
    """Holders delete the file when they go; one that opened it before must not believe that it holds the next."""
    inside, seen, taken = [], [], []

    def contend():
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            try:
                lock = FolderLock(tmp_path, "training")
            except UserError:
                continue
            inside.append(1)
            seen.append(len(inside))
            time.sleep(1e-4)
            inside.pop()
            taken.append(1)
            lock.close()

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) > 50
    assert max(seen) == 1
