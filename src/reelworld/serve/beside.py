"""A world beside the game it was learned from: the same start, the same keys, both pictures in every frame.

The game begins, is played for as long as the world's context is, and the world begins with what was seen. From then
on both take the player's actions and nothing else passes between them. Each frame is the world's picture with the
game's at its right; how far they are apart is told beside it.

Shapes: T context frames, H W pixel rows and columns of one picture, A action width
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reelworld.data.resize import check_fit, fit_frame
from reelworld.envs.simulator import Simulator
from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import ProgressCallback
from reelworld.serve.controls import Controls
from reelworld.serve.playable import Playable, PlaySession, Rules
from reelworld.serve.real import RealSession, new_seed
from reelworld.types import Clip, StepResult, UserError
from reelworld.worlds.provenance import Game

__all__ = ["BesideSession", "BesideWorld", "psnr"]

N_TRIES = 20  # seeds after which a game that ends within its first steps is given up


class BesideWorld:
    """A world and its game, played together."""

    def __init__(self, world: Playable, game: Game) -> None:
        """Look whether both fit.

        Raises:
            UserError: If the game is not installed, or its actions or pictures are not the world's.
        """
        self._world, self._game = world, game
        self.rules = Rules(
            pictures=("world", "game"),
            rewinds=False,
            forks=False,
            begins_anywhere=False,
            held=game.stride * game.simulator.action_repeat,
        )
        self.info = world.info
        self.starts: list[Clip] = []
        name, simulator = game.simulator.env_id, Simulator(game.simulator)
        try:
            theirs, specs = simulator.action_spec, list(world.info.actions.values())
            if "latent" in world.info.actions:
                raise UserError(
                    f"this world's actions were found in video, {name} has {theirs.n} of its own; give the world "
                    "these first: reelworld actions WORLD --data RECORDINGS"
                )
            if [(spec.kind, spec.n) for spec in specs] != [(theirs.kind, theirs.n)]:
                wanted = f"{name} takes {theirs.n} {theirs.kind} actions"
                have = ", ".join(f"{spec.n} {spec.kind} ones ({key})" for key, spec in world.info.actions.items())
                raise UserError(f"{wanted}, this world {have}; the two cannot be played with the same keys.")
            shape = simulator.reset(0).shape[:2]
            check_fit(shape, (world.info.height, world.info.width), game.fit, name)
        finally:
            simulator.close()

    def session(self, n: int = 1, seed: int | None = None) -> BesideSession:
        """Open a session of one stream."""
        real = RealSession(Simulator(self._game.simulator))
        return BesideSession(self._world, self._world.session(1, seed), real, self._game)


@dataclass
class BesideSession:
    """One stream of a world and one game."""

    world: Playable
    imagined: PlaySession
    real: RealSession
    game: Game
    n_steps: int = 0

    @property
    def watch(self) -> ProgressCallback | None:
        """The world's: the game is never kept waiting."""
        return self.imagined.watch

    @watch.setter
    def watch(self, watch: ProgressCallback | None) -> None:
        self.imagined.watch = watch

    @property
    def sampler(self) -> SamplerConfig:
        """The world's."""
        return self.imagined.sampler

    @sampler.setter
    def sampler(self, sampler: SamplerConfig) -> None:
        self.imagined.sampler = sampler

    def reset(
        self, context_frames: np.ndarray | None = None, context_actions: Any = None, seed: int | None = None
    ) -> StepResult:
        """Begin the game with a seed, and the world with the first frames of the game; frames that come are not used.

        Raises:
            UserError: If the game ends within these frames whatever the seed.
        """
        first = new_seed() if seed is None else seed
        for shift in range(N_TRIES):
            if (begun := self._begin(first + shift)) is not None:
                break
        else:
            raise UserError(f"{self.game.simulator.env_id} ends within its first steps; a world cannot begin there.")
        frames, actions = begun
        result = self.imagined.reset(frames, actions or None, seed=seed)
        self.n_steps = 0
        return self._both(result, frames[-1], result)

    def step(self, action: Any) -> StepResult:
        """Take an action in both; what ends is the game, and its reward counts."""
        result = self.imagined.step(action)
        seen = self._play(action)
        self.n_steps += 1
        return self._both(result, seen.frame[0], seen)

    def fork(self, n: int) -> BesideSession:
        """Refuse: there is one game."""
        raise NotImplementedError("a simulator cannot be forked")

    def snapshot(self) -> None:
        """Keep nothing: the game cannot be taken back."""

    def restore(self, snapshot: Any) -> None:
        """Refuse: the game cannot be taken back."""
        raise NotImplementedError("a simulator cannot be taken back")

    def _begin(self, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
        """Play the context: the null action where there is one, else actions drawn with the seed.

        Returns:
            Frames, uint8 (T, H, W, 3), and the T - 1 actions between them; None when the game ended meanwhile.
        """
        controls, rng = Controls(self.world.info.actions), np.random.default_rng(seed)
        choices = controls.choices()
        frames, actions = [self._fitted(self.real.reset(seed=seed).frame[0])], []
        for _ in range(max(1, self.world.info.context_frames) - 1):
            stream, value = choices[rng.integers(len(choices))]
            action = controls.read({stream: value} if controls.is_turn_based else {})
            seen = self._play(action)
            if seen.terminated[0] or seen.truncated[0]:
                return None
            frames.append(seen.frame[0])
            actions.append(action)
        rows = {name: np.concatenate([a[name] for a in actions]) for name in controls.specs} if actions else {}
        return np.stack(frames), rows

    def _play(self, action: Any) -> StepResult:
        """Take the steps of the game that are one step of the world: the action is held for all of them."""
        shared = self.game.stride if self.game.merge == "sum" else 1
        action = {name: rows / shared if shared > 1 else rows for name, rows in action.items()}
        total = np.zeros(1, np.float32)
        for _ in range(self.game.stride):
            seen = self.real.step(action)
            total += seen.reward
            if seen.terminated[0] or seen.truncated[0]:
                break
        return replace(seen, frame=self._fitted(seen.frame[0])[None], reward=total)

    def _fitted(self, frame: np.ndarray) -> np.ndarray:
        return fit_frame(frame, (self.world.info.height, self.world.info.width), self.game.fit)

    def _both(self, imagined: StepResult, seen: np.ndarray, outcome: StepResult) -> StepResult:
        frame = imagined.frame[0]
        news = {
            "type": "beside",
            "step": self.n_steps,
            "psnr": psnr(frame, seen),
            "world_ended": bool(self.n_steps and (imagined.terminated[0] or imagined.truncated[0])),
        }
        return replace(outcome, frame=np.concatenate([frame, seen], 1)[None], info={"news": news})


def psnr(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return the peak signal-to-noise ratio of two uint8 frames in dB; None when they are equal."""
    error = float(np.square(a.astype(np.float64) - b.astype(np.float64)).mean())
    return None if error == 0 else round(10 * float(np.log10(255.0**2 / error)), 2)
