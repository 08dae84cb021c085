"""Initial contexts of episodes: clips of recordings, and images that a client uploads.

Uploads are untrusted: only PNG, JPEG and WebP are decoded, and the size is checked in the header before any pixels
are.

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

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from reelworld.data.clip_index import merged_specs
from reelworld.data.dataset import Dataset
from reelworld.data.resize import fit_frame
from reelworld.data.resize_options import ReadOptions
from reelworld.media import encode_png
from reelworld.serve.interfaces import PlaySession
from reelworld.types import Clip, ModelSpec, StepResult, UserError
from reelworld.worlds.provenance import frame_stride, merge_of, read_as_trained

MAX_INITIAL_CONTEXTS = 24  # offered to a client
THUMBNAIL_PIXELS = 96  # of the shorter side, at most
FORMATS = ("PNG", "JPEG", "WEBP")
# Errors of Pillow on corrupt files.
CORRUPT = (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, MemoryError, struct.error, zlib.error)


@dataclass(frozen=True, kw_only=True)
class InitialContext:
    """Context of a new episode; without frames, the world's default."""

    id: int
    seed: int | None = None
    frames: np.ndarray | None = None
    """uint8, (T, H, W, 3)."""
    actions: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Stream name -> (T - 1, ...)."""

    @classmethod
    def from_clip(cls, clip: Clip, id: int, seed: int | None) -> InitialContext:
        """Use the frames and actions of a clip."""
        return cls(id=id, seed=seed, frames=clip.frames, actions={k: v[:-1] for k, v in clip.actions.items()})

    def reset(self, session: PlaySession, context_frames: int) -> StepResult:
        """Reset a session; a single image is repeated for all context frames."""
        if self.frames is None:
            return session.reset(seed=self.seed)
        if len(self.frames) == 1 < context_frames:
            return session.reset(np.repeat(self.frames, context_frames, 0), seed=self.seed)
        return session.reset(self.frames, dict(self.actions) or None, seed=self.seed)


def sample_initial_contexts(folder: Path, spec: ModelSpec, provenance: Mapping[str, object]) -> list[Clip]:
    """Sample context clips of a data set, evenly over episodes and time, held-out episodes first.

    Frame stride and merging of actions are those of the world's training.

    Raises:
        UserError: If it cannot be read, or its frames or actions are not those of the world.
    """
    data = Dataset.open(folder, ReadOptions(size=(spec.height, spec.width), fit="crop"))
    if missing := spec.actions.keys() - data.info.actions.keys():
        raise UserError(f"{folder} lacks the actions {sorted(missing)} that this world takes; give recordings of it.")
    stride = frame_stride(provenance)
    recorded = merged_specs(data.info.actions, stride, merge_of(provenance))
    for name, expected in spec.actions.items():
        actual = recorded[name]
        if (actual.kind, actual.n, actual.repeat) != (expected.kind, expected.n, expected.repeat):
            raise UserError(
                f"{folder} has {actual.n} {actual.kind} actions {name!r}, this world {expected.n} {expected.kind} "
                "ones; give recordings of it."
            )
    indices = data.indices("test") + data.indices("val") or data.indices("all")
    length = max(1, spec.context[1])
    span = (length - 1) * stride + 1
    indices = [i for i in indices if data.episodes[i].n_frames >= span]
    if not indices:
        raise UserError(f"{folder} has no episode of {span} frames or more; give longer recordings.")
    clips = []
    for number in range(MAX_INITIAL_CONTEXTS):
        index = indices[number % len(indices)]
        room = data.episodes[index].n_frames - span
        start = round(room * (number * 0.618 % 1))  # the golden ratio spreads any number of moments
        clip = read_as_trained(data, provenance, index, start, start + span)
        clips.append(Clip(frames=clip.frames, actions={k: clip.actions[k] for k in spec.actions}))
    return clips


def describe_initial_contexts(clips: Sequence[Clip]) -> dict[str, object]:
    """Return the answer of ``/api/initial-contexts``: a small PNG of each clip's last frame, in base64."""
    images = [encode_png(_thumbnail(clip.frames[-1])) for clip in clips[:MAX_INITIAL_CONTEXTS]]
    return {"initial_contexts": [{"image": base64.b64encode(image).decode("ascii")} for image in images]}


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    scale = min(1.0, THUMBNAIL_PIXELS / min(frame.shape[:2]))
    return fit_frame(frame, (round(frame.shape[0] * scale), round(frame.shape[1] * scale)), "stretch")


def decode_image(content: bytes, height: int, width: int, max_pixels: int) -> np.ndarray:
    """Decode an untrusted image file.

    Args:
        content: The file.
        height: Rows of the world's frames.
        width: Columns of the world's frames; an image of another shape is cropped in the middle.
        max_pixels: Most pixels that are decoded.

    Returns:
        uint8, (height, width, 3); transparent pixels are black.

    Raises:
        UserError: If it is no PNG, JPEG or WebP, is damaged, or has too many pixels.
    """
    expected = "expected a PNG, JPEG or WebP file"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's warnings only the size matters, which is checked
            return _decode(content, height, width, max_pixels)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"the image is too large; at most {max_pixels:,} pixels are read. Shrink it.") from None
    except UnidentifiedImageError:
        raise UserError(f"this file is no image that can be read; {expected}.") from None
    except CORRUPT:
        raise UserError(f"this image is damaged; {expected}.") from None


def _decode(content: bytes, height: int, width: int, max_pixels: int) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if image.width * image.height > max_pixels:
            raise UserError(
                f"the image has {image.width}x{image.height} pixels; at most {max_pixels:,} are read. Shrink it."
            )
        upright = ImageOps.exif_transpose(image).convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", upright.size, (0, 0, 0, 255)), upright).convert("RGB")
        return fit_frame(np.asarray(flat), (height, width), "crop")
