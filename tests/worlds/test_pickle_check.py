"""Hostile pickles: nothing they name is imported, nothing they call runs, and each is refused in one line."""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.lightning_files import write_lightning
from tests.worlds.written_pickles import archive, call, checkpoint, name, number, refused, storage, tensor, text

from reelworld.types import UserError
from reelworld.worlds.external_checkpoint import read_checkpoint

TOUCH = "touch ran"
NAMES = [
    *("os.system", "posix.system", "nt.system", "subprocess.Popen", "builtins.eval", "builtins.exec"),
    *("builtins.getattr", "builtins.__import__", "__builtin__.eval", "importlib.import_module", "runpy.run_path"),
    *("copyreg.__newobj__", "copyreg._reconstructor", "functools.partial", "operator.attrgetter", "pathlib.PosixPath"),
    *("types.FunctionType", "sys.exit", "webbrowser.open", "numpy.load", "pickle.loads", "_io.FileIO", "__main__.x"),
    *("reelworld.cli.main.main", "torchvision.ops.nms", "torch_os.system", "lightningx.f", "pytorch_lightning_os.f"),
    *("argparse.ArgumentParser", "argparse.Namespace.__init__", "argparse._sys.exit", "collections.abc.sys.exit"),
    *("torch", "lightning", "collections.OrderedDict.update", "builtins.set.update", "lightning_fabric.x"),
]


