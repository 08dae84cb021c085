"""What decides an iVideoGPT world, setting by setting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reelworld.config import require
from reelworld.models.system import SystemConfig
from reelworld.types import UserError


@dataclass(frozen=True, kw_only=True)
class Config(SystemConfig):
    """Everything that decides an iVideoGPT world. Defaults are those of the published 64x64 model where it has them."""

    frame_stride: int = 1
    """Keep every k-th frame; the k actions between two kept ones stay together."""
    actions: Literal["given", "none"] = "given"
    """Learn from the recording's actions, or make a world that runs by itself."""
    rewards: bool = False
    """Learn what reward each step brings, which the recordings must say, and where episodes end, where they say so."""
    pretrained: str | None = None
    """World of this recipe to begin with, e.g. one without actions; heads that it lacks are new and begin at zero."""
    tokenizer_share: float = 0.5
    """Share of max_minutes that the tokenizer gets."""
    context_frames: int = 2
    """First frames of a clip, which have many codes and are seen by all others."""
    start_frames: int | None = None
    """Frames that sessions and full windows begin with, a goal included; those beyond context_frames are coded as
    later ones. None: context_frames."""
    goal: bool = False
    """Go towards a goal: the last frame of a training clip is its first context frame; sessions are given a picture."""
    clip_frames: int = 16
    """Frames of a training clip and of a session's window, context included."""
    crop_area: float = 0.8
    """Least share of a frame's area that training clips are cut to, all frames of a clip alike; 1 cuts nothing."""
    colour_change: float = 0.1
    """Greatest change of training clips' brightness, contrast and saturation, half as much of the hue; 0 for none."""

    channels: tuple[int, ...] = (128, 256, 512)
    """Of each block of the tokenizer, from the pixels inwards; each but the last halves both sides."""
    block_layers: int = 2
    """Residual blocks per block of the encoders; the decoders have one more."""
    latent: int = 64
    """Channels of the latents, and width of a code's vector."""
    groups: int = 32
    """Groups of the tokenizer's norms; they divide all channels."""
    context_codes: int = 8192
    """Size of the codebook of context frames."""
    frame_codes: int = 8192
    """Size of the codebook of later frames."""
    patch: int = 4
    """Cells of the context's grid per code of a later frame, along each side."""
    largest_attention: int = 16
    """Rows or columns of the largest map that attends to the context."""
    coded_alone: bool = False
    """Code later frames without a look at the context, which their decoder alone sees; published encoders look."""
    tokenizer_dropout: float = 0.1
    """Share of the attention to the context that training drops, in the tokenizer."""
    renewed_below: float = 0.0
    """Codes that fewer rows of a batch choose, in the moving average, begin anew as rows of it; 0 as published."""
    codebook_decay: float = 0.0
    """Above 0, codebooks follow what they code by moving averages of this decay; at 0 by gradients, as published."""
    commitment: float = 1.0
    """Weight of how far features are from their codes."""
    looks_weight: float = 1.0
    """Weight of what LPIPS, or what stands in for it, says."""
    lpips: str | None = None
    """Weights of LPIPS-VGG (.safetensors, the state of lpips.LPIPS(net="vgg")); squared differences stand in."""
    opponent_from: int | None = None
    """Step of the tokenizer from which on an adversarial loss joins; none for never, as published at 64x64."""
    tokenizer_frames: int = 8
    """Frames of a clip that the tokenizer learns from: the context, and others drawn at random."""
    tokenizer_steps: int = 500_000
    """Optimizer steps of the tokenizer; half of the published count, of which every second one does nothing."""
    tokenizer_batch: int = 64
    """Clips per step."""
    tokenizer_lr: float = 5e-4
    """Learning rate of the tokenizer."""
    tokenizer_schedule: Literal["constant", "cosine", "wsd"] = "constant"
    """Course of that learning rate."""
    tokenizer_warmup: int = 500
    """Steps over which it rises from 0."""

    width: int = 768
    """Width of the transformer."""
    inner: int = 3072
    """Inner width of its perceptrons."""
    layers: int = 12
    """Blocks."""
    heads: int = 12
    """Attention heads."""
    knows_cells: bool = False
    """Tell tokens their cell within their frame; published models know only how far tokens are apart."""
    draft_width: int = 0
    """Width of perceptrons that draft every frame from the three before and judge it; 0 has none, as published."""
    draft_steps: int = 1000
    """Steps that drafts learn before the transformer does, with its batches joined four by four."""
    initial_std: float = 0.02
    """Standard deviation of its untrained matrices; narrow ones learn sooner from about 1 / sqrt(width)."""
    places: int = 1024
    """Longest sequence of tokens."""
    attn_dropout: float = 0.1
    """Share of attention weights that training drops."""
    code_reuse: int = 1
    """Steps that learn from each batch of clips once it is coded; more of them save coding, with less to learn from."""
    recall_weight: float = 0.0
    """Weight of telling the action back from every token behind its slot; 0 as published."""
    steps: int = 700_000
    """Optimizer steps of the transformer."""
    batch: int = 64
    """Clips per step."""
    lr: float = 1e-4
    """Highest learning rate of the transformer; it falls to 0 along a cosine."""
    warmup: int = 5000
    """Steps over which it rises from 0."""
    weight_decay: float = 0.01
    """Of the transformer's matrices."""
    temperature: float = 1.0
    """How bold the world's draws are unless asked otherwise; 0 takes the likeliest code."""
    top_k: int = 100
    """Draw from so many likeliest codes only; 0 draws from all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = (
            "frame_stride context_frames block_layers latent groups context_codes frame_codes patch largest_attention"
        )
        counts += " tokenizer_steps tokenizer_batch draft_steps width inner layers heads places steps batch code_reuse"
        require(self, counts, lambda v: v >= 1, "at least 1")
        floors = (
            "renewed_below commitment looks_weight draft_width tokenizer_warmup warmup weight_decay recall_weight top_k"
        )
        require(self, floors, lambda v: v >= 0, "at least 0")
        require(self, "opponent_from", lambda v: v is None or v >= 0, "at least 0, or none")
        require(self, "codebook_decay", lambda v: 0 <= v < 1, "from 0 to below 1")
        require(self, "crop_area", lambda v: 0 < v <= 1, "above 0, at most 1")
        require(self, "colour_change", lambda v: 0 <= v < 1, "from 0 to below 1")
        require(self, "tokenizer_share", lambda v: 0 < v < 1, "between 0 and 1")
        require(self, "tokenizer_lr lr initial_std", lambda v: 0 < v < math.inf, "above 0")
        require(self, "attn_dropout tokenizer_dropout", lambda v: 0 <= v < 1, "from 0 to below 1")
        require(self, "temperature", lambda v: 0 <= v <= 10, "from 0 to 10")
        if self.goal and self.context_frames < 2:
            raise UserError("context_frames is 1; with goal it must be at least 2: the goal and a frame to begin with.")
        if self.start_frames is not None and not self.context_frames <= self.start_frames < self.clip_frames:
            raise UserError(
                f"start_frames is {self.start_frames}; it must be from context_frames, {self.context_frames}, to below "
                f"clip_frames, {self.clip_frames}."
            )
        for name in ("clip_frames", "tokenizer_frames"):
            if getattr(self, name) <= self.context_frames:
                raise UserError(
                    f"{name} is {getattr(self, name)}; it must be above context_frames, {self.context_frames}."
                )
        if self.tokenizer_frames > self.clip_frames:
            raise UserError(f"tokenizer_frames is {self.tokenizer_frames}; clips have {self.clip_frames} frames.")

    @property
    def given_frames(self) -> int:
        """Frames that a session is given, a goal not counted."""
        return (self.start_frames or self.context_frames) - self.goal

    @property
    def uses_actions(self) -> bool:
        """True if the recorded actions are learned."""
        return self.actions == "given"
