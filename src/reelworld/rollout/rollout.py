"""Rollouts: step a session through a sequence of actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from reelworld.rollout.session import Session
from reelworld.types import StepResult


def rollout(session: Session, actions: Mapping[str, np.ndarray] | int) -> Iterator[StepResult]:
    """Step a session that was reset once per action and yield every result.

    Args:
        session: n streams.
        actions: Stream -> one action per stream and step, (n, S, ...), or (1, S, ...) for all streams; a number of
            steps takes null actions, or none in worlds without actions. Rows beyond the shortest stream are ignored.
    """
    n_steps = actions if isinstance(actions, int) else min((v.shape[1] for v in actions.values()), default=0)
    rows: Mapping[str, np.ndarray] = {} if isinstance(actions, int) else actions
    for step in range(n_steps):
        now = {name: np.broadcast_to(v[:, step], (session.n, *v.shape[2:])) for name, v in rows.items()}
        yield session.step(now or None)
