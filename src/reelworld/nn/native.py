"""C code that the machine's own compiler turns into a library when it is first wanted.

Nothing needs it: where there is no compiler, or it fails, callers take another way. ``CC`` names the compiler, as
usual; an empty ``CC`` says that there is none. Nothing is kept on disk: compiling a page of C takes half a second, and
a library that is found somewhere may be of another processor, or somebody else's.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shlex
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["compiled", "compiled_for"]

logger = logging.getLogger(__name__)

# Sums in any order, so that loops become vector code. Not -ffast-math: linked with it, a library makes the whole
# process treat the smallest numbers as zero.
SUMS = ("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno")
FLAGS = ("-O3", "-march=native", "-fopenmp", *SUMS, "-fPIC", "-shared")
SECONDS = 60
NUMBERS: dict[torch.dtype, tuple[str, ...]] = {torch.float32: (), torch.bfloat16: ("-DBF16",)}
"""Types of weights that code with numbers.h can be compiled for, and what tells it."""


def compiled_for(source: Path, weights: Tensor) -> ctypes.CDLL | None:
    """Compile a file of C for weights of a type and load it; None if that does not work here."""
    if weights.device.type != "cpu" or weights.dtype not in NUMBERS:
        return None
    return compiled(source, *NUMBERS[weights.dtype])


@lru_cache
def compiled(source: Path, *flags: str) -> ctypes.CDLL | None:
    """Compile a file of C and load it.

    Args:
        source: The file.
        flags: For the compiler, beside ours.

    Returns:
        The library; None if that does not work here.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not compiler:
        return None
    with tempfile.TemporaryDirectory(prefix="reelworld-", ignore_cleanup_errors=True) as folder:
        library = Path(folder) / source.with_suffix(".so").name
        command = [*compiler, *FLAGS, *flags, str(source), "-o", str(library), "-lm"]
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=SECONDS)
            return ctypes.CDLL(str(library))
        except (OSError, subprocess.SubprocessError) as error:
            logger.info("%s is not compiled: %s", source.name, error)
            return None
