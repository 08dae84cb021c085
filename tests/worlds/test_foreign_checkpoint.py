"""Checkpoints of others: what they hold comes out exactly, and nothing they name or call ever runs."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.lightning_files import write_lightning

from reelworld.types import UserError
from reelworld.worlds.foreign_checkpoint import read_checkpoint
from reelworld.worlds.inert_pickle import Name, Refused, read_pickle

ARGS = {"n_codes": 16, "downsample": (4, 2, 2), "lr": 3e-4, "vqvae": "lost/vqvae.ckpt", "precision": None}


def weights() -> OrderedDict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=rng)
    state = OrderedDict(
        float=base,
        view=base[1:4, ::2],
        transposed=base.T,
        parameter=torch.nn.Parameter(torch.randn(3, generator=rng)),
        half=base.half(),
        bf16=base.bfloat16(),
        double=base.double(),
        int=torch.arange(-3, 9),
        short=torch.arange(-3, 9, dtype=torch.int16),
        byte=torch.arange(5, dtype=torch.uint8),
        bool=torch.tensor([True, False, True]),
        scalar=torch.tensor(7),
        empty=torch.zeros(0, 3),
    )
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]  # as nn.Module leaves it
    return state


# ------------------------------------------------------------------ sound files


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("is_attribute_dict", [False, True])
@pytest.mark.parametrize("root", ["pytorch_lightning", "lightning"])
def test_a_lightning_checkpoint_comes_out_exactly(
    root: str, is_attribute_dict: bool, protocol: int, tmp_path: Path
) -> None:
    state = weights()
    path = write_lightning(
        tmp_path / "a.ckpt", state, ARGS, is_attribute_dict=is_attribute_dict, root=root, protocol=protocol
    )
    before = set(sys.modules)
    read = read_checkpoint(path)
    assert not {name for name in set(sys.modules) - before if "lightning" in name}
    assert list(read.state_dict) == list(state)
    for name, value in state.items():
        assert read.state_dict[name].dtype == value.dtype
        assert torch.equal(read.state_dict[name], value.detach()), name
    args = dict(read.hyper_parameters["args"])
    gpus = args.pop("gpus")
    assert isinstance(gpus, Name)
    assert gpus.path == f"{root}.utilities.argparse._gpus_arg_default"
    assert args == {**ARGS, "tags": {"a", "b"}}
    assert read.inert == tuple(
        f"{root}.{name}"
        for name in (
            "callbacks.early_stopping.EarlyStopping",
            "callbacks.model_checkpoint.ModelCheckpoint",
            "utilities.argparse._gpus_arg_default",
            "utilities.parsing.AttributeDict",
        )
    )


def test_views_of_one_storage_stay_views(tmp_path: Path) -> None:
    read = read_checkpoint(write_lightning(tmp_path / "a.ckpt", weights(), ARGS)).state_dict
    read["float"][1, 0] = 99
    assert read["view"][0, 0] == 99
    assert read["transposed"][0, 1] == 99


def test_plain_values_of_every_kind_come_out(tmp_path: Path) -> None:
    shared = [1, 2]
    values = {
        "tuple": (1, (2.5, None), True),
        "nested": {"a": [shared, shared], "b": {1: "x", (1, 2): "y"}},
        "set": {1, 2},
        "frozen": frozenset("ab"),
        "complex": 1 + 2j,
        "large": 2**200,
        "text": "größe\n",
        "tensor": torch.arange(3),
        "ordered": OrderedDict(a=1),
        "default": defaultdict(list, {"a": [1]}),
        "space": Namespace(a=Namespace(b=1)),
    }
    for protocol in (2, 4):
        torch.save({"state_dict": {}, "hyper_parameters": values}, tmp_path / "a.ckpt", pickle_protocol=protocol)
        read = read_checkpoint(tmp_path / "a.ckpt").hyper_parameters
        assert torch.equal(read.pop("tensor"), torch.arange(3))
        assert read["nested"]["a"][0] is read["nested"]["a"][1]
        expected = {k: v for k, v in values.items() if k != "tensor"}
        assert read == expected | {"space": {"a": {"b": 1}}}
        assert type(read["frozen"]) is frozenset and type(read["tuple"]) is tuple


def test_safetensors_take_their_entry_of_the_config_beside_them(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.arange(3.0)}, tmp_path / "gpt.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"gpt": {"layers": 2}, "vqvae": {"n_codes": 4}}))
    read = read_checkpoint(tmp_path / "gpt.safetensors")
    assert torch.equal(read.state_dict["a"], torch.arange(3.0))
    assert read.hyper_parameters == {"layers": 2}
    (tmp_path / "config.json").write_text(json.dumps({"layers": 3}))
    assert read_checkpoint(tmp_path / "gpt.safetensors").hyper_parameters == {"layers": 3}


# ------------------------------------------------------------------ pickles by hand


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(path: str) -> bytes:
    module, _, last = path.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def call(path: str, *arguments: bytes) -> bytes:
    return name(path) + b"(" + b"".join(arguments) + b"tR"


def storage(kind: str = "torch.FloatStorage", key: bytes = text("0"), n: int = 4) -> bytes:
    return b"(" + text("storage") + name(kind) + key + text("cpu") + number(n) + b"tQ"


def tensor(
    of: bytes = storage(),
    offset: int = 0,
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    last: bytes = b"",
) -> bytes:
    shape, strides = (b"(" + b"".join(map(number, n)) + b"t" for n in (size, stride))
    last = last or b"\x89" + call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", of, number(offset), shape, strides, last)


def checkpoint(**places: bytes) -> bytes:
    """Pickle a dictionary of what stands in these places; ``weights`` are what the state_dict holds under "w"."""
    if "state_dict" not in places:
        places = {"state_dict": b"}" + text("w") + places.pop("weights", tensor()) + b"s", **places}
    return b"\x80\x02}(" + b"".join(text(k) + v for k, v in places.items()) + b"u."


def archive(path: Path, pickled: bytes, records: Mapping[str, bytes] | None = None, **options: Any) -> Path:
    records = {"data/0": np.arange(4, dtype=np.float32).tobytes(), "version": b"3"} | dict(records or {})
    with zipfile.ZipFile(path, "w", **options) as file:
        for record, content in {"data.pkl": pickled, **records}.items():
            file.writestr(f"archive/{record}", content)
    return path


def refused(path: Path) -> str:
    """Read a file that must be refused in one line that names it."""
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    said = str(error.value)
    assert said.startswith(str(path))
    assert "\n" not in said and said.isascii() and len(said) < 500
    return said.removeprefix(str(path))


def test_what_is_written_by_hand_is_read(tmp_path: Path) -> None:
    read = read_checkpoint(archive(tmp_path / "a.ckpt", checkpoint(hyper_parameters=b"}")))
    assert torch.equal(read.state_dict["w"], torch.arange(4.0))
    assert read.hyper_parameters == {}
    assert read.inert == ()


@pytest.mark.parametrize(
    ("kind", "dtype", "width"),
    [("Float", torch.float32, 4), ("BFloat16", torch.bfloat16, 2), ("Long", torch.int64, 8), ("Bool", torch.bool, 1)],
)
def test_a_file_of_the_other_byte_order_gives_the_same_numbers(
    kind: str, dtype: torch.dtype, width: int, tmp_path: Path
) -> None:
    expected = torch.tensor([0.0, 1.0, -3.5, 1e3]).to(dtype)
    little = expected.view(torch.uint8).reshape(4, width).numpy()
    pickled = checkpoint(weights=tensor(storage(f"torch.{kind}Storage")))
    for order, record in (("little", little), ("big", little[:, ::-1])):
        path = archive(tmp_path / order, pickled, {"data/0": record.tobytes(), "byteorder": order.encode()})
        assert torch.equal(read_checkpoint(path).state_dict["w"], expected)


def test_bytes_that_are_no_bool_become_true(tmp_path: Path) -> None:
    pickled = checkpoint(weights=tensor(storage("torch.BoolStorage")))
    read = read_checkpoint(archive(tmp_path / "a.ckpt", pickled, {"data/0": b"\x00\x01\x02\xff"})).state_dict["w"]
    assert read.view(torch.uint8).tolist() == [0, 1, 1, 1]


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
        "from reelworld.worlds.inert_pickle import Refused, read_pickle\n"
        "endless = b')' + b'\\x85' * 400_000\n"
        "read_pickle(b'\\x80\\x02' + endless + b'.')\n"
        "try:\n    read_pickle(b'\\x80\\x02}' + endless + b'\\x88s.')\n"
        "except Refused as reason:\n    print(reason)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout == "it has a tuple for a key\n"


# ------------------------------------------------------------------ zips and files


def test_zips_that_are_not_checkpoints_are_refused(tmp_path: Path) -> None:
    sound = checkpoint()

    def written(name: str, *records: tuple[str, bytes], **options: Any) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", **options) as file:
            for record, content in records:
                file.writestr(record, content)
        return tmp_path / name

    assert "0 PyTorch pickles" in refused(written("npz", ("frames.npy", b"x")))
    assert "2 PyTorch pickles" in refused(written("two", ("a/data.pkl", sound), ("b/data.pkl", sound)))
    assert "0 PyTorch pickles" in refused(written("deep", ("a/../data.pkl", sound)))
    assert "0 PyTorch pickles" in refused(written("bare", ("data.pkl", sound)))
    assert "TorchScript" in refused(written("script", ("a/data.pkl", sound), ("a/code/x.py", b"")))
    assert "TorchScript" in refused(written("script2", ("a/data.pkl", sound), ("a/constants.pkl", b"")))
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = written("twice", ("a/data.pkl", sound), ("a/data/0", b"x"), ("a/data/0", b"y"))
    assert "twice" in refused(twice).removeprefix("twice")
    assert "byte order" in refused(archive(tmp_path / "order", sound, {"byteorder": b"middle"}))
    packed = archive(tmp_path / "packed", sound, {"data/0": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED)
    assert "more bytes than the file" in refused(packed)
    mild = archive(tmp_path / "mild", sound, {"pad": bytes(range(256)) * 4}, compression=zipfile.ZIP_DEFLATED)
    assert mild.stat().st_size < 2000  # compressed, though no bomb
    assert "compress" in refused(mild)
    huge = archive(tmp_path / "huge", sound + bytes(17 << 20))
    assert "16 MiB" in refused(huge)


def test_a_real_torchscript_archive_is_named(tmp_path: Path) -> None:
    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Twice()).save(tmp_path / "i3d.pt")
    assert "TorchScript" in refused(tmp_path / "i3d.pt")


def test_files_that_are_not_checkpoints_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert "empty" in refused(tmp_path / "empty")
    (tmp_path / "text").write_text("these are not the weights you look for")
    assert "not a checkpoint" in refused(tmp_path / "text")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"state_dict": {}}))
    assert "bare pickle" in refused(tmp_path / "pickle")
    torch.save({"state_dict": {}}, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    assert "before 1.6" in refused(tmp_path / "legacy")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "bare.pt")
    assert "weights alone" in refused(tmp_path / "bare.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    assert "no state_dict" in refused(tmp_path / "list.pt")
    (tmp_path / "folder").mkdir()
    assert "is a folder" in refused(tmp_path / "folder")
    assert "does not exist" in refused(tmp_path / "absent")
    assert "no file" in refused(Path("/dev/null"))


def test_broken_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(64)}, path)
    assert "no config.json" in refused(path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config\.json has no object"):
        read_checkpoint(path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not valid JSON"):
        read_checkpoint(path)
    (tmp_path / "config.json").write_text("{}")
    path.write_bytes(path.read_bytes()[:-8])
    assert "copy it again" in refused(path)
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    assert "copy it again" in refused(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_lightning(tmp_path_factory.mktemp("sound") / "a.ckpt", weights(), ARGS).read_bytes()


@given(st.data())
def test_damaged_files_give_one_line_or_what_they_held(
    sound: bytes, tmp_path_factory: Any, data: st.DataObject
) -> None:
    """Cut anywhere, or with bytes turned over: never another exception than the one for users."""
    cut = data.draw(st.integers(0, len(sound)))
    spoilt = bytearray(sound[:cut] if data.draw(st.booleans()) else sound)
    for at in data.draw(st.lists(st.integers(0, max(0, len(spoilt) - 1)), max_size=4)):
        if spoilt:
            spoilt[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "spoilt.ckpt"
    path.write_bytes(spoilt)
    try:
        read_checkpoint(path)
    except UserError as error:
        assert "\n" not in str(error)


@given(st.data())
def test_pickles_with_any_bytes_are_read_or_refused(sound: bytes, data: st.DataObject) -> None:
    with zipfile.ZipFile(io.BytesIO(sound)) as file:
        pickled = bytearray(file.read("a/data.pkl"))
    for at in data.draw(st.lists(st.integers(0, len(pickled) - 1), min_size=1, max_size=8)):
        pickled[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Refused):
        read_pickle(bytes(pickled))
