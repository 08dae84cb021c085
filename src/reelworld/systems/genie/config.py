"""Config of a Genie world and its presets, with the sources of published values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from reelworld.config import require
from reelworld.models.system import SystemConfig
from reelworld.systems.genie.latent_action_options import LatentActionOptions
from reelworld.train.config import OptimConfig, StageConfig


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """ST-ViViT tokenizer."""

    patch: int = 4
    """Pixels per token, along each side."""
    n_codes: int = 1024
    """Size of the codebook."""
    code_width: int = 32
    """Width of a code's vector."""
    encoder_width: int = 512
    """Width of the encoder."""
    encoder_layers: int = 8
    """Blocks of the encoder; 0 codes each patch by itself, so that what does not move keeps its codes."""
    encoder_heads: int = 8
    """Attention heads of the encoder."""
    decoder_width: int = 512
    """Width of the decoder."""
    decoder_layers: int = 8
    """Blocks of the decoder; more than the encoder's pay off (the paper's appendix)."""
    decoder_heads: int = 8
    """Attention heads of the decoder."""
    rarity: float = 0.0
    """Patches seen c times in a batch weigh c ** -rarity in the loss; 0 weighs all alike, as published."""

    def __post_init__(self) -> None:
        require(self, "patch n_codes code_width", lambda v: v >= 1, "at least 1")
        require(self, "encoder_layers", lambda v: v >= 0, "at least 0")
        require(self, "rarity", lambda v: 0 <= v <= 1, "from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """Masked dynamics over codes and actions."""

    conditioning: Literal["add", "prepend", "concat", "film"] = "add"
    """Conditioning of a frame on the action that leads to it."""
    past: Literal["masked", "true"] = "masked"
    """Frames before the predicted one in training: masked ones, as published, or the true ones, as in playing, at twice
    the cost."""
    copy_prior: bool = False
    """Embed the previous frame's code at each masked position and start from predicting it again: most of a picture
    does not move. Needs past true; off as published."""


@dataclass(frozen=True, kw_only=True)
class TokenizerStage(TokenizerConfig, StageConfig):
    """The tokenizer and its training."""

    def __post_init__(self) -> None:
        TokenizerConfig.__post_init__(self)
        StageConfig.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class LatentActionStage(LatentActionOptions, StageConfig):
    """The latent action model and its training."""

    network: Literal["spacetime", "conv"] = "spacetime"
    """Spacetime transformers, as published, or convolutions (small worlds, CPUs)."""
    heads: int = 8
    """Attention heads (spacetime)."""
    clip_frames: int = 16
    """Frames of a training clip."""

    def __post_init__(self) -> None:
        LatentActionOptions.__post_init__(self)
        StageConfig.__post_init__(self)
        require(self, "clip_frames", lambda v: v >= 2, "at least 2, to see something happen")


@dataclass(frozen=True, kw_only=True)
class DynamicsStage(DynamicsConfig, StageConfig):
    """The dynamics and their training."""

    width: int = 512
    """Width of the transformer."""
    layers: int = 12
    """Blocks."""
    heads: int = 8
    """Attention heads."""


ADAMW = OptimConfig(beta1=0.9, beta2=0.9, weight_decay=1e-4, warmup_steps=5000)  # paper


@dataclass(frozen=True, kw_only=True)
class Config(SystemConfig):
    """Everything that decides a Genie world. Defaults are the paper's for CoinRun where it has them."""

    actions: Literal["latent", "given", "none"] = "latent"
    """Find actions in the video, learn from the recording's actions, or make a world that runs by itself."""
    clip_frames: int = 16
    """Frames of a training clip of tokenizer and dynamics, and of their attention window."""
    context_frames: int = 1
    """Frames that a session starts from."""
    decoding_steps: int = 25
    """MaskGIT passes per frame in sessions."""
    temperature: float = 1.0
    """Default sampling temperature of the world; 0 takes the likeliest code."""
    tokenizer: TokenizerStage = TokenizerStage(
        steps=300_000,
        batch=48,
        optim=replace(ADAMW, lr=3e-4, schedule="wsd"),
        time_fraction=0.3,
    )
    """The tokenizer and its training."""
    latent_actions: LatentActionStage = LatentActionStage(
        steps=200_000,
        batch=36,
        optim=replace(ADAMW, lr=3e-5, min_lr_fraction=0.1),
        time_fraction=0.2,
    )
    """The latent action model and its training."""
    dynamics: DynamicsStage = DynamicsStage(
        steps=200_000,
        batch=36,
        optim=replace(ADAMW, lr=3e-5, min_lr_fraction=0.1),
    )
    """The dynamics and their training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "decoding_steps context_frames", lambda v: v >= 1, "at least 1")
        require(self, "clip_frames", lambda v: v >= 2, "at least 2, to see something happen")
        require(self, "temperature", lambda v: 0 <= v <= 10, "from 0 to 10")

    @property
    def uses_actions(self) -> bool:
        """True if the recorded actions are learned."""
        return self.actions == "given"


PUBLISHED = Config()
QUICK = replace(ADAMW, lr=1e-3, beta2=0.98, warmup_steps=2)
OURS = replace(ADAMW, lr=2e-3, beta2=0.98, warmup_steps=50)

TINY = replace(
    PUBLISHED,
    clip_frames=4,
    context_frames=2,
    decoding_steps=2,
    tokenizer=replace(
        PUBLISHED.tokenizer,
        patch=8,
        n_codes=32,
        code_width=8,
        encoder_width=16,
        encoder_layers=1,
        encoder_heads=2,
        decoder_width=16,
        decoder_layers=1,
        decoder_heads=2,
        steps=12,
        batch=2,
        optim=replace(QUICK, schedule="wsd"),
    ),
    latent_actions=replace(
        PUBLISHED.latent_actions,
        network="conv",
        patch=8,
        n_codes=4,
        learned_codes=6,
        code_width=8,
        model_width=16,
        encoder_layers=1,
        decoder_layers=1,
        clip_frames=3,
        steps=12,
        batch=4,
        optim=replace(QUICK, min_lr_fraction=0.1),
    ),
    dynamics=DynamicsStage(
        width=32,
        layers=2,
        heads=2,
        past="true",
        copy_prior=True,
        steps=12,
        batch=2,
        optim=replace(QUICK, min_lr_fraction=0.1),
    ),
)

SMALL = Config(
    clip_frames=5,
    context_frames=2,
    decoding_steps=2,
    temperature=0.7,
    tokenizer=TokenizerStage(
        patch=8,
        n_codes=256,
        encoder_width=64,
        encoder_layers=0,
        encoder_heads=4,
        decoder_width=96,
        decoder_layers=2,
        decoder_heads=4,
        rarity=0.5,
        steps=700,
        batch=8,
        optim=replace(OURS, schedule="wsd"),
        time_fraction=0.3,
    ),
    latent_actions=LatentActionStage(
        network="conv",
        patch=8,
        learned_codes=64,
        model_width=64,
        encoder_layers=2,
        decoder_layers=2,
        rarity=0.5,
        clip_frames=2,
        steps=1200,
        batch=64,
        optim=OURS,
        time_fraction=0.2,
    ),
    dynamics=DynamicsStage(
        width=96,
        layers=4,
        heads=4,
        conditioning="film",
        past="true",
        copy_prior=True,
        steps=1400,
        batch=4,
        optim=OURS,
    ),
)

COINRUN = Config(
    size=64,  # paper
    precision="bf16",  # paper, for the dynamics
    latent_actions=replace(
        PUBLISHED.latent_actions,
        n_codes=6,  # paper
        patch=16,  # reproductions (jafar, jasmine); the paper gives it for Platformers only
    ),
)

PLATFORMERS = replace(
    COINRUN,
    size=(96, 160),  # paper: 90x160, padded to 92; our latent actions need a multiple of their patch, 16
    fit="pad",
    temperature=2.0,  # paper
    tokenizer=replace(
        COINRUN.tokenizer,
        encoder_layers=12,  # paper
        decoder_width=1024,  # paper
        decoder_layers=20,  # paper
        decoder_heads=16,  # paper
        batch=384,  # paper
    ),
    latent_actions=replace(
        COINRUN.latent_actions,
        n_codes=8,  # paper
        model_width=1024,  # paper
        encoder_layers=20,  # paper
        decoder_layers=20,  # paper
        heads=16,  # paper
    ),
    dynamics=replace(
        COINRUN.dynamics,
        width=5120,  # paper
        layers=48,  # paper
        heads=40,  # paper: 36 with 128 wide heads, which is no divisor of 5120
        steps=125_000,  # paper
        batch=512,  # paper
    ),
)

SCALING = {  # the paper's scaling study, appendix: layers, heads, width; parameters of the dynamics here
    "41m": (18, 8, 512, "78.0M"),
    "96m": (16, 16, 768, "155.3M"),
    "192m": (20, 16, 1024, "342.1M"),  # paper: 18 heads, which is no divisor of 1024
    "404m": (21, 12, 1536, "804.9M"),
    "811m": (20, 16, 2048, "1,361.5M"),  # paper: 20 heads, which is no divisor of 2048
    "1.6b": (28, 20, 2560, "2,964.4M"),  # paper: 22 heads, which is no divisor of 2560
    "2.7b": (36, 24, 3072, "5,474.9M"),  # paper: 22 heads, which is no divisor of 3072
}


def scaled(layers: int, heads: int, width: int) -> Config:
    """Make a preset of the scaling study: Platformers with smaller dynamics, batch 256, 200,000 steps."""
    return replace(
        PLATFORMERS,
        dynamics=replace(PLATFORMERS.dynamics, layers=layers, heads=heads, width=width, steps=200_000, batch=256),
    )


PRESETS = {
    "tiny": TINY,
    "small": SMALL,
    "coinrun": COINRUN,
    "platformers": PLATFORMERS,
    **{f"platformers_{name}": scaled(layers, heads, width) for name, (layers, heads, width, _) in SCALING.items()},
}

ABOUT = {
    "tiny": "For tests: seconds of training, no quality.",
    "small": "Ours, for two CPU cores: 64x64 pixels, tokens of 8x8, latent actions by convolutions.",
    "coinrun": "The paper's case study on CoinRun, which fits a device of 16 GB.",
    "platformers": "The paper's largest layout, at 96x160 pixels. Its blocks are larger here: dynamics of 20,230.0M "
    "parameters (paper: 10.1B, 10.7B in all). Several GPUs are not supported yet.",
    **{
        f"platformers_{name}": f"{name.upper()} dynamics of the paper's scaling study: {layers} layers, {width} wide; "
        f"{here} parameters here."
        for name, (layers, _, width, here) in SCALING.items()
    },
}
