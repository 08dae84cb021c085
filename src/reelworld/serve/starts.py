"""Where a game may begin: clips of recordings, and pictures that a player brings.

A picture is read as something a stranger made: PNG, JPEG or WebP only, no larger than allowed, its size known from
its header before anything is unpacked.

Shapes: T frames, H W pixel rows and columns
"""

from __future__ import annotations

import base64
import io
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from reelworld.data.clip_index import merged_specs
from reelworld.data.dataset import Dataset
from reelworld.data.resize import fit_frame
from reelworld.data.resize_options import ReadOptions
from reelworld.media import encode_png
from reelworld.serve.playable import PlayableInfo, PlaySession
from reelworld.types import Clip, StepResult, UserError
from reelworld.worlds.provenance import frame_stride, merge_of, read_as_trained

__all__ = ["MAX_STARTS", "InitialContext", "clips_of", "describe_starts", "read_image"]

MAX_STARTS = 24  # pictures to choose from
THUMBNAIL_PIXELS = 96  # of the shorter side, at most
FORMATS = ("PNG", "JPEG", "WEBP")
# What Pillow raises on files that somebody broke on purpose.
BROKEN = (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, MemoryError, struct.error, zlib.error)


@dataclass(frozen=True, kw_only=True)
class InitialContext:
    """What a player asked to begin from; without frames, whatever the world begins with by itself."""

    id: int
    seed: int | None = None
    frames: np.ndarray | None = None
    """uint8, (T, H, W, 3)."""
    actions: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Stream name -> (T - 1, ...)."""

    @classmethod
    def of_clip(cls, clip: Clip, id: int, seed: int | None) -> InitialContext:
        """Begin with the frames of a clip."""
        return cls(id=id, seed=seed, frames=clip.frames, actions={k: v[:-1] for k, v in clip.actions.items()})

    def start(self, session: PlaySession, context_frames: int) -> StepResult:
        """Reset a session; a single picture is shown as often as a world wants frames to begin with."""
        if self.frames is None:
            return session.reset(seed=self.seed)
        if len(self.frames) == 1 < context_frames:
            return session.reset(np.repeat(self.frames, context_frames, 0), seed=self.seed)
        return session.reset(self.frames, dict(self.actions) or None, seed=self.seed)


def clips_of(folder: Path, info: PlayableInfo) -> list[Clip]:
    """Choose moments of a data set to begin from, evenly over episodes and over time, held-out ones first.

    Frames are kept, and the actions between them brought together, as in the world's training.

    Raises:
        UserError: If it cannot be read, or its frames or actions are not those of the world.
    """
    data = Dataset.open(folder, ReadOptions(size=(info.height, info.width), fit="crop"))
    if missing := info.actions.keys() - data.info.actions.keys():
        raise UserError(f"{folder} lacks the actions {sorted(missing)} that this world takes; give recordings of it.")
    stride = frame_stride(info.provenance)
    given = merged_specs(data.info.actions, stride, merge_of(info.provenance))
    for name, spec in info.actions.items():
        theirs = given[name]
        if (theirs.kind, theirs.n, theirs.repeat) != (spec.kind, spec.n, spec.repeat):
            raise UserError(
                f"{folder} has {theirs.n} {theirs.kind} actions {name!r}, this world {spec.n} {spec.kind} ones; "
                "give recordings of it."
            )
    indices = data.indices("test") + data.indices("val") or data.indices("all")
    length = max(1, info.context_frames)
    span = (length - 1) * stride + 1
    indices = [i for i in indices if data.episodes[i].n_frames >= span]
    if not indices:
        raise UserError(f"{folder} has no episode of {span} frames or more; give longer recordings.")
    clips = []
    for number in range(MAX_STARTS):
        index = indices[number % len(indices)]
        room = data.episodes[index].n_frames - span
        start = round(room * (number * 0.618 % 1))  # the golden ratio spreads any number of moments
        clip = read_as_trained(data, info.provenance, index, start, start + span)
        clips.append(Clip(frames=clip.frames, actions={k: clip.actions[k] for k in info.actions}))
    return clips


def describe_starts(starts: Sequence[Clip]) -> dict[str, Any]:
    """Return what ``/api/starts`` answers: a small PNG of each clip's last frame, in base64."""
    pictures = [encode_png(_thumbnail(clip.frames[-1])) for clip in starts[:MAX_STARTS]]
    return {"starts": [{"image": base64.b64encode(picture).decode("ascii")} for picture in pictures]}


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    scale = min(1.0, THUMBNAIL_PIXELS / min(frame.shape[:2]))
    return fit_frame(frame, (round(frame.shape[0] * scale), round(frame.shape[1] * scale)), "stretch")


def read_image(content: bytes, height: int, width: int, max_pixels: int) -> np.ndarray:
    """Read a picture of unknown origin.

    Args:
        content: The file.
        height: Rows of the world's frames.
        width: Columns of the world's frames; what is too wide or too high is cut off evenly.
        max_pixels: Most pixels that are unpacked.

    Returns:
        uint8, (height, width, 3); what was transparent is black.

    Raises:
        UserError: If it is no PNG, JPEG or WebP, is damaged, or has too many pixels.
    """
    wanted = "wanted a PNG, JPEG or WebP"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Pillow warns, only size matters here, and that is checked
            return _read(content, height, width, max_pixels)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"the picture is too large; at most {max_pixels:,} pixels are read. Shrink it.") from None
    except UnidentifiedImageError:
        raise UserError(f"this file is no picture that is read here; {wanted}.") from None
    except BROKEN:
        raise UserError(f"this picture is damaged; {wanted}.") from None


def _read(content: bytes, height: int, width: int, max_pixels: int) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if image.width * image.height > max_pixels:
            raise UserError(
                f"the picture has {image.width}x{image.height} pixels; at most {max_pixels:,} are read. Shrink it."
            )
        upright = ImageOps.exif_transpose(image).convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", upright.size, (0, 0, 0, 255)), upright).convert("RGB")
        return fit_frame(np.asarray(flat), (height, width), "crop")
