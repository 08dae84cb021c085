"""A world: a tokenizer and a dynamics model with what is needed to play, score and share them.

On disk a world is a folder: ``world.json``, one safetensors file per part, ``starts.npz`` (clips to begin
from), ``README.md`` (the card) and ``preview.gif``. Loading runs no code from the folder.

Shapes: n streams, T context frames, S steps, H W pixel rows and columns, A action width
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from reelworld.config import from_json, read_json
from reelworld.data.array_store import DAMAGE
from reelworld.files import atomic_folder, write_json
from reelworld.models.action_mapping import ActionMap
from reelworld.models.clip_model import SlidingWindow
from reelworld.models.goal_conditioned import in_context
from reelworld.models.mapped_dynamics import SteeredDynamics
from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.nn.pixels import to_float
from reelworld.rollout.session import Session, SessionParts
from reelworld.rollout.validation import (
    Action,
    ClassId,
    action_tensors,
    check_codes,
    class_ids,
    describe_classes,
    stream_generators,
)
from reelworld.types import ActionSpec, Clip, Codes, Conditions, Score, StepScores, UserError
from reelworld.worlds.card import write_card
from reelworld.worlds.card_metrics import Measured, check_measured, weights_of
from reelworld.worlds.locate import world_folder
from reelworld.worlds.registry import PartInfo, load_part, save_part
from reelworld.worlds.validate import check_parts

__all__ = ["FORMAT_VERSION", "World", "WorldInfo"]

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class WorldInfo:
    """What world.json says."""

    name: str
    """Short name, shown to people."""
    recipe: str
    """Recipe and size, e.g. pocket:small."""
    height: int
    """Pixel rows of a frame."""
    width: int
    """Pixel columns of a frame."""
    fps: float
    """Frames per second of the recordings (after frame stride); 0 when unknown."""
    actions: Mapping[str, ActionSpec]
    """Action streams; empty when the world takes none."""
    action_map: ActionMap | None = None
    """From these actions to the latent ones that the dynamics learned; None where these are the same."""
    classes: tuple[str, ...] = ()
    """Names of the classes that clips may be made of; empty when the world knows none."""
    context_frames: int = 1
    """Frames a session should begin with; 0 when it begins from nothing."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """How frames are drawn unless asked otherwise."""
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Split -> source ids of the data it was trained, validated and is to be tested on."""
    statistics: Mapping[str, Any] = field(default_factory=dict)
    """Numbers about the training data."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data, command, versions, seeds, hardware, time."""
    limits: tuple[str, ...] = ()
    """Known failures, in words."""
    measured: Measured | None = None
    """How good it is, on held-out recordings; written by an evaluation."""
    parts: Mapping[str, PartInfo] = field(default_factory=dict)
    """Part name -> its type, config, file and hash; filled by ``World.save``."""
    format_version: int = FORMAT_VERSION


