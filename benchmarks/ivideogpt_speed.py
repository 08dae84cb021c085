"""How fast an iVideoGPT world of the published 64x64 size steps, forks and learns, beside the published way.

    python benchmarks/ivideogpt_speed.py --out benchmarks/results/ivideogpt-speed.json

The size is oxe_64 with actions of four numbers, weights are random: speed does not depend on them. An interactive step
is the codes of one frame (17 tokens) and its pixels, at batch 1. Ours in float32 and in bfloat16 (the transformer; the
tokenizer stays in float32), the published way (``published_ivideogpt.py``), candidates of a ``fork`` and candidates
that each have a copy of the past take turns frame by frame, and memory is read between them, so that what else the
machine does hits all of them. Before the clock starts, both ways must draw the same frame greedily.

The limit of a token is the time to read once, at the speed at which memory was read in the same run, all weights that
it needs and the keys and values that it sees.

A training step is the transformer's, without actions, at batch 1 and 751 tokens in float32 with AdamW; both ways have
the same weights and the same optimizer.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from harness import Memory, idle_state, in_turns, keep_speed, measure_memory, row, speed_flags
from published_ivideogpt import PublishedSteps, published_loss
from torch import Tensor

from reelworld.data.dataset import DataInfo
from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.nn.pixels import to_float
from reelworld.systems import find_system
from reelworld.systems.ivideogpt.config import PRESETS
from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN
from reelworld.systems.ivideogpt.model import build
from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer
from reelworld.systems.ivideogpt.transformer_state import IVideoGPTState
from reelworld.train.config import OptimConfig
from reelworld.train.optim import make_optimizer
from reelworld.train.world import untrained
from reelworld.types import ActionSpec, Batch, Codes, Conditions
from reelworld.worlds.world import World

SEED = 0
CANDIDATES = 8
ACTION = ActionSpec(kind="continuous", n=4)
GREEDY, BOLD = TokenSampler(SamplerConfig(temperature=0.0)), TokenSampler(SamplerConfig(top_k=100))


def make_world(size: str) -> World:
    """Build a world of random weights: "oxe_64", or "tiny" to try this file."""
    system, info = find_system("ivideogpt"), DataInfo(height=64, width=64, fps=3.0, actions={"action": ACTION})
    world = untrained(system, replace(PRESETS[size], actions="given"), info, SEED)
    torch.nn.init.normal_(world.model.dynamics.head.weight, std=0.1)  # so that greedy draws are not near ties
    return world


def first_frames(world: World) -> Tensor:
    """Make pictures to begin with, float in [-1, 1], (1, K, H, W, 3)."""
    spec = world.spec
    shape = (1, spec.context[1], spec.height, spec.width, 3)
    return to_float(torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(SEED), dtype=torch.uint8))


class Ours:
    """n streams that step as a session steps them, with the time of both halves."""

    def __init__(self, world: World, dynamics: IVideoGPTTransformer, state: IVideoGPTState, memory: Any) -> None:
        self.dynamics, self.tokenizer, self.state, self.memory = dynamics, world.model.tokenizer, state, memory
        n = len(state.reward)
        self.told = Conditions(actions={"action": torch.full((n, 1, ACTION.n), 0.5)})
        self.generators = [torch.Generator().manual_seed(SEED + i) for i in range(n)]
        self.drawing: list[float] = []
        self.decoding: list[float] = []

    def draw(self, sampler: TokenSampler = BOLD) -> Codes:
        """Draw the codes of the next frame."""
        begun = time.perf_counter()
        codes, self.state = self.dynamics.step(self.state, self.told, sampler, self.generators)
        self.drawing.append(time.perf_counter() - begun)
        return codes

    def step(self) -> None:
        """Draw a frame and decode it."""
        codes = self.draw()
        begun = time.perf_counter()
        self.tokenizer.decode_step(codes, self.memory)
        self.decoding.append(time.perf_counter() - begun)

    @property
    def milliseconds(self) -> np.ndarray:
        """Of each frame, without its pixels where none were decoded; the first one, which warms up, is left out."""
        seconds = np.array(self.drawing)
        return 1e3 * (seconds + np.array(self.decoding) if self.decoding else seconds)[1:]


def begin(world: World, dynamics: IVideoGPTTransformer) -> tuple[Codes, IVideoGPTState]:
    """Read the first frames."""
    codes = world.model.tokenizer.encode(first_frames(world))
    before = Conditions(actions={"action": torch.zeros(1, codes.video.shape[1] - 1, ACTION.n)})
    return codes, dynamics.prefill(codes, before)


def check_same(world: World, codes: Codes, state: IVideoGPTState) -> None:
    """Draw two frames greedily both ways.

    Raises:
        SystemExit: If they differ.
    """
    ours = Ours(world, world.model.dynamics, state.index_select(torch.zeros(1, dtype=torch.int64)), None)
    published = PublishedSteps(world.model.dynamics, world.model.tokenizer, codes)

    def legal(logits: Tensor, generator: Any) -> Tensor:
        """Ours never draws ids that no later frame has."""
        ids = world.model.dynamics.layout.frame_ids
        return logits[:, ids].argmax(-1) + ids.start

    greedy: Any = legal
    for _ in range(2):
        theirs = published.draw(torch.full((1, ACTION.n), 0.5), greedy, torch.Generator())
        if not torch.equal(ours.draw(GREEDY).video[:, 0], theirs):
            raise SystemExit("the published way draws another frame; nothing is measured.")


def bytes_of(dynamics: IVideoGPTTransformer, n_streams: int, is_shared: bool) -> Callable[[int], float]:
    """Count what one of the 17 tokens of a frame must read, on average, when so many tokens were read before it."""
    config, layout = dynamics.config.transformer, dynamics.layout
    size = dynamics.head.weight.element_size()
    weights = sum(p.numel() for p in dynamics.transformer.parameters()) * size
    head = layout.frame_codes * config.width * size * layout.frame_tokens / layout.stride
    of_token = 2 * config.layers * config.width * 4  # keys and values are float32 on a CPU

    def count(n_before: int) -> float:
        seen = n_before + (layout.stride + 1) / 2
        common = layout.prelude if is_shared else 0
        return weights + head + of_token * (common + n_streams * (seen - common))

    return count


def stepping(world: World, frames: int, memory: Memory, threads: int) -> list[dict[str, Any]]:
    """Measure frames, all ways in turn."""
    wide, tokenizer = world.model.dynamics, world.model.tokenizer
    half = IVideoGPTTransformer(wide.config).eval()
    half.load_state_dict(wide.state_dict())
    half.bfloat16()
    begun = time.perf_counter()
    codes, start = begin(world, wide)
    prefill = time.perf_counter() - begun
    check_same(world, codes, start)
    _, start_half = begin(world, half)
    memory_1, one = tokenizer.init_state(codes), torch.zeros(1, dtype=torch.int64)
    forked = start_half.index_select(torch.zeros(CANDIDATES, dtype=torch.int64))
    ways = {
        "float32": Ours(world, wide, start.index_select(one), memory_1),
        "bfloat16": Ours(world, half, start_half.index_select(one), memory_1),
        "fork": Ours(world, half, forked, None),
        "copies": Ours(world, half, IVideoGPTState.cat([start_half] * CANDIDATES), None),
    }
    published, theirs = PublishedSteps(wide, tokenizer, codes), []
    reads: list[float] = []
    generator = torch.Generator().manual_seed(SEED)
    for i in range(frames + 1):  # the first one warms up
        ways["float32"].step()
        ways["bfloat16"].step()
        ways["fork"].draw()
        ways["copies"].draw()
        reads += memory.probe() if i else []
        begun = time.perf_counter()
        published.step(torch.full((1, ACTION.n), 0.5), BOLD, generator)
        theirs += [1e3 * (time.perf_counter() - begun)] if i else []
    n_read = np.mean([wide.layout.length(world.spec.context[1] + i) for i in range(1, frames + 1)])
    limits = {
        name: 1e3 * bytes_of(way.dynamics, len(way.generators), name == "fork")(int(n_read)) * 17 / np.mean(reads) / 1e9
        for name, way in ways.items()
    }
    rows = [
        row(f"a frame{', the codes of ' + str(CANDIDATES) if name in ('fork', 'copies') else ''}"
            f"{', each with a copy of the past' if name == 'copies' else ''}",
            way.milliseconds, threads, "float32" if name == "float32" else "bfloat16")
        | drawn(way, limits[name], memory)
        for name, way in ways.items()
    ]  # fmt: skip
    other = row("a frame, the published way", np.array(theirs), threads, "float32")
    pairs = [("float32", rows[0]), ("bfloat16", rows[1])]
    for name, found in pairs:
        found["times_the_published_way"] = other["median"] / found["median"]
        found["decoding_ms"] = 1e3 * float(np.median(ways[name].decoding[1:]))
    rows[2]["times_one_stream"] = rows[2]["tokens_per_second"] / rows[1]["tokens_per_second"]
    rows[3]["times_one_stream"] = rows[3]["tokens_per_second"] / rows[1]["tokens_per_second"]
    prefilled = row("read the context: its codes, keys and values", np.array([1e3 * prefill]), threads, "float32")
    return [*rows, other, prefilled | {"times_read_for_a_fork": count_prefills(world)}]


def drawn(way: Ours, limit: float, memory: Memory) -> dict[str, Any]:
    """Say how fast codes were drawn, beside the limit."""
    n_tokens = way.dynamics.layout.stride * len(way.generators)
    drawing = 1e3 * float(np.median(way.drawing[1:]))
    return {
        "drawing_ms": drawing,
        "tokens_per_second": 1e3 * n_tokens / drawing,
        "limit_of_drawing_ms": limit,
        "limit_is": f"weights and visible keys and values read once per token by {memory.fastest}",
        "fraction_of_limit": limit / drawing,
    }


def count_prefills(world: World) -> int:
    """Count how often the context is read when a session forks into candidates that step."""
    calls, original = [], world.model.dynamics.prefill
    world.model.dynamics.prefill = lambda *given: (calls.append(1), original(*given))[1]
    session = world.session(1, SEED)
    session.reset(np.zeros((1, world.spec.context[1], world.spec.height, world.spec.width, 3), np.uint8))
    session.fork(CANDIDATES).step()
    del world.model.dynamics.prefill
    return len(calls)


def learning(size: str, steps: int, threads: int) -> list[dict[str, Any]]:
    """Measure training steps of the transformer, both ways in turn."""
    preset = PRESETS[size]
    config = replace(preset, actions="none", dynamics=replace(preset.dynamics, attn_dropout=0.0))
    parts: Any = build(config, DataInfo(height=64, width=64)).parts
    model: IVideoGPTTransformer = parts["dynamics"].train()
    tokenizer: ContextVQGAN = parts["tokenizer"]
    grids, shape = tokenizer.config.grids(), (1, config.clip_frames)
    generator = torch.Generator().manual_seed(SEED)
    codes = Codes({
        name: torch.randint(0, grid.codebook_size, (*shape, grid.n_tokens), generator=generator)
        for name, grid in grids.items()
    })  # fmt: skip
    ids, optimizer = model.layout.pack(codes), make_optimizer(model, OptimConfig(lr=1e-5))

    def ours() -> Tensor:
        total, count = model.loss(Batch(codes=codes)).terms["codes"]
        return total / count

    works = {"ours": ours, "theirs": lambda: published_loss(model, ids)}
    with torch.no_grad():
        if abs(float(works["ours"]()) - float(works["theirs"]())) > 1e-3:
            raise SystemExit("the published way has another loss; nothing is measured.")

    def learn(loss: Callable[[], Tensor]) -> None:
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    found = in_turns({name: partial(learn, loss) for name, loss in works.items()}, steps)
    what = f"a training step, {ids.shape[1]} tokens"
    mine = row(what, 1e3 * found["ours"], threads, "float32")
    other = row(f"{what}, the published way", 1e3 * found["theirs"], threads, "float32")
    return [mine | {"times_the_published_way": other["median"] / mine["median"]}, other]


def main() -> None:
    parser = speed_flags(__doc__)
    parser.add_argument("--size", default="oxe_64", choices=["oxe_64", "tiny"], help="tiny tries this file")
    parser.add_argument("--frames", type=int, default=10, help="frames per way; kept results have 10")
    parser.add_argument("--steps", type=int, default=5, help="training steps per way; kept results have 5")
    arguments = parser.parse_args()
    state = idle_state(arguments)
    with torch.inference_mode():
        memory, world = measure_memory(), make_world(arguments.size)
        results = stepping(world, arguments.frames, memory, arguments.threads)
    print(json.dumps(results, indent=2), file=sys.stderr)
    del world
    results += learning(arguments.size, arguments.steps, arguments.threads)
    keep_speed(
        "ivideogpt-speed",
        arguments.out,
        state,
        seed=SEED,
        memory_gb_per_second=memory.speeds,
        size=arguments.size,
        candidates=CANDIDATES,
        results=results,
    )


if __name__ == "__main__":
    main()
