"""1xgpt's layout -> a world: against a plain program of the same numbers, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.systems.genie.genie_1x_files import BASE, VARIANTS, logits, random_weights, write_folder
from torch import Tensor

from reelworld.models.samplers import SamplerConfig
from reelworld.systems.genie.convert import NAMES, import_world
from reelworld.types import Codes, Conditions, UserError
from reelworld.worlds.world import World


def config_of(variant: str) -> dict[str, Any]:
    return {**BASE, **VARIANTS[variant]}


def masked_ids(config: dict[str, Any], batch: int = 2) -> Tensor:
    """Codes of whole windows, a third of those after the first frame masked."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, config["image_vocab_size"], (batch, config["T"], config["S"]), generator=generator)
    is_mask = torch.rand(ids.shape, generator=generator) < 0.3
    is_mask[:, 0] = False
    return ids.masked_fill(is_mask, config["image_vocab_size"])


@pytest.mark.parametrize("kind", ["model", "state_dict", "bin"])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_logits_are_those_of_the_plain_program(variant: str, kind: str, tmp_path: Path) -> None:
    config = config_of(variant)
    weights = random_weights(config)
    world = import_world(write_folder(tmp_path / "genie", config, weights, kind))
    ids = masked_ids(config)
    is_mask = ids == config["image_vocab_size"]
    found = world.parts["dynamics"].logits(Codes.of(ids.masked_fill(is_mask, 0)), Conditions(), is_mask)
    torch.testing.assert_close(found, logits(weights, config, ids), rtol=1e-4, atol=1e-4)
    assert {k: tuple(v.shape) for k, v in NAMES.published(world.parts["dynamics"]).items()} == {
        k: tuple(v.shape) for k, v in weights.items()
    }
    assert sum(p.numel() for p in world.parts["dynamics"].parameters()) == sum(w.numel() for w in weights.values())


@pytest.mark.parametrize("variant", ["published", "three-factors", "mup"])
@torch.no_grad()
def test_a_world_continues_codes_as_the_plain_program(variant: str, tmp_path: Path) -> None:
    """One pass per frame, greedy, from the folder of the world; a full window begins anew with its prompt."""
    config = config_of(variant)
    weights, size = random_weights(config), config["factored_vocab_size"]
    import_world(write_folder(tmp_path / "genie", config, weights)).save(tmp_path / "world")
    world = World.load(tmp_path / "world")
    context = masked_ids(config)[:, :1] % config["image_vocab_size"]
    made = world.generate_codes(context.numpy(), n_frames=9, sampler=SamplerConfig(temperature=0.0))
    window = context
    for t in range(9):
        if window.shape[1] == config["T"]:
            window = window[:, -config["num_prompt_frames"] :]
        masked = torch.full_like(window[:, :1], config["image_vocab_size"])
        parts = logits(weights, config, torch.cat([window, masked], 1))[:, -1].split(size, -1)
        frame = sum(part.argmax(-1) * size**k for k, part in enumerate(parts))
        assert np.array_equal(made[:, t], frame.numpy()), t
        window = torch.cat([window, frame[:, None]], 1)
    assert len(np.unique(made)) > 3


