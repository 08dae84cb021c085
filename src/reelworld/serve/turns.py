"""Whose turn it is when several players want the same world to work for them.

Next is the player whom the world has served for the shortest time so far; everybody else whose step waits and fits
the same batch comes along. Work that has begun is not interrupted, so whoever was served leaves the world free for
as long as that took before it may begin again, unless nobody else is there: a player whose steps are dear would
else always find the others between two of theirs, and they would always find it working.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

__all__ = ["MAX_BATCH", "Share", "Turns"]

MAX_BATCH = 16  # steps in one batch: beyond it a step costs as much per player, and all of them wait for the last
HERE_SECONDS = 1.0  # who asked for something in this time is counted among those who are left room


@dataclass(eq=False)
class Share:
    """A player's claim on a world."""

    used: float = 0.0
    """Seconds that the world worked for this player, alone or with others: divided, one step alone would weigh as
    much as many in a batch. Time away counts as used."""
    asked_at: float = 0.0
    free_at: float = 0.0
    """From then on it may be served again; before, only with others or when nobody else is here."""
    batch: int = 0
    """Number of the batch it was last served in."""


class Wish(Protocol):
    """A piece of work that somebody waits for."""

    @property
    def share(self) -> Share: ...
    @property
    def batch_key(self) -> Hashable:
        """Work of equal batch_key may run as one batch; None runs alone."""
        ...


W = TypeVar("W", bound=Wish)


class Turns(Generic[W]):
    """The wishes that wait, and the order in which they are granted. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self.waiting: list[W] = []
        self._clock = 0.0
        self._n_batches = 0
        self._shares: weakref.WeakSet[Share] = weakref.WeakSet()

    def add(self, wish: W, now: float) -> None:
        """Let a wish wait for its turn."""
        share = wish.share
        share.asked_at = now
        share.used = max(share.used, self._clock)  # who was away has saved nothing up
        self._shares.add(share)
        self.waiting.append(wish)

    def take(self, now: float) -> list[W]:
        """Take the wishes that are granted now, together; none when nobody waits or all must wait a little."""
        ready = [wish for wish in self.waiting if self.ready_at(wish.share, now) <= now]
        if not ready:
            return []
        first = min(ready, key=lambda wish: wish.share.used)
        self._clock = max(self._clock, first.share.used)
        batch = [first]
        if first.batch_key is not None:
            mates = [wish for wish in self.waiting if wish.batch_key == first.batch_key and wish is not first]
            batch += sorted(mates, key=lambda wish: wish.share.used)[: MAX_BATCH - 1]
        self.waiting = [wish for wish in self.waiting if wish not in batch]
        return batch

    def ready_at(self, share: Share, now: float) -> float:
        """Say from when on a player may be served."""
        others = (o for o in self._shares if o.batch != share.batch and o.asked_at > now - HERE_SECONDS)
        return share.free_at if any(others) else now

    def ended(self, batch: list[W], seconds: float, now: float) -> None:
        """Take note of how long a batch took."""
        self._n_batches += 1
        for wish in batch:
            wish.share.used += seconds
            wish.share.free_at = now + seconds
            wish.share.batch = self._n_batches
