"""Config of a VideoGPT world and its presets, with the sources of published values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from reelworld.config import require
from reelworld.models.system import SystemConfig
from reelworld.train.config import OptimConfig, StageConfig
from reelworld.types import UserError


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """3D VQ-VAE."""

    downsample: tuple[int, int, int] = (4, 4, 4)
    """Frames, rows and columns per code: powers of two, the greatest at least 2."""
    n_codes: int = 2048
    """Size of the codebook."""
    embedding_dim: int = 256
    """Width of a code's vector."""
    n_hiddens: int = 240
    """Width of encoder and decoder."""
    n_res_layers: int = 4
    """Attention-residual blocks of the encoder, and of the decoder."""

    def __post_init__(self) -> None:
        is_power = all(s >= 1 and s & (s - 1) == 0 for s in self.downsample)
        wanted = "powers of two (1, 2, 4, 8...), the greatest at least 2"
        require(self, "downsample", lambda v: is_power and max(v) >= 2, wanted)
        require(self, "n_hiddens", lambda v: v >= 2 and v % 2 == 0, "even (two heads, half-width residuals)")
        require(self, "n_codes embedding_dim", lambda v: v >= 1, "at least 1")
        require(self, "n_res_layers", lambda v: v >= 0, "at least 0")


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """Autoregressive prior: a transformer over all codes of a clip."""

    hidden_dim: int = 576
    """Width of the transformer."""
    heads: int = 4
    """Attention heads."""
    layers: int = 8
    """Transformer blocks."""
    attention: Literal["full", "sparse"] = "full"
    """A token attends to all before it, or to nearby blocks of 32 and to its position in earlier frames."""
    dropout: float = 0.2
    """Fraction of each block's output that training drops."""
    attn_dropout: float = 0.3
    """Fraction of attention weights that training drops (full attention only)."""
    cond_frames: int = 0
    """First frames of a clip that condition the prior as pixels; 0 for none."""
    resnet_width: int = 64
    """Channels of the first group of the network that encodes conditioning frames."""
    resnet_dim: int = 240
    """Width of its features."""

    def __post_init__(self) -> None:
        require(self, "heads layers", lambda v: v >= 1, "at least 1")
        require(self, "cond_frames", lambda v: v >= 0, "at least 0")
        require(self, "dropout attn_dropout", lambda v: 0 <= v < 1, "at least 0 and below 1")
        require(self, "hidden_dim", lambda v: v >= 3 and v % self.heads == 0, f"a multiple of heads ({self.heads})")
        if self.cond_frames:
            require(self, "resnet_width", lambda v: v >= 1, "at least 1")
            require(self, "resnet_dim", lambda v: v >= max(3, self.heads), f"at least 3 and heads ({self.heads})")


@dataclass(frozen=True, kw_only=True)
class TokenizerStage(TokenizerConfig, StageConfig):
    """The VQ-VAE and its training."""

    def __post_init__(self) -> None:
        TokenizerConfig.__post_init__(self)
        StageConfig.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class DynamicsStage(DynamicsConfig, StageConfig):
    """The prior and its training."""

    context_only_prob: float = 0.0
    """Probability that the first latent frames of a training batch are coded from their own frames alone, as those of
    a clip that is continued are; 0 as published."""

    def __post_init__(self) -> None:
        DynamicsConfig.__post_init__(self)
        StageConfig.__post_init__(self)
        require(self, "context_only_prob", lambda v: 0 <= v <= 1, "from 0 to 1")


ADAM = OptimConfig(lr=3e-4, beta2=0.999, weight_decay=0.0, warmup_steps=0)  # published scripts


