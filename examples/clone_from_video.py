"""Learn to play by watching: an expert is seen without its keys, and a few labelled steps name what was seen.

An expert solves MiniGrid DoorKey (fetch the key, open the door, reach the goal). Its recordings are used as video:

1. a latent action model finds in the video a code for what was done in each step;
2. a policy learns to predict the code from the frame, from all of the video;
3. the real actions of n steps say which action each code stands for. That is all that labels are needed for.

Beside it stand the same policy learned from the n labelled steps alone, the same with the labels of all steps, random
actions, and the expert. All play the same games, none of which begins like a recording.

Source: Bruce et al. 2024 (arXiv:2402.15391), section 3.3; Schmidt and Jiang 2024 (arXiv:2312.10812).

Expected: docs/systems/genie.md, "Acting from video alone". Needs pip install 'reelworld[envs]'.

Examples:
  python examples/clone_from_video.py
  python examples/clone_from_video.py --seeds 1 --labels 200       a first look
  python examples/clone_from_video.py --env-id MiniGrid-DoorKey-8x8-v0 --steps 3000

Shapes: B frames, H W pixel rows and columns, R C rows and columns of tiles, N tiles, D width, A actions
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reelworld.cli.main import in_one_line
from reelworld.cli.parsing import parse
from reelworld.config import require, to_json
from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import Dataset
from reelworld.data.loader import Loader
from reelworld.data.rare_events import changes
from reelworld.envs.recorder import RecordConfig, record, record_config, record_episode, recorded_simulator
from reelworld.evaluate.metrics import bootstrap
from reelworld.files import write_json
from reelworld.models.action_mapping import fit_map
from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.nn.conv_mixer import ConvMixerBlock
from reelworld.nn.pixels import check_divisible, patchify, to_float
from reelworld.system_info import commit, describe_machine, now
from reelworld.systems.genie.config import SMALL
from reelworld.systems.genie.model import latent_model
from reelworld.systems.genie.train import latent_stage
from reelworld.train.config import OptimConfig
from reelworld.train.console import Display
from reelworld.train.data import TrainingData
from reelworld.train.loop import train
from reelworld.train.optim import lr_factor, make_optimizer
from reelworld.train.pseudo_label import with_pseudo_labels
from reelworld.train.run import Run
from reelworld.train.validation import some_clips
from reelworld.types import Batch, UserError

TILE = 8
"""Pixels per tile of the game, along each side."""
ACTING = SamplerConfig(temperature=0.5)
"""Actions are drawn: a policy that takes the likeliest one can turn to and fro for ever."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of this example."""

    env_id: str = "MiniGrid-DoorKey-6x6-v0"
    """A MiniGrid game that the policy 'solver' of reelworld record solves."""
    episodes: int = 1500
    """Episodes of the expert that are watched."""
    labels: tuple[int, ...] = (50, 200, 1000)
    """Numbers of steps whose real action is known."""
    seeds: int = 3
    """How often everything is learned anew, from seeds 0, 1, ...; labels are drawn anew as well."""
    games: int = 128
    """Games that each of them plays, at least 2."""
    first_game: int = 5_000_000
    """Games have this seed and the next ones; choose settings on others, e.g. 10000000."""
    latent_steps: int = 1500
    """Optimizer steps of the latent action model."""
    steps: int = 1500
    """Optimizer steps of each policy."""
    work: Path = Path("runs/clone-from-video")
    """Folder for the recording and the latent action models; kept, so that the next run finds them."""
    out: Path | None = None
    """JSON file for the result."""

    def __post_init__(self) -> None:
        require(self, "episodes seeds latent_steps steps", lambda v: v >= 1, "at least 1")
        require(self, "labels", lambda v: v and min(v) >= 1, "one or more numbers of at least 1")
        require(self, "games", lambda v: v >= 2, "at least 2, for an interval")
        require(self, "first_game", lambda v: v >= 0, "at least 0")


