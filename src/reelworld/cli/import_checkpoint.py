"""Turn published checkpoints of another system into a world, without trusting them.

videogpt reads the two models of VideoGPT (arXiv:2104.10157): the VQ-VAE that codes clips and the prior that draws
codes. Files may be PyTorch Lightning checkpoints (.ckpt, any version), or .safetensors with the hyper-parameters in a
config.json beside them (its entry of the file's stem, or the whole of it). A prior's checkpoint usually holds its
VQ-VAE too: then --vqvae may be left out.

A checkpoint is a pickle, and a pickle can run programs. Nothing of these files is run: tensors, plain values and
argparse.Namespace are read, names of PyTorch and Lightning are passed over and listed, and any other name ends the
import. Sizes come from the files; nothing needs to be told.

Examples:
  reelworld import videogpt --prior bair_gpt.ckpt --out runs/bair/world
  reelworld import videogpt --vqvae ucf101_stride4x4x4.ckpt --prior ucf101_uncond_gpt.ckpt --out runs/ucf101/world
  reelworld import videogpt --vqvae vqvae.safetensors --prior gpt.safetensors --out runs/mine/world
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from reelworld.cli.loading import check_folder
from reelworld.types import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from reelworld.worlds.world import World

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `reelworld import`."""

    system: Annotated[tyro.conf.Positional[Literal["videogpt"]], tyro.conf.arg(metavar="SYSTEM")]
    """Whose checkpoints they are: videogpt."""
    prior: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """Checkpoint of the prior."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the new world."""
    vqvae: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Checkpoint of the VQ-VAE; needed when the prior's file does not hold it. Both must be the same if it does."""
    force: bool = False
    """Replace a world that is there."""


def run(options: Options) -> None:
    """Read, convert, save, and say what was made."""
    _check_out(options.out, options.force)

    from rich.console import Console

    from reelworld.recipes.convert_videogpt import import_world

    world = import_world(options.vqvae, options.prior)
    world.save(options.out)
    console = Console()
    console.print(_table(world, has_own_vqvae=options.vqvae is not None))
    lines = [*_passed_over(world), f"world: {options.out}", *_next(world, options.out)]
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


def _table(world: World, has_own_vqvae: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(world.info.name), show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in _rows(world, has_own_vqvae).items():
        table.add_row(Text(name), Text(value))
    return table


def _rows(world: World, has_own_vqvae: bool) -> dict[str, str]:
    vqvae, prior = world.tokenizer.config, world.dynamics.config
    files = world.info.provenance["imported"]
    condition = f"the first {prior.cond_frames} frame(s) as pixels" if prior.cond_frames else ""
    classes = f"one of {prior.n_classes} classes (their names are unknown)" if prior.n_classes else ""
    frames, rows, columns = vqvae.downsample
    widths = f"{vqvae.n_codes:,} codes of width {vqvae.embedding_dim}"
    return {
        "prior": _file(files["prior"]),
        "VQ-VAE": _file(files["vqvae"]) if has_own_vqvae else "the one in the prior's file",
        "clips": f"{vqvae.clip_frames} frames of {vqvae.height}x{vqvae.width} pixels; frame rate unknown",
        "codes": f"{prior.latent_frames}x{prior.grid.rows}x{prior.grid.columns} per clip, one for {frames} frame(s) of "
        f"{rows}x{columns} pixels; {widths}",
        "VQ-VAE model": f"{vqvae.n_hiddens} wide, {vqvae.n_res_layers} residual layers, {_size(world.tokenizer)}",
        "prior model": f"{prior.hidden_dim} wide, {prior.heads} heads, {prior.layers} layers, {prior.attention} "
        f"attention, {_size(world.dynamics)}",
        "is told": " and ".join(filter(None, (condition, classes))) or "nothing (it begins from nothing)",
    }


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


def _next(world: World, out: Path) -> list[str]:
    start = " --image PICTURE" if world.info.context_frames else ""
    classes = " --class-id 0" if world.info.classes else ""
    # a page has no picture to begin from: the world ships no clips
    play = [] if world.info.context_frames else [f"  reelworld play {out}"]
    return [
        "next:",
        f"  reelworld generate {out}{start}{classes} --out clip.mp4",
        *play,
        f"  reelworld eval {out} --data RECORDINGS",
    ]
