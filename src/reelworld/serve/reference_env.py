"""Reference environments: the real environment of a world, played alone or side by side with the world.

Side by side, both start from the same frames and take the same actions; nothing else is passed between them. The
environment is played for as many frames as the world's context, and the world starts from these. Each frame is the
world's picture with the environment's to its right, together with the PSNR of the two.

An environment can neither be forked nor rewound.

Shapes: T context frames, H W pixel rows and columns of one picture, A action width
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

import numpy as np

from reelworld.data.resize import check_fit, fit_frame
from reelworld.envs.presets import SimulatorConfig
from reelworld.envs.recorder import describe_simulator
from reelworld.envs.simulator import Simulator
from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import ProgressCallback
from reelworld.serve.controls import Controls
from reelworld.serve.interfaces import Features, Playable, PlaySession
from reelworld.types import ActionSpec, Clip, ModelSpec, StepResult, UserError
from reelworld.worlds.provenance import Game, game_of

N_SEEDS = 20  # tried until an episode is longer than the context

Actions = Mapping[str, np.ndarray] | None


class _NoRewind:
    """Session of an environment, whose state cannot be copied."""

    def fork(self, n: int) -> NoReturn:
        """Raise: an environment cannot be forked."""
        raise NotImplementedError("an environment cannot be forked")

    def snapshot(self) -> None:
        """Return nothing: an environment has no snapshots."""

    def restore(self, snapshot: object) -> None:
        """Raise: an environment cannot be rewound."""
        raise NotImplementedError("an environment cannot be rewound")


# ---------------------------------------------------------------- an environment alone


@dataclass(frozen=True, kw_only=True)
class EnvInfo:
    """Name and origin of an environment."""

    name: str
    provenance: Mapping[str, object]
    """The simulator and the versions of its packages, stored with recordings."""
    system: str = ""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """Unused."""


class PlayableEnv:
    """A real environment, for ``reelworld record --play``; every session has a simulator of its own."""

    def __init__(self, config: SimulatorConfig) -> None:
        """Inspect the environment once.

        Raises:
            UserError: If it is unknown, not installed, or cannot render.
        """
        self._config = config
        self.features = Features(
            views=("env",),
            rewind=False,
            sampler=False,
            action_previews=False,
            initial_contexts=False,
            record_all=True,
            action_repeat=config.action_repeat,
        )
        self.initial_contexts: list[Clip] = []
        simulator = Simulator(config)
        described = describe_simulator(simulator, seed=0)
        simulator.close()
        self.info = EnvInfo(name=config.env_id, provenance=described.provenance)
        self.spec = ModelSpec(
            height=described.height, width=described.width, fps=described.fps, actions=described.actions
        )

    def session(self, n: int = 1, seed: int | None = None) -> EnvSession:
        """Open a session of one stream; ``reset`` seeds its episodes."""
        return EnvSession(Simulator(self._config))


class EnvSession(_NoRewind):
    """One simulator as a session of one stream."""

    watch: ProgressCallback | None = None

    def __init__(self, simulator: Simulator) -> None:
        self.sampler = SamplerConfig()
        self._simulator = simulator
        weakref.finalize(self, simulator.close)

    def reset(
        self, context_frames: np.ndarray | None = None, context_actions: Actions = None, seed: int | None = None
    ) -> StepResult:
        """Start the episode of a seed, of a random one without; the context is ignored."""
        frame = self._simulator.reset(random_seed() if seed is None else seed)
        return _result(frame, 0.0, False, False)

    def step(self, action: Actions) -> StepResult:
        """Take an action: stream name -> int64 (1,) or float32 (1, A)."""
        assert action is not None
        streams = {name: rows[0] for name, rows in action.items()}
        if len(streams) == 1:  # a world may have another name for its stream
            streams = dict(zip(self._simulator.action_specs, streams.values(), strict=True))
        reward, terminated, truncated = self._simulator.step(streams)
        return _result(self._simulator.frame(), reward, terminated, truncated)


def _result(frame: np.ndarray, reward: float, terminated: bool, truncated: bool) -> StepResult:
    return StepResult(
        frame=frame[None],
        reward=np.array([reward], np.float32),
        terminated=np.array([terminated]),
        truncated=np.array([truncated]),
    )


def random_seed() -> int:
    """Draw a seed that every environment accepts."""
    return int(np.random.SeedSequence().generate_state(1)[0]) % 2**31


# ---------------------------------------------------------------- a world and its environment, side by side


class SideBySide:
    """A world and its environment, played together."""

    def __init__(self, world: Playable, env: Game) -> None:
        """Check that they match.

        Raises:
            UserError: If the environment is not installed, or its actions or frames are not the world's.
        """
        self._world, self._env = world, env
        self.features = Features(
            views=("world", "env"),
            rewind=False,
            action_previews=False,
            initial_contexts=False,
            action_repeat=env.stride * env.simulator.action_repeat,
        )
        self.info, self.spec = world.info, world.spec
        self.initial_contexts: list[Clip] = []
        name, simulator = env.simulator.env_id, Simulator(env.simulator)
        try:
            expected, given = simulator.action_specs, world.spec.actions
            if "latent" in given:
                raise UserError(
                    f"this world has latent actions, {name} has its own; map them first: "
                    "reelworld actions WORLD --data RECORDINGS"
                )
            is_named_alike = len(expected) == 1 or list(given) == list(expected)
            if not is_named_alike or [(s.kind, s.n) for s in given.values()] != [
                (s.kind, s.n) for s in expected.values()
            ]:
                raise UserError(
                    f"{name} takes {_describe(expected)}, this world {_describe(given)}; the two cannot be played with "
                    "the same keys."
                )
            check_fit(simulator.reset(0).shape[:2], (world.spec.height, world.spec.width), env.fit, name)
        finally:
            simulator.close()

    def session(self, n: int = 1, seed: int | None = None) -> SideBySideSession:
        """Open a session of one stream."""
        env_session = EnvSession(Simulator(self._env.simulator))
        return SideBySideSession(self._world, self._world.session(1, seed), env_session, self._env)


def _describe(specs: Mapping[str, ActionSpec]) -> str:
    if len(specs) == 1:
        (spec,) = specs.values()
        return f"{spec.n} {spec.kind} actions"
    return ", ".join(f"{name} ({spec.n} {spec.kind})" for name, spec in specs.items())


class SideBySideSession(_NoRewind):
    """One stream of a world and one environment; progress and sampling settings are the world's."""

    watch: ProgressCallback | None = None

    def __init__(self, world: Playable, world_session: PlaySession, env_session: EnvSession, env: Game) -> None:
        self.world, self.world_session, self.env_session, self.env = world, world_session, env_session, env
        self.sampler = world_session.sampler
        self.n_steps = 0

    def reset(
        self, context_frames: np.ndarray | None = None, context_actions: Actions = None, seed: int | None = None
    ) -> StepResult:
        """Reset the environment with a seed and the world with the environment's frames; the context is ignored.

        Raises:
            UserError: If no seed gives an episode longer than the context.
        """
        first = random_seed() if seed is None else seed
        contexts = (self._play_context(first + i) for i in range(N_SEEDS))
        if (context := next((c for c in contexts if c is not None), None)) is None:
            raise UserError(f"{self.env.simulator.env_id} ends within its first steps; a world cannot start there.")
        frames, actions = context
        self.world_session.watch, self.world_session.sampler = self.watch, self.sampler
        result = self.world_session.reset(frames, actions or None, seed=seed)
        self.n_steps = 0
        return self._compare(result, frames[-1], result)

    def step(self, action: Actions) -> StepResult:
        """Take an action in both; reward and end of episode are the environment's."""
        self.world_session.watch, self.world_session.sampler = self.watch, self.sampler
        result = self.world_session.step(action)
        real = self._step_env(action or {})
        self.n_steps += 1
        return self._compare(result, real.frame[0], real)

    def _play_context(self, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
        """Play the context: the null action where there is one, else random actions.

        Returns:
            Frames, uint8 (T, H, W, 3), and the T - 1 actions between them; None when the episode ended meanwhile.
        """
        controls, rng = Controls(self.world.spec.actions), np.random.default_rng(seed)
        choices = controls.single_actions()
        frames, actions = [self._fit(self.env_session.reset(seed=seed).frame[0])], []
        for _ in range(max(1, self.world.spec.context[1]) - 1):
            stream, value = choices[rng.integers(len(choices))]
            action = controls.parse({stream: value} if controls.is_turn_based else {})
            result = self._step_env(action)
            if result.terminated[0] or result.truncated[0]:
                return None
            frames.append(result.frame[0])
            actions.append(action)
        rows = {name: np.concatenate([a[name] for a in actions]) for name in controls.specs} if actions else {}
        return np.stack(frames), rows

    def _step_env(self, action: Mapping[str, np.ndarray]) -> StepResult:
        """Hold the action for the environment's steps per step of the world; a summed action is divided by them."""
        n = self.env.stride if self.env.merge == "sum" else 1
        specs = self.world.spec.actions
        action = {k: rows / n if n > 1 and specs[k].kind == "continuous" else rows for k, rows in action.items()}
        total = np.zeros(1, np.float32)
        for _ in range(self.env.stride):
            result = self.env_session.step(action)
            total += result.reward
            if result.terminated[0] or result.truncated[0]:
                break
        return replace(result, frame=self._fit(result.frame[0])[None], reward=total)

    def _fit(self, frame: np.ndarray) -> np.ndarray:
        return fit_frame(frame, (self.world.spec.height, self.world.spec.width), self.env.fit)

    def _compare(self, predicted: StepResult, real: np.ndarray, outcome: StepResult) -> StepResult:
        frame = predicted.frame[0]
        message = {
            "type": "comparison",
            "step": self.n_steps,
            "psnr": psnr(frame, real),
            "world_ended": bool(self.n_steps and (predicted.terminated[0] or predicted.truncated[0])),
        }
        return replace(outcome, frame=np.concatenate([frame, real], 1)[None], info={"message": message})


def psnr(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return the peak signal-to-noise ratio of two uint8 frames in dB; None when they are equal."""
    error = float(np.square(a.astype(np.float64) - b.astype(np.float64)).mean())
    return None if error == 0 else round(10 * float(np.log10(255.0**2 / error)), 2)


# ---------------------------------------------------------------- the environment of a world


@dataclass(frozen=True, kw_only=True)
class ReferenceEnv:
    """The environment of a world: both side by side, or the reason why they cannot be played so."""

    name: str
    side_by_side: SideBySide | None = None
    problem: str = ""


def find_reference_env(world: Playable, allow_code: Sequence[str] = ()) -> ReferenceEnv | None:
    """Find the environment that a world was trained on; the first call takes a moment.

    Args:
        world: The world.
        allow_code: Modules that the environment may come from besides the known packages.

    Returns:
        None when the world was not trained on an environment, or takes no actions.
    """
    if not world.spec.actions:
        return None
    try:
        if (env := game_of(world.info.provenance, allow_code)) is None:
            return None
        return ReferenceEnv(name=env.simulator.env_id, side_by_side=SideBySide(world, env))
    except UserError as error:
        return ReferenceEnv(name=world.info.name, problem=str(error))