class Policy(nn.Module):
    """A frame -> how likely each action is: grid blocks over the tiles, then a look at what matters."""

    def __init__(self, n_actions: int, width: int = 64, layers: int = 4) -> None:
        super().__init__()
        self.read = nn.Linear(TILE * TILE * 3, width)
        self.blocks = nn.Sequential(*(ConvMixerBlock(width) for _ in range(layers)))
        self.norm, self.matters, self.act = nn.LayerNorm(width), nn.Linear(width, 1), nn.Linear(width, n_actions)

    def forward(self, frames_BHWC: Tensor) -> Tensor:
        """Judge the actions, (B, A), after frames in [-1, 1]."""
        tiles_BND = self.read(patchify(frames_BHWC, TILE))
        x_BRCD = self.blocks(tiles_BND.unflatten(1, (frames_BHWC.shape[1] // TILE, -1)))
        x_BND = self.norm(x_BRCD).flatten(1, 2)
        logits_BA: Tensor = self.act((x_BND * self.matters(x_BND).softmax(1)).sum(1))
        return logits_BA


def learn_policy(steps: ClipIndex, held_out: ClipIndex, seed: int, options: Options, is_turned: bool = False) -> Policy:
    """Learn to predict the actions of these steps; keep the weights that are best on the steps held out."""
    ((stream, spec),) = steps.source.info.actions.items()
    torch.manual_seed(seed)
    policy = Policy(spec.n)
    optim = OptimConfig(lr=2e-3)
    optimizer = make_optimizer(policy, optim)
    checked, batches = some_clips(held_out, 600), Loader(steps, 32, seed).batches()
    best, weights = float("inf"), policy.state_dict()
    turning = torch.default_generator.clone_state()  # goes on where the draws of the weights ended

    def nats(batch: Batch, quarters: int = 0) -> Tensor:
        assert batch.video is not None
        logits_BA = policy(batch.video[:, 0].rot90(quarters, (1, 2)))
        return nn.functional.cross_entropy(logits_BA, batch.conditions.actions[stream][:, 0])

    with Display("learning to act") as display:
        for step in range(1, options.steps + 1):
            # actions are relative to who acts: a frame that is turned by quarters asks for the same one
            loss = nats(next(batches), int(torch.randint(4, (), generator=turning)) if is_turned else 0)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), optim.grad_clip)
            for group in optimizer.param_groups:
                group["lr"] = optim.lr * lr_factor(optim, step - 1, (step - 1) / options.steps)
            optimizer.step()
            if step % 50 == 0 or step == options.steps:
                with torch.inference_mode():
                    found = float(nats(checked))
                if found < best:
                    best, weights = found, {k: v.clone() for k, v in policy.state_dict().items()}
                display.update(step / options.steps, partial(str, f"step {step}, {best:.3f} nats per held-out step"))
    policy.load_state_dict(weights)
    return policy


def find_actions(video: Dataset, seed: int, options: Options) -> Any:
    """Learn a latent action model from frames alone."""
    learned = replace(SMALL.latent_actions, augment_prob=0.75, steps=options.latent_steps)
    config = replace(SMALL, latent_actions=learned, precision="fp32", seed=seed)
    torch.manual_seed(seed)
    model: Any = latent_model(config, video.info)
    settings = {"latent": to_json(config), "recording": video.info.provenance, "episodes": len(video.episodes)}
    with Run.open(options.work / f"latent-actions-{seed}", settings) as run:
        data = TrainingData(video, config, run.folder)
        train(latent_stage(config, model, data), run, {"latent_actions": model}, seed=seed, device="cpu")
    return model


def changing_steps(dataset: Dataset, split: str) -> ClipIndex:
    """Find the steps that change the picture: of others nobody can see what was done."""
    steps = ClipIndex(dataset, split, 2)
    return steps.with_index(steps.index[np.concatenate([changes(dataset, i) for i in dataset.indices(split)])])


def at(index: np.ndarray, dataset: Dataset) -> ClipIndex:
    """Take these steps, int64 (n, 2) of episode and frame, of a data set."""
    return ClipIndex(dataset, "all", 2).with_index(index)


def actions_of(steps: ClipIndex) -> np.ndarray:
    """Read the action of each step, int64 (n,)."""
    ((stream, _),) = steps.source.info.actions.items()
    return np.array([steps[i][f"actions/{stream}"][0] for i in range(len(steps))])


def fresh_games(dataset: Dataset, options: Options) -> list[int]:
    """Find seeds of games that begin with a picture that no recording begins with."""
    seen = {dataset.arrays(i, 0, 1)["frames"].tobytes() for i in dataset.indices("all")}
    with closing(recorded_simulator(dataset.info)) as game:
        seeds = range(options.first_game, options.first_game + 100 * options.games)
        fresh = (seed for seed in seeds if game.reset(seed).tobytes() not in seen)
        return list(islice(fresh, options.games))


@torch.inference_mode()
def play(policy: Policy, meaning: np.ndarray, dataset: Dataset, seeds: Sequence[int]) -> np.ndarray:
    """Play games, all at once: return of each, float (games,). ``meaning`` has the real action of each output."""
    sampler, generator = TokenSampler(ACTING), torch.Generator().manual_seed(0)
    games = {i: recorded_simulator(dataset.info) for i in range(len(seeds))}
    frames, returns = [game.reset(seed) for game, seed in zip(games.values(), seeds, strict=True)], np.zeros(len(seeds))
    for _ in range(dataset.info.provenance["max_steps"]):
        logits = policy(to_float(torch.from_numpy(np.stack([frames[i] for i in games]))))
        for i, output in zip(list(games), sampler(logits, generator).tolist(), strict=True):
            reward, terminated, truncated = games[i].step(int(meaning[output]))
            returns[i] += reward
            frames[i] = games[i].frame()
            if terminated or truncated:
                games.pop(i).close()
        if not games:
            break
    return returns


def watch(policy: str, config: RecordConfig, dataset: Dataset, seeds: Sequence[int]) -> np.ndarray:
    """Let a policy of ``reelworld record`` play the games: return of each, float (1, games)."""
    with closing(recorded_simulator(dataset.info)) as game:
        clips = [record_episode(game, replace(config, policy={policy: 1.0}, seed=s), 0) for s in seeds]
    return np.array([[clip.rewards.sum() for clip in clips if clip.rewards is not None]])


def learn(seed: int, video: Dataset, games: Sequence[int], options: Options) -> Iterator[tuple[str, int, np.ndarray]]:
    """Learn everything from one seed: who plays, from how many labels, the returns of the games."""
    train_steps, val_steps = changing_steps(video, "train"), changing_steps(video, "val")
    n_steps, spec = len(train_steps), video.info.actions["action"]
    if n_steps < max(options.labels):
        raise UserError(f"the recording has {n_steps} steps that change the picture: give fewer --labels than that.")
    model = find_actions(video, seed, options)
    named = with_pseudo_labels(video, model)
    watcher = learn_policy(at(train_steps.index, named), at(val_steps.index, named), seed, options)
    order, real = np.random.default_rng(seed).permutation(n_steps), np.arange(spec.n)
    for n in options.labels:
        known = train_steps.index[order[:n]]
        table = fit_map(actions_of(at(known, named)), actions_of(at(known, video)), spec, model.config.n_codes)
        yield "video", n, play(watcher, np.array(table.to_real), video, games)
        # turned frames made cloning from few labels better in trials, and cloning from all labels worse
        cloner = learn_policy(at(known, video), val_steps, seed, options, is_turned=True)
        yield "labels", n, play(cloner, real, video, games)
    yield "labels", n_steps, play(learn_policy(train_steps, val_steps, seed, options), real, video, games)


def mean(returns: np.ndarray) -> dict[str, Any]:
    """Average returns, float (seeds, games), with a 95% interval: games are drawn anew, seeds are not."""
    totals = np.stack([returns.sum(0), np.full(returns.shape[1], len(returns))], -1)
    value, low, high = bootstrap(totals, lambda t: t[..., 0] / t[..., 1])
    return {"return": value, "low": low, "high": high, "by_seed": returns.mean(1).tolist()}


def run(options: Options) -> dict[str, Any]:
    """Record, learn from each seed, play, and gather the result."""
    began = time.process_time()
    config = record_config(options.env_id, episodes=options.episodes, policy="solver")
    print(f"recording {options.episodes} episodes of {options.env_id} -> {options.work / 'recording'}", flush=True)
    record(config, options.work / "recording")
    video = Dataset.open(options.work / "recording")
    check_divisible(video.info.height, video.info.width, TILE)
    if len(games := fresh_games(video, options)) < options.games:
        raise UserError(f"only {len(games)} of {options.games} games begin like no recording: give fewer --episodes.")
    returns: dict[tuple[str, int], list[np.ndarray]] = {}
    for seed in range(options.seeds):
        for who, n, found in learn(seed, video, games, options):
            returns.setdefault((who, n), []).append(found)
            used = f"{(time.process_time() - began) / 60:.1f} CPU minutes"
            print(f"seed {seed}, {who}, {n:,} labels: return {found.mean():.2f} ({used} so far)", flush=True)
    rows = {key: np.stack(found) for key, found in returns.items()}
    rows |= {(who, 0): watch(who, config, video, games) for who in ("random", "solver")}
    return {
        "format_version": 1,
        "kind": "clone-from-video",
        "command": " ".join(["python examples/clone_from_video.py", *sys.argv[1:]]),
        "commit": commit(),
        "created": now(),
        "hardware": describe_machine(),
        "threads": torch.get_num_threads(),
        "cpu_seconds": round(time.process_time() - began),
        "seed": list(range(options.seeds)),
        "options": to_json({k: v for k, v in vars(options).items() if k not in ("work", "out")}),
        "first_and_last_game": [games[0], games[-1]],
        "results": [
            {"who": who, "labels": n, "games": options.games, "solved": float((r > 0).mean()), **mean(r)}
            for (who, n), r in rows.items()
        ],
        "gains": [{"labels": n, **mean(rows["video", n] - rows["labels", n])} for n in options.labels],
    }


def show(options: Options) -> int:
    """Run, print the table, and keep the result."""
    result = run(options)
    print("\nwho plays, labels   return (95% interval)  solved")
    for row in result["results"]:
        figures = f"{row['return']:.2f} ({row['low']:.2f} to {row['high']:.2f})   {row['solved']:>7.0%}"
        print(f"{row['who']:<8} {row['labels']:>9,}   {figures}")
    if options.out:
        write_json(options.out, result)
    return 0


def main() -> int:
    """Read the flags and run."""
    about = (__doc__ or "").split("\n\nShapes:")[0]
    return in_one_line(lambda: show(parse(Options, sys.argv[1:], "clone_from_video.py", about)))


if __name__ == "__main__":
    sys.exit(main())
