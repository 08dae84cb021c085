"""Read options for files that are not our own recordings. Imports nothing heavy: they are flags."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from reelworld.types import Fit, UserError


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options for reading files as clips of one size with one meaning of their actions."""

    size: int | tuple[int, int] | None = None
    """Pixels of the frames: one number for squares, or height and width; none keeps the size of the files."""
    fit: Fit = "none"
    """Treatment of frames of another size: none is an error, crop cuts the centre to the target shape and
    resizes, stretch ignores the shape, pad resizes the whole picture and fills the rest with black."""
    fps: float = 0.0
    """Frames per second to resample videos to, and to assume for arrays; 0 keeps the rate of the file."""
    frames: str = ""
    """Name of the frames inside .npz files; empty searches for the usual names."""
    action: str = ""
    """Name of the actions inside .npz files; empty searches for the usual names."""
    camera: str = ""
    """Camera of recordings with several, or the last part of its name; empty takes the usual one and notes it."""
    layout: Literal["auto", "channels-last", "channels-first"] = "auto"
    """Position of the channels of .npz frames: (T, H, W, C) or (T, C, H, W)."""
    action_shift: int | None = None
    """Row t + shift of the file's actions and rewards is the one taken after frame t: 0 when a row leads away
    from its frame, 1 when it led to its frame; none detects it and notes the assumption."""
    split_seed: int = 0
    """Seed of the train/val/test split of files that are not our own recordings."""
    strict: bool = False
    """Refuse everything if a single recording cannot be read; otherwise such recordings are left out and named."""
    max_gigabytes: float = 4.0
    """Most disk space that the decoded frames of one file may take in the cache."""

    def __post_init__(self) -> None:
        height, width = self.shape or (1, 1)
        if height < 1 or width < 1:
            raise UserError(f"size is {self.size}; it must be at least 1 pixel, e.g. 64.")
        if self.fps < 0 or self.max_gigabytes <= 0:
            raise UserError(f"fps is {self.fps} and max_gigabytes {self.max_gigabytes}; wanted 0 or more, and above 0.")

    @property
    def given(self) -> dict[str, object]:
        """Options besides size and fit that are not the default: field -> value."""
        own = {f.name: getattr(self, f.name) for f in fields(ReadOptions) if f.name not in ("size", "fit")}
        return {name: value for name, value in own.items() if value != getattr(ReadOptions, name)}

    @property
    def shape(self) -> tuple[int, int] | None:
        """Target height and width, or None to keep the file's."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size