class World:
    """Weights with a name. Make one with ``World.load`` or by training a recipe."""

    def __init__(
        self,
        info: WorldInfo,
        tokenizer: nn.Module,
        dynamics: nn.Module,
        starts: Sequence[Clip] = (),
        latent_actions: nn.Module | None = None,
    ) -> None:
        """Put parts together.

        Args:
            info: What world.json will say.
            tokenizer: Pixels <-> codes.
            dynamics: The next codes.
            starts: Clips that sessions begin with.
            latent_actions: The model that finds this world's actions in video, where they were learned.
        """
        self.info = info
        self.tokenizer: Any = tokenizer.eval()
        self.dynamics: Any = dynamics.eval()
        self.latent_actions: Any = None if latent_actions is None else latent_actions.eval()
        self.starts = list(starts)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.dynamics.parameters()).device

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Part name -> module."""
        parts = {"tokenizer": self.tokenizer, "dynamics": self.dynamics}
        return parts if self.latent_actions is None else {**parts, "latent_actions": self.latent_actions}

    @property
    def has_goal(self) -> bool:
        """True when its sessions go towards a goal, which they are given a picture of."""
        return bool(getattr(self.dynamics.config, "has_goal", False))

    @property
    def steered(self) -> Any:
        """The dynamics as sessions and scores use them: told of this world's actions, through the map if it has one."""
        action_map = self.info.action_map
        return self.dynamics if action_map is None else SteeredDynamics(self.dynamics, action_map, self.device)

    # ------------------------------------------------------------------ disk

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu", allow_code: Sequence[str] = ()) -> World:
        """Load a world from its folder, from a run folder that holds one, or one that comes with the package.

        Args:
            path: Folder with world.json, a run with world/ inside, or the name of a shipped world.
            device: Where to put the weights.
            allow_code: Modules outside reelworld that the world's parts may come from.

        Raises:
            UserError: If the folder is no world, is newer than this version, or is damaged.
        """
        folder = world_folder(path)
        raw = read_json(folder / "world.json")
        version = raw.get("format_version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise UserError(
                f"{folder} has format version {version}; this reelworld reads up to {FORMAT_VERSION}: upgrade it."
            )
        info = from_json(WorldInfo, raw, str(folder / "world.json"))
        for name in ("tokenizer", "dynamics"):
            if name not in info.parts:
                raise UserError(f"{folder / 'world.json'} lists no part {name!r}; it is not a whole world.")
        check_measured(info.measured, info.parts, str(folder / "world.json"))
        parts = {name: load_part(name, part, folder, allow_code).to(device) for name, part in info.parts.items()}
        world = cls(info, parts["tokenizer"], parts["dynamics"], latent_actions=parts.get("latent_actions"))
        check_parts(world, str(folder / "world.json"))
        world.starts = _load_starts(folder / "starts.npz", info, world.has_goal)
        return world

    def save(self, folder: Path | str, dtype: torch.dtype | None = None) -> None:
        """Write the world; an old one in ``folder`` is replaced as a whole or not at all.

        Args:
            folder: Where to.
            dtype: What weights are stored as, e.g. torch.bfloat16 for half the size; None keeps them as they are.

        Raises:
            UserError: If ``folder`` holds something else, or the disk is full.
        """
        folder = Path(folder)
        if folder.is_file() or (folder.exists() and not (folder / "world.json").is_file() and any(folder.iterdir())):
            raise UserError(f"{folder} exists and is not a world; choose another folder or empty it.")
        try:
            with atomic_folder(folder) as aside:
                parts = {name: save_part(part, aside, name, dtype) for name, part in self.parts.items()}
                measured = self.info.measured
                is_same = measured is not None and dict(measured.weights) == weights_of(parts)
                self.info = replace(self.info, parts=parts, measured=measured if is_same else None)
                _save_starts(aside / "starts.npz", self.starts)
                write_json(aside / "world.json", self.info)
                write_card(self, aside)
        except OSError as error:
            raise UserError(
                f"could not write the world to {folder} ({error.strerror or error}); free some space."
            ) from None

    # ------------------------------------------------------------------ use

    def session(self, n: int = 1, seed: int | None = None) -> Session:
        """Open a session of n streams."""
        parts = SessionParts(
            tokenizer=self.tokenizer,
            dynamics=self.steered,
            height=self.info.height,
            width=self.info.width,
            fps=self.info.fps,
            action_specs=self.info.actions,
            sampler=self.info.sampler,
            starts=self.starts,
            device=self.device,
            classes=self.info.classes,
            context_frames=self.info.context_frames,
        )
        return Session(parts, n, seed)

    def generate(
        self,
        context: np.ndarray,
        context_actions: Action = None,
        actions: Any = None,
        seed: int | None = None,
        sampler: SamplerConfig | None = None,
        *,
        n_frames: int | None = None,
        class_id: ClassId = None,
        goal: np.ndarray | None = None,
    ) -> np.ndarray:
        """Continue clips under given actions.

        Args:
            context: uint8, (n, T, H, W, 3); T may be 0 for worlds that can begin from nothing.
            context_actions: Actions between the context frames, (n, T - 1, ...).
            actions: One per future frame, (n, S, ...), or a mapping of streams; a plain number of frames S for a
                world without actions (or to use null actions).
            seed: Of the streams' generators.
            sampler: Instead of the world's own.
            n_frames: The number of frames S, without actions (or with null actions).
            class_id: One number or n numbers, for worlds with classes.
            goal: uint8, (n, H, W, 3) or (H, W, 3), for worlds with goals.

        Returns:
            Future frames, uint8, (n, S, H, W, 3).

        Raises:
            UserError: If the world cannot begin like this, or it is not said how many frames are wanted.
        """
        steps = self._steps(actions, n_frames)
        session = self.session(len(context), seed)
        session.sampler = sampler or session.sampler
        first = session.reset(context, context_actions, class_id=class_id, goal=goal).frame
        # with nothing to begin from, the first frame is made by the reset
        frames = [first] if context.shape[1] == 0 and steps else []
        frames += [session.step(action).frame for action in steps[len(frames) :]]
        return np.stack(frames, 1) if frames else np.zeros((len(context), 0, *context.shape[2:]), np.uint8)

    def _steps(self, actions: Any, n_frames: int | None) -> list[Any]:
        """Return the action of every step."""
        if isinstance(actions, int) and n_frames is None:
            actions, n_frames = None, actions
        if (actions is None) == (n_frames is None):
            raise UserError("say either which actions are taken or, with n_frames, how many frames are wanted.")
        if n_frames is None:
            return _per_step(actions, next(iter(self.info.actions), ""))
        if n_frames < 0:
            raise UserError(f"{n_frames} frames were asked for; give 0 or more.")
        return [None] * n_frames

    @torch.inference_mode()
    def score(self, clip: Clip, class_id: ClassId = None) -> Score:
        """Measure how surprising a clip's frames are, and what its steps are expected to bring, given all before.

        The nats are those of each frame's codes. They are exact for one-pass decoding at temperature 1, and say
        nothing about what the tokenizer loses. A world that codes whole clips scores one after the other, each after
        a context of its own, and expects nothing of steps. A world whose first frames are the context of all others
        says nothing of these, and begins the next window with the last frames of a full one; one with
        goals is told of the clip's goal, or of its last frame.

        Args:
            clip: Frames, and the actions that the world takes.
            class_id: For worlds with classes; None takes the clip's own.

        Raises:
            UserError: If the clip is too short, or lacks actions or a class that the world needs.
        """
        device, spec = self.device, self.tokenizer.spec(1, self.info.height, self.info.width)
        if len(clip.frames) < (least := max(1, spec.context_frames) + 1):
            raise UserError(f"clip {clip.source!r} has {len(clip.frames)} frames; scoring needs at least {least}.")
        if missing := self.info.actions.keys() - clip.actions.keys():
            raise UserError(f"clip {clip.source!r} lacks the actions {sorted(missing)} that this world takes.")
        if class_id is None and self.info.classes:
            class_id = clip.class_id
        ids = class_ids(self.info.classes, class_id, 1)
        if spec.clip_frames:
            window = SlidingWindow(self.tokenizer, self.dynamics, spec, device)
            of_class = None if ids is None else ids.to(device)
            nats = window.nats_per_frame(clip.frames, self.info.context_frames, of_class)
            return Score(nats_per_frame=nats, kind="exact")
        actions = {k: torch.from_numpy(clip.actions[k])[None] for k in self.info.actions}
        if spec.context_frames:
            windows = in_context(self.tokenizer, self.dynamics, self.info.context_frames, device)
            return _score_of(windows.judged(clip, actions))
        codes = self.tokenizer.encode(to_float(torch.from_numpy(clip.frames).to(device))[None])
        return _score_of(self.steered.judge(codes, self._told(actions)))

    # ------------------------------------------------------------------ codes instead of pictures

    @torch.inference_mode()
    def generate_codes(
        self,
        context: Any,
        context_actions: Action = None,
        actions: Any = None,
        seed: int | None = None,
        sampler: SamplerConfig | None = None,
        *,
        n_frames: int | None = None,
    ) -> np.ndarray:
        """Continue clips of codes, as ``generate`` continues clips of frames; no picture is read or made.

        Args:
            context: Whole numbers, (n, P, N): clips, one or more frames, the codes of a frame in raster order.
            context_actions: Actions between the context frames, (n, P - 1, ...).
            actions: As in ``generate``.
            seed: Of the streams' generators.
            sampler: Instead of the world's own.
            n_frames: The number of frames S, without actions (or with null actions).

        Returns:
            Codes of the future frames, int64, (n, S, N); with the same seed those that ``generate`` would draw.

        Raises:
            UserError: If the codes or actions do not fit, or the world codes whole clips together.
        """
        steps, codes = self._steps(actions, n_frames), self._codes(context)
        n, frames, tokens = codes.shape
        if frames < 1:
            raise UserError("0 frames of codes were given; this world goes on from a frame: give one or more.")
        generators, drawing = stream_generators(n, seed), TokenSampler(sampler or self.info.sampler)
        specs, dynamics = self.info.actions, self.steered
        state = dynamics.prefill(Codes.of(codes), self._told(action_tensors(specs, context_actions, (n, frames - 1))))
        made = []
        for action in steps:
            told = self._told(action_tensors(specs, action, (n, 1), is_step=True))
            drawn, state = dynamics.step(state, told, drawing, generators)
            made.append(drawn.video[:, -1].cpu().numpy())
        return np.stack(made, 1) if made else np.zeros((n, 0, tokens), np.int64)

    @torch.inference_mode()
    def score_codes(self, codes: Any, actions: Action = None) -> Score:
        """Measure how surprising the codes of one clip are, as ``score`` does with its frames.

        Args:
            codes: Whole numbers, (P, N), two frames or more.
            actions: Taken after each frame but the last, (P - 1, ...).

        Raises:
            UserError: If the codes or actions do not fit, or the world codes whole clips together.
        """
        one = self._codes(np.asarray(codes)[None])
        if one.shape[1] < 2:
            raise UserError(f"{one.shape[1]} frames of codes were given; scoring needs at least 2.")
        told = self._told(action_tensors(self.info.actions, actions, (1, one.shape[1] - 1)))
        return _score_of(self.steered.judge(Codes.of(one), told))

    def _codes(self, codes: Any) -> torch.Tensor:
        spec = self.tokenizer.spec(1, self.info.height, self.info.width)
        if spec.clip_frames:
            raise UserError("this world codes whole clips together; give it frames.")
        if spec.context_frames:
            raise UserError("this world codes its first frames in another grid than the rest; give it frames.")
        return check_codes(codes, spec.video).to(self.device)

    def _told(self, actions: Mapping[str, torch.Tensor]) -> Conditions:
        return Conditions(actions={k: v.to(self.device) for k, v in actions.items()})


