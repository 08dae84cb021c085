"""`reelworld import`: output and files; user errors are one line and change no file."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.lightning_files import write_lightning
from tests.systems.genie.genie_1x_files import BASE, random_weights, write_folder
from tests.systems.ivideogpt.ivideogpt_files import write_tokenizer, write_transformer
from tests.systems.videogpt.videogpt_files import VARIANTS, make_parts, prior_args, prior_weights, write_pair

from reelworld.cli.main import main
from reelworld.worlds.world import World


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Checkpoints of a VQ-VAE, and of a prior that does not hold it."""
    return write_pair(tmp_path_factory.mktemp("pair"), make_parts(**VARIANTS["frame"]), with_vqvae=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command line that must fail in one line, with code 2, and change nothing below ``folder``."""
    before = contents(folder)
    capsys.readouterr()
    code = main(["import", *(str(word) for word in words)])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err
    assert contents(folder) == before
    return err


def test_import_writes_a_world_and_says_what_it_is(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    vqvae, prior = pair
    out = tmp_path / "worlds" / "mine"
    words = ["import", "videogpt", "--vqvae", str(vqvae), "--prior", str(prior), "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr().out
    world = World.load(out)
    for text in (
        *("vqvae.ckpt (sha256 ", "gpt.ckpt (sha256 ", "8 frames of 32x32 pixels; frame rate unknown", "4x4x4 per clip"),
        *("32 codes of width 8", "24 wide, 2 heads, 2 layers, full attention", "the first 1 frame(s) as pixels"),
        "neither imported nor called: pytorch_lightning.callbacks.early_stopping.EarlyStopping, ",
        f"reelworld generate {out} --image PICTURE --out clip.mp4",
        f"reelworld eval {out} --data RECORDINGS",
    ):
        assert text in said, text
    assert "reelworld play" not in said  # it wants a frame to begin from
    assert "frame rate unknown" in (out / "README.md").read_text()
    assert world.info.provenance["imported"]["prior"]["sha256"][:12] in said
    assert "holds a world already" in refused(tmp_path, capsys, *words[1:])
    assert main([*words, "--force"]) == 0


def test_a_prior_that_holds_its_vqvae_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, prior = write_pair(tmp_path, make_parts(**VARIANTS["class"]))
    assert main(["import", "videogpt", "--prior", str(prior), "--out", str(tmp_path / "world")]) == 0
    said = capsys.readouterr().out
    assert "the one in the prior's file" in said
    assert "one of 3 classes" in said
    assert "reelworld play" in said
    assert World.load(tmp_path / "world").spec.classes == ("class 0", "class 1", "class 2")


class Runs:
    """Runs a command where a pickle of it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


class Fetches:
    """Calls a function of torch where a pickle of it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.hub.load_state_dict_from_url, ("http://localhost/weights.pth",)


class Allocates:
    """Asks for a terabyte of memory where a pickle of it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (1 << 40,)


def hostile(path: Path, place: str, thing: object) -> None:
    parts = config, *_ = make_parts(**VARIANTS["frame"])
    whole: dict[str, Any] = {
        "state_dict": prior_weights(*parts, with_vqvae=True),
        "hyper_parameters": {"args": prior_args(config)},
        "callbacks": {},
    }
    whole[place]["thing"] = thing
    torch.save(whole, path)


BAD_PRIORS: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "absent": (lambda p: None, ["does not exist"]),
    "a-folder": (lambda p: p.mkdir(), ["is a folder"]),
    "empty": (lambda p: p.write_bytes(b""), ["is empty"]),
    "text": (lambda p: p.write_text("<html>Google Drive - Quota exceeded</html>"), ["not a checkpoint", ".ckpt"]),
    "bare-pickle": (lambda p: p.write_bytes(pickle.dumps(Runs())), ["bare pickle"]),
    "weights-alone": (lambda p: torch.save(torch.nn.Linear(1, 1).state_dict(), p), ["weights alone"]),
    "another-model": (lambda p: write_lightning(p, torch.nn.Linear(1, 1).state_dict(), {}), ["no VideoGPT model"]),
    "old-format": (
        lambda p: torch.save({"state_dict": {}}, p, _use_new_zipfile_serialization=False),
        ["before 1.6"],
    ),
    "runs-in-callbacks": (lambda p: hostile(p, "callbacks", Runs()), ["posix.system"]),
    "runs-in-settings": (lambda p: hostile(p, "hyper_parameters", Runs()), ["posix.system"]),
    "runs-in-weights": (lambda p: hostile(p, "state_dict", Runs()), ["posix.system"]),
    "allocates-in-callbacks": (lambda p: hostile(p, "callbacks", Allocates()), ["builtins.bytearray"]),
    "fetches-in-settings": (
        lambda p: hostile(p, "hyper_parameters", Fetches()),
        ["torch.hub.load_state_dict_from_url"],
    ),
    "fetches-in-weights": (lambda p: hostile(p, "state_dict", Fetches()), ["torch.hub.load_state_dict_from_url"]),
}


