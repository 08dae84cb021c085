"""The grid game of toy.py without actions: worlds that sample futures, and worlds that encode whole clips.

Eight frames are coded together, two to a latent frame: a code is the tile of the first frame times 8 plus that of the
second, at one place of the board.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from evaluate import toy
from reelworld.nn.pixels import to_uint8
from reelworld.types import Codes, Score, StepResult

CLIP, STRIDE, N_CODES = 8, 2, 64


class ClipTokenizer(toy.ExactTokenizer):
    """Codes pairs of frames, and takes whole clips only."""

    lengths: ClassVar[dict] = {
        "window": CLIP,
        "min_clip": CLIP,
        "chunk": CLIP,
        "time_stride": STRIDE,
        "context": (0, 2, CLIP),
    }
    n_codes = N_CODES

    def encode(self, video):
        assert video.shape[1] == CLIP, "a tokenizer of whole clips was given something else"
        tiles = super().encode(video).video
        return Codes.of(tiles[:, 0::2] * 8 + tiles[:, 1::2])

    def decode(self, codes):
        pairs = torch.stack([codes.video // 8, codes.video % 8], 2)  # (B, P, 2, N)
        return super().decode(Codes.of(pairs.flatten(1, 2)))


class Prior:
    """Likelihoods that can be worked out by hand: a code's number over a hundred, plus what the conditions say."""

    def __init__(self, cond_frames=0):
        self.cond_frames = cond_frames

    def nll(self, codes, video, class_id):
        nll = codes.video / 100
        if self.cond_frames:
            shown = to_uint8(video[:, : self.cond_frames])
            nll = nll + shown.float().mean((1, 2, 3, 4))[:, None, None]
        if class_id is not None:
            nll = nll + 1000 * class_id[:, None, None]
        return nll


class OpenSession:
    def __init__(self, world, n):
        self.world, self.n = world, n

    def reset(self, context_frames, context_actions=None, seed=None, class_id=None):
        assert context_actions is None
        assert context_frames.shape[:2] == (self.n, self.world.spec.context[1])
        assert (class_id is None) == (not self.world.spec.classes)
        self.frames, self.classes = context_frames[:, -1], class_id
        self.rngs = [np.random.default_rng([seed, i]) for i in range(self.n)]

    def step(self, action):
        assert action is None
        self.frames = np.stack([self.world.draw(f, r) for f, r in zip(self.frames, self.rngs, strict=True)])
        zero = np.zeros(self.n, np.float32)
        return StepResult(frame=self.frames, reward=zero, terminated=zero > 0, truncated=zero > 0)


class OpenWorld:
    """A world without actions around a function (frame, rng) -> next frame."""

    device = torch.device("cpu")
    system = None
    initial_contexts = ()

    def __init__(self, draw, tokenizer=None, prior=None, context=2, **spec):
        self.draw = draw
        self.model = toy.ToyModel(tokenizer, prior or Prior(), **spec)
        least, _, most = self.model.spec.context
        self.model.spec = replace(self.model.spec, context=(least, context, most))
        self.info = toy.info_of("open", self.model, splits={})

    @property
    def spec(self):
        return self.model.spec

    @property
    def parts(self):
        return self.model.parts

    def session(self, n=1, seed=None):
        return OpenSession(self, n)

    def score(self, clip):
        return Score(nats_per_frame=1.5, kind="exact", n_frames=len(clip.frames) - 1)


def clip_world(draw, **given):
    return OpenWorld(draw, ClipTokenizer(), **given)


def random_walk(frame, rng):
    """What the recordings do: a walk with a door that seldom opens or shuts."""
    return toy.draw(toy.play(toy.read(frame), 4 if rng.random() < 0.02 else int(rng.integers(4))))


def standing(frame, rng):
    return frame


def walking_right(frame, rng):
    return toy.draw(toy.play(toy.read(frame), 0))


def doubling(frame, rng):
    """Paints a second agent."""
    board = toy.read(frame)
    board[3] = toy.AGENT
    return toy.draw(board)


def losing(frame, rng):
    board = toy.read(frame)
    board[board == toy.AGENT] = toy.FLOOR
    return toy.draw(board)
