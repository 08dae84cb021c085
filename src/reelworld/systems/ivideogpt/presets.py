"""The iVideoGPT worlds that have a name: their settings, and where each of the published ones comes from."""

from __future__ import annotations

from dataclasses import replace

from reelworld.systems.ivideogpt.config import Config


def tiny() -> Config:
    """For tests: seconds of training, no quality."""
    quick = Config(tokenizer_steps=6, tokenizer_batch=2, tokenizer_frames=4, tokenizer_warmup=0, steps=8, batch=2)
    quick = replace(quick, clip_frames=12, channels=(32, 32, 32, 32), block_layers=1, latent=8, largest_attention=8)
    quick = replace(quick, context_codes=64, frame_codes=64, places=256, width=24, inner=48, layers=2, heads=2)
    return replace(quick, warmup=0, lr=1e-3, attn_dropout=0.0, crop_area=1.0, colour_change=0.0)


def small() -> Config:
    """Ours, for two CPU cores: frames of 64x64, 64 codes per context frame and 16 per later one."""
    tokenizer = Config(
        clip_frames=12,
        crop_area=1.0,  # one game looks the same everywhere; changed clips are for many robots and rooms
        colour_change=0.0,
        channels=(32, 32, 64, 64),
        block_layers=1,
        latent=32,
        groups=8,
        context_codes=512,
        frame_codes=512,
        patch=2,
        largest_attention=8,
        tokenizer_dropout=0.0,
        renewed_below=0.05,
        codebook_decay=0.99,  # codebooks that learn by gradients, at full weight, let go of what is thin and rare
        commitment=0.25,
        looks_weight=4.0,
        tokenizer_frames=8,
        tokenizer_steps=6000,
        tokenizer_batch=1,
        tokenizer_lr=3e-3,
        tokenizer_schedule="cosine",
        tokenizer_warmup=50,
    )
    return replace(
        tokenizer,
        width=128,
        inner=384,
        layers=4,
        heads=4,
        places=512,
        attn_dropout=0.0,
        code_reuse=4,
        steps=6000,
        batch=4,
        lr=1e-3,
        warmup=100,
        temperature=0.5,  # chosen on validation episodes of a pole on a cart
    )


def small_32() -> Config:
    """Ours, for two CPU cores: recorded robots at 32x32, 16 codes per later frame, which perceptrons draft."""
    return replace(
        small(),
        size=32,
        fit="stretch",
        channels=(32, 32, 64),
        clip_frames=20,
        start_frames=5,
        context_codes=128,  # what robots do is learned sooner from fewer codes
        frame_codes=64,
        coded_alone=True,
        tokenizer_steps=3000,
        knows_cells=True,
        heads=2,
        initial_std=0.09,
        draft_width=512,
        draft_steps=3000,
        steps=1500,
    )


def oxe_64() -> Config:
    """Checkpoints ivideogpt-oxe-64-act-free and those fine-tuned from it: 114M and 138M parameters."""
    return Config(
        size=64,  # published resolution
        fit="stretch",  # the published loader resizes to a square
        actions="none",  # pre-training has none: action spaces differ
        precision="bf16",  # published scripts
    )


def oxe_64_medium() -> Config:
    """Checkpoint ivideogpt-oxe-64-act-free-medium: the same tokenizer, a transformer of 436M parameters."""
    return replace(oxe_64(), width=1024, inner=4096, layers=24, heads=16)


def oxe_256() -> Config:
    """Checkpoint ivideogpt-oxe-256-act-free: frames of 256x256, a tokenizer of 310M parameters."""
    return replace(
        oxe_64(),
        size=256,
        channels=(128, 256, 256, 512, 768),
        largest_attention=32,
        tokenizer_steps=250_000,  # paper, table 3
        tokenizer_batch=32,  # paper, table 3
        steps=350_000,  # paper, table 3
        batch=16,  # paper, table 3
    )


SIZES = {
    "tiny": tiny,
    "small": small,
    "small_32": small_32,
    "oxe_64": oxe_64,
    "oxe_64_medium": oxe_64_medium,
    "oxe_256": oxe_256,
}
PRESETS: dict[str, Config] = {name: make() for name, make in SIZES.items()}
ABOUT = {name: (make.__doc__ or "").splitlines()[0] for name, make in SIZES.items()}
