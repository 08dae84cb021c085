"""Systems and parts of saved worlds: types by name, one safetensors file per part, checked on loading.

A system is reached by the name that a world carries: its module ``model`` has ``PARTS``, the classes of its parts, and
``assemble(spec, parts)``, which composes them.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from reelworld.config import from_json, to_json, unknown
from reelworld.models.parts import config_of
from reelworld.models.system import System
from reelworld.models.world_model import WorldModel
from reelworld.types import ModelSpec, UserError


@dataclass(frozen=True, kw_only=True)
class PartInfo:
    """One part in world.json."""

    type: str
    """Name of a class in the system's ``PARTS``, or module:class of code outside reelworld (needs permission)."""
    config: Mapping[str, Any]
    """The part's config as JSON."""
    file: str
    """Name of its safetensors file."""
    sha256: str
    """Hash of that file."""


class SystemModule(Protocol):
    """Module ``model`` of a system."""

    PARTS: Mapping[str, type[nn.Module]]
    """Type name -> class; the class takes one frozen dataclass, its config."""

    def assemble(self, spec: ModelSpec, parts: Mapping[str, nn.Module]) -> WorldModel:
        """Compose the model; raises UserError where the parts do not belong together."""
        ...


def load_system(name: str, allow_code: Sequence[str] = ()) -> SystemModule:
    """Import the module ``model`` of a system.

    Args:
        name: Name in ``reelworld.systems.SYSTEMS``, or a package outside reelworld.
        allow_code: Modules outside reelworld that may be imported.

    Raises:
        UserError: If the system is unknown, not allowed or cannot be imported.
    """
    systems = importlib.import_module("reelworld.systems").SYSTEMS  # systems import worlds, so by name only
    package = systems.get(name, name)
    if name not in systems and "." not in name and name not in allow_code:
        raise unknown("system", name, systems)
    if name not in systems:
        _check_allowed(package, allow_code)
    try:
        return cast(SystemModule, importlib.import_module(f"{package.removesuffix('.train')}.model"))
    except ImportError as error:
        raise UserError(f"the code of the system {name!r} cannot be imported ({error}); install it.") from None


def find_record(name: str) -> System | None:
    """Return the record of a system that is loaded or comes with reelworld; None for systems without one."""
    systems = importlib.import_module("reelworld.systems").SYSTEMS
    package = importlib.import_module(systems[name]) if name in systems else sys.modules.get(name)
    return getattr(package, "SYSTEM", None)


def _check_allowed(module: str, allow_code: Sequence[str]) -> None:
    if module not in allow_code:
        raise UserError(
            f"this world needs code from {module!r}, which is not part of reelworld; if you trust it, "
            f"allow it with --allow-code {module}."
        )


def type_name(part: nn.Module, system: SystemModule) -> str:
    """Return the name of a part's type for world.json."""
    kind = type(part)
    return kind.__name__ if system.PARTS.get(kind.__name__) is kind else f"{kind.__module__}:{kind.__qualname__}"


def save_part(
    part: nn.Module, system: SystemModule, folder: Path, name: str, dtype: torch.dtype | None = None
) -> PartInfo:
    """Write a part's weights to ``folder``, floating ones as ``dtype`` if one is given, and describe it."""
    path = folder / f"{name}.safetensors"
    tensors = {k: v.detach().cpu().contiguous() for k, v in part.state_dict().items()}
    if dtype is not None:
        tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    # not save_file: its files can be read by their owner only, and worlds are made to be shared
    path.write_bytes(safetensors.torch.save(tensors))
    config = to_json(config_of(part))
    return PartInfo(type=type_name(part, system), config=config, file=path.name, sha256=file_hash(path))


def load_part(
    name: str, info: PartInfo, system: SystemModule, folder: Path, allow_code: Sequence[str] = ()
) -> nn.Module:
    """Build a part and load its weights.

    Args:
        name: For errors.
        info: From world.json.
        system: Of the world.
        folder: Of the world.
        allow_code: Modules outside reelworld that may be imported.

    Raises:
        UserError: If the type is unknown or not allowed, or the file is missing, changed or does not fit.
    """
    cls = _part_class(info.type, system, allow_code)
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


def _part_class(kind: str, system: SystemModule, allow_code: Sequence[str]) -> Any:
    if kind in system.PARTS:
        return system.PARTS[kind]
    module, _, cls = kind.partition(":")
    if not cls:
        raise unknown("part type", kind, system.PARTS)
    _check_allowed(module, allow_code)
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
