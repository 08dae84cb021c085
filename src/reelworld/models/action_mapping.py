"""Map between latent actions and real actions.

A world learned from video without action labels has latent actions. The map is counted from a few hundred steps with
known real actions. Keys or recorded actions can then control the world.

A kind of real action is an id, or, for vectors, low, middle or high in each dimension: the thirds of its range; or,
for buttons, the set of those that are held.

Source: Bruce et al. 2024 (arXiv:2402.15391), section 3.3, which maps latent actions to real ones with a small labelled
set. Differs: the other direction, from keys to latent actions, is counted too.

Shapes: S steps, A action width, K kinds of real action, L latent actions
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import numpy as np

from reelworld.types import ActionSpec, UserError

STREAM = "latent"
"""Name of the stream of latent actions."""
MAX_WIDTH = {"discrete": 1, "continuous": 8, "buttons": 12}
"""Widest vectors that are mapped: 3 ** 8 kinds, or 2 ** 12."""
MAX_NAMED = 6
THIRDS = ("low", "middle", "high")


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Accuracy of a map on held-out steps that change the frame."""

    accuracy: float
    """Fraction of steps whose real action the map predicts from the latent one."""
    low: float | None
    """Lower end of the 95% interval over episodes; None for a single episode."""
    high: float | None
    """Upper end."""
    most_frequent: float
    """Accuracy of always predicting the most frequent real action of the labels."""
    chance: float
    """Expected accuracy of predicting one of the labels' real actions at random."""
    purity: float
    """Accuracy of the best map for these steps: an upper bound given the latent actions."""
    n_steps: int
    """Number of measured steps."""
    n_episodes: int
    """Number of their episodes."""
    split: str
    """Split of these episodes."""


@dataclass(frozen=True, kw_only=True)
class ActionMap:
    """Two tables between latent and real actions. Make one with ``fit_map``."""

    stream: str
    """Name of the stream of real actions."""
    spec: ActionSpec
    """Spec of the real actions, with their keys."""
    cuts: tuple[tuple[float, ...], ...] = ()
    """Bounds between low, middle and high, per dimension; one between up and held, per button; none for ids."""
    to_latent: tuple[int, ...]
    """Latent action of each kind of real action."""
    to_real: tuple[int | tuple[float, ...], ...]
    """Real action of each latent action: an id, or the mean vector of a kind."""
    n_labels: tuple[int, ...]
    """Labels of each latent action."""
    shares: tuple[float, ...]
    """Fraction of these labels of the kind that the latent action is mapped to."""
    unseen: tuple[int, ...] = ()
    """Kinds of real action without labels; they are played like the null action."""
    held_out: HeldOut | None = None
    """Held-out accuracy of the map; None if not measured."""

    def __post_init__(self) -> None:
        spec, n_latents = self.spec, len(self.to_real)
        if spec.kind != "discrete" and (len(self.cuts) != spec.n or spec.n > MAX_WIDTH[spec.kind]):
            raise UserError(f"the map of actions cuts {len(self.cuts)} dimensions; its vectors have {spec.n}.")
        if spec.repeat != 1 or len(self.to_latent) != self.n_kinds:
            raise UserError(f"the map of actions lists {len(self.to_latent)} real actions; wanted {self.n_kinds}.")
        if not n_latents or not all(0 <= i < n_latents for i in self.to_latent):
            raise UserError(f"the map of actions names latent actions beyond its {n_latents}.")
        if not len(self.n_labels) == len(self.shares) == n_latents:
            raise UserError(f"the map of actions has numbers of another length than its {n_latents} latent actions.")
        for real in self.to_real:
            if not (len(real) == spec.n if isinstance(real, tuple) else 0 <= real < spec.n) or (
                isinstance(real, tuple) != (spec.kind != "discrete")
            ):
                raise UserError(f"the map of actions names the real action {real}; wanted {spec.kind}, {spec.n}.")

    @property
    def n_kinds(self) -> int:
        """Number of kinds of real action, K."""
        return count_kinds(self.spec)

    @property
    def meanings(self) -> np.ndarray:
        """Kind of real action of each latent action, int64 (L,)."""
        return self.kinds(self.real(np.arange(len(self.to_real))))

    @property
    def unreached(self) -> tuple[int, ...]:
        """Labelled kinds to which no latent action is mapped: their keys have the effect of others."""
        missing = set(range(self.n_kinds)) - set(self.meanings.tolist()) - set(self.unseen)
        return tuple(sorted(missing))

    def kinds(self, real: np.ndarray) -> np.ndarray:
        """Sort real actions, int64 (...) or float32 (..., A), into kinds, int64 (...)."""
        return np.asarray(kinds_of(real, np.array(self.cuts, np.float32)), np.int64)

    def latent(self, real: np.ndarray) -> np.ndarray:
        """Look up the latent action of real ones, int64 (...) or float32 (..., A) -> int64 (...)."""
        out: np.ndarray = np.array(self.to_latent, np.int64)[self.kinds(real)]
        return out

    def real(self, latent: np.ndarray) -> np.ndarray:
        """Look up the real action of latent ones, int64 (...) -> int64 (...) or float32 (..., A)."""
        out: np.ndarray = np.array(self.to_real, self.spec.dtype)[latent]
        return out

    def name(self, kind: int) -> str:
        """Describe a kind of real action in words: ``left``, or ``steer low, gas high``, or ``right+jump``."""
        spec = self.spec
        if spec.kind == "discrete":
            return spec.names[kind] if spec.names else str(kind)
        if spec.kind == "buttons":
            held = next(islice(product((False, True), repeat=spec.n), kind, None))
            return "+".join(spec.names[i] if spec.names else str(i) for i in range(spec.n) if held[i]) or "no button"
        thirds = next(islice(product(THIRDS, repeat=spec.n), kind, None))
        return ", ".join(f"{spec.names[i] if spec.names else i} {third}" for i, third in enumerate(thirds))

    def limits(self) -> list[str]:
        """List the real actions that cannot be played as such, and those without labels, one line each."""
        played = {kind: self.name(int(self.meanings[self.to_latent[kind]])) for kind in self.unreached}
        lines = [f"no key reaches {self.name(kind)}: it does the same as {other}" for kind, other in played.items()]
        if self.unseen:
            names = [self.name(kind) for kind in self.unseen[:MAX_NAMED]]
            more = f" and {len(self.unseen) - MAX_NAMED} more" if len(self.unseen) > MAX_NAMED else ""
            lines.append(f"no label shows {'; '.join(names)}{more}: played as if nothing were done")
        return lines


