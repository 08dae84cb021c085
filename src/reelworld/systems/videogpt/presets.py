"""The VideoGPT worlds that have a name: their settings, and where each of the published ones comes from."""

from __future__ import annotations

from dataclasses import replace

from reelworld.systems.videogpt.config import Config


def tiny() -> Config:
    """For tests: seconds of training, no quality."""
    quick = Config(tokenizer_steps=12, tokenizer_batch=2, steps=12, batch=2, sequence_length=8, downsample=(2, 8, 8))
    quick = replace(quick, n_codes=32, embedding_dim=8, n_hiddens=8, n_res_layers=1, tokenizer_lr=1e-3, lr=1e-3)
    return replace(quick, hidden_dim=24, heads=2, layers=2, cond_frames=1, resnet_width=4, resnet_dim=8)


def small() -> Config:
    """Ours, for two CPU cores: a tile game or a first smooth world in minutes."""
    tokenizer = Config(
        sequence_length=8,
        downsample=(2, 8, 8),
        n_codes=32,
        embedding_dim=64,
        n_hiddens=32,
        n_res_layers=0,
        tokenizer_share=0.25,
        tokenizer_steps=2000,
        tokenizer_batch=4,
        tokenizer_lr=5e-3,
        tokenizer_schedule="cosine",
        warmup_steps=50,
        beta2=0.98,
    )
    return replace(
        tokenizer,
        hidden_dim=128,
        heads=4,
        layers=4,
        dropout=0.0,
        attn_dropout=0.0,
        alone_share=0.5,
        steps=12_000,
        batch=2,
        lr=2e-3,
        temperature=0.5,
    )


def bair() -> Config:
    """Checkpoints bair_stride4x2x2 and bair_gpt: robot pushing, 16 frames of 64x64, one conditioning frame."""
    return Config(
        size=64,  # script default
        sequence_length=16,  # script default
        downsample=(4, 2, 2),  # the checkpoint's name
        n_codes=2048,  # script default (paper: 1024)
        embedding_dim=256,  # script default
        n_hiddens=240,  # script default
        n_res_layers=4,  # script default
        tokenizer_steps=200_000,  # script default (paper: 100,000)
        tokenizer_batch=32,  # script default
        tokenizer_lr=3e-4,  # script default
        hidden_dim=576,  # script default (paper: 512)
        heads=4,  # script default
        layers=8,  # script default
        attention="sparse",  # README of the checkpoints
        dropout=0.2,  # script default
        attn_dropout=0.3,  # script default (sparse attention ignores it)
        cond_frames=1,  # README of the checkpoints
        steps=200_000,  # paper; the script has no default
        batch=8,  # script default, per GPU
        accumulate=4,  # README: four GPUs
        lr=3e-4,  # script default
        clip=1.0,  # README
        precision="bf16",  # README says 16 bits (fp16 with loss scaling)
    )


def ucf101() -> Config:
    """Checkpoints ucf101_stride4x4x4 and ucf101_uncond_gpt: 16 frames of 128x128, no condition."""
    return replace(
        bair(),
        size=128,  # README of the checkpoints
        fit="crop",  # the published loader resizes the shorter side and crops
        downsample=(4, 4, 4),  # the checkpoint's name
        cond_frames=0,  # README of the checkpoints
        layers=8,  # unknown (paper: gpt_large has 20)
        hidden_dim=576,  # unknown (paper: 1024)
        heads=4,  # unknown (paper: 8)
    )


def kinetics() -> Config:
    """Checkpoint kinetics_stride4x4x4, a VQ-VAE on 16 frames of 128x128; no prior was published for it."""
    return replace(
        ucf101(),
        attention="full",  # script default
    )


def kinetics_stride2x4x4() -> Config:
    """Checkpoint kinetics_stride2x4x4, a VQ-VAE with half the time stride; no prior was published for it."""
    return replace(
        kinetics(),
        downsample=(2, 4, 4),  # the checkpoint's name
    )


def bair_paper() -> Config:
    """BAIR as the paper has it: twice the latent frames, smaller codebook, 512 wide. No checkpoint was published."""
    return replace(
        bair(),
        downsample=(2, 2, 2),  # paper (the published code cannot build it)
        n_codes=1024,  # paper
        tokenizer_steps=100_000,  # paper
        hidden_dim=512,  # paper
        resnet_dim=576,  # paper
        batch=32,  # paper
        accumulate=1,  # paper: one number for all GPUs
    )


SIZES = {
    "tiny": tiny,
    "small": small,
    "bair": bair,
    "bair_paper": bair_paper,
    "ucf101": ucf101,
    "kinetics": kinetics,
    "kinetics_stride2x4x4": kinetics_stride2x4x4,
}
PRESETS: dict[str, Config] = {name: make() for name, make in SIZES.items()}
ABOUT = {name: (make.__doc__ or "").splitlines()[0] for name, make in SIZES.items()}
