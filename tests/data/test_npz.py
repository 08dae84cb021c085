import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reelworld.data.array_store import Compressed, FilePool, NpzStore, Unreadable, read_index
from reelworld.files import write_npz
from reelworld.types import UserError

DTYPES = st.sampled_from([np.uint8, np.int64, np.float32, np.bool_, np.uint16])
ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)))
KEEP = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@KEEP
@given(arrays=st.dictionaries(st.sampled_from(["frames", "actions", "actions/b", "rewards"]), ARRAYS, min_size=1))
def test_numpy_and_the_map_read_what_was_written(tmp_path, arrays):
    path = tmp_path / "episode.npz"
    write_npz(path, arrays, sync=False)
    store = NpzStore(path, FilePool(1))
    with np.load(path, allow_pickle=False) as loaded:
        assert set(loaded.files) == set(store.index) == set(arrays)
        for name, array in arrays.items():
            for read in (loaded[name], store.view(name)):
                assert read.dtype == array.dtype
                np.testing.assert_array_equal(read, array)
    assert [p.name for p in tmp_path.iterdir()] == ["episode.npz"]


def test_files_of_numpy_are_mapped_too_also_in_fortran_order(tmp_path):
    frames = np.arange(24).reshape(2, 3, 4)
    np.savez(tmp_path / "a.npz", c=frames, f=np.asfortranarray(frames))
    store = NpzStore(tmp_path / "a.npz", FilePool(1))
    for name in "cf":
        np.testing.assert_array_equal(store.view(name), frames)


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    arrays = {"frames": np.arange(12, dtype=np.uint8)}
    for name in "ab":
        write_npz(tmp_path / f"{name}.npz", arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_view_does_not_load_the_file_and_cannot_write_it(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, {"frames": np.zeros((4, 8, 8, 3), np.uint8)})
    view = NpzStore(path, FilePool(1)).view("frames")
    assert not view.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1


def test_few_files_stay_open_however_many_are_read(tmp_path):
    pool = FilePool(max_open=3)
    for i in range(12):
        write_npz(tmp_path / f"{i}.npz", {"frames": np.full(4, i)}, sync=False)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        for i in range(12):
            assert NpzStore(tmp_path / f"{i}.npz", pool).view("frames")[0] == i
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 3


def test_open_files_travel_to_worker_processes(tmp_path):
    write_npz(tmp_path / "a.npz", {"frames": np.arange(5)})
    store = NpzStore(tmp_path / "a.npz", FilePool(1))
    store.view("frames")
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.view("frames"), np.arange(5))


def test_every_truncation_is_unreadable(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, {"frames": np.arange(300, dtype=np.uint8), "actions": np.arange(3)})
    whole = path.read_bytes()
    for n in range(0, len(whole), 7):
        path.write_bytes(whole[:n])
        with pytest.raises(Unreadable, match=r"a\.npz"):
            read_index(path)


@KEEP
@given(st.data())
def test_damaged_and_random_bytes_never_escape_as_another_error(tmp_path, data):
    path = tmp_path / "a.npz"
    write_npz(path, {"frames": np.arange(60, dtype=np.uint8)}, sync=False)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = bytearray(data.draw(st.binary(max_size=80)))
    for place in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=6)) if content else []:
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    store = NpzStore(path, FilePool(1))
    try:
        for name in store.index:
            np.array(store.view(name))
    except UserError as error:
        assert "\n" not in str(error)


def test_a_header_that_promises_more_than_there_is_is_unreadable(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, {"frames": np.arange(60, dtype=np.uint8), "actions": np.arange(60)})
    path.write_bytes(path.read_bytes().replace(b"(60,)", b"(99,)", 1))
    with pytest.raises(Unreadable, match=r"frames\.npy should hold 99 bytes"):
        read_index(path)


def test_object_arrays_are_refused_and_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "boom"),))

    np.savez(tmp_path / "a.npz", frames=np.array([Bomb()], dtype=object))
    with pytest.raises(UserError, match="pickled object array"):
        read_index(tmp_path / "a.npz")
    assert not (tmp_path / "boom").exists()


def test_compressed_files_say_so(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", frames=np.zeros(9))
    with pytest.raises(Compressed, match="uncompressed"):
        read_index(tmp_path / "a.npz")


def test_a_disk_that_fills_up_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    write_npz(path, {"frames": np.arange(4)})
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    with pytest.raises(OSError, match="No space"):
        write_npz(path, {"frames": np.arange(9)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
