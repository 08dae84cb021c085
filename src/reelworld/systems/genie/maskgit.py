"""MaskGIT over frames: a spacetime transformer predicts the masked codes of a frame from all frames before it.

Attention in time is causal, so keys and values of past frames are cached. A step costs one frame per decoding pass.
The previous frame is written to the cache in the first pass, in the same forward; no pass is needed for writing alone.

Source: Bruce et al. 2024 (arXiv:2402.15391), section 2.1, and 1xgpt (1X Technologies, ``STMaskGIT``). Differs: frame t
is conditioned on the action that leads to it; factors of any sizes; reward and termination may be learned too; a
window that is full slides.

Shapes: B batch, T frames, P context frames, N tokens per frame, D width, A width of an action's vector, V sum of the
  factors' sizes
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from reelworld.config import require
from reelworld.models.heads import OutcomeHead, expected_outcome, outcome_terms
from reelworld.models.maskgit import decode
from reelworld.models.parts import Dynamics
from reelworld.nn.conditioning import ActionEmbedder
from reelworld.nn.kv_cache import FrameCache
from reelworld.nn.random import Generators
from reelworld.nn.streams import Streams
from reelworld.systems.genie.action_conditioning import NoAction, action_conditioning, leading_actions
from reelworld.systems.genie.config import DynamicsConfig
from reelworld.systems.genie.copy_prior import CopyPrior, NoCopyPrior
from reelworld.systems.genie.factored_codes import FactoredEmbedding, Factors
from reelworld.systems.genie.learned_positions import FrameTable, History
from reelworld.systems.genie.masking import CosineMasking, MaskedInput, UniformMasking
from reelworld.systems.genie.spacetime import STConfig, STTransformer
from reelworld.types import ActionSpec, Batch, Codes, Conditions, GridSpec, Losses, Sampler, StepScores, UserError

MAX_PARALLEL_FRAMES = 64
"""Largest number of frames scored in parallel; longer clips use the cache frame by frame, with little memory."""


@dataclass(frozen=True, kw_only=True)
class MaskGITConfig(DynamicsConfig):
    """Shape and losses of masked dynamics."""

    grid: GridSpec
    """The tokenizer's grid for one frame."""
    actions: Mapping[str, ActionSpec]
    """Action streams, including latent actions; empty for worlds without actions."""
    transformer: STConfig
    """The spacetime transformer; rows and columns are the grid's."""
    factors: tuple[int, ...] = ()
    """Sizes of the digits of a code, the fastest first; their product is the codebook. Empty: one of all codes."""
    masking: UniformMasking | CosineMasking = field(default_factory=UniformMasking)
    """Mask schedule of training."""
    positions: Literal["transformer", "table"] = "transformer"
    """Positions: of the transformer, or a learned vector per frame of the window and position."""
    kept_frames: int = 0
    """Frames read again when a window with a table is full; 0 for half of it."""
    has_outcomes: bool = True
    """Learn rewards and ends of episodes."""
    outcome_weight: float = 0.1
    """Weight of the losses of rewards and ends of episodes, relative to the codes."""
    mup_base_width: int = 0
    """Width at which the readout is not scaled (muP); 0 scales nothing."""

    def __post_init__(self) -> None:
        sizes, stack = self.sizes, self.transformer
        if Factors(sizes).codebook_size != self.grid.codebook_size:
            raise UserError(
                f"factors {sizes} make {Factors(sizes).codebook_size} codes, not {self.grid.codebook_size}."
            )
        if (stack.rows, stack.columns) != (self.grid.rows, self.grid.columns):
            raise UserError(
                f"the transformer is made for {stack.rows}x{stack.columns} tokens, the grid has "
                f"{self.grid.rows}x{self.grid.columns}."
            )
        require(self, "kept_frames", lambda v: 0 <= v < stack.window, f"from 0 to below the window ({stack.window})")
        if self.copy_prior and self.past != "true":
            raise UserError('copy_prior needs past "true": a masked past does not say what stood there.')
        if self.positions == "table" and stack.window < 2:
            raise UserError("a table of positions needs a window of 2 frames or more: one to look at, one to predict.")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the digits of a code."""
        return self.factors or (self.grid.codebook_size,)


@dataclass(kw_only=True)
class MaskGITState(Streams):
    """State of B streams; the cache holds everything before the current frame."""

    codes: Tensor
    """Codes of the current frame, int64, (B, N)."""
    action: Tensor
    """Vector of the action that led to it, (B, A)."""
    cache: FrameCache
    """Keys and values of the frames before it."""
    reward: Tensor
    """Expected reward of the last step, (B,)."""
    terminated: Tensor
    """Predicted probability that the last step ended the episode, (B,)."""
    history: History | None = None
    """Frames of the window, for models that read a full window again."""


class MaskGIT(Dynamics[MaskGITState]):
    """Predict the codes of the next frame by filling in a masked one, some codes per pass.

    Attributes:
        reward_scale: Size of a typical reward, a scalar; rewards are learned in this unit. Set it before training.
    """

    config: MaskGITConfig
    reward_scale: Tensor

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        self.config = config
        stack, width = config.transformer, config.transformer.width
        self.factors = Factors(config.sizes)
        self.embed = FactoredEmbedding(self.factors, width)
        is_table = config.positions == "table"
        self.table = FrameTable(stack.window, config.grid.n_tokens, width, config.kept_frames) if is_table else None
        self.carried = CopyPrior(self.factors, width) if config.copy_prior else NoCopyPrior()
        self.actions = ActionEmbedder(config.actions, width)
        self.first_action = nn.Parameter(0.02 * torch.randn(width)) if config.actions else None
        kind = config.conditioning
        self.condition = action_conditioning(kind, width, width, stack.layers) if config.actions else NoAction()
        self.transformer = STTransformer(stack)
        self.head = nn.Linear(width, sum(config.sizes))
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.outcome = OutcomeHead(width) if config.has_outcomes else None
        self.register_buffer("reward_scale", torch.ones(()))

    # ------------------------------------------------------------------ whole clips

    def loss(self, batch: Batch, generator: torch.Generator | None = None, shown: MaskedInput | None = None) -> Losses:
        """Cross-entropy of masked codes, summed over their digits, and losses of reward and termination.

        Args:
            batch: ``codes`` (B, T, N), ``conditions.actions`` (B, T, ...), optionally rewards, terminated, valid.
            generator: Random numbers of the masks.
            shown: Masked input, given instead of drawn.

        Returns:
            Terms ``codes`` (per masked code; those of the first frame do not count), ``accuracy`` (logged only), and
            ``rewarded``, ``reward`` and ``terminated`` (per frame).
        """
        assert batch.codes is not None
        codes_BTN = batch.codes.video
        shown = shown or self.config.masking(codes_BTN, self.factors, generator)
        past_BTN = codes_BTN if self.config.past == "true" else None
        features_BTND = self._features(shown, self._led_by(batch.conditions, codes_BTN), past_BTN)
        logits_BTNV, next_BTN = self._readout(features_BTND, codes_BTN[:, :-1]), codes_BTN[:, 1:]
        weight_BTN = shown.hidden[:, 1:].float()
        if batch.valid is not None:
            weight_BTN = weight_BTN * batch.valid[:, 1:, None]
        nats_BTN = self.factors.nll(logits_BTNV, next_BTN)
        is_right_BTN = self.factors.likeliest(logits_BTNV.detach()) == next_BTN
        terms = {name: ((x * weight_BTN).sum(), weight_BTN.sum()) for name, x in
                 (("codes", nats_BTN), ("accuracy", is_right_BTN))}  # fmt: skip
        outcome = {}
        if self.outcome is not None:
            outcome = outcome_terms(self.outcome(features_BTND), batch, self.reward_scale)
        return Losses({**terms, **outcome}, {"accuracy": 0.0, **dict.fromkeys(outcome, self.config.outcome_weight)})

    def logits(self, codes: Codes, conditions: Conditions, hidden: Tensor | None = None) -> Tensor:
        """Score every code of every frame from its visible codes and the frames before.

        Args:
            codes: (B, T, N).
            conditions: Actions (B, T, ...); the last row is not used.
            hidden: True for masked codes, bool, (B, T, N); None for none.

        Returns:
            Logits of all digits side by side, the fastest digit first, (B, T, N, V).
        """
        before_BTN = torch.cat([codes.video[:, :1], codes.video[:, :-1]], 1)
        x_BTND, film = self._enter(codes.video, hidden, self._led_by(conditions, codes.video), before=before_BTN)
        return self._readout(self.condition.strip(self.transformer(x_BTND, film)), before_BTN)

    def score(self, codes: Codes, conditions: Conditions) -> StepScores:
        """Compare every next frame with its prediction from the true past.

        Args:
            codes: (B, P, N).
            conditions: Actions (B, P, ...); the last row is not used.

        Returns:
            Nats under one-pass decoding at temperature 1, whether the likeliest codes are right, and expected reward
            and termination.
        """
        parts = []
        for features_BTND, first, end in self._futures(codes.video, self._led_by(conditions, codes.video)):
            logits_BTNV = self._readout(features_BTND, codes.video[:, first - 1 : end - 1])
            next_BTN = codes.video[:, first:end]
            nats_BT = self.factors.nll(logits_BTNV, next_BTN).sum(-1)
            is_right_BT = (self.factors.likeliest(logits_BTNV) == next_BTN).all(-1)
            parts.append((nats_BT, is_right_BT, *self._expected(features_BTND)))
        nll, correct, reward, terminated = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        return StepScores(nll, correct, reward, terminated)

    def _futures(self, codes_BTN: Tensor, led_BTA: Tensor) -> Iterator[tuple[Tensor, int, int]]:
        """Yield features of fully masked frames given the true past, for all frames but the first, with their range."""
        frames = codes_BTN.shape[1]
        masked_BTN = torch.ones_like(codes_BTN, dtype=torch.bool)
        if self.table is None and frames > MAX_PARALLEL_FRAMES:
            x_BTND, film = self._enter(codes_BTN[:, :0], None, led_BTA[:, :0])
            _, cache = self.transformer.prefill(x_BTND, film, ahead=2)
            hidden_B2N = torch.stack([~masked_BTN[:, 0], masked_BTN[:, 0]], 1)
            for t in range(1, frames):
                both, before_B1N = slice(t - 1, t + 1), codes_BTN[:, t - 1 : t]
                yield self._pass(codes_BTN[:, both], hidden_B2N, before_B1N, led_BTA[:, both], cache, 1), t, t + 1
            return
        for begin, known, end in self._windows(frames):
            shown = MaskedInput(codes_BTN[:, begin:end], masked_BTN[:, begin:end])
            features_BTND = self._features(shown, self._begun(led_BTA, begin, end), shown.codes)
            yield features_BTND[:, known - begin - 1 :], known, end

    def _windows(self, frames: int) -> list[tuple[int, int, int]]:
        """Cut a clip into the windows of stepping: first frame, first predicted frame, and end (exclusive) of each."""
        return [(0, 1, frames)] if self.table is None else self.table.windows(frames)

    def _features(self, shown: MaskedInput, led_BTA: Tensor, past_BTN: Tensor | None) -> Tensor:
        """Features of all frames but the first, (B, T - 1, N, D), from their masked input.

        With ``past_BTN``, each masked frame is added next to the true one and attends to the true frames before it.
        """
        if past_BTN is None:
            return self.condition.strip(self.transformer(*self._enter(*shown, led_BTA)))[:, 1:]
        frames = torch.arange(past_BTN.shape[1], device=past_BTN.device)
        positions = torch.cat([frames, frames[1:]])
        codes = torch.cat([past_BTN, shown.codes[:, 1:]], 1)
        hidden = torch.cat([torch.zeros_like(shown.hidden), shown.hidden[:, 1:]], 1)
        led = torch.cat([led_BTA, led_BTA[:, 1:]], 1)
        is_draft = torch.arange(len(positions), device=positions.device) >= len(frames)
        before = torch.cat([past_BTN, past_BTN[:, :-1]], 1)  # only the masked copies are masked
        x_BTND, film = self._enter(codes, hidden, led, positions, before)
        return self.condition.strip(self.transformer(x_BTND, film, positions, is_draft))[:, len(frames) :]

    # ------------------------------------------------------------------ the two ends

    def _led_by(self, conditions: Conditions, codes_BTN: Tensor) -> Tensor:
        """Embed the actions that led to each frame, (B, T, A); zeros without actions."""
        batch, frames = codes_BTN.shape[:2]
        if self.first_action is None:
            return self.head.weight.new_zeros(batch, frames, 1)
        taken = {name: stream[:, : frames - 1] for name, stream in conditions.actions.items()}
        return leading_actions(self._vectors(taken), self.first_action)

    def _vectors(self, actions: Mapping[str, Tensor]) -> Tensor:
        embedded = self.actions(actions)
        assert isinstance(embedded, Tensor)
        return embedded

    def _begun(self, led_BTA: Tensor, begin: int, end: int) -> Tensor:
        """Cut out the actions of a window."""
        return led_BTA[:, :end] if begin == 0 else self._anew(led_BTA[:, begin:end])

    def _anew(self, led_BTA: Tensor) -> Tensor:
        """Begin a window: the action that led to its first frame is unknown."""
        return led_BTA if self.first_action is None else leading_actions(led_BTA[:, 1:], self.first_action)

    def _enter(
        self, codes: Tensor, hidden: Tensor | None, led: Tensor, positions: Tensor | None = None,
        before: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Make the transformer's input; ``before`` are the previous frames' codes at the hidden positions."""
        x_BTND = self.carried.embed_previous(self.embed(codes, hidden), before, hidden)
        if self.table is not None:
            x_BTND = self.table(x_BTND, positions)
        return self.condition(x_BTND, led)

    def _readout(self, features: Tensor, before: Tensor) -> Tensor:
        base = self.config.mup_base_width
        logits: Tensor = self.head(features * (base / features.shape[-1]) if base else features)
        return self.carried.add_to_logits(logits, before)

    def _expected(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Predict reward and termination, (..., N, D) -> (...) each; zeros where they were not learned."""
        if self.outcome is None:
            nothing = features.new_zeros(features.shape[:-2])
            return nothing, nothing.clone()
        return expected_outcome(self.outcome(features), self.reward_scale)

    # ------------------------------------------------------------------ stepping

    def prefill(self, codes: Codes, conditions: Conditions) -> MaskGITState:
        """Read P context frames, (B, P, N), and the P - 1 actions between them; P is 1 or more."""
        codes_BPN, led_BPA = codes.video, self._led_by(conditions, codes.video)
        frames = codes_BPN.shape[1]
        if frames < 1:
            raise UserError("0 context frames were given; masked dynamics go on from a frame: give one or more.")
        begin = self._windows(frames + 1)[-1][0]
        return self._read(codes_BPN[:, begin:], self._begun(led_BPA, begin, frames))

    def _read(self, codes_BPN: Tensor, led_BPA: Tensor) -> MaskGITState:
        """Read the frames of one window; the last one enters the cache in the first pass of the next frame."""
        x_BPND, film = self._enter(codes_BPN[:, :-1], None, led_BPA[:, :-1])
        _, cache = self.transformer.prefill(x_BPND, film, ahead=2)
        nothing_B = codes_BPN.new_zeros(codes_BPN.shape[0], dtype=self.reward_scale.dtype)
        return MaskGITState(
            codes=codes_BPN[:, -1],
            action=led_BPA[:, -1],
            cache=cache,
            reward=nothing_B,
            terminated=nothing_B.clone(),
            history=None if self.table is None else History.of(codes_BPN, led_BPA, self.table.frames),
        )

    def step(
        self, state: MaskGITState, conditions: Conditions, sampler: Sampler, generator: Generators
    ) -> tuple[Codes, MaskGITState]:
        """Take one action per stream and decode the next frame in ``sampler.steps`` passes.

        The cache of ``state`` is written in place; ``index_select`` a copy first to keep the old one.
        """
        self._make_room(state)
        masked_BN = torch.zeros_like(state.codes)
        led_BA = self._next_action(state, conditions)
        both_B2N = torch.stack([state.codes, masked_BN], 1)
        hidden_B2N = torch.stack([masked_BN.bool(), ~masked_BN.bool()], 1)
        led_B2A, before_B1N = torch.stack([state.action, led_BA], 1), state.codes[:, None]
        features_B1ND = self._pass(both_B2N, hidden_B2N, before_B1N, led_B2A, state.cache, keep=1)
        reward_B1, ended_B1 = self._expected(features_B1ND)
        codes_BN = self._decode(features_B1ND, before_B1N, led_BA, state.cache, sampler, generator)
        after = MaskGITState(
            codes=codes_BN,
            action=led_BA,
            cache=state.cache,
            reward=reward_B1[:, 0],
            terminated=ended_B1[:, 0],
            history=None if state.history is None else state.history.after(codes_BN, led_BA),
        )
        return Codes.of(codes_BN[:, None]), after

    def _next_action(self, state: MaskGITState, conditions: Conditions) -> Tensor:
        return self._vectors(conditions.actions)[:, 0] if self.config.actions else state.action

    def _make_room(self, state: MaskGITState) -> None:
        """Read the last frames of full windows again, as the first ones of new windows."""
        if self.table is None or state.history is None or not (full := state.history.full()):
            return
        rows = torch.tensor(full, device=state.codes.device)
        codes_BPN, led_BPA = state.history.last(rows, self.table.kept)
        state.index_copy_(rows, self._read(codes_BPN, self._anew(led_BPA)))

    def _pass(self, codes: Tensor, hidden: Tensor, before: Tensor, led: Tensor, cache: FrameCache, keep: int) -> Tensor:
        """Read one or two frames; return the features of the last one, (B, 1, N, D)."""
        frames = torch.arange(codes.shape[1], device=codes.device)
        x, film = self._enter(codes, hidden, led, cache.lengths[:, None] + frames, before.expand_as(codes))
        return self.condition.strip(self.transformer.step(x, cache, film, keep))[:, -1:]

    def _decode(
        self, features_B1ND: Tensor, before_B1N: Tensor, led_BA: Tensor, cache: FrameCache, sampler: Sampler,
        generator: Generators,
    ) -> Tensor:  # fmt: skip
        """Fill in the masked frame in ``sampler.steps`` passes; the first one is done already."""

        def predict(codes_B1N: Tensor, known_B1N: Tensor) -> Tensor:
            features = self._pass(codes_B1N, ~known_B1N, before_B1N, led_BA[:, None], cache, keep=0)
            return self._readout(features, before_B1N)

        codes_B1N = decode(
            self._readout(features_B1ND, before_B1N),
            predict,
            lambda logits: self.factors.draw(logits, sampler, generator),
            lambda logits, codes, left: sampler.order(-self.factors.nll(logits, codes), generator, left),
            sampler.steps,
        )
        return codes_B1N[:, 0]
