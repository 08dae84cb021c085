"""The pocket worlds that have a name: their settings."""

from __future__ import annotations

from dataclasses import replace

from reelworld.systems.pocket.config import Config


def tiny() -> Config:
    """For tests: seconds of training, no quality."""
    quick = Config(tokenizer_width=32, tokenizer_steps=20, tokenizer_batch=4, width=32, steps=20, batch=4)
    return replace(quick, trunk_layers=2, temporal_layers=1, head_layers=1, window=3, clip_frames=4, context_frames=2)


def small() -> Config:
    """The default: a tile game or a first smooth world in minutes, on a laptop CPU."""
    return Config()


def medium() -> Config:
    """Wider dynamics, for an hour of training and more; in four CPU-minutes small is still ahead."""
    return Config(width=128, steps=12_000, tokenizer_steps=4000)


SIZES = {"tiny": tiny, "small": small, "medium": medium}
PRESETS: dict[str, Config] = {name: make() for name, make in SIZES.items()}
ABOUT = {name: (make.__doc__ or "").splitlines()[0] for name, make in SIZES.items()}
