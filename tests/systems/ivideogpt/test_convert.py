"""iVideoGPT's layout -> a world: all tensors are used, new parts are listed, mismatches are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.systems.ivideogpt.ivideogpt_files import write_tokenizer, write_transformer

from reelworld.nn.pixels import to_float
from reelworld.systems.ivideogpt.context_vqgan import with_context
from reelworld.systems.ivideogpt.convert import TOKENIZER_NAMES, import_world, transformer_names
from reelworld.types import UserError
from reelworld.worlds.world import World


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer's folder."""
    return write_tokenizer(tmp_path_factory.mktemp("published") / "tokenizer")


def frames(n_frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, n_frames, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize(("action_dim", "has_rewards"), [(0, False), (3, False), (3, True)])
def test_every_tensor_is_used_and_nothing_else(action_dim: int, has_rewards: bool, coder: Path, tmp_path: Path) -> None:
    folder = write_transformer(tmp_path / "transformer", action_dim, has_rewards)
    import_world(coder, folder).save(tmp_path / "world")
    world = World.load(tmp_path / "world")
    pairs = (
        (TOKENIZER_NAMES.published(world.parts["tokenizer"]), coder / "diffusion_pytorch_model.safetensors"),
        (transformer_names(action_dim > 0).published(world.parts["dynamics"]), folder / "model.safetensors"),
    )
    for found, file in pairs:
        wanted = load_file(file)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    learned = sum(p.numel() for part in world.parts.values() for p in part.parameters())
    assert learned == sum(t.numel() for _, file in pairs for t in load_file(file).values())
    config = world.parts["dynamics"].config
    assert {name: spec.n for name, spec in config.actions.items()} == ({"action": 3} if action_dim else {})
    assert (config.has_rewards, config.frames, config.context_frames) == (has_rewards, 16, 2)
    assert config.transformer.dropout == 0.1
    assert world.info.sampler.top_k == 100
    assert world.info.provenance["changes"] == []


def test_it_plays(coder: Path, tmp_path: Path) -> None:
    """Frames differ with actions, and rewards come with them; longer than the window."""
    world = import_world(coder, write_transformer(tmp_path / "transformer", 3, True), frames=5)
    runs = []
    for sign in (-1, 1):
        session = world.session(1, seed=0)
        session.reset(frames(2))
        steps = [session.step(np.full((1, 3), sign * 3.0, np.float32)) for _ in range(5)]
        runs.append(np.stack([s.frame for s in steps]))
        assert len({float(s.reward[0]) for s in steps}) == 5
    assert not np.array_equal(*runs)


@torch.no_grad()
def test_a_new_head_for_actions_does_nothing_and_is_named(coder: Path, tmp_path: Path) -> None:
    folder = write_transformer(tmp_path / "transformer")
    bare, told = import_world(coder, folder), import_world(coder, folder, action_dim=4)
    assert told.info.actions["action"].n == 4
    assert told.info.provenance["changes"] == [
        "the head for actions of 4 numbers is new: actions do nothing until it is trained"
    ]
    runs = [
        w.generate(frames(2), None, a, seed=3)
        for w, a in ((bare, 3), (told, np.random.default_rng(0).normal(size=(1, 3, 4)).astype(np.float32)))
    ]
    assert np.array_equal(*runs)


@torch.no_grad()
def test_a_context_shrinks_from_its_beginning_and_grows_there(coder: Path, tmp_path: Path) -> None:
    folder = write_transformer(tmp_path / "transformer")
    learned = import_world(coder, folder)
    for n, said in ((1, "1 frames instead of 2: the positions of the last"), (4, "the first one's positions are")):
        world = import_world(coder, folder, context=n)
        assert world.spec.context[1] == world.parts["dynamics"].config.context_frames == n
        assert said in world.info.provenance["changes"][0]
        assert world.generate(frames(n), None, 2, seed=0).shape == (1, 2, 16, 16, 3)
        for name, tensor in world.parts["tokenizer"].state_dict().items():
            of_two = learned.parts["tokenizer"].state_dict()[name]
            if name.endswith("kv_pos_emb"):
                first, second = of_two.chunk(2)
                wanted = {1: [second], 4: [first, first, first, second]}[n]
                assert torch.equal(tensor, torch.cat(wanted))
            else:
                assert torch.equal(tensor, of_two)
    one, two = frames(1), frames(3)
    two[:, 0], two[:, 1] = one[:, 0], one[:, 0]
    again = with_context(with_context(learned.parts["tokenizer"], 3), 2)
    codes = [t.eval().encode(to_float(torch.from_numpy(two))).video for t in (again, learned.parts["tokenizer"])]
    assert torch.equal(*codes)


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change a config or the tensors of a folder."""
    path = folder / name
    if name.endswith("json"):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    else:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
    return folder


WEIGHTS = "diffusion_pytorch_model.safetensors"
BAD_TOKENIZERS: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "other-codebook": ("config.json", lambda c: c.update(num_vq_embeddings=21), "says num_vq_embeddings 21.*have 20"),
    "no-channels": ("config.json", lambda c: c.pop("block_out_channels"), "says .* for block_out_channels"),
    "odd-channels": ("config.json", lambda c: c.update(block_out_channels=[32, "x"]), "for block_out_channels"),
    "more-blocks": ("config.json", lambda c: c.update(block_out_channels=[32, 32, 64]), "3 block_out_channels; .* 2"),
    "resolution": ("config.json", lambda c: c.update(resolution=24), "resolution 24 .* do not belong together"),
    "huge": ("config.json", lambda c: c.update(block_out_channels=[32, 65504]), "do not belong together"),
    "patch": ("config.json", lambda c: c.update(patch_size=2), "says patch_size 2"),
    "attention": ("config.json", lambda c: c.update(max_att_resolution=4), "missing .* surplus"),
    "lacks": (WEIGHTS, lambda t: t.pop("decoder.conv_in.bias"), r"1 missing \('decoder.conv_in.bias'"),
    "surplus": (WEIGHTS, lambda t: t.update(more=torch.zeros(1)), r"1 surplus \('more'"),
    "another": (WEIGHTS, lambda t: t.pop("quant_linear.weight"), "holds no tokenizer of iVideoGPT"),
}


@pytest.mark.parametrize("case", BAD_TOKENIZERS)
def test_bad_tokenizers(case: str, tmp_path: Path) -> None:
    name, change, said = BAD_TOKENIZERS[case]
    bad = edit(write_tokenizer(tmp_path / "tokenizer"), name, change)
    refused(said, bad, write_transformer(tmp_path / "transformer"))


BAD_TRANSFORMERS: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "vocabulary": ("config.json", lambda c: c.update(vocab_size=16386), "says vocab_size 16386"),
    "heads": ("config.json", lambda c: c.update(num_attention_heads=3, num_key_value_heads=3), "num_attention_heads 3"),
    "grouped": ("config.json", lambda c: c.update(num_key_value_heads=1), "says num_key_value_heads 1"),
    "scaled": ("config.json", lambda c: c.update(rope_scaling={"type": "linear"}), "rope_scaling"),
    "tied": ("config.json", lambda c: c.update(tie_word_embeddings=True), "says tie_word_embeddings"),
    "base": ("config.json", lambda c: c.update(rope_theta="x"), "for rope_theta"),
    "places": ("config.json", lambda c: c.update(max_position_embeddings=100), "take fewer context frames"),
    "no-places": ("config.json", lambda c: c.pop("max_position_embeddings"), "nothing for max_position_embeddings"),
    "lacks": ("model.safetensors", lambda t: t.pop("model.norm.weight"), r"1 missing \('model.norm.weight'"),
    "another": ("model.safetensors", lambda t: t.pop("model.embed_tokens.weight"), "holds no transformer of iVideoGPT"),
}


@pytest.mark.parametrize("case", BAD_TRANSFORMERS)
def test_bad_transformers(case: str, coder: Path, tmp_path: Path) -> None:
    name, change, said = BAD_TRANSFORMERS[case]
    refused(said, coder, edit(write_transformer(tmp_path / "transformer"), name, change))


def test_what_is_asked_must_fit(coder: Path, tmp_path: Path) -> None:
    folder = write_transformer(tmp_path / "transformer", 3)
    refused("takes actions of 3 numbers; 5 were asked for", coder, folder, action_dim=5)
    refused("take at most 78 frames", coder, folder, frames=100)
    refused("frames is 2; it must be above context_frames", coder, folder, frames=2)

    def other(tensors: dict[str, Any]) -> None:
        for name in ("llm.model.embed_tokens.weight", "llm.lm_head.weight"):
            tensors[name] = torch.zeros(40, 16)

    foreign = edit(edit(folder, "model.safetensors", other), "config.json", lambda c: c.update(vocab_size=40))
    refused(r"vocabulary of 40; .* 20 \+ 12 codes and two slots make 34", coder, foreign)


def refused(said: str, tokenizer: Path, transformer: Path, **asked: int) -> None:
    with pytest.raises(UserError, match=said) as caught:
        import_world(tokenizer, transformer, **asked)
    assert "\n" not in str(caught.value)
