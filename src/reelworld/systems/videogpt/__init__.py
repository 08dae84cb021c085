"""VideoGPT (Yan et al. 2021, arXiv:2104.10157)."""
