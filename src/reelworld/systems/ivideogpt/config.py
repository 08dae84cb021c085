"""Config of an iVideoGPT world and its presets, with the sources of published values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from reelworld.config import require
from reelworld.models.system import SystemConfig
from reelworld.train.config import OptimConfig, StageConfig
from reelworld.types import UserError


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Context VQGAN: many codes for context frames, few for later ones. Defaults are the published 64x64 model's."""

    channels: tuple[int, ...] = (128, 256, 512)
    """Of each block, from the pixels inwards; each but the last halves both sides."""
    layers: int = 2
    """Residual blocks per block of the encoders; the decoders have one more."""
    latent: int = 64
    """Channels of the latents."""
    context_codes: int = 8192
    """Size of the codebook of context frames."""
    frame_codes: int = 8192
    """Size of the codebook of later frames."""
    patch: int = 4
    """Cells of the context's grid per code of a later frame, along each side."""
    groups: int = 32
    """Groups of the norms; they divide all channels."""
    unconditional_encoder: bool = False
    """Encode later frames without the context, which then conditions their decoder only; off as published."""
    max_attention_resolution: int = 16
    """Rows or columns of the largest feature map that attends to the context."""
    dropout: float = 0.1
    """Fraction of the attention to the context that training drops."""
    dead_code_threshold: float = 0.0
    """Codes that fewer rows of a batch choose, in the moving average, are reset to rows of the batch; 0 resets none, as
    published."""
    codebook_decay: float = 0.0
    """Above 0, codebooks follow the features by moving averages of this decay, and gradients turn with the features;
    at 0 they learn by gradients, as published."""
    commitment_weight: float = 1.0
    """Weight of the distance of features from their codes."""

    def __post_init__(self) -> None:
        counts = "layers latent context_codes frame_codes patch groups max_attention_resolution"
        require(self, counts, lambda v: v >= 1, "at least 1")
        require(self, "dropout", lambda v: 0 <= v < 1, "from 0 to below 1")
        require(self, "dead_code_threshold commitment_weight", lambda v: v >= 0, "at least 0")
        require(self, "codebook_decay", lambda v: 0 <= v < 1, "from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """Causal transformer over codes, with actions at slots between frames."""

    cell_positions: bool = False
    """Embed each token's cell within its frame; published models have relative positions in the sequence only."""
    action_recon_weight: float = 0.0
    """Weight of reconstructing the action from every token after its slot; 0 as published."""

    def __post_init__(self) -> None:
        require(self, "action_recon_weight", lambda v: v >= 0, "at least 0")


@dataclass(frozen=True, kw_only=True)
class TokenizerStage(TokenizerConfig, StageConfig):
    """The tokenizer and its training."""

    sampled_frames: int = 8
    """Frames of a clip that the tokenizer learns from: the context, and others drawn at random."""
    perceptual_weight: float = 1.0
    """Weight of LPIPS, or of the squared differences that stand in for it."""
    lpips: str | None = None
    """Weights of LPIPS-VGG (.safetensors, the state of lpips.LPIPS(net="vgg")); squared differences stand in."""
    disc_start: int | None = None
    """Step of the tokenizer from which on an adversarial loss joins; none for never, as published at 64x64."""

    def __post_init__(self) -> None:
        TokenizerConfig.__post_init__(self)
        StageConfig.__post_init__(self)
        require(self, "perceptual_weight", lambda v: v >= 0, "at least 0")
        require(self, "disc_start", lambda v: v is None or v >= 0, "at least 0, or none")


@dataclass(frozen=True, kw_only=True)
class FramePriorStage(StageConfig):
    """Perceptrons that predict every frame from the three before, and its reward; trained first, then frozen."""

    width: int = 0
    """Width of the perceptrons; 0 has none, as published."""
    replays: int = 8
    """Optimizer steps that each encoded batch is used for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "width", lambda v: v >= 0, "at least 0")
        require(self, "replays", lambda v: v >= 1, "at least 1")


@dataclass(frozen=True, kw_only=True)
class DynamicsStage(DynamicsConfig, StageConfig):
    """The transformer and its training."""

    width: int = 768
    """Width of the transformer."""
    inner: int = 3072
    """Inner width of its perceptrons."""
    layers: int = 12
    """Blocks."""
    heads: int = 12
    """Attention heads."""
    max_positions: int = 1024
    """Longest sequence of tokens."""
    initial_std: float = 0.02
    """Standard deviation of its untrained matrices; narrow ones learn sooner from about 1 / sqrt(width)."""
    attn_dropout: float = 0.1
    """Fraction of attention weights that training drops."""
    replays: int = 1
    """Optimizer steps that each encoded batch is used for; more of them save encoding, with less to learn from."""

    def __post_init__(self) -> None:
        DynamicsConfig.__post_init__(self)
        StageConfig.__post_init__(self)
        require(self, "width inner layers heads max_positions replays", lambda v: v >= 1, "at least 1")
        require(self, "initial_std", lambda v: v > 0, "above 0")
        require(self, "attn_dropout", lambda v: 0 <= v < 1, "from 0 to below 1")


ADAMW = OptimConfig(lr=1e-4, beta2=0.999, weight_decay=0.01, warmup_steps=5000)  # published scripts
TOKENIZER_ADAM = OptimConfig(lr=5e-4, beta2=0.999, weight_decay=0.0, warmup_steps=500, schedule="constant")
FRAME_PRIOR_ADAMW = OptimConfig(lr=1e-4, beta2=0.999, weight_decay=0.05, warmup_steps=0)


@dataclass(frozen=True, kw_only=True)
class Config(SystemConfig):
    """Everything that decides an iVideoGPT world. Defaults are those of the published 64x64 model where it has them."""

    frame_stride: int = 1
    """Keep every k-th frame; the k actions between two kept ones stay together."""
    actions: Literal["given", "none"] = "given"
    """Learn from the recording's actions, or make a world that runs by itself."""
    rewards: bool = False
    """Learn the reward of each step, which the recordings must have, and ends of episodes, where they have them."""
    goal: bool = False
    """Condition on a goal: the last frame of a training clip is its first context frame; sessions take a picture."""
    pretrained: str | None = None
    """World of this system to start from, e.g. one without actions; heads that it lacks are new and start at zero."""
    context_frames: int = 2
    """First frames of a clip, which have many codes and condition all others."""
    start_frames: int | None = None
    """Frames that sessions and full windows start from, a goal included; those beyond context_frames are coded as later
    ones. None: context_frames."""
    clip_frames: int = 16
    """Frames of a training clip and of a session's window, context included."""
    crop_area: float = 0.8
    """Least fraction of a frame's area that training clips are cut to, all frames of a clip alike; 1 cuts nothing."""
    colour_jitter: float = 0.1
    """Greatest change of training clips' brightness, contrast and saturation, half as much of the hue; 0 for none."""
    temperature: float = 1.0
    """Sampling temperature of the world unless another one is asked for; 0 takes the likeliest code."""
    top_k: int = 100
    """Draw from so many likeliest codes only; 0 draws from all."""
    tokenizer: TokenizerStage = TokenizerStage(
        steps=500_000,  # half of the published count, of which every second one does nothing
        batch=64,
        optim=TOKENIZER_ADAM,
        time_fraction=0.5,
    )
    """The tokenizer and its training."""
    frame_prior: FramePriorStage = FramePriorStage(batch=256, optim=FRAME_PRIOR_ADAMW, time_fraction=0.125)
    """Perceptrons that predict every frame from the three before, and its reward."""
    dynamics: DynamicsStage = DynamicsStage(steps=700_000, batch=64, optim=ADAMW)
    """The transformer and its training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "frame_stride context_frames", lambda v: v >= 1, "at least 1")
        require(self, "top_k", lambda v: v >= 0, "at least 0")
        require(self, "crop_area", lambda v: 0 < v <= 1, "above 0, at most 1")
        require(self, "colour_jitter", lambda v: 0 <= v < 1, "from 0 to below 1")
        require(self, "temperature", lambda v: 0 <= v <= 10, "from 0 to 10")
        if self.goal and self.context_frames < 2:
            raise UserError("context_frames is 1; with goal it must be at least 2: the goal and a frame to begin with.")
        if self.start_frames is not None and not self.context_frames <= self.start_frames < self.clip_frames:
            raise UserError(
                f"start_frames is {self.start_frames}; it must be from context_frames, {self.context_frames}, to below "
                f"clip_frames, {self.clip_frames}."
            )
        sampled = self.tokenizer.sampled_frames
        for name, n_frames in (("clip_frames", self.clip_frames), ("tokenizer.sampled_frames", sampled)):
            if n_frames <= self.context_frames:
                raise UserError(f"{name} is {n_frames}; it must be above context_frames, {self.context_frames}.")
        if sampled > self.clip_frames:
            raise UserError(f"tokenizer.sampled_frames is {sampled}; clips have {self.clip_frames} frames.")

    @property
    def uses_actions(self) -> bool:
        """True if the recorded actions are learned."""
        return self.actions == "given"

    @property
    def given_frames(self) -> int:
        """Frames that a session is given, a goal not counted."""
        return (self.start_frames or self.context_frames) - self.goal


PUBLISHED = Config()

TINY = replace(
    PUBLISHED,
    clip_frames=12,
    crop_area=1.0,
    colour_jitter=0.0,
    tokenizer=replace(
        PUBLISHED.tokenizer,
        channels=(32, 32, 32, 32),
        layers=1,
        latent=8,
        context_codes=64,
        frame_codes=64,
        max_attention_resolution=8,
        sampled_frames=4,
        steps=6,
        batch=2,
        optim=replace(TOKENIZER_ADAM, warmup_steps=0),
    ),
    frame_prior=replace(PUBLISHED.frame_prior, batch=8, optim=replace(FRAME_PRIOR_ADAMW, lr=1e-3)),
    dynamics=DynamicsStage(
        width=24,
        inner=48,
        layers=2,
        heads=2,
        max_positions=256,
        attn_dropout=0.0,
        steps=8,
        batch=2,
        optim=replace(ADAMW, lr=1e-3, warmup_steps=0),
    ),
)

SMALL = replace(
    PUBLISHED,
    clip_frames=12,
    crop_area=1.0,  # one game looks the same everywhere; augmentation is for varied robots and rooms
    colour_jitter=0.0,
    temperature=0.5,  # chosen on validation episodes of a pole on a cart
    tokenizer=TokenizerStage(
        channels=(32, 32, 64, 64),
        layers=1,
        latent=32,
        groups=8,
        context_codes=512,
        frame_codes=512,
        patch=2,
        max_attention_resolution=8,
        dropout=0.0,
        dead_code_threshold=0.05,
        codebook_decay=0.99,  # codebooks learned by gradients, at full weight, lose thin and rare objects
        commitment_weight=0.25,
        perceptual_weight=4.0,
        sampled_frames=8,
        steps=6000,
        batch=1,
        optim=replace(TOKENIZER_ADAM, lr=3e-3, warmup_steps=50, schedule="cosine"),
        time_fraction=0.5,
    ),
    frame_prior=replace(PUBLISHED.frame_prior, batch=16, optim=replace(FRAME_PRIOR_ADAMW, lr=1e-3)),
    dynamics=DynamicsStage(
        width=128,
        inner=384,
        layers=4,
        heads=4,
        max_positions=512,
        attn_dropout=0.0,
        replays=4,
        steps=6000,
        batch=4,
        optim=replace(ADAMW, lr=1e-3, warmup_steps=100),
    ),
)

SMALL_32 = replace(
    SMALL,
    size=32,
    fit="stretch",
    clip_frames=20,
    start_frames=5,
    tokenizer=replace(
        SMALL.tokenizer,
        channels=(32, 32, 64),
        context_codes=128,  # robot motion is learned faster from fewer codes
        frame_codes=64,
        unconditional_encoder=True,
        steps=3000,
    ),
    frame_prior=replace(SMALL.frame_prior, width=512, steps=3000),
    dynamics=replace(SMALL.dynamics, cell_positions=True, heads=2, initial_std=0.09, steps=1500),
)

OXE_64 = Config(
    size=64,  # published resolution
    fit="stretch",  # the published loader resizes to a square
    actions="none",  # pre-training has none: action spaces differ
    precision="bf16",  # published scripts
)

PRESETS = {
    "tiny": TINY,
    "small": SMALL,
    "small_32": SMALL_32,
    "oxe_64": OXE_64,
    "oxe_64_medium": replace(OXE_64, dynamics=replace(OXE_64.dynamics, width=1024, inner=4096, layers=24, heads=16)),
    "oxe_256": replace(
        OXE_64,
        size=256,
        tokenizer=replace(
            OXE_64.tokenizer,
            channels=(128, 256, 256, 512, 768),
            max_attention_resolution=32,
            steps=250_000,  # paper, table 3
            batch=32,  # paper, table 3
        ),
        dynamics=replace(
            OXE_64.dynamics,
            steps=350_000,  # paper, table 3
            batch=16,  # paper, table 3
        ),
    ),
}

ABOUT = {
    "tiny": "For tests: seconds of training, no quality.",
    "small": "Ours, for two CPU cores: frames of 64x64, 64 codes per context frame and 16 per later one.",
    "small_32": "Ours, for two CPU cores: recorded robots at 32x32, 16 codes per later frame, with a frame prior.",
    "oxe_64": "Checkpoints ivideogpt-oxe-64-act-free and those fine-tuned from it: 114M and 138M parameters.",
    "oxe_64_medium": "Checkpoint ivideogpt-oxe-64-act-free-medium: the same tokenizer, a transformer of 436M.",
    "oxe_256": "Checkpoint ivideogpt-oxe-256-act-free: frames of 256x256, a tokenizer of 310M parameters.",
}
