"""Parts that two systems use, and the seam between models and the rest: ``WorldModel``."""
