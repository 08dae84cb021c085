"""Whether recordings show the game that a world was made from, where sizes and actions happen to agree.

A world ships clips to start from. Its tokenizer draws those about as well as any recording of the same game; the
pictures of another game come out as rubbish.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reelworld.evaluate import metrics
from reelworld.evaluate.figures import db
from reelworld.evaluate.reconstruction import reconstruct
from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.types import Clip
    from reelworld.worlds.world import World

__all__ = ["check_same_game"]

N_CLIPS = 8
N_FRAMES = 16
RUBBISH, WORSE = 20.0, 8.0
"""Pictures drawn with less than 20 dB (an error of 25 grey levels), 8 dB below the start clips', are unlike those."""


def check_same_game(world: World, clips: Sequence[Clip], path: Path) -> None:
    """Refuse recordings whose pictures the world's tokenizer cannot draw, although it draws its own start clips.

    Args:
        world: With start clips; without any nothing is checked.
        clips: What is to be measured.
        path: Of the recordings.

    Raises:
        UserError: If they are unlike what the world was made from.
    """
    known = _closeness(world, world.starts)
    came = _closeness(world, clips)
    if np.isfinite(came) and came < RUBBISH and came < known - WORSE:
        raise UserError(
            f"{path} shows another game: the world's tokenizer draws it with {came:.1f} dB, its own start clips with "
            f"{known:.1f} dB, so every number would say how the games differ, not how good the world is. Give "
            "recordings of its own game."
        )


def _closeness(world: World, clips: Sequence[Clip]) -> float:
    """PSNR of some frames through the tokenizer; NaN where nothing is long enough for it."""
    errors = []
    for clip in clips[:N_CLIPS]:
        frames = clip.frames[: max(N_FRAMES, world.tokenizer.spec(1, *clip.frames.shape[1:3]).clip_frames)]
        drawn = reconstruct(world, frames)
        errors += metrics.squared_error(frames[: len(drawn)], drawn).tolist()
    return float(db(float(np.mean(errors)))) if errors else float("nan")
