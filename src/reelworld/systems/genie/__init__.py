"""Genie (Bruce et al. 2024, arXiv:2402.15391)."""
