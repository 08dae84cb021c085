from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from reelworld import files
from reelworld.files import LOCK_FILE, FolderLock, atomic_folder, atomic_write, write_json
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


def test_a_system_without_locks_warns_and_goes_on(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock._unix.lock_fd_nonblocking", refuse)
    FolderLock(tmp_path, "training").close()
    assert "cannot be locked (No locks available); do not use it twice at once." in caplog.text


def test_a_folder_that_refuses_the_lock_file_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        FolderLock(tmp_path / "file", "training")


def test_errors_leave_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_file_is_replaced_after_its_bytes_are_synced(tmp_path, monkeypatch):
    events, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (sync(handle), events.append((tmp_path / "a").exists())))
    with atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    assert events == [False] and (tmp_path / "a").read_bytes() == b"x"
    with atomic_write(tmp_path / "a", sync=False) as file:
        file.write(b"y")
    assert len(events) == 1 and (tmp_path / "a").read_bytes() == b"y"


def test_a_folder_takes_the_place_of_another_as_a_whole(tmp_path):
    target = tmp_path / "world"
    for content in ("old", "new"):
        (tmp_path / "world.tmp").mkdir()  # left by a kill
        (tmp_path / "world.tmp" / "junk").touch()
        with atomic_folder(target) as folder:
            (folder / content).write_text(content)
        assert [p.name for p in target.iterdir()] == [content]
    with pytest.raises(OSError, match="full"), atomic_folder(target) as folder:
        (folder / "half").touch()
        raise OSError("full")
    assert [p.name for p in tmp_path.rglob("*")] == ["world", "new"]


def test_systems_that_open_no_folders_sync_none(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_IS_WINDOWS", True)
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
    files.fsync(tmp_path)
