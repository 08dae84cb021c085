"""Turn published checkpoints of another system into a world, without trusting them.

SYSTEM is whose they are: videogpt, genie-1x or ivideogpt. `reelworld import videogpt --help` shows the flags of one.

videogpt reads the two models of VideoGPT (arXiv:2104.10157): the VQ-VAE that codes clips and the prior that draws
codes. Files may be PyTorch Lightning checkpoints (.ckpt, any version), or .safetensors with the hyper-parameters in a
config.json beside them (its entry of the file's stem, or the whole of it). A prior's checkpoint usually holds its
VQ-VAE too: then --vqvae may be left out.

genie-1x reads the dynamics of 1xgpt (GENIE_35M, GENIE_138M): a folder with config.json and model.safetensors,
state_dict.safetensors or pytorch_model.bin. Their tokenizer, MAGVIT2, is not in it, so that the world has no pictures:
it continues and scores codes, from Python.

ivideogpt reads the two models of iVideoGPT (arXiv:2405.15223): the tokenizer (a folder with config.json and
diffusion_pytorch_model.safetensors) and the transformer (config.json and model.safetensors), with or without actions.
A transformer that was trained without actions gets a new head for them with --action-dim.

A checkpoint may be a pickle, and a pickle can run programs. Nothing of these files is run: tensors, plain values and
argparse.Namespace are read, names of PyTorch and Lightning are passed over and listed, and any other name ends the
import. Sizes come from the files; nothing needs to be told.

Examples:
  reelworld import videogpt --prior bair_gpt.ckpt --out runs/bair/world
  reelworld import videogpt --vqvae ucf101_stride4x4x4.ckpt --prior ucf101_uncond_gpt.ckpt --out runs/ucf101/world
  reelworld import genie-1x downloads/GENIE_138M --out runs/genie/world
  reelworld import ivideogpt --tokenizer bair/tokenizer --transformer bair/transformer --out worlds/bair
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from reelworld.cli.load_options import check_folder
from reelworld.config import unknown
from reelworld.types import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from reelworld.worlds.world import World

__all__ = ["Options", "options_for", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `reelworld import`; with a system, its own join them."""

    system: Annotated[
        tyro.conf.Positional[Literal["videogpt", "genie-1x", "ivideogpt"]], tyro.conf.arg(metavar="SYSTEM")
    ]
    """Whose checkpoints they are: videogpt, genie-1x or ivideogpt."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the new world."""
    force: bool = False
    """Replace a world that is there."""


@dataclass(frozen=True, kw_only=True)
class System(Options, ABC):
    """One system: its flags, how it is read, what is said of it."""

    @abstractmethod
    def read(self) -> World:
        """Make a world of the files."""

    @abstractmethod
    def rows(self, world: World) -> dict[str, str]:
        """Say what was made, in a table."""

    @abstractmethod
    def next(self, world: World) -> list[str]:
        """Say what can be done with it."""


