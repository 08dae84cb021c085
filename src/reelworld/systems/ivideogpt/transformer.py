"""Dynamics of iVideoGPT: a causal transformer over the codes of a context and of the frames after it.

A slot precedes every later frame; the action that leads to the frame is added to it. Reward and termination are
predicted from the frame's last code. Keys and values of all tokens are cached, so a frame costs its own tokens only. In
a session slots are given, and codes are drawn among those of later frames; only these rows of the last matrix are
computed. ``free_ids`` draws any id, as the published code does.

Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), sections 3.2 and 3.3 and the authors' code. Differs: the cache is
kept across frames; actions are scaled to [-1, 1] where their range is known, ids are one-hot; rewards are learned in
units of a typical one; termination may be learned; tokens may have embeddings of their cell; the scores of a frame
prior may be added to those of the codes, and rewards are then predicted from the codes.

Shapes: B clips, T frames, K context frames, F = T - K later frames, M codes of a later frame, L tokens, D width,
  V vocabulary, A numbers of all actions of a step, P frames that the frame prior reads
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.config import require
from reelworld.models.heads import binary_term
from reelworld.models.parts import WindowDynamics
from reelworld.nn.conditioning import ActionVector
from reelworld.nn.decode import gemv
from reelworld.nn.decoder import INITIAL_STD, Llama, LlamaConfig
from reelworld.nn.random import Generators
from reelworld.systems.ivideogpt.config import DynamicsConfig
from reelworld.systems.ivideogpt.frame_prior import FramePrior, FrameSizes, RewardHead, frames_before
from reelworld.systems.ivideogpt.token_layout import TokenLayout
from reelworld.systems.ivideogpt.transformer_state import IVideoGPTState
from reelworld.types import ActionSpec, Batch, Codes, Conditions, GridSpec, Losses, Sampler, StepScores, UserError


@dataclass(frozen=True, kw_only=True)
class IVideoGPTTransformerConfig(DynamicsConfig):
    """Shape of the dynamics and their losses."""

    grid: GridSpec
    """The tokenizer's grid for a later frame."""
    context_grid: GridSpec
    """The tokenizer's grid for a context frame."""
    context_frames: int
    """K."""
    frames: int
    """Frames of a window, context included: the length of training clips. A session begins a new window after it."""
    actions: Mapping[str, ActionSpec]
    """Action streams; empty for worlds without actions."""
    transformer: LlamaConfig = field(default_factory=LlamaConfig)
    """The transformer."""
    frame_prior_width: int = 0
    """Width of the frame prior and of the reward head that reads codes; 0 has none, as published."""
    code_width: int = 1
    """Width of the tokenizer's vectors of later frames' codes, as which the frame prior reads them."""
    has_goal: bool = False
    """The first context frame is the goal: the last frame of a training clip, a given picture in a session."""
    has_rewards: bool = True
    """Learn the reward of arriving at a frame."""
    has_ends: bool = False
    """Learn termination on arriving at a frame; published models do not."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "context_frames code_width", lambda v: v >= 1, "at least 1")
        require(self, "frame_prior_width", lambda v: v >= 0, "at least 0")
        if self.has_goal and self.context_frames < 2:
            raise UserError(
                "context_frames is 1; with a goal it must be at least 2: the goal and a frame to begin with."
            )
        if self.frames <= self.context_frames:
            raise UserError(f"frames is {self.frames}; it must be above context_frames, {self.context_frames}.")
        if (n := self.layout.length(self.frames)) > self.transformer.places:
            most = self.layout.frames(self.transformer.places)
            advice = f"take at most {most} frames" if most > self.context_frames else "take fewer context frames"
            raise UserError(
                f"{self.frames} frames, {self.context_frames} of them context, are {n} tokens; the transformer has "
                f"places for {self.transformer.places}: {advice}."
            )

    @property
    def layout(self) -> TokenLayout:
        """Layout of tokens."""
        return TokenLayout.of(self.context_grid, self.grid, self.context_frames)


class IVideoGPTTransformer(WindowDynamics[IVideoGPTState]):
    """Codes of a context and actions in, codes of the next frames and rewards out."""

    config: IVideoGPTTransformerConfig
    reward_scale: Tensor
    """Size of a typical reward: rewards are learned in this unit."""

    def __init__(self, config: IVideoGPTTransformerConfig) -> None:
        super().__init__()
        self.config, self.layout = config, config.layout
        width = config.transformer.width
        self.embed = nn.Embedding(self.layout.vocabulary, width)
        self.cell = nn.Embedding(self.layout.n_cells, width) if config.cell_positions else None
        self.transformer = Llama(config.transformer)
        self.head = nn.Linear(width, self.layout.vocabulary, bias=False)
        self.action_vector = ActionVector(config.actions)
        n_numbers = self.action_vector.width
        self.action = nn.Linear(n_numbers, width) if config.actions else None
        self.reward = nn.Linear(width, 1) if config.has_rewards and not config.frame_prior_width else None
        self.ended = nn.Linear(width, 1) if config.has_ends else None
        self.recall = nn.Linear(width, n_numbers) if config.action_recon_weight and config.actions else None
        sizes = FrameSizes(
            n_cells=self.layout.frame_tokens,
            n_codes=self.layout.frame_codes,
            code_width=config.code_width,
            n_numbers=n_numbers,
            width=config.frame_prior_width,
        )
        self.frame_prior = FramePrior(sizes) if config.frame_prior_width else None
        self.reward_head = RewardHead(sizes) if config.frame_prior_width and config.has_rewards else None
        self.hint = nn.Linear(config.frame_prior_width, width) if config.frame_prior_width else None
        self.register_buffer("reward_scale", torch.ones(()))
        for layer in (self.embed, self.head, self.cell):
            if layer is not None:
                nn.init.normal_(layer.weight, std=INITIAL_STD)
        for head in (self.action, self.reward, self.ended, self.recall, self.hint):
            if head is not None:  # a trained transformer that gets new heads goes on as it was
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)
        self.set_termination_rate(0.0)

    def set_termination_rate(self, share: float) -> None:
        """Initialize a new termination head with the fraction of steps that end an episode, 1e-6 to 0.5."""
        if self.ended is not None and not self.ended.weight.any():
            share = min(max(share, 1e-6), 0.5)
            nn.init.constant_(self.ended.bias, math.log(share / (1 - share)))

    @torch.no_grad()
    def set_reward_scale(self, unit: float) -> None:
        """Learn rewards in another unit; predictions of a trained head stay the same."""
        head = self.reward if self.reward_head is None else self.reward_head.reward
        for parameter in head.parameters() if head is not None else ():
            parameter.mul_(self.reward_scale / unit)
        self.reward_scale.fill_(unit)

    # ------------------------------------------------------------------ whole clips

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Cross-entropy of all tokens after the first frame slot, and losses of reward and termination.

        Args:
            batch: ``codes`` of T > K frames, ``conditions.actions`` (B, T, ...), optionally rewards, valid.
            generator: Not used.

        Returns:
            Terms ``codes`` (per token, slots between later frames included), ``accuracy`` (logged only), ``reward``
            (unless it is predicted from codes) and ``terminated`` (per frame) and ``recall`` (per number of an action).
        """
        assert batch.codes is not None
        ids_BL = self.layout.pack(batch.codes)
        framed_BFSD, prior_BFMV = self._later(ids_BL, batch.conditions)
        labels_BL = self.layout.labels(ids_BL)[:, self.layout.prelude + 1 :]
        logits_BLV = self._scored(framed_BFSD, prior_BFMV).flatten(1, 2)[:, :-1].float()
        nll_BL = functional.cross_entropy(logits_BLV.flatten(0, 1), labels_BL.flatten(), reduction="none")
        is_right_BL = (logits_BLV.detach().argmax(-1) == labels_BL).float()
        valid_BF = self._valid(batch)
        weight_BL = valid_BF.repeat_interleave(self.layout.stride, 1)[:, 1:]
        terms = {
            "codes": ((nll_BL.view_as(weight_BL) * weight_BL).sum(), weight_BL.sum()),
            "accuracy": ((is_right_BL * weight_BL).sum(), weight_BL.sum()),
        }
        if self.reward is not None and batch.rewards is not None:
            terms["reward"] = self._reward_term(self._rewards(framed_BFSD[:, :, -1]), batch.rewards, valid_BF)
        if self.ended is not None and batch.terminated is not None:
            terms["terminated"] = self._end_term(framed_BFSD, batch.terminated, valid_BF)
        if self.recall is not None:
            terms["recall"] = self._recall_term(framed_BFSD, batch, valid_BF)
        return Losses(terms, {"accuracy": 0.0, "recall": self.config.action_recon_weight})

    def _valid(self, batch: Batch) -> Tensor:
        """Return which later frames count, float (B, F)."""
        assert batch.codes is not None
        codes, n_context = batch.codes.video, self.layout.context_frames
        if batch.valid is not None:
            return batch.valid[:, n_context:].float()
        return torch.ones((len(codes), codes.shape[1] - n_context), device=codes.device)

    def _reward_term(self, predicted_BF: Tensor, rewards_BT: Tensor, valid_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error of the reward of arriving at each later frame."""
        expected_BF = rewards_BT[:, self.layout.context_frames - 1 : -1]
        error_BF = ((predicted_BF - expected_BF) / self.reward_scale).square()
        return (error_BF * valid_BF).sum(), valid_BF.sum()

    def _end_term(self, framed_BFSD: Tensor, terminated_BT: Tensor, valid_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of termination on arriving at each later frame."""
        assert self.ended is not None
        expected_BF = terminated_BT[:, self.layout.context_frames - 1 : -1]
        return binary_term(self.ended(framed_BFSD[:, :, -1]).squeeze(-1), expected_BF, valid_BF)

    def frame_prior_loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Losses of the frame prior and reward head, which are trained before the rest.

        Args:
            batch: As for ``loss``.
            generator: Not used.

        Returns:
            Terms ``draft`` (nats per code of a later frame) and ``reward`` (squared error per frame, in units of a
            typical reward).
        """
        assert batch.codes is not None
        next_BFM, valid_BF = batch.codes.video[:, self.layout.context_frames :], self._valid(batch)
        led_BFA = self._led(batch.conditions, *next_BFM.shape[:2])
        prior_BFMV, _ = self._predict_frames(next_BFM, led_BFA)
        nll_BFM = functional.cross_entropy(prior_BFMV.float().movedim(-1, 1), next_BFM, reduction="none")
        weight_BFM = valid_BF[:, :, None].expand_as(next_BFM)
        terms = {"draft": ((nll_BFM * weight_BFM).sum(), weight_BFM.sum())}
        given_BF = self._clip_rewards(next_BFM, led_BFA)
        if given_BF is not None and batch.rewards is not None:
            terms["reward"] = self._reward_term(given_BF, batch.rewards, valid_BF)
        return Losses(terms)

    def _recall_term(self, framed_BFSD: Tensor, batch: Batch, valid_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error of the action reconstructed from each token of a later frame."""
        assert self.recall is not None
        expected_BFA = self.action_vector(batch.conditions.actions)[:, self.layout.context_frames - 1 : -1]
        error_BFSA = (self.recall(framed_BFSD).float() - expected_BFA[:, :, None]).square()
        weight_BFSA = valid_BF[:, :, None, None].expand_as(error_BFSA)
        return (error_BFSA * weight_BFSA).sum(), weight_BFSA.sum()

    def logits(self, ids: Tensor, conditions: Conditions) -> Tensor:
        """Score every id after every token.

        Args:
            ids: As the layout packs them, (B, L).
            conditions: Actions (B, T, ...); the last row is not used.

        Returns:
            (B, L, V).
        """
        features_BLD, prior_BFMV = self._read(ids, conditions)
        logits: Tensor = self.head(features_BLD)
        if prior_BFMV is not None:
            self._add_prior(logits[:, self.layout.prelude :].unflatten(1, (-1, self.layout.stride)), prior_BFMV)
        return logits

    def features(self, ids: Tensor, conditions: Conditions) -> Tensor:
        """Read whole sequences, as ``logits``: features (B, L, D)."""
        return self._read(ids, conditions)[0]

    def _read(self, ids: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor | None]:
        """Read whole sequences: features (B, L, D), and scores of the frame prior."""
        x_BLD, prior_BFMV = self._enter(ids, conditions)
        return self.transformer(x_BLD), prior_BFMV

    def score(self, codes: Codes, conditions: Conditions) -> StepScores:
        """Compare every later frame with its prediction from the true past, among the codes of later frames.

        Args:
            codes: Both grids, (B, T, ...), T at most ``frames``.
            conditions: Actions (B, T, ...); the last row is not used.

        Returns:
            Each (B, T - K): context frames have no scores.
        """
        self._check_window(codes.video.shape[1])
        framed_BFSD, prior_BFMV = self._later(self.layout.pack(codes), conditions)
        next_BFM = codes.video[:, self.layout.context_frames :]
        logits_BFMV = self._legal_logits(framed_BFSD[:, :, :-1], prior_BFMV).float()
        nll_BFM = functional.cross_entropy(logits_BFMV.flatten(0, 2), next_BFM.flatten(), reduction="none")
        is_right_BF = (logits_BFMV.argmax(-1) == next_BFM).all(-1)
        given_BF = self._clip_rewards(next_BFM, self._led(conditions, *next_BFM.shape[:2]))
        return StepScores(
            nll_BFM.view_as(next_BFM).sum(-1), is_right_BF, *self._outcome(framed_BFSD[:, :, -1], given_BF)
        )

    def _check_window(self, n_frames: int) -> None:
        if n_frames > self.config.frames:
            raise UserError(
                f"a clip has {n_frames} frames; these dynamics read up to {self.config.frames} at a time: cut it."
            )

    # ------------------------------------------------------------------ the two ends

    def _embed(self, ids: Tensor, cells: Tensor) -> Tensor:
        """Embed ids (B, L) in their cells (L,)."""
        x_BLD: Tensor = self.embed(ids)
        return x_BLD if self.cell is None else x_BLD + self.cell(cells)

    def _enter(self, ids: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor | None]:
        """Embed ids (B, L), add actions to slots, and apply the frame prior, (B, F, M, codes)."""
        x_BLD = self._embed(ids, self.layout.cells(ids.shape[1], ids.device))
        n_context, prelude = self.layout.context_frames, self.layout.prelude
        slots = torch.arange(prelude, ids.shape[1], self.layout.stride, device=ids.device)
        if not len(slots) or (self.action is None and self.frame_prior is None):
            return x_BLD, None
        led_BFA = self._led(conditions, len(ids), len(slots))
        if self.action is not None:
            x_BLD = x_BLD.index_add(1, slots, self.action(led_BFA.to(x_BLD.dtype)).to(x_BLD.dtype))
        if self.frame_prior is None:
            return x_BLD, None
        prior_BFMV, hint_BFD = self._predict_frames(self.layout.unpack(ids).video[:, n_context:], led_BFA)
        return x_BLD.index_add(1, slots, hint_BFD.to(x_BLD.dtype)), prior_BFMV

    def _predict_frames(self, later_BFM: Tensor, led_BFA: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the frame prior to the true past: scores (B, F, M, codes) and hints for slots (B, F, D)."""
        assert self.frame_prior is not None and self.hint is not None
        past_BFPM = frames_before(later_BFM, self.layout.frame_codes)[:, :-1]
        scores_BFMV, features_BFE = self.frame_prior(past_BFPM, frames_before(led_BFA, 0.0)[:, 1:])
        return scores_BFMV, self.hint(features_BFE)

    def _clip_rewards(self, later_BFM: Tensor, led_BFA: Tensor) -> Tensor | None:
        """Predict rewards of true later frames from codes, float32 (B, F); None where the transformer predicts them."""
        frames_BFPM = frames_before(later_BFM, self.layout.frame_codes)[:, 1:]
        return self._frame_rewards(frames_BFPM, frames_before(led_BFA, 0.0)[:, 1:])

    def _frame_rewards(self, frames_BFPM: Tensor, led_BFPA: Tensor) -> Tensor | None:
        """Predict rewards of frames from those before and the actions that led to them, as ``_clip_rewards``."""
        return None if self.reward_head is None else self.reward_head(frames_BFPM, led_BFPA).float() * self.reward_scale

    def _led(self, conditions: Conditions, n_streams: int, n_later: int) -> Tensor:
        """Return the numbers of the actions that lead to the first F later frames, (B, F, A)."""
        if not self.config.actions:
            return torch.zeros(n_streams, n_later, 0, device=self.embed.weight.device)
        first = self.layout.context_frames - 1
        out: Tensor = self.action_vector(conditions.actions)[:, first : first + n_later]
        return out

    def _later(self, ids: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor | None]:
        """Features from the first frame slot on, (B, F, M + 1, D), and scores of the frame prior (B, F, M, codes)."""
        features_BLD, prior_BFMV = self._read(ids, conditions)
        return features_BLD[:, self.layout.prelude :].unflatten(1, (-1, self.layout.stride)), prior_BFMV

    def _scored(self, framed_BFSD: Tensor, prior_BFMV: Tensor | None) -> Tensor:
        """Score every id after every token of later frames, (B, F, M + 1, V)."""
        logits_BFSV: Tensor = self.head(framed_BFSD)
        if prior_BFMV is not None:
            self._add_prior(logits_BFSV, prior_BFMV)
        return logits_BFSV

    def _add_prior(self, logits_BFSV: Tensor, prior_BFMV: Tensor) -> None:
        """Add the frame prior, in place, to the scores after the tokens that codes follow."""
        logits_BFSV[:, :, :-1, self.layout.frame_ids] += prior_BFMV

    def _legal_logits(self, features: Tensor, prior: Tensor | None) -> Tensor:
        """Score the codes of later frames, (..., D) -> (..., codes)."""
        logits = gemv(features, self.head.weight[self.layout.frame_ids])
        return logits if prior is None else logits + prior

    def _rewards(self, features: Tensor) -> Tensor:
        """Read rewards off the last tokens of frames, (..., D) -> float32 (...)."""
        if self.reward is None:
            return features.new_zeros(features.shape[:-1], dtype=torch.float32)
        out: Tensor = self.reward(features).squeeze(-1).float() * self.reward_scale
        return out

    def _outcome(self, features: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predict termination, and rewards unless given, from the last tokens: float32 (...) each."""
        rewards = self._rewards(features) if given is None else given
        if self.ended is None:
            return rewards, torch.zeros_like(rewards)
        return rewards, self.ended(features).squeeze(-1).float().sigmoid()

    # ------------------------------------------------------------------ stepping

    def prefill(self, codes: Codes, conditions: Conditions) -> IVideoGPTState:
        """Read T >= K frames, both grids (B, T, ...), and the T - 1 actions between them."""
        n_frames = codes.video.shape[1]
        if n_frames < self.layout.context_frames:
            raise UserError(
                f"{n_frames} context frames were given; this world begins with {self.layout.context_frames} or more."
            )
        self._check_window(n_frames)
        ids_BL = self.layout.pack(codes)
        x_BLD, _ = self._enter(ids_BL, conditions)
        cache = self.transformer.cache(len(ids_BL), self.layout.length(self.config.frames), x_BLD)
        self.transformer.step(x_BLD, cache)
        nothing_B = torch.zeros(len(ids_BL), device=x_BLD.device)
        n_context = self.layout.context_frames
        past_BPM = frames_before(codes.video[:, n_context:], self.layout.frame_codes)[:, -1]
        led_BPA = frames_before(self._led(conditions, len(ids_BL), n_frames - n_context), 0.0)[:, -1]
        return IVideoGPTState(
            cache=cache, reward=nothing_B, terminated=nothing_B.clone(), past=past_BPM, led=led_BPA[:, :-1]
        )

    def full(self, state: IVideoGPTState) -> Tensor:
        """Return the indices of the streams whose window is full."""
        room = self.layout.length(self.config.frames) - state.cache.lengths
        return (room < self.layout.stride).nonzero().flatten()

    def step(
        self, state: IVideoGPTState, conditions: Conditions, sampler: Sampler, generator: Generators
    ) -> tuple[Codes, IVideoGPTState]:
        """Take one action per stream and draw the next frame, code after code.

        The cache of ``state`` is written in place; ``index_select`` a copy first to keep the old one.
        """
        if len(self.full(state)):
            raise UserError(f"a window of {self.config.frames} frames is full; begin anew with the last ones.")
        x_B1D, prior_BMV, led_BPA = self._begin_frame(state, conditions)
        drawn: list[Tensor] = []
        for i, cell in enumerate(self._frame_cells()[1:].split(1)):
            features_B1D = self.transformer.step(x_B1D, state.cache)
            logits_BV = self._legal_logits(features_B1D[:, 0], None if prior_BMV is None else prior_BMV[:, i])
            drawn.append(sampler(logits_BV, generator))
            x_B1D = self._embed(drawn[-1][:, None] + self.layout.context_codes, cell)
        codes_B1M = torch.stack(drawn, 1)[:, None]
        past_BPM = torch.cat([codes_B1M, state.past[:, :-1]], 1)
        features_B1D, given_B1 = (
            self.transformer.step(x_B1D, state.cache),
            self._frame_rewards(past_BPM[:, None], led_BPA[:, None]),
        )
        reward_B1, ended_B1 = self._outcome(features_B1D, given_B1)
        after = IVideoGPTState(
            cache=state.cache, reward=reward_B1[:, 0], terminated=ended_B1[:, 0], past=past_BPM, led=led_BPA[:, :-1]
        )
        return Codes({"video": codes_B1M}), after

    def _begin_frame(
        self, state: IVideoGPTState, conditions: Conditions
    ) -> tuple[Tensor, Tensor | None, Tensor]:  # fmt: skip
        """Embed a slot and the action (B, 1, D), apply the frame prior (B, M, codes), line up actions (B, P, A)."""
        now = Conditions(actions={name: stream[:, -1:] for name, stream in conditions.actions.items()})
        x_B1D = self._slot(len(state.reward), now)
        now_B1A = self.action_vector(now.actions) if self.config.actions else state.led[:, :1]
        led_BPA = torch.cat([now_B1A, state.led], 1)
        if self.frame_prior is None or self.hint is None:
            return x_B1D, None, led_BPA
        scores_B1MV, features_B1E = self.frame_prior(state.past[:, None], led_BPA[:, None])
        return x_B1D + self.hint(features_B1E).to(x_B1D.dtype), scores_B1MV[:, 0], led_BPA

    def _frame_cells(self) -> Tensor:
        """Cells of a later frame's slot and codes, (M + 1,)."""
        first = self.layout.frame_cell
        return torch.arange(first, first + self.layout.stride, device=self.embed.weight.device)

    def _slot(self, n_streams: int, conditions: Conditions) -> Tensor:
        """Embed a frame slot and the action, (B, 1, D)."""
        ids_B1 = torch.full((n_streams, 1), self.layout.frame_slot, device=self.embed.weight.device)
        x_B1D = self._embed(ids_B1, self._frame_cells()[:1])
        if self.action is None:
            return x_B1D
        out: Tensor = x_B1D + self.action(self.action_vector(conditions.actions)[:, -1:].to(x_B1D.dtype))
        return out

    @torch.no_grad()
    def free_ids(
        self, ids: Tensor, n_frames: int, conditions: Conditions, sampler: Sampler, generator: Generators
    ) -> Tensor:
        """Continue ids as the published code does: any id may be drawn; slots are given if actions are.

        Args:
            ids: The context, (B, L) without a frame slot after it.
            n_frames: F.
            conditions: Actions (B, T, ...), those before the context's last frame included.
            sampler: Draws.
            generator: Of the draws.

        Returns:
            int64, (B, L + F * (M + 1)).
        """
        if self.frame_prior is not None:
            raise ValueError("free ids are for published models alone: they have no frame prior")
        cells = self.layout.cells(ids.shape[1] + n_frames * self.layout.stride, ids.device)
        cache = self.transformer.cache(len(ids), len(cells), self.head.weight)
        features_BLD, made = self.transformer.step(self._embed(ids, cells[: ids.shape[1]]), cache), [ids]
        for i in range(n_frames * self.layout.stride):
            frame, place = divmod(i, self.layout.stride)
            if place == 0 and (i == 0 or self.action is not None):
                first = self.layout.context_frames - 1 + frame
                now = {name: stream[:, first : first + 1] for name, stream in conditions.actions.items()}
                made.append(torch.full_like(ids[:, :1], self.layout.frame_slot))
                x_B1D = self._slot(len(ids), Conditions(actions=now))
            else:
                made.append(sampler(self.head(features_BLD[:, -1]), generator)[:, None])
                x_B1D = self._embed(made[-1], cells[ids.shape[1] + i, None])
            features_BLD = self.transformer.step(x_B1D, cache)
        return torch.cat(made, 1)
