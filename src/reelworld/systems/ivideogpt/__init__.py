"""iVideoGPT (Wu et al. 2024, arXiv:2405.15223)."""
