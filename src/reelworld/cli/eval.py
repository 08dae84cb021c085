"""Evaluate a world on held-out episodes, and write a report that opens in any browser.

Writes results.json, report.html and videos of world and recording. The sections depend on the world:

  every world             reconstruction by the tokenizer, prediction by
                          horizon, open-loop rollout, likelihood of recorded
                          clips
  with actions            delta PSNR under other actions; action recovery by
                          an inverse-dynamics model; reward and termination
  of single frames        stability of long rollouts: blocks of 50 frames
                          within the range of recorded blocks
  recorded from a         PSNR against the live simulator under the same
  simulator               actions; in CarRacing, a driver that steers on pixels
  drawn from 8x8 tiles    single steps tile by tile; the carried key (DoorKey)
  without actions         several futures of each start: their mean against
                          repeating the last frame, their diversity, the
                          agent's cell in grid games
  of whole clips          exact likelihood of each code, with baselines
                          fitted on training clips; no single steps, shorter
                          rollouts
  with --i3d FILE         Frechet video distance (FVD); baselines: training
                          clips and repeating the last frame
  with --lpips FILE       LPIPS of predicted clips, in addition to PSNR, SSIM

--i3d takes the I3D network of the literature, as TorchScript: i3d_torchscript.pt of StyleGAN-V (its address is in
github.com/universome/fvd-comparison). Loading such a file runs code from it.

docs/evaluation.md defines every metric.

Examples:
  reelworld eval runs/doors/world --data recordings/doors
  reelworld eval runs/doors --data recordings/fresh --split all --train-data recordings/doors --out runs/doors/fresh
  reelworld eval runs/car --data recordings/car --stability-steps 1000 --out runs/car/long
  reelworld eval runs/robot --data robots --protocol published --clips 256 --samples 100 --lpips lpips.safetensors
  reelworld eval runs/film --data films/fresh --split all --train-data films/mine --i3d i3d_torchscript.pt
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Annotated, Literal

import tyro

from reelworld.cli.load_options import check_folder, load_world, set_threads
from reelworld.evaluate.report.values import baseline_texts, headlines, interval_text, protocol_text, value_text


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of ``reelworld eval``."""

    world: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="WORLD")]
    """Folder of a world, or of the run that made it."""
    data: Path
    """Recordings to compare with."""
    split: Literal["train", "val", "test", "all"] = "test"
    """Split of the episodes; episodes the world was trained on are refused."""
    out: Path | None = None
    """Folder of the report. Default: eval, next to the world's folder."""
    clips: int = 32
    """Episodes that are rolled out; single steps use up to four times as many."""
    single_steps: int = 2000
    """Single steps from true frames (worlds drawn from tiles)."""
    free_run_steps: int = 100
    """Length of the open-loop rollout; at most three whole clips for models of these."""
    control_starts: int = 200
    """Starts from which wrong actions are tried (worlds with actions), 1, 4 and 8 steps ahead."""
    inverse_steps: int = 800
    """Training steps of the inverse-dynamics model; 0 leaves action recovery out. It learns from episodes that are not
    measured: give --train-data where --data is a test recording. Kept beside the report."""
    stability_steps: int = 300
    """Length of the long rollouts, judged in blocks of 50 frames, and of the drives; 0 leaves them out."""
    stability_runs: int = 8
    """Number of those rollouts."""
    simulator_episodes: int = 16
    """Fresh episodes of the simulator that --data was recorded from; 0 leaves them out."""
    key_tests: int = 64
    """Carried-key tests (MiniGrid DoorKey)."""
    tiles: Literal["auto", "yes", "no"] = "auto"
    """Frames are drawn from 8x8 tiles: yes, no, or auto (detected on the training split)."""
    samples: int | None = None
    """Futures drawn from every start. Default: 8 in worlds without actions, 1 in worlds with them."""
    protocol: Literal["default", "published"] = "default"
    """Protocol of the video metrics. default: future frames, mean over all samples. published: as papers do, context
    included, the best sample for each measure; papers take 256 clips and 100 samples."""
    train_clips: int = 512
    """Training clips for the predictors beside the likelihood per code (models of whole clips)."""
    train_data: Path | None = None
    """Recordings to take training clips from; give the ones the world was trained on where --data is a fresh test
    recording. Default: --data."""
    i3d: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """TorchScript file of the I3D network, for FVD. Code from it runs: give only a file you trust."""
    lpips: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Weights of LPIPS-VGG as .safetensors (the state of lpips.LPIPS(net="vgg"))."""
    card: bool = False
    """Write the metrics to the world's card too (README.md and world.json)."""
    seed: int = 0
    """Of every draw: clips, starts, noise, bootstrap."""
    allow_train: bool = False
    """Accept episodes the world was trained on; the report says so."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    device: str = "cpu"
    """Device of the model: auto (a GPU if there is one), cpu, cuda or cuda:1."""
    allow_code: tuple[str, ...] = ()
    """Modules outside reelworld that the world's parts, or the simulator of the recordings, may come from."""


def run(options: Options) -> None:
    """Evaluate, write, and print the headlines."""
    from reelworld.evaluate.protocol import EvalConfig, open_for
    from reelworld.evaluate.run import card_metrics, evaluate_to_folder
    from reelworld.train.console import Display
    from reelworld.worlds.card import rewrite_card
    from reelworld.worlds.card_metrics import check_measured, weights_of
    from reelworld.worlds.locate import world_folder

    names = {f.name for f in dataclasses.fields(EvalConfig)}
    config = EvalConfig(**{k: v for k, v in vars(options).items() if k in names})
    set_threads(options.threads)
    world = load_world(options.world, options.device, options.allow_code)
    dataset = open_for(world, options.data)
    folder = world_folder(options.world)
    out = options.out or folder.resolve().parent / "eval"
    check_folder(out)
    with Display("evaluating") as display:
        results = evaluate_to_folder(
            world,
            dataset,
            config,
            out,
            command=shlex.join(["reelworld", *sys.argv[1:]]),
            training_log=folder.resolve().parent / "log.jsonl",
            progress=lambda what, share: display.update(share, lambda: what),
        )
    if options.card:
        metrics = card_metrics(results, weights_of(world.info.parts))
        check_measured(metrics, world.info.parts, str(folder / "world.json"))
        rewrite_card(folder, replace(world.info, metrics=metrics))
    for line in _headlines(results):
        print(line)
    print(f"report: {out / 'report.html'}")


def _headlines(results: Mapping[str, object]) -> list[str]:
    """Return a line for each headline metric, and one for each of its baselines."""
    lines = [text] if (text := protocol_text(results)) else []
    for metric in headlines(results):
        lines.append(f"{metric['label']:<42} {value_text(metric):>9}  ({interval_text(metric)}; n={metric['n']})")
        lines += [f"    {text}" for text in baseline_texts(metric)]
    return [unescape(line) for line in lines]