@dataclass(frozen=True, kw_only=True)
class VideoGPT(System):
    """Flags of `reelworld import videogpt`."""

    prior: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """Checkpoint of the prior."""
    vqvae: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Checkpoint of the VQ-VAE; needed when the prior's file does not hold it. Both must be the same if it does."""

    def read(self) -> World:
        """Read the two models, or the one that holds both."""
        from reelworld.systems.videogpt.convert import import_world

        return import_world(self.vqvae, self.prior)

    def rows(self, world: World) -> dict[str, str]:
        """Describe both models."""
        vqvae, prior = world.tokenizer.config, world.dynamics.config
        files = world.info.provenance["imported"]
        condition = f"the first {prior.cond_frames} frame(s) as pixels" if prior.cond_frames else ""
        classes = f"one of {prior.n_classes} classes (their names are unknown)" if prior.n_classes else ""
        frames, rows, columns = vqvae.downsample
        widths = f"{vqvae.n_codes:,} codes of width {vqvae.embedding_dim}"
        return {
            "prior": _file(files["prior"]),
            "VQ-VAE": _file(files["vqvae"]) if self.vqvae is not None else "the one in the prior's file",
            "clips": f"{vqvae.clip_frames} frames of {vqvae.height}x{vqvae.width} pixels; frame rate unknown",
            "codes": f"{prior.latent_frames}x{prior.grid.rows}x{prior.grid.columns} per clip, one for {frames} "
            f"frame(s) of {rows}x{columns} pixels; {widths}",
            "VQ-VAE model": f"{vqvae.n_hiddens} wide, {vqvae.n_res_layers} residual layers, {_size(world.tokenizer)}",
            "prior model": f"{prior.hidden_dim} wide, {prior.heads} heads, {prior.layers} layers, {prior.attention} "
            f"attention, {_size(world.dynamics)}",
            "is told": " and ".join(filter(None, (condition, classes))) or "nothing (it begins from nothing)",
        }

    def next(self, world: World) -> list[str]:
        """Name the verbs that suit it."""
        start = " --image PICTURE" if world.info.context_frames else ""
        classes = " --class-id 0" if world.info.classes else ""
        # a page has no picture to begin from: the world ships no clips
        play = [] if world.info.context_frames else [f"  reelworld play {self.out}"]
        return [
            f"  reelworld generate {self.out}{start}{classes} --out clip.mp4",
            *play,
            f"  reelworld eval {self.out} --data RECORDINGS",
        ]


@dataclass(frozen=True, kw_only=True)
class Genie1X(System):
    """Flags of `reelworld import genie-1x`."""

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder with config.json and model.safetensors, state_dict.safetensors or pytorch_model.bin."""

    def read(self) -> World:
        """Read the folder."""
        from reelworld.systems.genie.convert import import_world

        return import_world(self.checkpoint)

    def rows(self, world: World) -> dict[str, str]:
        """Describe the dynamics."""
        config = world.dynamics.config
        grid, stack = config.grid, config.transformer
        return {
            "dynamics": _file(world.info.provenance["imported"]["dynamics"]),
            "tokenizer": f"{world.tokenizer.config.name}, not part of it: no pictures",
            "codes": f"{grid.rows}x{grid.columns} per frame, {grid.codebook_size:,} codes as "
            f"{' x '.join(map(str, config.sizes))}; frame rate unknown",
            "model": f"{stack.width} wide, {stack.heads} heads, {stack.layers} layers, {_size(world.dynamics)}",
            "window": f"{stack.window} frames; a longer run begins a full window anew with its last "
            f"{world.dynamics.table.kept}",
        }

    def next(self, world: World) -> list[str]:
        """Show the way through Python: the verbs want pictures."""
        return [
            f"  from reelworld.worlds.world import World; world = World.load({str(self.out)!r})",
            "  world.generate_codes(codes, n_frames=8)   # codes: (clips, frames, codes of a frame in raster order)",
            "  world.score_codes(codes[0])",
        ]


@dataclass(frozen=True, kw_only=True)
class IVideoGPT(System):
    """Flags of `reelworld import ivideogpt`."""

    tokenizer: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder with the tokenizer's config.json and diffusion_pytorch_model.safetensors."""
    transformer: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder with the transformer's config.json and model.safetensors."""
    action_dim: int = 0
    """Numbers of an action; a transformer without actions gets a new head for them. 0 takes what it has."""
    frames: int = 0
    """Frames of a window, context included; 0 takes 16 (17 with a goal), or as many as there are places for."""
    context: int = 0
    """Context frames; 0 takes those that the tokenizer was trained with."""
    goal: bool = False
    """The first context frame was a goal, which the files do not tell."""

    def read(self) -> World:
        """Read the two folders."""
        from reelworld.systems.ivideogpt.convert import import_world

        if min(self.action_dim, self.frames, self.context) < 0:
            raise UserError("--action-dim, --frames and --context are counts; give 0 or more.")
        return import_world(self.tokenizer, self.transformer, self.action_dim, self.frames, self.context, self.goal)

    def rows(self, world: World) -> dict[str, str]:
        """Describe both models."""
        tokenizer, dynamics = world.tokenizer.config, world.dynamics.config
        files, stack = world.info.provenance["imported"], dynamics.transformer
        grids = [f"{g.rows}x{g.columns} of {g.codebook_size:,}" for g in (dynamics.context_grid, dynamics.grid)]
        numbers = sum(spec.n for spec in dynamics.actions.values())
        notes = world.info.provenance["changes"]
        return {
            "tokenizer": f"{_file(files['tokenizer'])}, {_size(world.tokenizer)}",
            "transformer": f"{_file(files['transformer'])}, {_size(world.dynamics)}",
            "frames": f"{tokenizer.height}x{tokenizer.width} pixels; frame rate unknown",
            "codes": f"{grids[0]} per context frame, {grids[1]} per later frame",
            "window": f"{dynamics.frames} frames, {dynamics.context_frames} of them context"
            + (", the first of which is the goal" if dynamics.has_goal else ""),
            "model": f"{stack.width} wide, {stack.heads} heads, {stack.layers} layers, {stack.places} places",
            "is told": f"actions of {numbers} numbers" if numbers else "no actions",
            "tells": "frames and rewards" if dynamics.has_rewards else "frames",
            **({"note": "; ".join(notes)} if notes else {}),
        }

    def next(self, world: World) -> list[str]:
        """Name the verbs that suit it."""
        if self.goal:
            return [f"  reelworld generate {self.out} --image PICTURE --goal PICTURE --out clip.mp4"]
        return [
            f"  reelworld generate {self.out} --image PICTURE --out clip.mp4",
            f"  reelworld play {self.out} --data RECORDINGS",
            f"  reelworld eval {self.out} --data RECORDINGS",
        ]


