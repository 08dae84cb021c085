"""Hostile pickles: nothing they name is imported, nothing they call runs, and each is refused in one line."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.lightning_files import write_lightning
from tests.worlds.written_pickles import archive, call, checkpoint, name, number, refused, storage, tensor, text

from reelworld.worlds.external_checkpoint import read_checkpoint
from reelworld.worlds.safe_unpickler import Refused, read_pickle

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
        "named-on-the-stack": text(path.rpartition(".")[0]) + text(path.rpartition(".")[2]) + b"\x93",
    }
    for how, written in mentions.items():
        said = refused(archive(tmp_path / f"{how}.ckpt", checkpoint(**{place: written})))
        assert path.replace("__builtin__", "builtins") in said
    assert not (tmp_path / "ran").exists()
    assert set(sys.modules) == before


CALLED = [
    *("torch.hub.load", "torch.load", "torch.ops.load_library", "torch.os.system", "torch.serialization.os.system"),
    *("torch.utils.collect_env.run", "pytorch_lightning.utilities.cloud_io.load", "lightning.os.system", "torch.Size"),
    *("torch._utils._rebuild_qtensor", "torch.storage._load_from_bytes", "torch.jit._script.unpackage_script_module"),
]


@pytest.mark.parametrize("path", CALLED)
def test_placeholders_are_never_called(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = b"}" + text("__reduce__") + name("torch.os.system") + b"sb"  # a state is dropped as well
    filled = call(path, text(TOUCH)) + state + b"(" + text("a") + text("b") + b"u" + text("c") + b"a"
    read = read_checkpoint(archive(tmp_path / "a.ckpt", checkpoint(callbacks=b"}" + filled + b"\x88s")))
    assert path in read.inert
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


def test_a_name_that_is_only_mentioned_is_kept_as_a_name(tmp_path: Path) -> None:
    written = b"}" + text("args") + name("torch.optim.Adam") + b"s"
    read = read_checkpoint(archive(tmp_path / "a.ckpt", checkpoint(hyper_parameters=written)))
    assert read.hyper_parameters["args"].path == "torch.optim.Adam"
    assert not callable(read.hyper_parameters["args"])
    assert read.inert == ("torch.optim.Adam",)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "called-container": (checkpoint(callbacks=b"]" + b")R"), "calls a list"),
    "called-tensor": (checkpoint(callbacks=tensor() + b")R"), "calls a TensorRef"),
    "called-result": (checkpoint(callbacks=call("torch.hub.load") + b")R"), "torch.hub.load"),
    "arguments-that-are-none": (checkpoint(callbacks=name("torch.hub.load") + b"]R"), "list for arguments"),
    "state-of-a-class": (checkpoint(callbacks=name("argparse.Namespace") + b"}b"), "argparse.Namespace"),
    "slots-of-a-class": (
        checkpoint(callbacks=name("argparse.Namespace") + b"N}" + text("__init__") + name("torch.x") + b"s\x86b"),
        "argparse.Namespace",
    ),
    "slots-of-a-namespace": (
        checkpoint(callbacks=call("argparse.Namespace") + b"N}" + text("__class__") + name("torch.x") + b"s\x86b"),
        "argparse.Namespace",
    ),
    "fields-that-are-no-text": (checkpoint(callbacks=call("argparse.Namespace") + b"}\x88\x88sb"), "Namespace"),
    "state-of-a-tensor": (checkpoint(callbacks=tensor() + b"}b"), "TensorRef"),
    "state-of-a-dictionary": (checkpoint(callbacks=b"}}b"), "state of a dict"),
    "namespace-with-arguments": (checkpoint(callbacks=call("argparse.Namespace", text("a"))), "Namespace"),
    "items-of-a-tuple": (checkpoint(callbacks=b")\x88\x88s"), "items of a tuple"),
    "append-to-a-tuple": (checkpoint(callbacks=b")\x88a"), "appends to a tuple"),
    "add-to-a-list": (checkpoint(callbacks=b"](\x88\x90"), "list"),
    "tuples-as-keys": (checkpoint(callbacks=b"})\x85\x85\x88s"), "tuple for a key"),
    "list-as-a-key": (checkpoint(callbacks=b"}]\x88s"), "list for a key"),
    "escape-codes": (checkpoint(callbacks=name("torch.\x1b[2J")), "x1b[2J"),
    "letters-that-look-alike": (checkpoint(callbacks=text("t\u043erch") + text("load") + b"\x93"), "u043e"),
    "dots": (checkpoint(callbacks=text("torch.") + text("os") + b"\x93"), "torch..os"),
    "slashes": (checkpoint(callbacks=text("torch./etc/passwd") + text("x") + b"\x93"), "/etc/passwd"),
    "module-that-is-no-text": (checkpoint(callbacks=b"K\x01" + text("system") + b"\x93"), "int"),
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
    "far-memo": (checkpoint(callbacks=b"Nr\xff\xff\xff\x7fj\xff\xff\xff\x7e"), "never stored"),
    "empty-stack": (b"\x80\x02R.", "never gave"),
    "no-mark": (b"\x80\x02]e.", "never gave"),
    "half-a-pair": (b"\x80\x02}(Nu.", "without a value"),
    "no-end": (b"\x80\x02}", "ends too early"),
    "unknown-instruction": (b"\x80\x02\xff.", "damaged"),
    "nothing": (b"", "ends too early"),
    "text": (b"hello world", ""),
    "grows-by-copies": (
        checkpoint(callbacks=b"](" + b"N" * 999 + b"eq\x00" + b"0](" + call("builtins.list", b"h\x00") * 99 + b"e"),
        "many times",
    ),
    "persistent-number": (checkpoint(callbacks=b"K\x01Q"), "int"),
    "persistent-name": (checkpoint(callbacks=name("torch.os.system") + b"Q"), "torch.os.system"),
    "persistent-short": (checkpoint(callbacks=b"(" + text("storage") + b"tQ"), "tuple"),
    "persistent-other": (
        checkpoint(
            callbacks=b"(" + text("module") + name("torch.FloatStorage") + text("0") + text("cpu") + b"K\x01" + b"tQ"
        ),
        "tuple",
    ),
    "persistent-path": (checkpoint(weights=tensor(storage(key=text("../../etc/passwd")))), "storage"),
    "persistent-negative": (checkpoint(weights=tensor(storage(n=-4))), "storage"),
    "unknown-storage": (checkpoint(weights=tensor(storage("torch.os.system"))), "torch.os.system"),
    "absent-storage": (checkpoint(weights=tensor(storage(key=text("7")))), "data/7"),
    "storage-beyond-its-record": (checkpoint(weights=tensor(storage(n=5), size=(5,))), "16 bytes"),
    "endless-storage": (checkpoint(weights=tensor(storage(n=1 << 62), size=(1 << 62,))), "16 bytes"),
    "two-sizes-of-one-storage": (
        checkpoint(state_dict=b"}(" + text("a") + tensor() + text("b") + tensor(storage(n=3), size=(3,)) + b"u"),
        "disagree",
    ),
    "beyond-the-storage": (checkpoint(weights=tensor(size=(2, 2), stride=(3, 1))), "beyond"),
    "offset-beyond": (checkpoint(weights=tensor(offset=4, size=(), stride=())), "beyond"),
    "offset-beyond-by-one": (checkpoint(weights=tensor(offset=1)), "beyond"),
    "negative-offset": (checkpoint(weights=tensor(offset=-1)), "counts"),
    "negative-stride": (checkpoint(weights=tensor(offset=3, stride=(-1,))), "counts"),
    "negative-size": (checkpoint(weights=tensor(size=(-1,))), "counts"),
    "fewer-strides": (checkpoint(weights=tensor(size=(2, 2))), "counts"),
    "endless-view": (checkpoint(weights=tensor(size=(1 << 62,), stride=(0,))), "more numbers"),
    "overlapping-view": (checkpoint(weights=tensor(size=(3, 2), stride=(1, 1))), "more numbers"),
    "endless-stride": (checkpoint(weights=tensor(size=(2,), stride=(1 << 70,))), "beyond"),
    "endless-stride-of-one": (checkpoint(weights=tensor(size=(1,), stride=(1 << 70,))), ""),
    "endless-empty": (checkpoint(weights=tensor(size=(1 << 62, 1 << 62, 0), stride=(0, 0, 0))), ""),
    "many-axes": (checkpoint(weights=tensor(size=(1,) * 17, stride=(0,) * 17)), "axes"),
    "sizes-that-are-true": (
        checkpoint(
            weights=call(
                "torch._utils._rebuild_tensor_v2", storage(), number(0), b"\x88\x85", b"\x88\x85", b"\x89", b"}"
            )
        ),
        "counts",
    ),
    "hooks": (checkpoint(weights=tensor(last=b"\x89}" + text("h") + name("torch.os.system") + b"s")), "hooks"),
    "called-hooks": (checkpoint(weights=tensor(last=b"\x89" + call("torch.os.system"))), "hooks"),
    "metadata": (checkpoint(weights=tensor(last=b"\x89}}" + text("conj") + b"\x88s")), "hooks"),
    "tensor-of-nothing": (checkpoint(weights=call("torch._utils._rebuild_tensor_v2")), "_rebuild_tensor_v2"),
    "parameter-of-nothing": (checkpoint(weights=call("torch._utils._rebuild_parameter", b"N")), "_rebuild_parameter"),
    "storage-as-a-weight": (checkpoint(weights=storage()), "StorageRef"),
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
    links = (b"0](" + (b"h" + bytes([i])) * 10 + b"eq" + bytes([i + 1]) for i in range(30))
    chain = b"]q\x00" + b"".join(links)
    path = archive(tmp_path / "a.ckpt", checkpoint(hyper_parameters=b"}" + text("a") + chain + b"s"))
    assert len(read_checkpoint(path).hyper_parameters["a"]) == 10


def test_tuples_without_a_bottom_do_not_crash_the_interpreter() -> None:
    """As a key they would: Python hashes tuples in tuples without looking at its stack."""
    code = (
        "from reelworld.worlds.safe_unpickler import Refused, read_pickle\n"
        "endless = b')' + b'\\x85' * 400_000\n"
        "read_pickle(b'\\x80\\x02' + endless + b'.')\n"
        "try:\n    read_pickle(b'\\x80\\x02}' + endless + b'\\x88s.')\n"
        "except Refused as reason:\n    print(reason)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout == "it has a tuple for a key\n"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = write_lightning(tmp_path_factory.mktemp("sound") / "a.ckpt", {"w": torch.ones(3)}, {"n_codes": 16})
    with zipfile.ZipFile(path) as file:
        return file.read("a/data.pkl")


@given(st.data())
def test_pickles_with_any_bytes_are_read_or_refused(sound: bytes, data: st.DataObject) -> None:
    pickled = bytearray(sound)
    for at in data.draw(st.lists(st.integers(0, len(pickled) - 1), min_size=1, max_size=8)):
        pickled[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Refused):
        read_pickle(bytes(pickled))