def _score_of(judged: StepScores) -> Score:
    """Say what was found of one clip."""
    return Score(
        nats_per_frame=float(judged.nats.mean()),
        kind="exact",
        rewards=judged.reward[0].cpu().numpy(),
        terminated=judged.terminated[0].cpu().numpy(),
    )


def _per_step(actions: Any, name: str) -> list[dict[str, np.ndarray]]:
    streams = actions if isinstance(actions, Mapping) else {name: actions}
    arrays = {k: np.asarray(v) for k, v in streams.items()}
    if flat := [k for k, v in arrays.items() if v.ndim < 2]:
        raise UserError(f"actions {flat[0]!r} have shape {arrays[flat[0]].shape}; wanted (n, S, ...): clips, steps.")
    n_steps = {v.shape[1] for v in arrays.values()}
    return [{k: v[:, t] for k, v in arrays.items()} for t in range(min(n_steps))]


def _save_starts(path: Path, starts: Sequence[Clip]) -> None:
    arrays: dict[str, Any] = {}
    for i, clip in enumerate(starts):
        arrays[f"{i:03d}/frames"] = clip.frames
        for name, stream in clip.actions.items():
            arrays[f"{i:03d}/actions/{name}"] = stream
        if clip.class_id is not None:
            arrays[f"{i:03d}/class_id"] = np.array(clip.class_id, np.int64)
        if clip.goal is not None:
            arrays[f"{i:03d}/goal"] = clip.goal
    np.savez_compressed(path, **arrays)