@torch.no_grad()
def test_a_world_scores_codes_as_the_plain_program(tmp_path: Path) -> None:
    config = config_of("published")
    weights = random_weights(config)
    world = import_world(write_folder(tmp_path / "genie", config, weights))
    ids = masked_ids(config, 1) % config["image_vocab_size"]
    nats = []
    for t in range(1, config["T"]):
        shown = ids[:, : t + 1].clone()
        shown[:, t] = config["image_vocab_size"]
        parts = logits(weights, config, shown)[0, t].split(6, -1)
        for part, digit in zip(parts, (ids[0, t] % 6, ids[0, t] // 6), strict=True):
            nats.append(-part.log_softmax(-1).gather(1, digit[:, None]).sum())
    score = world.score_codes(ids[0].numpy())
    assert score.nats_per_frame == pytest.approx(float(sum(nats)) / (config["T"] - 1), rel=1e-4)
    assert score.kind == "exact"


def test_what_is_said_of_the_world(tmp_path: Path) -> None:
    config = config_of("published")
    world = import_world(write_folder(tmp_path / "GENIE_35M", config, random_weights(config)))
    assert world.info.name == "GENIE_35M"
    assert (world.spec.height, world.spec.width, world.spec.context[1]) == (48, 48, 2)
    assert world.info.sampler == SamplerConfig(steps=2, temperature=0.0, order="random")
    spec = world.parts["tokenizer"].spec(1, 48, 48)
    assert (spec.video.n_tokens, spec.video.codebook_size, spec.has_pictures) == (9, 36, False)
    world.save(tmp_path / "world")
    card = (tmp_path / "world" / "README.md").read_text()
    assert "generate_codes" in card and "reelworld play" not in card and "MAGVIT2" in card


def test_pictures_are_refused_in_one_line(tmp_path: Path) -> None:
    config = config_of("published")
    world = import_world(write_folder(tmp_path / "genie", config, random_weights(config)))
    video = torch.zeros(1, 2, 48, 48, 3)
    for refuse in (
        lambda: world.parts["tokenizer"].encode(video),
        lambda: world.parts["tokenizer"].decode(Codes.of(torch.zeros(1, 1, 9, dtype=torch.int64))),
        lambda: world.session().reset(np.zeros((1, 2, 48, 48, 3), np.uint8)),
    ):
        with pytest.raises(UserError, match=r"its tokenizer \(MAGVIT2 .* is not part of it"):
            refuse()


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "layers": ({"num_layers": 3}, "num_layers 3; its weights have 2"),
    "width": ({"d_model": 32}, "d_model 32; its weights have 16"),
    "frames": ({"T": 16}, "T 16; its weights have 3"),
    "tokens": ({"S": 16}, "S 16; its weights have 9"),
    "codebook": ({"image_vocab_size": 35}, "image_vocab_size 35; its weights have 36"),
    "factors": ({"num_factored_vocabs": 1}, "num_factored_vocabs 1; its weights have 2"),
    "factor": ({"factored_vocab_size": 36}, "factored_vocab_size 36; its weights have 6"),
    "qk-norm": ({"qk_norm": True}, "qk_norm True; its weights have False"),
    "bias": ({"qkv_bias": True}, "qkv_bias True; its weights have False"),
    "heads": ({"num_heads": 3}, "num_heads 3; its width of 16 is no multiple"),
    "no-heads": ({"num_heads": None}, "says nothing for num_heads"),
    "ratio": ({"mlp_ratio": 2.0}, "mlp_ratio 2.0; its weights have 64 of 16"),
    "rate": ({"non_mlm_ratio": 2}, "2 for non_mlm_ratio"),
    "mup": ({"use_mup": "yes"}, "'yes' for use_mup"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_configs_that_contradict_the_weights(case: str, tmp_path: Path) -> None:
    fields, said = CONTRADICTIONS[case]
    folder = write_folder(tmp_path, {**BASE, **fields}, random_weights(BASE))
    with pytest.raises(UserError) as error:
        import_world(folder)
    assert said in str(error.value) and "model.safetensors" in str(error.value) and "\n" not in str(error.value)


def test_fields_that_are_not_said_are_read_off_the_weights(tmp_path: Path) -> None:
    weights = random_weights(BASE)
    whole = import_world(write_folder(tmp_path / "a", BASE, weights))
    bare = import_world(write_folder(tmp_path / "b", {"num_heads": 2, "num_prompt_frames": 2}, weights))
    assert bare.parts["dynamics"].config == whole.parts["dynamics"].config


def cut(weights: dict[str, Tensor]) -> None:
    weights["out_x_proj.weight"] = weights["out_x_proj.weight"][:-1]


DAMAGE: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "missing": (lambda w: w.pop("decoder.layers.1.mlp.fc2.bias"), "1 missing"),
    "surplus": (lambda w: w.update(extra=torch.zeros(1)), "1 surplus"),
    "renamed": (
        lambda w: w.update(a=torch.zeros(1), pos_embed=torch.zeros(1), out_x_bias=w.pop("out_x_proj.bias")),
        "1 missing ('out_x_proj.bias'), 3 surplus ('out_x_bias')",
    ),
    "shape": (cut, "out_x_proj.weight of torch.float32 (11, 16); wanted"),
    "whole-numbers": (
        lambda w: w.update({"out_x_proj.bias": torch.zeros(12, dtype=torch.int64)}),
        "out_x_proj.bias of torch.int64",
    ),
    "another-model": (lambda w: w.clear() or w.update(a=torch.zeros(1)), "no STMaskGIT"),
    "no-square": (lambda w: w.update(pos_embed_TSC=torch.zeros(1, 3, 8, 16)), "square number of tokens"),
    "no-embedding": (
        lambda w: [w.pop(f"token_embed.factored_embeds.{k}.weight") for k in range(2)],
        "factored_embeds.0.weight",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_weights_that_do_not_fit(case: str, tmp_path: Path) -> None:
    damage, said = DAMAGE[case]
    weights = random_weights(BASE)
    damage(weights)
    with pytest.raises(UserError) as error:
        import_world(write_folder(tmp_path, BASE, weights))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; wanted a folder"):
        import_world(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no weights"):
        import_world(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        import_world(tmp_path / "file")
    folder = write_folder(tmp_path / "a", BASE, random_weights(BASE))
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json"):
        import_world(folder)
    folder = write_folder(tmp_path / "b", BASE, random_weights(BASE), "bin")
    (folder / "config.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match="no object"):
        import_world(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="weights alone"):
        import_world(folder)


def test_codes_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    world = import_world(write_folder(tmp_path, BASE, random_weights(BASE)))
    for codes, said in (
        (np.zeros((1, 2, 8), np.int64), "3x3 codes of a frame"),
        (np.zeros((1, 2, 9)), "float64"),
        (np.full((1, 2, 9), 36), "this world has 0..35"),
        (np.zeros((1, 0, 9), np.int64), "0 frames of codes"),
    ):
        with pytest.raises(UserError, match=said):
            world.generate_codes(codes, n_frames=1)
    with pytest.raises(UserError, match="needs at least 2"):
        world.score_codes(np.zeros((1, 9), np.int64))
    with pytest.raises(UserError, match="how many frames"):
        world.generate_codes(np.zeros((1, 2, 9), np.int64))
