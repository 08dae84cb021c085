"""The VQ-VAE of VideoGPT's published checkpoints: its sizes, read off its weights and compared with what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reelworld.systems.videogpt.convert_names import published
from reelworld.systems.videogpt.convert_shapes import Shape, clip_shape, is_prior, latent_shape, multiplied, times

if TYPE_CHECKING:
    from reelworld.systems.videogpt.vqvae import VQVAE3D
    from reelworld.worlds.external_checkpoint import ExternalCheckpoint
    from reelworld.worlds.external_model import ExternalModel

__all__ = ["load_vqvae"]


def load_vqvae(checkpoint: ExternalCheckpoint, latent: Shape | None = None) -> VQVAE3D:
    """Make the VQ-VAE of a checkpoint: its own, or the one inside a prior's.

    Args:
        checkpoint: Of a VQ-VAE or of a prior.
        latent: Latent frames, rows and columns of the clips it shall code; None takes the sizes that are said. A
            VQ-VAE has no positions, so that any size can be coded.

    Raises:
        UserError: If there is none in it, or its weights and its hyper-parameters contradict each other.
    """
    from reelworld.systems.videogpt.vqvae import VQVAE3D, VQVAE3DConfig
    from reelworld.worlds.external_model import ExternalModel

    is_inside = is_prior(checkpoint)
    model = ExternalModel.of(checkpoint, "vqvae." if is_inside else "")
    n_codes, embedding_dim = model.shape("codebook.embeddings", 2)
    widths = {
        "n_codes": n_codes,
        "embedding_dim": embedding_dim,
        "n_hiddens": model.shape("encoder.conv_last.conv.weight", 5)[0],
        "n_res_layers": model.count(r"encoder\.res_stack\.(\d+)\.block\."),
    }
    if is_inside:
        downsample = _downsample_of_prior(ExternalModel.of(checkpoint))
    else:
        model.agree(**widths)
        found = model.triple("downsample")
        if found is None:
            raise model.error("does not say its downsample, which weights do not show; add it to its hyper-parameters.")
        downsample = found
    halvings, n_convs = max(s.bit_length() - 1 for s in downsample), model.count(r"encoder\.convs\.(\d+)\.")
    if halvings != n_convs:
        raise model.error(f"has {n_convs} strided convolutions; downsample {times(downsample)} needs {halvings}.")
    frames, height, width = multiplied(latent, downsample) if latent else clip_shape(model)
    sizes = {"clip_frames": frames, "height": height, "width": width}
    vqvae: VQVAE3D = model.fill(lambda: VQVAE3D(VQVAE3DConfig(downsample=downsample, **sizes, **widths)), published)
    # the published flag is not saved; a codebook that was never used counts nothing
    vqvae.codebook.has_started.copy_(vqvae.codebook.counts.any())
    return vqvae


def _downsample_of_prior(prior: ExternalModel) -> Shape:
    """Divide the clip that a prior was trained on by its positions: its file does not say the VQ-VAE's strides."""
    said = prior.triple("downsample")
    if said is not None:
        return said
    clip, latent = clip_shape(prior), latent_shape(prior)
    t, h, w = (n // m for n, m in zip(clip, latent, strict=True))
    if multiplied(latent, (t, h, w)) != clip or not t * h * w:
        raise prior.error(
            f"says clips of {times(clip)} and has positions for {times(latent)} codes, which do not divide them; "
            "the two do not belong together."
        )
    return t, h, w
