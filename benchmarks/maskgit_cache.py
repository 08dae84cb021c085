"""What the cache of frames gains over recomputing the window, for masked dynamics at the published 35M form.

    python benchmarks/maskgit_cache.py --out benchmarks/results/maskgit-cache.json

Sizes are those of 1xgpt's GENIE_35M (32 layers, width 256, 8 heads, 16 frames of 16x16 tokens, 2 x 512 codes), weights
are random: speed does not depend on them. Drawn is the last frame of a full window, where the cache holds most and
recomputing costs what it always costs. Recomputing is ``MaskGIT.logits`` over the 16 frames once per pass, the parallel
forward of the same model in the same type; both choose codes with the same sampler. The two take turns, and before
the clock starts they must agree.

K passes read 16 K frames when everything is recomputed, and K + 1 with the cache: the frame before is written in the
first pass. So the gain is at most 16 K / (K + 1): 10.7 at 2 passes, 15.4 at 25. It can be more where large batches of
tokens fall out of the processor's caches.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from harness import idle_state, keep_speed, row, speed_flags
from torch import Tensor

from reelworld.models.maskgit import n_still_masked
from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.systems.genie.maskgit import MaskGIT, MaskGITConfig
from reelworld.systems.genie.spacetime import STConfig
from reelworld.types import Codes, Conditions, GridSpec

SEED = 0
WINDOW = 16


def make_model(form: str) -> MaskGIT:
    """Build a model: "35M", or "tiny" to try this file."""
    torch.manual_seed(SEED)
    layers, width, side = (32, 256, 16) if form == "35M" else (2, 32, 4)
    stack = STConfig(
        width=width, layers=layers, heads=8, rows=side, columns=side, window=WINDOW, time="none", space="none",
        norms="no_time", qk_norm=False,
    )  # fmt: skip
    config = MaskGITConfig(
        grid=GridSpec(rows=side, columns=side, codebook_size=2**18),
        actions={},
        transformer=stack,
        factors=(512, 512),
        positions="table",
        has_outcomes=False,
    )
    model = MaskGIT(config).eval()
    for name, weight in model.named_parameters():
        if name.startswith(("embed", "table", "head")):  # logits that tell codes apart, so that they can be compared
            torch.nn.init.normal_(weight, std=1 if name.startswith(("embed", "table")) else 0.1)
    return model


def recomputed(model: MaskGIT, codes: Tensor, sampler: TokenSampler) -> tuple[Tensor, Tensor]:
    """Draw the last frame of a window (1, T, N), reading the window in every pass; also return the first logits."""
    now, tokens = codes.clone(), codes.shape[2]
    hidden = torch.zeros_like(now, dtype=torch.bool)
    hidden[:, -1] = True
    first: Tensor | None = None
    for i in range(1, sampler.steps + 1):
        logits = model.logits(Codes.of(now), Conditions(), hidden)[:, -1]
        first = logits if first is None else first
        drawn = torch.where(hidden[:, -1], model.factors.draw(logits, sampler, None), now[:, -1])
        sure = sampler.order(-model.factors.nll(logits, drawn), None, 1 - i / sampler.steps)
        kept = sure.masked_fill(~hidden[:, -1], float("inf")).topk(tokens - n_still_masked(tokens, i, sampler.steps))
        now[:, -1] = drawn
        hidden[:, -1] = hidden[:, -1].scatter(-1, kept.indices, False)
    assert first is not None
    return now[:, -1], first


@dataclass
class Times:
    """Seconds per frame: on the wall, and of all cores together."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def measure(self, work: Callable[[], object]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def compare(model: MaskGIT, steps: int, repeats: int, threads: int) -> list[dict[str, Any]]:
    """Measure one number of passes: a row for the cache, one for recomputing."""
    config = model.config
    generator = torch.Generator().manual_seed(SEED)
    codes = torch.randint(0, config.grid.codebook_size, (1, WINDOW, config.grid.n_tokens), generator=generator)
    sampler = TokenSampler(SamplerConfig(steps=steps, temperature=0.0))
    begun = time.perf_counter()
    start = model.prefill(Codes.of(codes[:, :-1]), Conditions())
    prefill = time.perf_counter() - begun
    same = check_same(model, codes, sampler)
    cached, whole = Times(), Times()
    for i in range(repeats + 1):
        state = start.index_select(torch.zeros(1, dtype=torch.int64))
        if i == 0:  # warms up
            model.step(state, Conditions(), sampler, None)
            continue
        cached.measure(lambda state=state: model.step(state, Conditions(), sampler, None))
        whole.measure(lambda: recomputed(model, codes, sampler))
    limit = WINDOW * steps / (steps + 1)
    gains = np.array(whole.wall) / np.array(cached.wall)
    cpu_gains = np.array(whole.cpu) / np.array(cached.cpu)
    rows = [
        row(f"a frame in {steps} passes, {name}", 1e3 * np.array(times.wall), threads, "float32")
        | {"cpu_seconds": float(np.median(times.cpu))}
        for name, times in (("cached", cached), ("recomputing the window", whole))
    ]
    rows[0] |= {
        "passes": steps,
        "gain": float(np.median(gains)),
        "gain_least_to_greatest": [float(gains.min()), float(gains.max())],
        "gain_in_cpu_seconds": float(np.median(cpu_gains)),
        "gain_limit": limit,
        "prefill_ms": 1e3 * prefill,
        "greatest_difference_of_logits": same,
    }
    return rows


def check_same(model: MaskGIT, codes: Tensor, sampler: TokenSampler) -> float:
    """Compare the logits of the first pass, both ways; returns their greatest difference.

    Raises:
        SystemExit: If they differ by more than rounding.
    """

    class First(TokenSampler):
        seen: list[Tensor]

        def __call__(self, logits: Tensor, generator: Any) -> Tensor:
            self.seen.append(logits)
            return super().__call__(logits, generator)

    one = First(SamplerConfig(temperature=0.0))
    one.seen = []
    model.step(model.prefill(Codes.of(codes[:, :-1]), Conditions()), Conditions(), one, None)
    _, wanted = recomputed(model, codes, TokenSampler(SamplerConfig(temperature=0.0)))
    far = float((torch.cat(one.seen, -1)[:, 0] - wanted).abs().max())
    if far > 1e-3 * float(wanted.std()):
        raise SystemExit(f"the cache gives other logits than recomputing ({far} apart); nothing is measured.")
    return far


def main() -> None:
    parser = speed_flags(__doc__)
    parser.add_argument("--form", default="35M", choices=["35M", "tiny"], help="tiny tries this file")
    parser.add_argument("--passes", type=int, nargs="*", default=[2, 25], help="kept results have 2 and 25")
    parser.add_argument("--repeats", type=int, default=5, help="turns per number of passes")
    arguments = parser.parse_args()
    state = idle_state(arguments)
    results: list[dict[str, Any]] = []
    with torch.inference_mode():
        model = make_model(arguments.form)
        for steps in arguments.passes:
            results += compare(model, steps, arguments.repeats, arguments.threads)
            print(json.dumps(results[-2:], indent=2), file=sys.stderr)
    keep_speed(
        "maskgit-cache",
        arguments.out,
        state,
        seed=SEED,
        form=arguments.form,
        parameters=sum(p.numel() for p in model.parameters()),
        results=results,
    )


if __name__ == "__main__":
    main()
