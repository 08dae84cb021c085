"""How fast VideoGPT draws, encodes and decodes at the published BAIR form, beside the published way and the limit.

    python benchmarks/videogpt_sampling.py --out benchmarks/results/videogpt-sampling.json

Sizes are those of the published checkpoints for BAIR (VQ-VAE stride 4x2x2, width 240; prior of width 576, 4 heads and
8 layers; 16 frames of 64x64, 4,096 tokens), weights are random: speed does not depend on them. Whole clips are drawn
at batch 1 through ``prefill`` and ``step``; after every 128 tokens the clock stops, the published way
(``published_videogpt.py``) draws some tokens at the same place and memory is read, so that what else the machine does
hits all of them. Before that both draw the same first tokens, greedily: they must agree.

The limit of a token is the time to read once, at the mean speed at which the fastest of some operators of torch and a
loop in C read memory in the same minute, all weights that a token needs and the keys and values that it sees (of the
conditioning frames too). The speed of memory changes from second to second where machines are shared; the share of the
limit by the best of each six reads is kept beside it. So is a profile: where a token's time goes, on average, and the
limits of its two parts that read much.

Where there is a C compiler, tokens are drawn by compiled code (``nn/decode.c``); ``CC= python
benchmarks/videogpt_sampling.py`` measures the way without one.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from harness import Memory, idle_state, in_turns, keep_speed, measure_memory, row, speed_flags
from published_videogpt import PublishedSampler
from published_videogpt import decode as published_decode
from published_videogpt import encode as published_encode
from torch import Tensor

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.nn.attention import BlockMask, CausalMask
from reelworld.nn.decode import decode_library
from reelworld.systems.videogpt.block_sparse_layout import BLOCK
from reelworld.systems.videogpt.compiled_decoder import visible_blocks
from reelworld.systems.videogpt.prior import AutoregressivePrior, PriorConfig, PriorState
from reelworld.systems.videogpt.vqvae import VQVAE3D, VQVAE3DConfig
from reelworld.types import Codes, Conditions, GridSpec

GRID = GridSpec(rows=32, columns=32, codebook_size=2048)
FORMS = {
    "full": PriorConfig(grid=GRID, latent_frames=4),
    "sparse, 1 frame": PriorConfig(grid=GRID, latent_frames=4, attention="sparse", cond_frames=1),
}
PART = 128  # tokens between two looks at the published way and at memory
PUBLISHED_STEPS, CHECKED = 6, 48
CODINGS = 10
SEED = 0


# ---------------------------------------------------------------------- drawing


@dataclass
class Course:
    """What was measured while a clip was drawn: seconds and GB/s."""

    ours: list[float] = field(default_factory=list)
    stack: list[float] = field(default_factory=list)
    sampler: list[float] = field(default_factory=list)
    published: list[float] = field(default_factory=list)
    memory: list[list[float]] = field(default_factory=list)
    prefill: float = 0.0
    is_compiled: bool = False

    def profile(self) -> dict[str, float]:
        """Return the mean milliseconds of a token by part."""
        token, stack, sampler = (float(np.mean(t)) for t in (self.ours, self.stack, self.sampler))
        parts = {"blocks and head": stack, "drawing a code": sampler, "embedding and loop": token - stack - sampler}
        return {name: 1e3 * seconds for name, seconds in parts.items()}


@contextlib.contextmanager
def timed_steps(prior: AutoregressivePrior, course: Course) -> Iterator[None]:
    """Note how long the blocks and the head of every token take."""
    decode_token = prior.decode_token

    def timed(state: PriorState, x: Tensor) -> Tensor:
        begun = time.perf_counter()
        logits = decode_token(state, x)
        course.stack.append(time.perf_counter() - begun)
        return logits

    course.is_compiled = decode_library(prior.embed.weight) is not None
    prior.decode_token = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        del prior.decode_token


class Clock:
    """A sampler that times tokens, and stops its clock to look at the published way and at memory."""

    steps = 1

    def __init__(self, course: Course, look: Callable[[int], None]) -> None:
        self.course, self.look = course, look
        self.inner = TokenSampler(SamplerConfig())
        self.since = time.perf_counter()

    def __call__(self, logits: Tensor, generator: Any) -> Tensor:
        begun = time.perf_counter()
        drawn = self.inner(logits, generator)
        ended = time.perf_counter()
        self.course.sampler.append(ended - begun)
        self.course.ours.append(ended - self.since)
        if len(self.course.ours) % PART == 0:
            self.look(len(self.course.ours))
        self.since = time.perf_counter()
        return drawn

    def confidence(self, logits: Tensor, ids: Tensor, generator: Any) -> Tensor:
        raise NotImplementedError


def make_prior(config: PriorConfig, dtype: torch.dtype) -> AutoregressivePrior:
    torch.manual_seed(SEED)
    prior = AutoregressivePrior(config).eval()
    prior.codebook.normal_()
    torch.nn.init.normal_(prior.head.weight, std=0.1)  # zero in a fresh prior
    return prior.to(dtype)


def conditions_of(prior: AutoregressivePrior) -> Conditions:
    if prior.frame_net is None:
        return Conditions()
    frames = torch.rand(1, 1, 64, 64, 3, generator=torch.Generator().manual_seed(SEED)) * 2 - 1
    return Conditions(context_video=frames)


def nothing(prior: AutoregressivePrior) -> Codes:
    return Codes.of(torch.zeros(1, 0, prior.config.grid.n_tokens, dtype=torch.int64))


class Enough(Exception):
    """Ends a step after some tokens."""


def check_same(prior: AutoregressivePrior, told: Conditions) -> int:
    """Draw the likeliest first tokens both ways; returns how many agree before the first difference."""
    ours: list[int] = []
    greedy = TokenSampler(SamplerConfig(temperature=0))

    class Noting(Clock):
        def __call__(self, logits: Tensor, generator: Any) -> Tensor:
            drawn = greedy(logits, generator)
            ours.append(int(drawn))
            if len(ours) == CHECKED:
                raise Enough
            return drawn

    with contextlib.suppress(Enough):
        prior.step(prior.prefill(nothing(prior), told), told, Noting(Course(), lambda _: None), None)
    published = PublishedSampler(prior, told.context_video)
    theirs = [published.step(greedy=True) for _ in range(CHECKED)]
    return next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), CHECKED)


def draw(prior: AutoregressivePrior, told: Conditions, memory: Memory, latents: int) -> Course:
    """Draw a clip, with looks at the published way and at memory."""
    course = Course()
    published = PublishedSampler(prior, told.context_video)

    def look(position: int) -> None:
        for i in range(PUBLISHED_STEPS + 1):
            published.position = min(position, prior.config.n_tokens - 1)
            begun = time.perf_counter()
            published.step()
            if i:  # the first one warms up
                course.published.append(time.perf_counter() - begun)
        course.memory.append(memory.probe())

    begun = time.perf_counter()
    state = prior.prefill(nothing(prior), told)
    course.prefill = time.perf_counter() - begun
    clock, generator = Clock(course, look), torch.Generator().manual_seed(SEED)
    clock.since = time.perf_counter()
    with timed_steps(prior, course):
        for _ in range(latents):
            _, state = prior.step(state, told, clock, generator)
    return course


def bytes_of(prior: AutoregressivePrior) -> tuple[int, np.ndarray]:
    """Count what a token at each position must read: weights; keys and values that it sees."""
    config, size = prior.config, prior.embed.weight.element_size()
    weights = sum(
        p.numel() for b in prior.blocks for name, p in b.named_parameters() if not name.startswith("frames.key_value")
    )
    weights += prior.head.weight.numel() + sum(p.numel() for p in prior.norm.parameters())
    frames = 0
    if prior.frame_net is not None:
        values = config.resnet_dim // config.heads * config.heads
        frames = config.cond_frames * config.cond_height * config.cond_width // 16 * (config.hidden_dim + values)
    masks = [
        BlockMask(layout=prior.layout, block=BLOCK, queries=1, first=position)
        if config.attention == "sparse"
        else CausalMask(first=position)
        for position in range(config.n_tokens)
    ]
    seen = np.array([visible_blocks(mask)[2] for mask in masks])
    return size * weights, size * config.layers * (2 * seen * config.hidden_dim + frames)


def sampling(form: str, dtype: torch.dtype, memory: Memory, threads: int, latents: int) -> list[dict[str, Any]]:
    """Measure one form in one type: a row for ours and one for the published way."""
    prior = make_prior(FORMS[form], dtype)
    told = conditions_of(prior)
    same = check_same(prior, told)
    if dtype == torch.float32 and same < CHECKED:
        raise SystemExit(f"{form}: the published way draws other tokens from token {same} on; nothing is measured.")
    course = draw(prior, told, memory, latents)
    ours, published = 1e3 * np.array(course.ours), 1e3 * np.array(course.published)
    weights, seen = bytes_of(prior)
    n_bytes = weights + seen[: len(ours)]
    reads = np.array(course.memory)
    # Tokens and reads are both means over the run, so both hold the moments when others use the memory.
    limit = 1e3 * n_bytes / np.repeat(1 / np.mean(1 / reads, axis=1), PART) / 1e9
    limit_of_best = 1e3 * n_bytes / np.repeat(reads.max(1), PART) / 1e9
    kind = str(dtype).removeprefix("torch.")
    third = len(ours) // 3
    mine = row(
        f"draw a token, {form}",
        ours,
        threads,
        kind,
        limit=float(limit.mean()),
        limit_is=f"weights and visible keys and values read once by {memory.fastest}",
        fraction_of_limit=float(limit.mean() / ours.mean()),
    )
    theirs = row(f"draw a token, {form}, the published way", published, threads, kind)
    extra = {
        "mean": float(ours.mean()),
        "tokens_per_second": 1e3 / float(ours.mean()),
        "median_by_third": [float(np.median(ours[i * third : (i + 1) * third])) for i in range(3)],
        "prefill_ms": 1e3 * course.prefill,
        "megabytes_per_token": float(n_bytes.mean()) / 1e6,
        "memory_gb_per_second": float(1 / np.mean(1 / reads)),
        "memory_gb_per_second_best": float(np.median(reads.max(1))),
        "fraction_of_limit_of_best_reads": float(limit_of_best.mean() / ours.mean()),
        "times_the_published_way": float(published.mean() / ours.mean()),
        "backend": "compiled" if course.is_compiled else "eager",
        "profile_ms": course.profile(),
        "profile_limit_ms": {
            "products": float(limit.mean() * weights / n_bytes.mean()),
            "attention": float(limit.mean() * (1 - weights / n_bytes.mean())),
        },
        "same_greedy_tokens": f"{same} of {CHECKED}",
    }
    beside = {"mean": float(published.mean()), "tokens_per_second": 1e3 / float(published.mean())}
    return [mine | extra, theirs | beside]


# ---------------------------------------------------------------------- encoding and decoding


def coding(threads: int) -> list[dict[str, Any]]:
    """Measure the VQ-VAE on one clip, both ways in turn."""
    torch.manual_seed(SEED)
    config = VQVAE3DConfig(downsample=(4, 2, 2))
    model = VQVAE3D(config).eval()
    video = torch.rand(1, config.clip_frames, config.height, config.width, 3) * 2 - 1
    codes = model.encode(video).video
    grid = codes.unflatten(2, (32, 32))
    same = float((published_encode(model, video).flatten(2) == codes).float().mean())
    far = float((published_decode(model, grid) - model.decode(Codes.of(codes))).abs().max())
    if same < 0.999 or far > 1e-3:
        raise SystemExit(f"the published way gives other codes ({same:.4%} equal) or pixels ({far} apart).")
    works: dict[str, Callable[[], object]] = {
        "encode": lambda: model.encode(video),
        "encode, the published way": lambda: published_encode(model, video),
        "decode": lambda: model.decode(Codes.of(codes)),
        "decode, the published way": lambda: published_decode(model, grid),
    }
    return [
        row(name, config.clip_frames / seconds, threads, "float32", "frames/s")
        for name, seconds in in_turns(works, CODINGS).items()
    ]


def main() -> None:
    parser = speed_flags(__doc__)
    parser.add_argument("--latents", type=int, default=4, help="latent frames to draw; kept results draw all 4")
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=list(FORMS), help="which priors")
    arguments = parser.parse_args()
    state = idle_state(arguments)
    results: list[dict[str, Any]] = []
    with torch.inference_mode():
        memory = measure_memory()
        for form in arguments.forms:
            for dtype in (torch.float32, torch.bfloat16):
                results += sampling(form, dtype, memory, arguments.threads, arguments.latents)
                print(json.dumps(results[-2:], indent=2), file=sys.stderr)
        results += coding(arguments.threads)
    keep_speed(
        "videogpt-sampling",
        arguments.out,
        state,
        seed=SEED,
        memory_gb_per_second=memory.speeds,
        results=results,
    )


if __name__ == "__main__":
    main()