@dataclass(frozen=True, kw_only=True)
class Config(SystemConfig):
    """Everything that decides a VideoGPT world. Defaults are those of the published scripts where they have one."""

    frame_stride: int = 1
    """Keep every k-th frame."""
    sequence_length: int = 16
    """Frames of a clip; longer videos slide over it."""
    class_cond: bool = False
    """Condition the prior on the class of a clip (the folder it is in)."""
    temperature: float = 1.0
    """Sampling temperature of the world unless another one is asked for; 0 takes the likeliest code."""
    tokenizer: TokenizerStage = TokenizerStage(
        steps=200_000,
        batch=32,
        optim=replace(ADAM, schedule="constant", grad_clip=0.0),
        time_fraction=0.4,
    )
    """The VQ-VAE and its training."""
    dynamics: DynamicsStage = DynamicsStage(steps=200_000, batch=8, optim=ADAM)
    """The prior and its training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "frame_stride", lambda v: v >= 1, "at least 1")
        require(self, "temperature", lambda v: 0 <= v <= 10, "from 0 to 10")
        if self.dynamics.cond_frames >= self.sequence_length:
            raise UserError(
                f"dynamics.cond_frames is {self.dynamics.cond_frames}; it must be from 0 to sequence_length - 1."
            )

    @property
    def context_frames(self) -> int:
        """Frames that a continuation starts from: the conditioning frames, else one latent frame."""
        return self.dynamics.cond_frames or self.tokenizer.downsample[0]


PUBLISHED = Config()

TINY = replace(
    PUBLISHED,
    sequence_length=8,
    tokenizer=replace(
        PUBLISHED.tokenizer,
        downsample=(2, 8, 8),
        n_codes=32,
        embedding_dim=8,
        n_hiddens=8,
        n_res_layers=1,
        steps=12,
        batch=2,
        optim=replace(PUBLISHED.tokenizer.optim, lr=1e-3),
    ),
    dynamics=DynamicsStage(
        hidden_dim=24,
        heads=2,
        layers=2,
        cond_frames=1,
        resnet_width=4,
        resnet_dim=8,
        steps=12,
        batch=2,
        optim=replace(ADAM, lr=1e-3),
    ),
)

SMALL = Config(
    sequence_length=8,
    temperature=0.5,
    tokenizer=TokenizerStage(
        downsample=(2, 8, 8),
        n_codes=32,
        embedding_dim=64,
        n_hiddens=32,
        n_res_layers=0,
        steps=2000,
        batch=4,
        optim=replace(ADAM, lr=5e-3, beta2=0.98, warmup_steps=50, grad_clip=0.0),
        time_fraction=0.25,
    ),
    dynamics=DynamicsStage(
        hidden_dim=128,
        heads=4,
        layers=4,
        dropout=0.0,
        attn_dropout=0.0,
        context_only_prob=0.5,
        steps=12_000,
        batch=2,
        optim=replace(ADAM, lr=2e-3, beta2=0.98, warmup_steps=50),
    ),
)

BAIR = Config(
    size=64,  # script default
    sequence_length=16,  # script default
    precision="bf16",  # README says 16 bits (fp16 with loss scaling)
    tokenizer=replace(
        PUBLISHED.tokenizer,
        downsample=(4, 2, 2),  # the checkpoint's name
        n_codes=2048,  # script default (paper: 1024)
        embedding_dim=256,  # script default
        n_hiddens=240,  # script default
        n_res_layers=4,  # script default
        steps=200_000,  # script default (paper: 100,000)
        batch=32,  # script default; learning rate 3e-4 too
    ),
    dynamics=DynamicsStage(
        hidden_dim=576,  # script default (paper: 512)
        heads=4,  # script default
        layers=8,  # script default
        attention="sparse",  # README of the checkpoints
        dropout=0.2,  # script default
        attn_dropout=0.3,  # script default (sparse attention ignores it)
        cond_frames=1,  # README of the checkpoints
        steps=200_000,  # paper; the script has no default
        batch=8,  # script default, per GPU
        optim=replace(
            ADAM,
            lr=3e-4,  # script default
            accumulate=4,  # README: four GPUs
            grad_clip=1.0,  # README
        ),
    ),
)

UCF101 = replace(
    BAIR,
    size=128,  # README of the checkpoints
    fit="crop",  # the published loader resizes the shorter side and crops
    tokenizer=replace(BAIR.tokenizer, downsample=(4, 4, 4)),  # the checkpoint's name
    dynamics=replace(
        BAIR.dynamics,
        cond_frames=0,  # README of the checkpoints
        layers=8,  # unknown (paper: gpt_large has 20)
        hidden_dim=576,  # unknown (paper: 1024)
        heads=4,  # unknown (paper: 8)
    ),
)

KINETICS = replace(UCF101, dynamics=replace(UCF101.dynamics, attention="full"))  # script default

BAIR_PAPER = replace(
    BAIR,
    tokenizer=replace(
        BAIR.tokenizer,
        downsample=(2, 2, 2),  # paper (the published code cannot build it)
        n_codes=1024,  # paper
        steps=100_000,  # paper
    ),
    dynamics=replace(
        BAIR.dynamics,
        hidden_dim=512,  # paper
        resnet_dim=576,  # paper
        batch=32,  # paper
        optim=replace(BAIR.dynamics.optim, accumulate=1),  # paper: one number for all GPUs
    ),
)

PRESETS = {
    "tiny": TINY,
    "small": SMALL,
    "bair": BAIR,
    "bair_paper": BAIR_PAPER,
    "ucf101": UCF101,
    "kinetics": KINETICS,
    "kinetics_stride2x4x4": replace(
        KINETICS,
        tokenizer=replace(KINETICS.tokenizer, downsample=(2, 4, 4)),  # the checkpoint's name
    ),
}

ABOUT = {
    "tiny": "For tests: seconds of training, no quality.",
    "small": "Ours, for two CPU cores: a tile game or a first smooth world in minutes.",
    "bair": "Checkpoints bair_stride4x2x2 and bair_gpt: robot pushing, 16 frames of 64x64, one conditioning frame.",
    "bair_paper": "BAIR as in the paper: twice the latent frames, smaller codebook, 512 wide; no published checkpoint.",
    "ucf101": "Checkpoints ucf101_stride4x4x4 and ucf101_uncond_gpt: 16 frames of 128x128, no condition.",
    "kinetics": "Checkpoint kinetics_stride4x4x4, a VQ-VAE on 16 frames of 128x128; no prior was published for it.",
    "kinetics_stride2x4x4": "Checkpoint kinetics_stride2x4x4, a VQ-VAE with half the time stride; no published prior.",
}
