"""Adapter for environments written for gym before version 0.26, and one-line errors for what environments raise."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium as gym

from reelworld.types import UserError

ALE_FPS = 60.0
"""Frames per second of the Atari 2600."""
log = logging.getLogger(__name__)


def adapt(env: gym.Env, env_id: str) -> None:
    """Let an environment's own ``reset`` and ``step`` answer as gymnasium's do; others are not changed.

    ``reset`` may take no seed or return the observation alone; ``step`` may return (observation, reward, done, info).
    What is assumed is logged once.

    Args:
        env: Its innermost environment is changed in place.
        env_id: Its name.
    """
    base: Any = env.unwrapped
    reset, step = base.reset, base.step
    names = inspect.signature(reset).parameters.values()
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in names)
    accepted = {"seed", "options"} if takes_any else {p.name for p in names}

    def new_reset(*, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if "seed" not in accepted:
            say_once(f"{env_id} takes no seed: its episodes cannot be reproduced.")
        given = {name: value for name, value in (("seed", seed), ("options", options)) if name in accepted}
        result = reset(**given)
        is_new = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)
        return result if is_new else (result, {})

    def new_step(action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        result = step(action)
        if len(result) != 4:
            out: tuple[Any, Any, bool, bool, dict[str, Any]] = result
            return out
        observation, reward, done, info = result
        is_cut = bool(info.get("TimeLimit.truncated", False))
        say_once(f"{env_id} has the interface of gym before 0.26: an episode that is done counts as terminated.")
        return observation, reward, bool(done) and not is_cut, is_cut, info

    base.reset, base.step = new_reset, new_step


@contextmanager
def in_one_line(env_id: str, call: str) -> Generator[None]:
    """Turn what an environment raises into a UserError with its own message."""
    try:
        yield
    except (UserError, KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        raise UserError(f"{env_id} failed in its {call}(): {describe_error(error)}. Mend the environment.") from error


def describe_error(error: Exception) -> str:
    """Describe an error of someone else's code: its type, the first line of its message, file and line."""
    lines = str(error).strip().splitlines()
    last = traceback.extract_tb(error.__traceback__)[-1]
    message = f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
    return f"{message} ({Path(last.filename).name}, line {last.lineno})"


def frame_rate(env: gym.Env, env_id: str) -> float:
    """Return the frames per second of an environment's steps; 0 when unknown.

    An Atari environment may repeat actions by itself, at random too, and its metadata name 30 frames per second
    whatever it repeats: the console has 60. Its own repetition is logged once.
    """
    rate = float(env.metadata.get("render_fps") or 0)
    if not env_id.startswith("ALE/") or env.spec is None:
        return rate
    own, sticky = env.spec.kwargs.get("frameskip", 1), env.spec.kwargs.get("repeat_action_probability", 0.0)
    mean = own if isinstance(own, int) else sum(range(*own)) / len(range(*own))
    if mean > 1 or sticky:
        say_once(
            f"{env_id} itself repeats each action {mean:g} times and keeps the last one with probability {sticky:g}; "
            '--env-kwargs \'{"frameskip": 1, "repeat_action_probability": 0}\' turns this off.'
        )
    return ALE_FPS / mean


def as_reward(reward: Any, env_id: str) -> float:
    """Convert a reward.

    Raises:
        UserError: If it is no number.
    """
    try:
        return float(reward)
    except (TypeError, ValueError):
        raise UserError(f"{env_id} gave the reward {reward!r}; wanted a number. Mend the environment.") from None


@lru_cache
def say_once(text: str) -> None:
    """Log a warning once."""
    log.warning(text)
