"""Parts of a world on disk: a literal table of types, one safetensors file each, checked on loading."""

from __future__ import annotations

import hashlib
import importlib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from reelworld.config import from_json, to_json, unknown
from reelworld.types import UserError

__all__ = ["PARTS", "PartInfo", "load_part", "save_part"]

PARTS = {
    "patch_tokenizer": "reelworld.systems.pocket.tokenizer:PatchTokenizer",
    "grid_dynamics": "reelworld.systems.pocket.dynamics:PocketDynamics",
    "st_vivit": "reelworld.systems.genie.tokenizer:STViViT",
    "maskgit": "reelworld.systems.genie.maskgit:MaskGIT",
    "absent_tokenizer": "reelworld.systems.genie.missing_tokenizer:MissingTokenizer",
    "st_latent_actions": "reelworld.systems.genie.spacetime_latent_action:STLatentActions",
    "grid_latent_actions": "reelworld.systems.genie.conv_latent_action:GridLatentActions",
    "vqvae3d": "reelworld.systems.videogpt.vqvae:VQVAE3D",
    "conditional_vqgan": "reelworld.systems.ivideogpt.context_vqgan:ContextVQGAN",
    "slot_transformer": "reelworld.systems.ivideogpt.transformer:IVideoGPTTransformer",
    "autoregressive_prior": "reelworld.systems.videogpt.prior:AutoregressivePrior",
}
"""Type name in world.json -> module:class. The class takes one frozen dataclass, its config."""


@dataclass(frozen=True, kw_only=True)
class PartInfo:
    """One part in world.json."""

    type: str
    """Name in PARTS, or module:class of code outside reelworld (needs permission to load)."""
    config: Mapping[str, Any]
    """The part's config as JSON."""
    file: str
    """Name of its safetensors file."""
    sha256: str
    """Hash of that file."""


def type_name(part: nn.Module) -> str:
    """Name a part's type as world.json does."""
    path = f"{type(part).__module__}:{type(part).__qualname__}"
    return next((name for name, known in PARTS.items() if known == path), path)


def save_part(part: nn.Module, folder: Path, name: str, dtype: torch.dtype | None = None) -> PartInfo:
    """Write a part's weights to ``folder``, floating ones as ``dtype`` if one is given, and describe it."""
    path = folder / f"{name}.safetensors"
    tensors = {k: v.detach().cpu().contiguous() for k, v in part.state_dict().items()}
    if dtype is not None:
        tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    # not save_file: its files can be read by their owner only, and worlds are made to be shared
    path.write_bytes(safetensors.torch.save(tensors))
    config: Any = part.config
    return PartInfo(type=type_name(part), config=to_json(config), file=path.name, sha256=file_hash(path))


def load_part(name: str, info: PartInfo, folder: Path, allow_code: Sequence[str] = ()) -> nn.Module:
    """Build a part and load its weights.

    Args:
        name: For errors.
        info: From world.json.
        folder: Of the world.
        allow_code: Modules outside reelworld that may be imported.

    Raises:
        UserError: If the type is unknown or not allowed, or the file is missing, changed or does not fit.
    """
    cls = _part_class(info.type, allow_code)
    config_class = typing.get_type_hints(cls.__init__)["config"]
    config = from_json(config_class, info.config, f"config of part {name!r}")
    try:
        part: nn.Module = cls(config)
    except UserError:
        raise
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:  # also more memory than there is
        raise UserError(
            f"part {name!r} of {folder} cannot be built from its config ({' '.join(str(error).split())[:120]}); "
            "world.json was edited or damaged: copy the world again."
        ) from None
    path = folder / Path(info.file).name
    if not path.is_file():
        raise UserError(f"{folder} lacks {path.name}, the weights of part {name!r}; copy the world again.")
    if (found := file_hash(path)) != info.sha256:
        raise UserError(
            f"{path} has sha256 {found[:12]}..., world.json says {info.sha256[:12]}...; the file was changed or "
            "damaged: copy the world again."
        )
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file ({error}); copy the world again.") from None
    _load_exactly(part, tensors, f"part {name!r} of {folder}")
    return part.eval()


def _part_class(kind: str, allow_code: Sequence[str]) -> Any:
    path = PARTS.get(kind, kind)
    module, _, cls = path.partition(":")
    if kind not in PARTS and not cls:
        raise unknown("part type", kind, PARTS)
    if kind not in PARTS and module not in allow_code:
        raise UserError(
            f"this world needs code from {module!r}, which is not part of reelworld; if you trust it, "
            f"allow it with --allow-code {module}."
        )
    try:
        return getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError) as error:
        raise UserError(f"the code of part type {kind!r} cannot be imported ({error}); install it.") from None


def _load_exactly(part: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    wanted = part.state_dict()
    missing, surplus = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or surplus:
        raise UserError(
            f"{where} does not fit its config: {len(missing)} tensors missing ({', '.join(missing[:5]) or 'none'}), "
            f"{len(surplus)} surplus ({', '.join(surplus[:5]) or 'none'}); it was saved by another version or edited."
        )
    wrong = [k for k in wanted if wanted[k].shape != tensors[k].shape]
    if wrong:
        k = wrong[0]
        raise UserError(
            f"{where}: {len(wrong)} tensors have another shape than the config says, first {k}: file "
            f"{tuple(tensors[k].shape)}, config {tuple(wanted[k].shape)}."
        )
    part.load_state_dict(dict(tensors))


def file_hash(path: Path) -> str:
    """Sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