def count_kinds(spec: ActionSpec) -> int:
    """Count the kinds of real action of a stream, K."""
    return spec.n if spec.kind == "discrete" else (2 if spec.kind == "buttons" else len(THIRDS)) ** spec.n


def kinds_of(real: Any, cuts: Any) -> Any:
    """Sort real actions into kinds; arrays and tensors alike.

    Args:
        real: Ids (...), which are kinds already, or vectors (..., A).
        cuts: float32 like the vectors, so that arrays and tensors are sorted alike, (A, 2), or (A, 1) for buttons;
            empty for ids.

    Returns:
        Whole numbers (...): the first dimension counts most.
    """
    if not len(cuts):
        return real
    levels, kinds = (real[..., None] > cuts).sum(-1), 0
    for i in range(len(cuts)):
        kinds = kinds * (cuts.shape[1] + 1) + levels[..., i]
    return kinds


def fit_map(
    latent: np.ndarray,
    real: np.ndarray,
    spec: ActionSpec,
    n_latents: int,
    *,
    stream: str = "action",
    still: int | None = None,
) -> ActionMap:
    """Count the map between latent and real actions.

    A latent action is mapped to the real action with which it occurs most often. A real action is played with the
    latent action with which it occurs most often, among those mapped to it; if there are none, among all.

    Real actions without labels are played like the null action. If the null action has no labels either, ``still`` is
    played, else the most frequent latent action. A latent action without labels is mapped to the null action if there
    is one, else to the most frequent real one.

    Args:
        latent: Latent actions of labelled steps, int64 (S,). Use steps that change the frame: the latent action of
            other steps is independent of the real one.
        real: Real actions of the same steps, int64 (S,) or float32 (S, A).
        spec: Spec of the real actions.
        n_latents: Number of latent actions, L.
        stream: Name of the real actions.
        still: Latent action of steps that change nothing, if known.

    Returns:
        The map, not measured yet.

    Raises:
        UserError: If there are no steps, their numbers differ, or the actions are not those of ``spec``.
    """
    latent, real = np.asarray(latent), np.asarray(real)
    _check(latent, real, spec, n_latents)
    real = real.astype(spec.dtype)
    cuts = _cuts(spec, real)
    kind_S = np.asarray(kinds_of(real, np.array(cuts, np.float32)), np.int64)
    n_kinds = count_kinds(spec)
    counts_LK = np.zeros((n_latents, n_kinds), np.int64)
    np.add.at(counts_LK, (latent, kind_S), 1)
    n_labels_L, n_labels_K = counts_LK.sum(1), counts_LK.sum(0)
    null = None if spec.null is None else int(kinds_of(np.asarray(spec.null, real.dtype), np.array(cuts, np.float32)))
    frequent = int(n_labels_K.argmax())
    meaning_L = np.where(n_labels_L > 0, counts_LK.argmax(1), frequent if null is None else null)
    stands_LK = (meaning_L[:, None] == np.arange(n_kinds)) & (counts_LK > 0)
    to_latent_K = (counts_LK + stands_LK * len(latent)).argmax(0)
    if null is not None and n_labels_K[null]:
        rest = int(to_latent_K[null])
    else:
        rest = int(n_labels_L.argmax()) if still is None else still
    to_latent_K[n_labels_K == 0] = rest
    share_L = counts_LK.max(1) / n_labels_L.clip(min=1)
    return ActionMap(
        stream=stream,
        spec=spec,
        cuts=cuts,
        to_latent=tuple(to_latent_K.tolist()),
        to_real=tuple(_representative(k, kind_S, real, spec) for k in meaning_L.tolist()),
        n_labels=tuple(n_labels_L.tolist()),
        shares=tuple(share_L.tolist()),
        unseen=tuple(np.flatnonzero(n_labels_K == 0).tolist()),
    )


