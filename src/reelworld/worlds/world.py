"""World: a model with its initial contexts, default sampler and card.

On disk a world is a folder: ``world.json``, one safetensors file per part, ``starts.npz`` (initial contexts),
``README.md`` (the card) and ``preview.gif``. Loading runs no code from the folder.

Shapes: n streams, T context frames, S steps, H W pixel rows and columns, A action width, P latent frames, N tokens
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from reelworld.files import atomic_folder
from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.models.system import System
from reelworld.models.world_model import Context, WorldModel
from reelworld.rollout.rollout import rollout
from reelworld.rollout.session import Session
from reelworld.rollout.validation import Action, ClassId, action_tensors, check_codes, class_ids, stream_generators
from reelworld.types import Clip, ModelSpec, Score, StepScores, UserError
from reelworld.worlds.card import preview, write_card
from reelworld.worlds.info import WorldInfo
from reelworld.worlds.locate import world_folder
from reelworld.worlds.registry import find_record
from reelworld.worlds.store import read_world, write_world


class World:
    """A model with a name. Load one with ``World.load``, or train a system."""

    def __init__(
        self,
        info: WorldInfo,
        model: WorldModel,
        initial_contexts: Sequence[Clip] = (),
        other_parts: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """Compose a world.

        Args:
            info: Contents of world.json.
            model: The model; wrapped in ``MappedActions`` if ``info`` has an action map.
            initial_contexts: Clips that sessions start from.
            other_parts: Parts that the model does not use; they are kept and saved again.
        """
        self.info, self.model = info, model.eval()
        self.initial_contexts = list(initial_contexts)
        self._other_parts = {k: v for k, v in (other_parts or {}).items() if k not in model.parts}

    @property
    def spec(self) -> ModelSpec:
        """Shapes, streams and lengths, with the actions that a session takes."""
        return self.model.spec

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Part name -> module, all that is saved."""
        return {**self.model.parts, **self._other_parts}

    @property
    def system(self) -> System | None:
        """Record of the system; None for systems without one."""
        return find_record(self.info.system)

    # ------------------------------------------------------------------ disk

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu", allow_code: Sequence[str] = ()) -> World:
        """Load a world from its folder, from a run folder that holds one, or one that is shipped with the package.

        Args:
            path: Folder with world.json, a run with world/ inside, or the name of a shipped world.
            device: Where to put the weights.
            allow_code: Modules outside reelworld that the world's system and parts may come from.

        Raises:
            UserError: If the folder is no world, has another format version, or is damaged.
        """
        info, model, parts, contexts = read_world(world_folder(path), device, allow_code)
        return cls(info, model, contexts, parts)

    def save(self, folder: Path | str, dtype: torch.dtype | None = None) -> None:
        """Write the world; an old one in ``folder`` is replaced as a whole or not at all.

        Args:
            folder: Where to.
            dtype: Type of the stored weights, e.g. torch.bfloat16 for half the size; None keeps theirs.

        Raises:
            UserError: If ``folder`` holds something else, or the disk is full.
        """
        folder = Path(folder)
        if folder.is_file() or (folder.exists() and not (folder / "world.json").is_file() and any(folder.iterdir())):
            raise UserError(f"{folder} exists and is not a world; choose another folder or empty it.")
        try:
            with atomic_folder(folder) as aside:
                self.info = write_world(aside, self.info, self.parts, self.initial_contexts, dtype)
                film = preview(self.session(1, seed=0)) if self.initial_contexts else None
                write_card(aside, self.info, film)
        except OSError as error:
            raise UserError(
                f"could not write the world to {folder} ({error.strerror or error}); free some space."
            ) from None

    # ------------------------------------------------------------------ use

    def session(self, n: int = 1, seed: int | None = None) -> Session:
        """Open a session of n streams."""
        return Session(self.model, n, seed, sampler=self.info.sampler, initial_contexts=self.initial_contexts)

    def generate(
        self,
        context: np.ndarray,
        context_actions: Action = None,
        actions: Action = None,
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
            UserError: If the world cannot begin like this, or the number of frames is not given.
        """
        steps = self._steps(actions, n_frames)
        session = self.session(len(context), seed)
        session.sampler = sampler or session.sampler
        first = session.reset(context, context_actions, class_id=class_id, goal=goal).frame
        n_steps = steps if isinstance(steps, int) else min(v.shape[1] for v in steps.values())
        # with nothing to start from, the reset makes the first frame
        frames = [first] if context.shape[1] == 0 and n_steps else []
        frames += [result.frame for result in islice(rollout(session, steps), n_steps - len(frames))]
        return np.stack(frames, 1) if frames else np.zeros((len(context), 0, *context.shape[2:]), np.uint8)

    def _steps(self, actions: Action, n_frames: int | None) -> dict[str, np.ndarray] | int:
        """Return the actions of all steps, stream -> (n, S, ...), or the number of steps."""
        if isinstance(actions, int) and n_frames is None:
            actions, n_frames = None, actions
        if (actions is None) == (n_frames is None):
            raise UserError("say either which actions are taken or, with n_frames, how many frames are wanted.")
        if n_frames is None:
            return _per_stream(actions, next(iter(self.spec.actions), ""))
        if n_frames < 0:
            raise UserError(f"{n_frames} frames were asked for; give 0 or more.")
        return n_frames

    @torch.inference_mode()
    def score(self, clip: Clip, class_id: ClassId = None) -> Score:
        """Score a clip: negative log-likelihood of its frames and expected outcome of its steps, teacher-forced.

        The likelihood is that of each frame's codes, exact for one-pass decoding at temperature 1; it says nothing
        about what the tokenizer loses. Models of whole clips score one window after the other, each behind a context
        of its own, and predict no outcomes. Models with context frames do not score these, and begin the next window
        with the last frames of a full one. Models with goals take the clip's goal, or its last frame.

        Args:
            clip: Frames, and the actions that the world takes.
            class_id: For worlds with classes; None takes the clip's own.

        Raises:
            UserError: If the clip is too short, lacks actions or a class that the world needs, or the model has no
                tractable likelihood.
        """
        spec = self.spec
        least = max(2, spec.min_clip - spec.goal)
        if len(clip.frames) < least:
            raise UserError(f"clip {clip.source!r} has {len(clip.frames)} frames; scoring needs at least {least}.")
        if missing := spec.actions.keys() - clip.actions.keys():
            raise UserError(f"clip {clip.source!r} lacks the actions {sorted(missing)} that this world takes.")
        if class_id is None and spec.classes:
            class_id = clip.class_id
        goal = clip.frames[-1] if clip.goal is None else clip.goal
        context = Context(
            frames=clip.frames[None],
            actions={k: torch.from_numpy(clip.actions[k][None, : len(clip.frames) - 1]) for k in spec.actions},
            class_id=class_ids(spec.classes, class_id, 1),
            goal=goal[None] if spec.goal else None,
        )
        return self._score(self.model.score(context, spec.context[1]))

    def _score(self, scores: StepScores | None) -> Score:
        kind = self.spec.likelihood
        if scores is None or kind is None:
            raise UserError("the likelihood of this world's model is not tractable; it cannot score clips.")
        total, n_frames = float(scores.nll.double().sum()), scores.n_frames or scores.nll.shape[1]
        return Score(
            nats_per_frame=total / n_frames,
            kind=kind,
            n_frames=n_frames,
            rewards=None if scores.reward is None else scores.reward[0].cpu().numpy(),
            terminated=None if scores.terminated is None else scores.terminated[0].cpu().numpy(),
        )

    # ------------------------------------------------------------------ codes instead of pixels

    @torch.inference_mode()
    def generate_codes(
        self,
        context: ArrayLike,
        context_actions: Action = None,
        actions: Action = None,
        seed: int | None = None,
        sampler: SamplerConfig | None = None,
        *,
        n_frames: int | None = None,
    ) -> np.ndarray:
        """Continue clips of codes, as ``generate`` continues clips of frames, without pixels.

        Args:
            context: Whole numbers, (n, P, N): clips, one or more frames, the codes of a frame in raster order.
            context_actions: Actions between the context frames, (n, P - 1, ...).
            actions: As in ``generate``.
            seed: Of the streams' generators.
            sampler: Instead of the world's own.
            n_frames: The number of frames S, without actions (or with null actions).

        Returns:
            Codes of the future frames, int64, (n, S, N); with the same seed those that ``generate`` samples.

        Raises:
            UserError: If the codes or actions do not fit, or the world codes whole clips together.
        """
        steps, codes = self._steps(actions, n_frames), self._codes(context)
        n, frames, n_tokens = codes.shape
        if frames < 1:
            raise UserError("0 frames of codes were given; this world goes on from a frame: give one or more.")
        rng, drawing, specs = stream_generators(n, seed), TokenSampler(sampler or self.info.sampler), self.spec.actions
        given = action_tensors(specs, context_actions, (n, frames - 1))
        no_frames = np.zeros((n, 0, 0, 0, 3), np.uint8)
        _, state = self.model.begin(Context(frames=no_frames, codes=codes, actions=given), drawing, rng)
        n_steps = steps if isinstance(steps, int) else min(v.shape[1] for v in steps.values())
        made = []
        for step in range(n_steps):
            now = None if isinstance(steps, int) else {k: v[:, step] for k, v in steps.items()}
            output, state = self.model.step(state, action_tensors(specs, now, (n, 1), is_step=True), drawing, rng)
            made.append(output.codes)
        return np.stack(made, 1) if made else np.zeros((n, 0, n_tokens), np.int64)

    @torch.inference_mode()
    def score_codes(self, codes: ArrayLike, actions: Action = None) -> Score:
        """Score the codes of one clip, as ``score`` does with its frames.

        Args:
            codes: Whole numbers, (P, N), two frames or more.
            actions: Taken after each frame but the last, (P - 1, ...).

        Raises:
            UserError: If the codes or actions do not fit, or the world codes whole clips together.
        """
        one = self._codes(np.asarray(codes)[None])
        if one.shape[1] < 2:
            raise UserError(f"{one.shape[1]} frames of codes were given; scoring needs at least 2.")
        given = action_tensors(self.spec.actions, actions, (1, one.shape[1] - 1))
        no_frames = np.zeros((1, 0, 0, 0, 3), np.uint8)
        return self._score(self.model.score(Context(frames=no_frames, codes=one, actions=given), 1))

    def _codes(self, codes: ArrayLike) -> Tensor:
        return check_codes(codes, self.spec.grids["video"]).to(self.device)


def _per_stream(actions: Action, name: str) -> dict[str, np.ndarray]:
    """Return actions by stream, each (n, S, ...)."""
    streams = actions if isinstance(actions, Mapping) else {name: actions}
    arrays = {k: np.asarray(v) for k, v in streams.items()}
    if flat := [k for k, v in arrays.items() if v.ndim < 2]:
        raise UserError(f"actions {flat[0]!r} have shape {arrays[flat[0]].shape}; wanted (n, S, ...): clips, steps.")
    return arrays
