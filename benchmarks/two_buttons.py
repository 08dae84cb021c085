"""Two buttons that count together: does the world follow each of their four combinations?

    cd examples
    reelworld record run_and_jump:RunJump-v0 --policy run_and_jump:holding --episodes 100 --max-steps 120 --out runjump
    reelworld record run_and_jump:RunJump-v0 --policy run_and_jump:holding --episodes 12 --max-steps 120 --seed 1000 \\
        --out runjump-test
    reelworld train pocket --data runjump --out runs/runjump --threads 1
    python ../benchmarks/two_buttons.py runs/runjump/world runjump-test --out result.json

From places of test episodes at which one combination is held for four steps, the world runs four steps under it, and
under each of the other three. The figure is the mean PSNR of the fourth frame under the recorded combination minus
that under the others. A world that ignores its buttons has 0. Beside it: the copied frame before.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

import numpy as np
from harness import flags, keep

from reelworld.data.dataset import Dataset
from reelworld.evaluate.metrics import bootstrap, db, psnr, squared_error
from reelworld.rollout.rollout import rollout
from reelworld.types import UserError
from reelworld.worlds.world import World

STEPS, SEED = 4, 0


def find_holds(actions: np.ndarray, n_context: int) -> list[int]:
    """List the rows (T, A) at which a combination begins that is held for STEPS rows, after enough context."""
    starts, row = [], 0
    for _, held in groupby(actions[:-1].tolist()):  # the last row is padding
        n = len(list(held))
        if n >= STEPS and row >= n_context - 1:
            starts.append(row)
        row += n
    return starts


def run(world: World, frames: np.ndarray, past: np.ndarray, ahead: np.ndarray, stream: str) -> np.ndarray:
    """Return the frame after STEPS steps, (n, H, W, 3)."""
    session = world.session(len(frames), seed=SEED)
    session.reset(frames, {stream: past})
    return [result.frame for result in rollout(session, {stream: ahead})][-1]


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument("world", type=Path)
    parser.add_argument("data", type=Path, help="test recordings of fresh seeds")
    arguments = parser.parse_args()
    world, dataset = World.load(arguments.world), Dataset.open(arguments.data)
    ((stream, spec),) = world.spec.actions.items()
    if spec.kind != "buttons":
        raise UserError(f"the stream {stream} is {spec.kind}; wanted buttons.")
    n_context = world.spec.context[1]
    clips, episode, held = [], [], []
    for i in dataset.indices("all"):
        whole = dataset.read(i)
        for s in find_holds(whole.actions[stream], n_context):
            clips.append(
                (whole.frames[s - n_context + 1 : s + STEPS + 1], whole.actions[stream][s - n_context + 1 : s])
            )
            episode.append(i)
            held.append(whole.actions[stream][s])
    frames, past = np.stack([c[0] for c in clips]), np.stack([c[1] for c in clips])
    combinations = np.unique(held, axis=0)
    kinds = np.array([(combinations == h).all(1).argmax() for h in held])

    def error(ahead: np.ndarray) -> np.ndarray:
        made = run(world, frames[:, :n_context], past, np.repeat(ahead[:, None], STEPS, 1), stream)
        return squared_error(frames[:, -1], made)

    under = np.stack([error(np.broadcast_to(c, (len(frames), spec.n)).copy()) for c in combinations], 1)
    rows = {}
    for k, combination in enumerate(combinations):
        mine = np.flatnonzero(kinds == k)
        others = [j for j in range(len(combinations)) if j != k]
        totals = np.zeros((max(episode) + 1, 3))
        np.add.at(
            totals,
            np.array(episode)[mine],
            np.stack([under[mine, k], under[mine][:, others].mean(1), np.ones(len(mine))], 1),
        )
        totals = totals[totals[:, 2] > 0]
        value, low, high = bootstrap(totals, lambda t: db(t[..., 0] / t[..., 2]) - db(t[..., 1] / t[..., 2]))
        name = (
            "+".join(n for n, v in zip(spec.names or map(str, range(spec.n)), combination, strict=True) if v) or "none"
        )
        rows[name] = {
            "delta_psnr": {"value": value, "low": low, "high": high, "unit": "dB"},
            "psnr": float(db(under[mine, k].mean())),
            "psnr_under": {str(combinations[j].astype(int).tolist()): float(db(under[mine, j].mean())) for j in others},
            "psnr_of_the_last_frame_copied": psnr(frames[mine, -1], frames[mine, n_context - 1]),
            "n": len(mine),
        }
    stages = world.info.provenance["training"]["stages"]  # type: ignore[index,call-overload]
    keep(
        "two-buttons",
        arguments.out,
        seeds=[0],
        steps=STEPS,
        training_minutes={k: v["minutes"] for k, v in stages.items()},
        combinations=rows,
    )


if __name__ == "__main__":
    sys.exit(main())
