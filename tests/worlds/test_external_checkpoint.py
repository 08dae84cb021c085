"""External checkpoints: exact contents, and no execution of named or called code."""

from __future__ import annotations

import json
import pickle
import struct
import sys
import tarfile
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.lightning_files import write_lightning
from tests.worlds.written_pickles import archive, checkpoint, refused, storage, tensor

from reelworld.types import UserError
from reelworld.worlds.external_checkpoint import Name, read_checkpoint

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


@pytest.mark.parametrize("protocol", [2, 3])
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
    assert read.passed_over == tuple(
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
        "dtype": torch.float16,
        "size": torch.Size((2, 3)),
        "ordered": OrderedDict(a=1),
        "default": defaultdict(list, {"a": [1]}),
        "space": Namespace(a=Namespace(b=1)),
    }
    torch.save({"state_dict": {}, "hyper_parameters": values}, tmp_path / "a.ckpt")
    read: Any = read_checkpoint(tmp_path / "a.ckpt").hyper_parameters
    assert torch.equal(read.pop("tensor"), torch.arange(3))
    assert read["nested"]["a"][0] is read["nested"]["a"][1]
    assert read.pop("dtype").path == "torch.float16"
    expected = {k: v for k, v in values.items() if k not in ("tensor", "dtype")}
    assert read == expected | {"space": {"a": {"b": 1}}}
    assert type(read["frozen"]) is frozenset and type(read["tuple"]) is type(read["size"]) is tuple
    for protocol in (4, 5):
        torch.save({"state_dict": {}}, tmp_path / "new.ckpt", pickle_protocol=protocol)
        assert "read is protocol 2, as torch.save writes it" in refused(tmp_path / "new.ckpt")


def test_safetensors_take_their_entry_of_the_config_beside_them(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.arange(3.0)}, tmp_path / "gpt.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"gpt": {"layers": 2}, "vqvae": {"n_codes": 4}}))
    read = read_checkpoint(tmp_path / "gpt.safetensors")
    assert torch.equal(read.state_dict["a"], torch.arange(3.0))
    assert read.hyper_parameters == {"layers": 2}
    (tmp_path / "config.json").write_text(json.dumps({"layers": 3}))
    assert read_checkpoint(tmp_path / "gpt.safetensors").hyper_parameters == {"layers": 3}


def test_what_is_written_by_hand_is_read(tmp_path: Path) -> None:
    read = read_checkpoint(archive(tmp_path / "a.ckpt", checkpoint(hyper_parameters=b"}")))
    assert torch.equal(read.state_dict["w"], torch.arange(4.0))
    assert read.hyper_parameters == {}
    assert read.passed_over == ()


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
    huge = archive(tmp_path / "huge", sound + bytes(9 << 20))
    assert "8 MiB" in refused(huge)


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
    (tmp_path / "member").write_bytes(b"pickle")
    with tarfile.open(tmp_path / "tar", "w") as file:
        file.add(tmp_path / "member", "storages")
    assert "before 1.6" in refused(tmp_path / "tar")
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


@given(st.floats(0, 1), st.booleans(), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4))
def test_damaged_files_give_one_line_or_what_they_held(
    sound: bytes, tmp_path_factory: Any, cut: float, is_cut: bool, flips: list[tuple[float, int]]
) -> None:
    """Cut anywhere, or with bytes turned over: never another exception than the one for users."""
    spoilt = bytearray(sound[: round(cut * len(sound))] if is_cut else sound)
    for place, bits in flips if spoilt else ():
        spoilt[min(int(place * len(spoilt)), len(spoilt) - 1)] ^= bits
    path = tmp_path_factory.getbasetemp() / "spoilt.ckpt"
    path.write_bytes(spoilt)
    try:
        read_checkpoint(path)
    except UserError as error:
        assert "\n" not in str(error)