@pytest.mark.parametrize("path", NAMES)
@pytest.mark.parametrize("place", ["callbacks", "hyper_parameters", "weights"])
def test_other_names_are_refused_by_name_wherever_they_stand(
    place: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    mentions = {
        "mentioned": name(path),
        "called": call(path, text(TOUCH)),
        "made": name(path) + b"(" + text(TOUCH) + b"t\x81",
    }
    for how, written in mentions.items():
        said = refused(archive(tmp_path / f"{how}.ckpt", checkpoint(**{place: written})))
        assert path.replace("__builtin__", "builtins") in said
    assert not (tmp_path / "ran").exists()
    assert {module for module in set(sys.modules) - before if not module.startswith("encodings.")} == set()


STUBS = [
    *("torch.hub.load", "torch.load", "torch.ops.load_library", "torch.os.system", "torch.serialization.os.system"),
    *("torch.utils.collect_env.run", "pytorch_lightning.utilities.cloud_io.load", "lightning.os.system"),
    *("torch.storage._load_from_bytes", "torch.jit._script.unpackage_script_module"),
]


@pytest.mark.parametrize("path", STUBS)
def test_stubs_are_never_called(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = b"}" + text("__reduce__") + name("torch.os.system") + b"sb"  # a state is dropped as well
    filled = call(path, text(TOUCH)) + state
    read = read_checkpoint(archive(tmp_path / "a.ckpt", checkpoint(callbacks=b"}" + filled + b"\x88s")))
    assert path in read.passed_over
    for place, written in {
        "hyper_parameters": b"}" + text("args") + filled + b"s",
        "weights": filled,
        "state_dict": filled,
    }.items():
        assert path in refused(archive(tmp_path / "b.ckpt", checkpoint(**{place: written})))
    deep = b"]" + call("argparse.Namespace") + b"}" + text("x") + b"(" + filled + b"t" + b"sb" + b"a"
    assert path in refused(archive(tmp_path / "c.ckpt", checkpoint(hyper_parameters=b"}" + text("a") + deep + b"s")))
    key = b"}" + filled + b"\x88s"
    assert path in refused(archive(tmp_path / "d.ckpt", checkpoint(hyper_parameters=key)))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("path", ["torch._utils._rebuild_qtensor", "torch.Tensor", "torch.FloatStorage"])
def test_names_that_the_loader_would_call_are_refused(path: str, tmp_path: Path) -> None:
    for i, made in enumerate((call(path, number(1 << 40)), name(path) + b"(" + number(1 << 40) + b"t\x81")):
        assert f"calls {path}" in refused(archive(tmp_path / f"{i}.ckpt", checkpoint(callbacks=made)))


def test_a_name_that_is_only_mentioned_is_kept_as_a_name(tmp_path: Path) -> None:
    written = b"}" + text("args") + name("torch.optim.Adam") + b"s"
    read: Any = read_checkpoint(archive(tmp_path / "a.ckpt", checkpoint(hyper_parameters=written)))
    assert read.hyper_parameters["args"].path == "torch.optim.Adam"
    assert not callable(read.hyper_parameters["args"])
    assert read.passed_over == ("torch.optim.Adam",)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "called-container": (checkpoint(callbacks=b"]" + b")R"), "calls a value"),
    "called-tensor": (checkpoint(callbacks=tensor() + b")R"), "calls a value of torch._utils._rebuild_tensor_v2"),
    "called-result": (checkpoint(callbacks=call("torch.hub.load") + b")R"), "torch.hub.load"),
    "state-of-a-class": (checkpoint(callbacks=name("argparse.Namespace") + b"}b"), "argparse.Namespace"),
    "slots-of-a-class": (
        checkpoint(callbacks=name("argparse.Namespace") + b"N}" + text("__init__") + name("torch.x") + b"s\x86b"),
        "argparse.Namespace",
    ),
    "slots-of-a-namespace": (
        checkpoint(callbacks=call("argparse.Namespace") + b"N}" + text("__class__") + name("torch.x") + b"s\x86b"),
        "fields of a Namespace",
    ),
    "state-of-a-tensor": (checkpoint(callbacks=tensor() + b"}b"), "_rebuild_tensor_v2"),
    "state-of-a-dictionary": (checkpoint(callbacks=b"}}b"), "state of a plain value"),
    "items-of-a-tuple": (checkpoint(callbacks=b")\x88\x88s"), "Can only SETITEM"),
    "append-to-a-tuple": (checkpoint(callbacks=b")\x88a"), "append to lists"),
    "add-to-a-set": (checkpoint(callbacks=b"\x8f(\x88\x90"), "ADDITEMS"),
    "list-as-a-key": (checkpoint(callbacks=b"}]\x88s"), "unhashable"),
    "escape-codes": (checkpoint(callbacks=name("torch.\x1b[2J")), "x1b[2J"),
    "letters-that-look-alike": (checkpoint(callbacks=name("t\u043erch.load")), ""),
    "escaped-letters": (checkpoint(callbacks=name("torch.l\\x6fad")), "safe loader"),
    "escaped-builtins": (checkpoint(callbacks=name("builtins.s\\x65t")), "safe loader"),
    "dots": (checkpoint(callbacks=b"ctorch.\nos\n"), "torch..os"),
    "slashes": (checkpoint(callbacks=b"ctorch./etc/passwd\nx\n"), "/etc/passwd"),
    "named-on-the-stack": (checkpoint(callbacks=text("os") + text("system") + b"\x93"), "STACK_GLOBAL"),
    "inst": (b"\x80\x02(ios\nsystem\n.", "INST (os system)"),
    "obj": (b"\x80\x02(" + name("torch.x") + b"o.", "OBJ"),
    "newobj-ex": (b"\x80\x04" + name("torch.x") + b")}\x92.", "NEWOBJ_EX"),
    "ext1": (b"\x80\x02\x82\x01.", "EXT1"),
    "ext2": (b"\x80\x02\x83\x01\x00.", "EXT2"),
    "ext4": (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
    "persid": (b"\x80\x02Pstorage\n.", "PERSID"),
    "string-with-escapes": (b"\x80\x02S'\\q'\n.", "STRING"),
    "buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b".", "damaged"),
    "large-bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".", "damaged"),
    "large-number": (b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b".", "damaged"),
    "far-memo": (checkpoint(callbacks=b"Nr\xff\xff\xff\x7fj\xff\xff\xff\x7e"), "damaged"),
    "empty-stack": (b"\x80\x02R.", "damaged"),
    "no-mark": (b"\x80\x02]e.", "damaged"),
    "half-a-pair": (b"\x80\x02}(Nu.", "safe loader"),
    "no-end": (b"\x80\x02}", "ends too early"),
    "unknown-instruction": (b"\x80\x02\xff.", "damaged"),
    "nothing": (b"", "ends too early"),
    "text": (b"hello world", ""),
    "grows-by-copies": (
        checkpoint(callbacks=b"](](" + b"N" * 999 + b"eq\x00" + call("builtins.set", b"h\x00") * 99 + b"e"),
        "many times",
    ),
    "persistent-number": (checkpoint(callbacks=b"K\x01Q"), "no tensor's storage"),
    "persistent-name": (checkpoint(callbacks=name("torch.os.system") + b"Q"), "no tensor's storage"),
    "persistent-short": (checkpoint(callbacks=b"(" + text("storage") + b"tQ"), "no tensor's storage"),
    "persistent-other": (
        checkpoint(
            callbacks=b"(" + text("module") + name("torch.FloatStorage") + text("0") + text("cpu") + b"K\x01" + b"tQ"
        ),
        "no tensor's storage",
    ),
    "persistent-path": (checkpoint(weights=tensor(storage(key=text("../../etc/passwd")))), "lacks the record"),
    "persistent-negative": (checkpoint(weights=tensor(storage(n=-4))), "storage"),
    "unknown-storage": (checkpoint(weights=tensor(storage("torch.os.system"))), "torch.os.system"),
    "absent-storage": (checkpoint(weights=tensor(storage(key=text("7")))), "data/7"),
    "storage-beyond-its-record": (checkpoint(weights=tensor(storage(n=5), size=(5,))), "16 bytes"),
    "endless-storage": (checkpoint(weights=tensor(storage(n=1 << 62), size=(1 << 62,))), "16 bytes"),
    "beyond-the-storage": (checkpoint(weights=tensor(size=(2, 2), stride=(3, 1))), "resize storage"),
    "offset-beyond": (checkpoint(weights=tensor(offset=4, size=(), stride=())), "resize storage"),
    "offset-beyond-by-one": (checkpoint(weights=tensor(offset=1)), "resize storage"),
    "negative-offset": (checkpoint(weights=tensor(offset=-1)), "safe loader"),
    "negative-stride": (checkpoint(weights=tensor(offset=3, stride=(-1,))), "safe loader"),
    "negative-size": (checkpoint(weights=tensor(size=(-1,))), "safe loader"),
    "fewer-strides": (checkpoint(weights=tensor(size=(2, 2))), "safe loader"),
    "endless-view": (checkpoint(weights=tensor(size=(1 << 62,), stride=(0,))), "more numbers"),
    "overlapping-view": (checkpoint(weights=tensor(size=(3, 2), stride=(1, 1))), "more numbers"),
    "endless-stride": (checkpoint(weights=tensor(size=(2,), stride=(1 << 70,))), "safe loader"),
    "endless-stride-of-one": (checkpoint(weights=tensor(size=(1,), stride=(1 << 70,))), ""),
    "endless-empty": (checkpoint(weights=tensor(size=(1 << 62, 1 << 62, 0), stride=(0, 0, 0))), ""),
    "tensor-of-nothing": (checkpoint(weights=call("torch._utils._rebuild_tensor_v2")), "_rebuild_tensor_v2"),
    "parameter-of-nothing": (checkpoint(weights=call("torch._utils._rebuild_parameter", b"N")), "_rebuild_parameter"),
    "storage-as-a-weight": (checkpoint(weights=storage()), "TypedStorage"),
    "class-as-a-weight": (checkpoint(weights=name("torch.nn.Linear")), "torch.nn.Linear"),
    "number-as-a-weight": (checkpoint(weights=b"K\x01"), "int"),
    "weight-named-by-a-number": (checkpoint(state_dict=b"}K\x01" + tensor() + b"s"), "int"),
    "weights-in-a-list": (checkpoint(state_dict=b"]"), "list"),
    "settings-in-a-list": (checkpoint(hyper_parameters=b"]"), "list"),
    "settings-that-contain-themselves": (checkpoint(hyper_parameters=b"}q\x00" + text("a") + b"h\x00s"), "itself"),
    "settings-without-a-bottom": (
        checkpoint(hyper_parameters=b"}" + text("a") + b"]" * 99_999 + b"a" * 99_998 + b"s"),
        "deeper",
    ),
    "no-weights": (b"\x80\x02}.", "no state_dict"),
    "weights-alone": (b"\x80\x02}" + text("w") + tensor() + b"s.", "weights alone"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    pickled, said = HOSTILE[case]
    assert said in refused(archive(tmp_path / "a.ckpt", pickled))


def test_a_chain_of_containers_does_not_grow(tmp_path: Path) -> None:
    """Thirty lists, each of which holds the one before ten times, would be 10^30 values if they were written out."""
    links = (b"](" + (b"h" + bytes([i])) * 10 + b"eq" + bytes([i + 1]) for i in range(30))
    chain = b"](]q\x00" + b"".join(links) + b"e"
    path = archive(tmp_path / "a.ckpt", checkpoint(hyper_parameters=b"}" + text("a") + chain + b"s"))
    read: Any = read_checkpoint(path)
    assert len(read.hyper_parameters["a"][-1]) == 10


def test_hooks_and_attributes_that_a_file_sets_are_never_called(tmp_path: Path) -> None:
    """An OrderedDict can be given attributes that shadow its methods."""
    shadow = call("collections.OrderedDict") + b"}" + text("items") + name("torch.os.system") + b"sb"
    hooks = tensor(last=b"\x89" + call("collections.OrderedDict") + text("h") + name("torch.os.system") + b"s")
    read = read_checkpoint(archive(tmp_path / "a.ckpt", checkpoint(weights=hooks, hyper_parameters=shadow)))
    assert read.hyper_parameters == {}
    assert not read.state_dict["w"]._backward_hooks


def test_tuples_without_a_bottom_do_not_crash_the_interpreter(tmp_path: Path) -> None:
    """As a key they would: Python hashes tuples in tuples without a limit."""
    endless = b"}" + b")" + b"\x85" * 400_000 + b"\x88s"
    assert "tuples deeper than 64" in refused(archive(tmp_path / "a.ckpt", checkpoint(callbacks=endless)))


def test_a_small_file_does_not_take_much_memory(tmp_path: Path) -> None:
    """Peak memory of a process of its own."""
    bombs = {
        "copies": b"](](" + number(1) * 9_999 + b"eq\x00" + call("builtins.set", b"h\x00") * 9_999 + b"e",
        "bytes": call("builtins.bytearray", number(1 << 40)),
        "lists": b"](" + b"]" * (1 << 18) + b"e",
    }
    for bomb, written in bombs.items():
        archive(tmp_path / bomb, checkpoint(callbacks=written))
    code = (
        "import resource, sys\n"
        "from reelworld.worlds.external_checkpoint import read_checkpoint\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        read_checkpoint(path)\n"
        "    except ValueError as error:\n        print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", code, *(str(tmp_path / bomb) for bomb in bombs)]
    copies, allocated, kib = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert "many times its own size" in copies
    assert "bytearray" in allocated
    assert int(kib) < 200 << 10


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = write_lightning(tmp_path_factory.mktemp("sound") / "a.ckpt", {"w": torch.ones(3)}, {"n_codes": 16})
    with zipfile.ZipFile(path) as file:
        return file.read("a/data.pkl")


@given(st.data())
def test_pickles_with_any_bytes_are_read_or_refused(
    sound: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    pickled = bytearray(sound)
    for at in data.draw(st.lists(st.integers(0, len(pickled) - 1), min_size=1, max_size=8)):
        pickled[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "spoilt.ckpt"
    try:
        read_checkpoint(archive(path, bytes(pickled), {"data/0": bytes(12)}))
    except UserError as error:
        assert "\n" not in str(error)
