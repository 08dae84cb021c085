"""A grid game small enough to predict by hand, recordings of it, and worlds that are perfect, lazy or wrong.

A 4x4 board of 8x8 tiles: an agent walks (actions 0-3: right, down, left, up), action 4 opens or shuts the door in
the corner. Walking against the edge and the rare action on nothing change nothing.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import torch

from reelworld.data.dataset import Dataset, write_episode, write_info
from reelworld.data.episodes import DataInfo, Episode
from reelworld.evaluate.protocol import EvalConfig
from reelworld.evaluate.run import measure_section
from reelworld.evaluate.samples import EvalData, Evaluation
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.types import ActionSpec, Clip, Codes, GridSpec, ModelSpec, Score, StepResult, StepScores

SIDE = 4
TILES = np.random.default_rng(5).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
FLOOR, AGENT, SHUT, OPEN = range(4)
MOVES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
SPEC = ActionSpec(kind="discrete", n=5)


def draw(board):
    """Tile ids (..., 4, 4) -> frames uint8 (..., 32, 32, 3)."""
    tiles = TILES[board]
    return np.moveaxis(tiles, -4, -3).reshape(*board.shape[:-2], 32, 32, 3)


def read(frame):
    """One frame -> tile ids (4, 4)."""
    patches = frame.reshape(SIDE, 8, SIDE, 8, 3).transpose(0, 2, 1, 3, 4)
    return (patches[:, :, None] == TILES).all((3, 4, 5)).argmax(2)


def play(board, action):
    board = board.copy()
    if action == 4:
        board[0, 0] = OPEN if board[0, 0] == SHUT else SHUT
        return board
    at = np.argwhere(board == AGENT)[0]
    to = at + MOVES[action]
    if (to >= 0).all() and (to < SIDE).all() and board[tuple(to)] == FLOOR:
        board[tuple(at)], board[tuple(to)] = FLOOR, AGENT
    return board


def episode(seed, n_steps=30):
    rng = np.random.default_rng(seed)
    board = np.full((SIDE, SIDE), FLOOR)
    board[0, 0] = SHUT
    board[tuple(rng.integers(1, SIDE, 2))] = AGENT
    boards, actions = [board], []
    while len(actions) < n_steps:
        actions.append(4 if rng.random() < 0.02 else int(rng.integers(4)))
        boards.append(play(boards[-1], actions[-1]))
    return Clip(
        frames=draw(np.stack(boards)), actions={"action": np.array([*actions, 0])}, fps=5.0, source=f"toy-{seed:03d}"
    )


def write_dataset(folder, n=30, n_steps=30, provenance=None):
    folder.mkdir(parents=True, exist_ok=True)
    info = DataInfo(fps=5.0, height=32, width=32, actions={"action": SPEC}, provenance=provenance or {"kind": "toy"})
    splits = ["train"] * (n - 12) + ["val"] * 2 + ["test"] * 10
    listed = []
    for i, split in enumerate(splits):
        clip = episode(i, n_steps if i % 3 else n_steps // 2)
        write_episode(folder / f"{clip.source}.npz", clip)
        listed.append(Episode(source=clip.source, n_frames=len(clip.frames), split=split, file=f"{clip.source}.npz"))
    write_info(folder, info, listed)
    return Dataset.open(folder)


class ExactTokenizer(torch.nn.Module):
    """One code per tile; unknown patches become the floor."""

    lengths: ClassVar[dict] = {}
    """Fields of the spec of a model of whole clips."""
    n_codes = 8

    def encode(self, video):
        pixels = to_uint8(video)
        b, t, h, w, _ = pixels.shape
        patches = pixels.reshape(b, t, h // 8, 8, w // 8, 8, 3).permute(0, 1, 2, 4, 3, 5, 6)
        same = (patches[..., None, :, :, :] == torch.from_numpy(TILES)).all(-1).all(-1).all(-1)
        return Codes.of(same.int().argmax(-1).flatten(2))

    def decode(self, codes):
        ids = codes.video.reshape(*codes.video.shape[:2], SIDE, SIDE).numpy()
        return to_float(torch.from_numpy(draw(ids)))


class ToyModel:
    """What sections see of a model: a tokenizer, and scores of a prior."""

    def __init__(self, tokenizer=None, prior=None, **spec):
        self.tokenizer, self.prior = tokenizer or ExactTokenizer(), prior
        size = {"height": 32, "width": 32, "fps": 5.0, "likelihood": "exact", "context": (1, 2, None)}
        spec = {**size, **self.tokenizer.lengths, **spec}
        rows, columns = spec["height"] // 8, spec["width"] // 8
        grid = GridSpec(rows=rows, columns=columns, codebook_size=self.tokenizer.n_codes)
        self.spec = ModelSpec(**{"grids": {"video": grid}, **spec})
        self.parts = {"tokenizer": self.tokenizer}

    def encode(self, video):
        return self.tokenizer.encode(video)

    def decode(self, codes):
        return self.tokenizer.decode(codes)

    def reconstruct(self, video):
        return self.decode(self.encode(video))

    def score(self, clips, n_context):
        assert n_context == 0, "whole clips are scored from the first code on"
        video = to_float(torch.from_numpy(clips.frames.copy()))
        nll = self.prior.nll(self.encode(video), video, clips.class_id)
        return StepScores(nll=nll.sum(-1), code_nll=nll)


class BlurTokenizer(ExactTokenizer):
    """Loses the agent, as tokenizers trained on the mean do."""

    def encode(self, video):
        codes = super().encode(video).video
        return Codes.of(torch.where(codes == AGENT, FLOOR, codes))


class ToySession:
    def __init__(self, world, n):
        self.world, self.n = world, n

    def reset(self, context_frames, context_actions=None, seed=None):
        assert context_frames.shape[:2] == (self.n, self.world.spec.context[1])
        self.rng = np.random.default_rng(seed)
        self.frames = context_frames[:, -1]
        self.last = context_actions["action"][:, -1]

    def step(self, action):
        given = action["action"]
        self.frames = np.stack(
            [
                self.world.predict(f, int(a), int(b), self.rng)
                for f, a, b in zip(self.frames, given, self.last, strict=True)
            ]
        )
        self.last = given
        zero = np.zeros(self.n, np.float32)
        return StepResult(frame=self.frames, reward=zero, terminated=zero > 0, truncated=zero > 0)


class ToyWorld:
    """A world around a function (frame, action, action before, rng) -> next frame."""

    device = torch.device("cpu")
    system = None
    initial_contexts = ()

    def __init__(self, predict, tokenizer=None, train=(), **spec):
        self.predict = predict
        self.model = ToyModel(tokenizer, **{"actions": {"action": SPEC}, **spec})
        self.info = info_of("toy", self.model, splits={"train": tuple(train)})

    @property
    def spec(self):
        return self.model.spec

    @property
    def parts(self):
        return self.model.parts

    def session(self, n=1, seed=None):
        return ToySession(self, n)

    def score(self, clip):
        return Score(nats_per_frame=1.5, kind="exact", n_frames=len(clip.frames) - 1)


def info_of(name, model, splits):
    return SimpleNamespace(
        name=name, system="none", spec=model.spec, splits=splits, provenance={}, statistics={}, parts={},
        sampler={"steps": 1}, action_map=None,
    )  # fmt: skip


def perfect(frame, action, before, rng):
    return draw(play(read(frame), action))


def copying(frame, action, before, rng):
    return frame


def late(frame, action, before, rng):
    """Takes each action one step too late: what a shifted action stream does."""
    return draw(play(read(frame), before))


def noise(frame, action, before, rng):
    return rng.integers(0, 256, frame.shape, dtype=np.uint8)


def evaluation_of(world, clips=(), config=None, info=None, **given):
    """What sections are given: a world, held-out clips and settings."""
    given = {"dataset": None, "train": None, **given}
    return Evaluation(world=world, config=config or EvalConfig(), wide=list(clips), data=EvalData(info), **given)


def measured(section, evaluation):
    """Metrics of a section by name, and its result."""
    result, _ = measure_section(section, evaluation)
    return {m.name: m for m in result.metrics}, result


def control_starts(clips, n, world=None):
    config = EvalConfig(control_starts=n)
    return evaluation_of(world or ToyWorld(perfect), clips, config).control_starts
