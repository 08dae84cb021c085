"""The Genie worlds that have a name: their settings, and where each of the published ones comes from."""

from __future__ import annotations

from dataclasses import replace

from reelworld.systems.genie.config import Config


def tiny() -> Config:
    """For tests: seconds of training, no quality."""
    quick = Config(clip_frames=4, latent_frames=3, patch=8, n_codes=32, code_width=8, latent="grid", latent_patch=8)
    quick = replace(quick, encoder_width=16, encoder_layers=1, encoder_heads=2, decoder_width=16, decoder_layers=1)
    quick = replace(quick, decoder_heads=2, latent_width=16, latent_layers=1, latent_codes=4, width=32, layers=2)
    quick = replace(quick, heads=2, past="true", carries=True, decoding_steps=2, warmup_steps=2, context_frames=2)
    quick = replace(quick, tokenizer_steps=12, tokenizer_batch=2, latent_steps=12, latent_batch=4, steps=12, batch=2)
    return replace(quick, beta2=0.98, learned_codes=6, tokenizer_lr=1e-3, latent_lr=1e-3, lr=1e-3)


def small() -> Config:
    """Ours, for two CPU cores: 64x64 pixels, tokens of 8x8, latent actions by convolutions."""
    ours = Config(clip_frames=5, latent_frames=2, patch=8, n_codes=256, latent="grid", latent_patch=8, beta2=0.98)
    ours = replace(ours, encoder_width=64, encoder_layers=0, encoder_heads=4, decoder_width=96, decoder_layers=2)
    ours = replace(ours, decoder_heads=4, rarity=0.5, latent_width=64, latent_layers=2, width=96, layers=4, heads=4)
    ours = replace(ours, past="true", carries=True, conditioning="film", decoding_steps=2, context_frames=2)
    ours = replace(ours, warmup_steps=50, min_lr_share=0.0)
    ours = replace(ours, tokenizer_steps=700, tokenizer_batch=8, tokenizer_lr=2e-3)
    ours = replace(ours, learned_codes=64, latent_steps=1200, latent_batch=64, latent_lr=2e-3)
    return replace(ours, steps=1400, batch=4, lr=2e-3, temperature=0.7)


def coinrun() -> Config:
    """The paper's case study on CoinRun, which fits a device of 16 GB."""
    return Config(
        size=64,  # paper
        latent_codes=6,  # paper
        latent_patch=16,  # reproductions (jafar, jasmine); the paper gives it for Platformers only
        precision="bf16",  # paper, for the dynamics
    )


def platformers() -> Config:
    """The paper's largest, 10.7B in all, at 160x90 padded to 160x92; several GPUs are not supported yet."""
    return replace(
        coinrun(),
        size=None,  # paper: 160x90, the height padded to a multiple of the patch
        encoder_layers=12,  # paper
        decoder_width=1024,  # paper
        decoder_layers=20,  # paper
        decoder_heads=16,  # paper
        tokenizer_batch=384,  # paper
        latent_codes=8,  # paper
        latent_width=1024,  # paper
        latent_layers=20,  # paper
        latent_heads=16,  # paper
        width=5120,  # paper
        layers=48,  # paper
        heads=40,  # paper: 36 with 128 wide heads, which is no divisor of 5120
        steps=125_000,  # paper
        batch=512,  # paper
        temperature=2.0,  # paper
    )


LADDER = {  # the paper's scaling study, appendix: layers, heads, width
    "41m": (18, 8, 512),
    "96m": (16, 16, 768),
    "192m": (20, 16, 1024),  # paper: 18 heads, which is no divisor of 1024
    "404m": (21, 12, 1536),
    "811m": (20, 16, 2048),  # paper: 20 heads, which is no divisor of 2048
    "1.6b": (28, 20, 2560),  # paper: 22 heads, which is no divisor of 2560
    "2.7b": (36, 20, 2560),  # paper: 22 heads
}


def ladder(name: str) -> Config:
    """Make a rung of the paper's scaling study: Platformers with smaller dynamics."""
    layers, heads, width = LADDER[name]
    return replace(platformers(), layers=layers, heads=heads, width=width, steps=200_000, batch=256)


SIZES = {
    "tiny": tiny,
    "small": small,
    "coinrun": coinrun,
    "platformers": platformers,
}
PRESETS: dict[str, Config] = {name: make() for name, make in SIZES.items()}
ABOUT = {name: (make.__doc__ or "").splitlines()[0] for name, make in SIZES.items()}
PRESETS |= {f"platformers_{name}": ladder(name) for name in LADDER}
ABOUT |= {f"platformers_{name}": f"Dynamics of {name.upper()} in the paper's scaling study." for name in LADDER}