@pytest.mark.parametrize("flag", ["prior", "vqvae"])
@pytest.mark.parametrize("case", BAD_PRIORS)
def test_bad_checkpoints(
    case: str,
    flag: str,
    pair: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare, said = BAD_PRIORS[case]
    prepare(tmp_path / "bad.ckpt")
    files = {"vqvae": pair[0], "prior": pair[1], flag: tmp_path / "bad.ckpt"}
    words = [word for name, path in files.items() for word in (f"--{name}", path)]
    line = refused(tmp_path, capsys, "videogpt", *words, "--out", tmp_path / "world")
    assert all(word in line for word in [*said, "bad.ckpt"]), line
    assert sorted(p.name for p in tmp_path.iterdir()) in ([], ["bad.ckpt"])  # no world, and nothing ran


def test_what_only_callbacks_call_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def never(*args: object) -> None:
        raise AssertionError("it was called")

    hostile(tmp_path / "gpt.ckpt", "callbacks", Fetches())
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", never)
    assert main(["import", "videogpt", "--prior", "gpt.ckpt", "--out", "world"]) == 0
    passed_over = World.load(tmp_path / "world").info.provenance["names_passed_over"]
    assert passed_over == ["torch.hub.load_state_dict_from_url"]


def test_halves_and_pairs_that_do_not_fit(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vqvae, prior = pair
    other, _ = write_pair(tmp_path, make_parts(**VARIANTS["frame"], tokenizer__n_codes=64))
    out = ("--out", tmp_path / "world")
    assert "half of a pair" in refused(tmp_path, capsys, "videogpt", "--prior", prior, *out)
    assert "--prior" in refused(tmp_path, capsys, "videogpt", "--vqvae", vqvae, *out)
    assert "--out" in refused(tmp_path, capsys, "videogpt", "--prior", prior)
    assert "does not fit" in refused(tmp_path, capsys, "videogpt", "--vqvae", other, "--prior", prior, *out)
    assert "--prior wants" in refused(tmp_path, capsys, "videogpt", "--vqvae", prior, "--prior", vqvae, *out)
    assert "SYSTEM" in refused(tmp_path, capsys, "--prior", prior, *out)
    assert "videogpt" in refused(tmp_path, capsys, "video-gpt", "--prior", prior, *out)


def test_what_stands_in_the_way_of_the_world(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    words = ["videogpt", "--vqvae", pair[0], "--prior", pair[1], "--out"]
    assert "not a world" in refused(tmp_path, capsys, *words, tmp_path / "notes")
    assert "not a world" in refused(tmp_path, capsys, *words, tmp_path / "notes", "--force")
    assert "is a file" in refused(tmp_path, capsys, *words, tmp_path / "notes" / "a.txt")
    assert "is a file" in refused(tmp_path, capsys, *words, tmp_path / "notes" / "a.txt" / "world")


def test_safetensors_without_a_config_or_with_a_broken_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = config, *_ = make_parts(**VARIANTS["alone"])
    tensors = {k: v.contiguous() for k, v in prior_weights(*parts, with_vqvae=True).items()}
    path = tmp_path / "gpt.safetensors"
    safetensors.torch.save_file(tensors, path)
    words = ["videogpt", "--prior", path, "--out", tmp_path / "world"]
    assert "no config.json" in refused(tmp_path, capsys, *words)
    (tmp_path / "config.json").write_text("{")
    assert "not valid JSON" in refused(tmp_path, capsys, *words)
    (tmp_path / "config.json").write_text(json.dumps({"gpt": [1]}))
    assert "no object" in refused(tmp_path, capsys, *words)
    (tmp_path / "config.json").write_text(json.dumps({"other": prior_args(config)}))
    assert "resolution" in refused(tmp_path, capsys, *words)
    (tmp_path / "config.json").write_text(json.dumps({"gpt": prior_args(config)}))
    assert main(["import", *map(str, words)]) == 0


# ------------------------------------------------------------------ genie-1x


@pytest.mark.parametrize("kind", ["model", "bin"])
def test_genie_becomes_a_world_of_codes(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder, out = write_folder(tmp_path / "GENIE_S", BASE, random_weights(BASE), kind), tmp_path / "world"
    words = ["import", "genie-1x", str(folder), "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr().out
    for text in (
        *("GENIE_S", "3x3 per frame, 36 codes as 6 x 6", "16 wide, 2 heads, 2 layers", "3 frames; a longer run"),
        *("MAGVIT2 of 1x-technologies/1xgpt, not part of it", "generate_codes", f"world: {out}"),
    ):
        assert text in said, text
    assert "reelworld play" not in said and "reelworld generate" not in said
    assert World.load(out).generate_codes([[[0] * 9]], n_frames=2).shape == (1, 2, 9)
    assert "holds a world already" in refused(tmp_path, capsys, *words[1:])
    assert main([*words, "--force"]) == 0


def test_worlds_without_pictures_are_refused_by_the_verbs_that_show_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_folder(tmp_path / "genie", BASE, random_weights(BASE)), tmp_path / "world"
    assert main(["import", "genie-1x", str(folder), "--out", str(out)]) == 0
    for words in (
        ["play", str(out), "--port", "0"],
        ["generate", str(out), "--out", str(tmp_path / "a.mp4")],
        ["eval", str(out), "--data", str(tmp_path)],
        ["bench", str(out), "--allow-busy"],
    ):
        capsys.readouterr()
        assert main(words) == 2, words
        err = capsys.readouterr().err
        assert "a world without pictures" in err and "generate_codes" in err and err.count("\n") == 1


def test_genie_mistakes_leave_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, out = random_weights(BASE), ("--out", tmp_path / "world")
    folder = write_folder(tmp_path / "genie", BASE, weights, "bin")
    assert "DIR" in refused(tmp_path, capsys, "genie-1x", *out)
    assert "--out" in refused(tmp_path, capsys, "genie-1x", folder)
    assert "--prior" in refused(tmp_path, capsys, "genie-1x", folder, "--prior", "x", *out)
    assert "did you mean 'genie-1x'" in refused(tmp_path, capsys, "genie", folder, *out)
    assert "SYSTEM is missing" in refused(tmp_path, capsys)
    assert "does not exist" in refused(tmp_path, capsys, "genie-1x", tmp_path / "absent", *out)
    assert "is a file" in refused(tmp_path, capsys, "genie-1x", folder / "config.json", *out)
    (folder / "config.json").write_text(json.dumps({**BASE, "num_layers": 9}))
    assert "num_layers 9" in refused(tmp_path, capsys, "genie-1x", folder, *out)
    torch.save({**weights, "thing": Runs()}, folder / "pytorch_model.bin")
    assert "posix.system" in refused(tmp_path, capsys, "genie-1x", folder, *out)
    (folder / "pytorch_model.bin").write_bytes((folder / "pytorch_model.bin").read_bytes()[:-300])
    assert "damaged" in refused(tmp_path, capsys, "genie-1x", folder, *out)


# ------------------------------------------------------------------ ivideogpt


def test_ivideogpt_becomes_a_world(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    tokenizer, transformer = write_tokenizer(tmp_path / "tokenizer"), write_transformer(tmp_path / "transformer")
    out = tmp_path / "world"
    words = ["import", "ivideogpt", "--tokenizer", str(tokenizer), "--transformer", str(transformer), "--out", str(out)]
    assert main([*words, "--action-dim", "4"]) == 0
    said = capsys.readouterr().out
    for text in (
        *("diffusion_pytorch_model.safetensors (sha256 ", "model.safetensors (sha256 ", "16x16 pixels"),
        *("8x8 of 20 per context frame, 2x2 of 12 per later frame", "16 frames, 2 of them context"),
        *(
            "actions of 4 numbers",
            "the head for actions of 4 numbers is new",
            f"reelworld play {out} --data RECORDINGS",
        ),
    ):
        assert text in said, text
    world = World.load(out)
    assert world.info.actions["action"].n == 4 and world.spec.context[1] == 2


def test_ivideogpt_mistakes_leave_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer, transformer = write_tokenizer(tmp_path / "tokenizer"), write_transformer(tmp_path / "transformer", 3)
    out = ("--out", tmp_path / "world")

    def line(coder: Path, dynamics: Path, *more: object) -> str:
        return refused(tmp_path, capsys, "ivideogpt", "--tokenizer", coder, "--transformer", dynamics, *more, *out)

    assert "holds no tokenizer of iVideoGPT" in line(transformer, tokenizer)
    assert "holds no transformer of iVideoGPT" in line(tokenizer, tokenizer)
    assert "does not exist" in line(tmp_path / "absent", transformer)
    assert "takes actions of 3 numbers" in line(tokenizer, transformer, "--action-dim", "4")
    assert "give 0 or more" in line(tokenizer, transformer, "--frames", "-1")
    assert "--transformer" in refused(tmp_path, capsys, "ivideogpt", "--tokenizer", tokenizer, *out)
    (transformer / "model.safetensors").write_bytes(b"no weights")
    assert "not a checkpoint" in line(tokenizer, transformer)
    (tokenizer / "config.json").unlink()
    assert "no config.json beside it" in line(tokenizer, transformer)


@pytest.mark.parametrize("words", [[], ["videogpt"], ["genie-1x"], ["ivideogpt"]])
def test_help_of_each_system(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", *words, "--help"]) == 0
    said = capsys.readouterr().out
    assert "reelworld import genie-1x" in said and "--out FOLDER" in said
    assert ("--prior" in said.split("usage:")[1]) == (words == ["videogpt"])
    assert ("DIR" in said.split("usage:")[1]) == (words in (["genie-1x"], ["ivideogpt"]))
