"""Sections for single games, and for tile-based games."""