SYSTEMS: dict[str, type[System]] = {"videogpt": VideoGPT, "genie-1x": Genie1X, "ivideogpt": IVideoGPT}


def options_for(args: Sequence[str]) -> type[Options]:
    """Return the flags that a command line can have: those of the system it names.

    Raises:
        UserError: If it names none.
    """
    word = next((w for w in args if w in SYSTEMS), "")
    if word:
        return SYSTEMS[word]
    if args and not args[0].startswith("-"):
        raise unknown("system", args[0], SYSTEMS)
    if not {"-h", "--help"} & set(args):
        raise UserError(f"SYSTEM is missing: give {' or '.join(SYSTEMS)}, e.g. reelworld import videogpt --help.")
    return Options


def run(options: System) -> None:
    """Read, convert, save, and say what was made."""
    _check_out(options.out, options.force)

    from rich.console import Console

    world = options.read()
    world.save(options.out)
    console = Console()
    console.print(_table(world, options.rows(world)))
    lines = [*_passed_over(world), f"world: {options.out}", "next:", *options.next(world)]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _check_out(out: Path, force: bool) -> None:
    """Refuse what stands in the way before gigabytes are read."""
    check_folder(out)
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / "world.json").is_file():
        raise UserError(f"{out} exists and is not a world; choose another folder or empty it.")
    if not force:
        raise UserError(f"{out} holds a world already; choose another folder, or replace it with --force.")


def _table(world: World, rows: dict[str, str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(world.info.name), show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    return table


def _file(file: dict[str, str]) -> str:
    return f"{file['file']} (sha256 {file['sha256'][:12]}...)"


def _size(part: object) -> str:
    n = sum(p.numel() for p in part.parameters())  # type: ignore[attr-defined]
    return f"{n / 1e6:.2f}M parameters"


def _passed_over(world: World) -> list[str]:
    names = world.info.provenance["names_passed_over"]
    if not names:
        return []
    return ["names in the files that were neither imported nor called: " + ", ".join(names)]
