"""Pocket: a small playable world on a laptop CPU."""
