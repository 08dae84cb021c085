"""Tensor math without opinions: attention, grid blocks, caches, quantizers, pixels."""
