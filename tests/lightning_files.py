"""Checkpoints as Lightning 1.3.3 writes them, made without Lightning.

Its modules exist only while a file is written, so that a file that can be read afterwards proves that reading
imports nothing.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


class AttributeDict(dict):
    """Stand-in for pytorch_lightning.utilities.parsing.AttributeDict."""


class ModelCheckpoint:
    """Stand-in for the callback whose class is a key of ``callbacks``."""


class EarlyStopping:
    """Stand-in for the callback of which the file holds an instance."""

    def __init__(self) -> None:
        self.mode = "min"


def _gpus_arg_default(x: str) -> int:
    """Stand-in for the function that Lightning before 1.2.8 left in its users' hyper-parameters."""
    return int(x)


PLACES = {
    "utilities.parsing": AttributeDict,
    "callbacks.model_checkpoint": ModelCheckpoint,
    "callbacks.early_stopping": EarlyStopping,
    "utilities.argparse": _gpus_arg_default,
}


@contextmanager
def lightning(root: str = "pytorch_lightning") -> Iterator[None]:
    """Put the names above into Lightning's modules while a file is written."""
    assert root not in sys.modules
    own = {thing: thing.__module__ for thing in PLACES.values()}
    names = [root, f"{root}.utilities", f"{root}.callbacks", *(f"{root}.{place}" for place in PLACES)]
    sys.modules.update({name: ModuleType(name) for name in names})
    for place, thing in PLACES.items():
        thing.__module__ = f"{root}.{place}"
        setattr(sys.modules[thing.__module__], thing.__name__, thing)
    try:
        yield
    finally:
        for thing, module in own.items():
            thing.__module__ = module
        for name in names:
            del sys.modules[name]


def trained(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the states that Adam and its schedule would leave for these weights."""
    weights = [torch.nn.Parameter(v.clone()) for v in state_dict.values() if v.is_floating_point()]
    optimizer = torch.optim.Adam(weights or [torch.nn.Parameter(torch.zeros(1))])
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    return optimizer.state_dict(), schedule.state_dict()


def content(state_dict: Mapping[str, Tensor], args: Mapping[str, Any]) -> dict[str, Any]:
    """Lay out a checkpoint with everything that is saved beside the weights."""
    optimizer, schedule = trained(state_dict)
    return {
        "epoch": 3,
        "global_step": 200000,
        "pytorch-lightning_version": "1.3.3",
        "state_dict": state_dict,
        "callbacks": {
            ModelCheckpoint: {"monitor": "val/loss", "best_model_score": torch.tensor(0.5), "dirpath": "logs"},
            "stopping": EarlyStopping(),
        },
        "optimizer_states": [optimizer],
        "lr_schedulers": [schedule],
        "hparams_name": "kwargs",
        "hparams_type": AttributeDict,
        "hyper_parameters": {"args": Namespace(gpus=_gpus_arg_default, tags={"a", "b"}, **args)},
    }


def write_lightning(
    path: Path,
    state_dict: Mapping[str, Tensor],
    args: Mapping[str, Any],
    *,
    is_attribute_dict: bool = False,
    root: str = "pytorch_lightning",
    protocol: int = 2,
) -> Path:
    """Write a checkpoint; ``is_attribute_dict`` makes its hyper_parameters an AttributeDict of a Namespace."""
    whole = content(state_dict, args)
    if is_attribute_dict:
        whole["hyper_parameters"] = AttributeDict(whole["hyper_parameters"])
    with lightning(root):
        torch.save(whole, path, pickle_protocol=protocol)
    return path