def _load_starts(path: Path, info: WorldInfo, has_goal: bool) -> list[Clip]:
    if not path.is_file():
        return []
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {k: stored[k] for k in stored.files}
    except DAMAGE as error:
        raise UserError(f"{path} cannot be read ({error}); copy the world again.") from None
    clips = []
    for key in sorted(k for k in arrays if k.endswith("/frames")):
        source = key.removesuffix("/frames")
        prefix = f"{source}/actions/"
        actions = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        label = arrays.get(f"{source}/class_id", np.zeros(0))
        class_id = int(label) if label.shape == () and label.dtype.kind in "iu" else None
        clip = Clip(frames=arrays[key], actions=actions, fps=info.fps, source=source, class_id=class_id)
        clips.append(replace(clip, goal=arrays.get(f"{source}/goal")))
    for clip in clips:
        _check_start(clip, clips[0].frames.shape, path, info)
        if has_goal and (clip.goal is None or clip.goal.dtype != np.uint8 or clip.goal.shape != clip.frames.shape[1:]):
            raise UserError(f"{path} lacks the goal of a clip, or holds one of another size; copy the world again.")
    return clips


def _check_start(clip: Clip, shape: tuple[int, ...], path: Path, info: WorldInfo) -> None:
    """Start clips are stacked, so that all must have one shape (T, H, W, 3)."""
    frames = clip.frames
    if frames.dtype != np.uint8 or frames.shape != shape or shape[1:] != (info.height, info.width, 3):
        raise UserError(
            f"{path} holds frames {frames.dtype} {frames.shape}; wanted uint8 (T, {info.height}, {info.width}, 3), "
            "one T for all: copy the world again."
        )
    rows = {name: len(clip.actions[name]) if name in clip.actions else 0 for name in info.actions}
    if wrong := [name for name, n in rows.items() if n != len(frames)]:
        raise UserError(f"{path} lacks the actions {wrong[0]!r} of its {len(frames)} frames; copy the world again.")
    if info.classes and (clip.class_id is None or not 0 <= clip.class_id < len(info.classes)):
        raise UserError(
            f"{path} gives a clip the class {clip.class_id}; wanted {describe_classes(info.classes)}: copy the world "
            "again."
        )