def _check(latent: np.ndarray, real: np.ndarray, spec: ActionSpec, n_latents: int) -> None:
    shape = (len(latent), *spec.shape)
    if not len(latent) or latent.ndim != 1 or real.shape != shape:
        raise UserError(f"{latent.shape} latent and {real.shape} real actions were given; wanted one of each per step.")
    if latent.min() < 0 or latent.max() >= n_latents:
        raise UserError(f"latent actions span {latent.min()}..{latent.max()}; there are 0..{n_latents - 1}.")
    if spec.kind == "discrete" and (real.dtype.kind not in "iu" or real.min() < 0 or real.max() >= spec.n):
        raise UserError(f"real actions span {real.min()}..{real.max()}; wanted ids 0..{spec.n - 1}.")
    if spec.kind != "discrete" and spec.n > MAX_WIDTH[spec.kind]:
        raise UserError(f"the real actions are {spec.n} numbers wide; at most {MAX_WIDTH[spec.kind]} can be mapped.")
    if spec.repeat != 1:
        raise UserError(f"{spec.repeat} real actions stay together in a step; a map wants one.")


def _cuts(spec: ActionSpec, real: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Cut the range of each dimension in thirds; if the range is unknown, that of the labels."""
    if spec.kind == "discrete":
        return ()
    if spec.kind == "buttons":
        return ((0.5,),) * spec.n
    is_known = len(spec.low) == len(spec.high) == spec.n and np.isfinite([*spec.low, *spec.high]).all()
    low, high = (np.array(spec.low), np.array(spec.high)) if is_known else (real.min(0), real.max(0))
    return tuple((float(a + (b - a) / 3), float(a + 2 * (b - a) / 3)) for a, b in zip(low, high, strict=True))


def _representative(kind: int, kind_S: np.ndarray, real: np.ndarray, spec: ActionSpec) -> int | tuple[float, ...]:
    """Return the id, or the mean of the labels of a kind; the null action where there are none."""
    if spec.kind == "discrete":
        return kind
    rows = real[kind_S == kind]
    if not len(rows):
        assert isinstance(spec.null, tuple), spec.null
        return spec.null
    return tuple(float(x) for x in rows.mean(0, dtype=np.float64).astype(np.float32))
