"""Numbers that papers report, named beside ours only where ours were counted as theirs were.

Source: Wu et al. 2024 (arXiv:2405.15223), table 1, which also gives those of the other systems. SSIM and LPIPS are
printed there times 100.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reelworld.evaluate.clips import given_frames

if TYPE_CHECKING:
    from reelworld.worlds.world import World

__all__ = ["PUBLISHED_CLIPS", "PUBLISHED_SAMPLES", "published_beside"]

PUBLISHED_CLIPS = 256
PUBLISHED_SAMPLES = 100

FIGURES = ("fvd_published", "best_psnr", "best_ssim", "best_lpips")


@dataclass(frozen=True)
class Table:
    """What was reported for one data set."""

    data: str
    size: int
    """Pixels along each side."""
    context: int
    """True frames before the prediction."""
    frames: int
    """Frames of a clip, the context included."""
    has_actions: bool
    rows: dict[str, tuple[float | None, ...]]
    """System -> its numbers in the order of FIGURES; None where there is none."""


TABLES = (
    Table(
        "BAIR",
        64,
        1,
        16,
        False,
        {
            "VideoGPT": (103.3, None, None, None),
            "MaskViT": (93.7, None, None, None),
            "FitVid": (93.6, None, None, None),
            "MCVD": (89.5, 16.9, 0.780, None),
            "MAGVIT": (62.0, 19.3, 0.787, 0.123),
            "iVideoGPT": (75.0, 20.4, 0.823, 0.095),
        },
    ),
    Table("BAIR", 64, 1, 16, True, {"MaskViT": (70.5, None, None, None), "iVideoGPT": (60.8, 24.5, 0.902, 0.050)}),
    Table(
        "RoboNet",
        64,
        2,
        12,
        True,
        {
            "MaskViT": (133.5, 23.2, 0.805, 0.042),
            "SVG": (123.2, 23.9, 0.878, 0.060),
            "GHVAE": (95.2, 24.7, 0.891, 0.036),
            "FitVid": (62.5, 28.2, 0.893, 0.024),
            "iVideoGPT": (63.2, 27.8, 0.906, 0.049),
        },
    ),
    Table(
        "RoboNet", 256, 2, 12, True, {"MaskViT": (211.7, 20.4, 0.671, 0.170), "iVideoGPT": (197.9, 23.8, 0.808, 0.147)}
    ),
)


def published_beside(world: World, figure: str, n_frames: int, n_clips: int, n_samples: int) -> dict[str, float]:
    """Return "system on data, published" -> its number, for worlds of that size, context and kind, without goals.

    Args:
        world: What was measured.
        figure: Name of the figure.
        n_frames: Frames of a clip, the context included.
        n_clips: Clips behind it; other numbers than 256 give nothing.
        n_samples: Samples of each; other numbers than 100 give nothing.
    """
    if (n_clips, n_samples) != (PUBLISHED_CLIPS, PUBLISHED_SAMPLES) or figure not in FIGURES or world.has_goal:
        return {}
    kind = (world.info.height, world.info.width, given_frames(world), n_frames, bool(world.info.actions))
    found = {}
    for table in TABLES:
        if kind == (table.size, table.size, table.context, table.frames, table.has_actions):
            for system, numbers in table.rows.items():
                number = numbers[FIGURES.index(figure)]
                if number is not None:
                    found[f"{system} on {table.data}, published"] = number
    return found
