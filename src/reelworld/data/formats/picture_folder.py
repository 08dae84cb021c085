"""Folders of numbered pictures, one recording each: ``000001.png``, ``frame_2.jpg``; actions in a file among them.

The order is that of the last number in each name, not that of the letters: ``frame_10`` comes after ``frame_9``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from reelworld.data.action_alignment import align
from reelworld.data.array_store import Unreadable
from reelworld.data.cache import Decoded
from reelworld.data.formats import hdf5, video
from reelworld.data.formats.action_file import ACTION_ENDINGS, action_file, plain_actions
from reelworld.data.formats.npz import UNDOCUMENTED
from reelworld.data.formats.reader import Contents, FileRequest, decoded_episode
from reelworld.data.resize import fit_frames
from reelworld.types import ActionSpec, UserError

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
RECORDING_ENDINGS = (".npz", *hdf5.ENDINGS, *video.ENDINGS)
"""A folder with any of these holds recordings; the pictures beside them are something else."""
ACTION_STEMS = ("actions", "action")
NUMBER = re.compile(r"\d+(?=\D*$)")


def is_folder(folder: Path) -> bool:
    """Return True for a folder of at least two numbered pictures and no file of a recording."""
    n_pictures = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            ending = Path(entry.name).suffix.lower()
            if ending in RECORDING_ENDINGS:
                return False
            n_pictures += ending in PICTURE_ENDINGS and NUMBER.search(Path(entry.name).stem) is not None
    return n_pictures > 1


def read(request: FileRequest) -> Contents:
    """Read a folder as one episode, decoded into the cache."""
    folder = request.path
    pictures = sorted(
        (p for p in folder.iterdir() if p.suffix.lower() in PICTURE_ENDINGS and NUMBER.search(p.stem)),
        key=lambda p: (_number(p), p.name),
    )
    found = [folder / f"{stem}{ending}" for stem in ACTION_STEMS for ending in ACTION_ENDINGS]
    inside = [p for p in found if p.is_file()]
    if len(inside) > 1:
        raise Unreadable(
            f"{folder.name} has {len(inside)} action files ({', '.join(p.name for p in inside)}); keep one."
        )
    companion = inside[0] if inside else action_file(folder.with_name(f"{folder.name}.any"))
    also = [*pictures, *([companion] if companion else [])]
    return decoded_episode(request, lambda: _decode(request, pictures, companion), also)


def _number(path: Path) -> int:
    match = NUMBER.search(path.stem)
    return int(match.group()) if match else -1


def _decode(request: FileRequest, pictures: list[Path], companion: Path | None) -> Decoded:
    options, name = request.options, request.path.name
    images: list[np.ndarray] = []
    notes: set[str] = set()
    for path in pictures:
        image = _load(path, notes)
        if images and options.shape is None and image.shape != images[0].shape:
            raise Unreadable(
                f"{name} has pictures of {images[0].shape[1]}x{images[0].shape[0]} and {path.name} of "
                f"{image.shape[1]}x{image.shape[0]} (width x height); choose one with --size and --fit crop, stretch "
                "or pad."
            )
        video.check_room(len(pictures), options.shape or image.shape[:2], request.path, options)
        images.append(fit_frames(image[None], options.shape, options.fit, path.name)[0])
    frames = np.stack(images)
    numbers = [_number(p) for p in pictures]
    steps = np.diff(numbers)
    if (steps == 0).any():
        twice = pictures[int(np.flatnonzero(steps == 0)[0]) + 1].name
        raise Unreadable(f"{name} has two pictures of one number (the second: {twice}); keep one of each.")
    if n_gaps := int((steps != steps.min()).sum()):
        notes.add(f"the numbers of the pictures of {name} have {n_gaps} gaps; pictures are missing there")
    rows: dict[str, np.ndarray] = {}
    specs: dict[str, ActionSpec] = {}
    kept = slice(None)
    if companion is not None:
        about = f"{companion.name} (with the pictures of {name})"
        given = plain_actions(companion, about, options.action)
        kept, rows = align(frames, given.rows, options.action_shift or 0, about)
        specs = dict(given.specs)
        notes |= set(given.notes)
        if options.action_shift is None and len(given.rows["actions"]) == len(frames):
            notes.add(UNDOCUMENTED.format("picture"))
    return {"frames": frames[kept], **rows}, {"fps": options.fps, "actions": specs, "notes": sorted(notes)}


def _load(path: Path, notes: set[str]) -> np.ndarray:
    """Read a picture as RGB, uint8 (H, W, 3)."""
    try:
        with Image.open(path) as image:
            if image.mode in ("I", "F") or image.mode.startswith("I;16"):
                raise Unreadable(f"{path} has more than 8 bits per pixel ({image.mode}); save it as 8-bit RGB.")
            if "A" in image.getbands() or "transparency" in image.info:
                notes.add("transparency of pictures is left out")
                return np.asarray(image.convert("RGBA"))[..., :3]
            return np.asarray(image.convert("RGB"))
    except UserError:
        raise
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise Unreadable(f"{path.parent.name}/{path.name} cannot be read as a picture ({error})") from None
