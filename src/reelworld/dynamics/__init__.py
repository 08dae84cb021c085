"""Models that predict the codes of the next frame."""
