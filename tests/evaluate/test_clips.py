"""Recordings are opened in the world's training format, and read once."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from reelworld.data.dataset import Dataset, ReadOptions
from reelworld.data.formats import video
from reelworld.evaluate.protocol import open_for
from reelworld.media import encode_mp4
from reelworld.types import ModelSpec, UserError


def world(fit, data=None):
    provenance = {"config": {"size": 16, "fit": fit}, "data": data or {}}
    return SimpleNamespace(info=SimpleNamespace(provenance=provenance), spec=ModelSpec(height=16, width=16))


@pytest.fixture
def film(tmp_path, monkeypatch):
    """A film twice as wide as high, and the list of what was decoded."""
    monkeypatch.setenv("REELWORLD_CACHE", str(tmp_path / "cache"))
    blocks = np.random.default_rng(0).integers(0, 256, (40, 4, 8, 3), dtype=np.uint8)
    path = tmp_path / "film.mp4"
    path.write_bytes(encode_mp4(blocks.repeat(8, 1).repeat(8, 2), fps=10.0))
    decoded, convert = [], video.decode
    monkeypatch.setattr(
        video, "decode", lambda p, c, options: (decoded.append(options.shape), convert(p, c, options))[1]
    )
    return path, decoded


def test_a_film_is_decoded_once_at_the_size_of_the_world(film):
    path, decoded = film
    dataset = open_for(world("crop"), path)
    assert decoded == [(16, 16)]
    trained_on = Dataset.open(path, ReadOptions(size=16, fit="crop"))
    assert len(decoded) == 1, "training and evaluation share what is decoded"
    np.testing.assert_array_equal(dataset.read(0).frames, trained_on.read(0).frames)


def test_the_fit_of_the_training_is_kept(film):
    path, _ = film
    frames = {fit: open_for(world(fit), path).read(0).frames for fit in ("crop", "stretch", "pad")}
    assert all(f.shape[1:] == (16, 16, 3) for f in frames.values())
    assert (frames["pad"][:, :3] < 8).all(), "black above"
    assert (frames["crop"] != frames["stretch"]).any()
    with pytest.raises(UserError, match="32x64"):
        open_for(world("none"), path)


def test_other_options_of_the_training_are_kept(film):
    """A world that learned ten frames as five a second must not be measured on ten."""
    path, decoded = film
    trained_on = Dataset.open(path, ReadOptions(size=16, fit="crop", fps=5.0, split_seed=3))
    again = open_for(world("crop", json.loads(json.dumps(trained_on.info.provenance))), path)
    assert (again.info, again.episodes) == (trained_on.info, trained_on.episodes)
    assert again.info.fps == 5.0
    assert len(decoded) == 1
