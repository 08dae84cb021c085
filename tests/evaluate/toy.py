"""A grid game small enough to predict by hand, recordings of it, and worlds that are perfect, lazy or wrong.

A 4x4 board of 8x8 tiles: an agent walks (actions 0-3: right, down, left, up), action 4 opens or shuts the door in
the corner. Walking against the edge and the rare action on nothing change nothing.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from reelworld.data.dataset import Dataset, write_episode, write_info
from reelworld.data.episodes import DataInfo, Episode
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.types import ActionSpec, Clip, Codes, GridSpec, Score, StepResult, TokenSpec

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

    def spec(self, n_frames, height, width):
        return TokenSpec(grids={"video": GridSpec(rows=height // 8, columns=width // 8, codebook_size=8)})

    def encode(self, video, context=None):
        pixels = to_uint8(video)
        b, t, h, w, _ = pixels.shape
        patches = pixels.reshape(b, t, h // 8, 8, w // 8, 8, 3).permute(0, 1, 2, 4, 3, 5, 6)
        same = (patches[..., None, :, :, :] == torch.from_numpy(TILES)).all(-1).all(-1).all(-1)
        return Codes.of(same.int().argmax(-1).flatten(2))

    def decode(self, codes, context=None):
        ids = codes.video.reshape(*codes.video.shape[:2], SIDE, SIDE).numpy()
        return to_float(torch.from_numpy(draw(ids)))


class BlurTokenizer(ExactTokenizer):
    """Loses the agent, as tokenizers trained on the mean do."""

    def encode(self, video, context=None):
        codes = super().encode(video).video
        return Codes.of(torch.where(codes == AGENT, FLOOR, codes))


class ToySession:
    def __init__(self, world, n):
        self.world, self.n = world, n

    def reset(self, context_frames, context_actions=None, seed=None):
        assert context_frames.shape[:2] == (self.n, self.world.info.context_frames)
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
    latent_actions = None
    has_goal = False
    starts = ()

    def __init__(self, predict, tokenizer=None, train=()):
        self.predict = predict
        self.tokenizer = tokenizer or ExactTokenizer()
        self.info = SimpleNamespace(
            name="toy", system="none", height=32, width=32, fps=5.0, actions={"action": SPEC}, context_frames=2,
            splits={"train": tuple(train)}, provenance={}, statistics={}, parts={}, classes=(),
        )  # fmt: skip

    def session(self, n=1, seed=None):
        return ToySession(self, n)

    def score(self, clip):
        return Score(nats_per_frame=1.5, kind="exact")


def perfect(frame, action, before, rng):
    return draw(play(read(frame), action))


def copying(frame, action, before, rng):
    return frame


def late(frame, action, before, rng):
    """Takes each action one step too late: what a shifted action stream does."""
    return draw(play(read(frame), before))


def noise(frame, action, before, rng):
    return rng.integers(0, 256, frame.shape, dtype=np.uint8)
