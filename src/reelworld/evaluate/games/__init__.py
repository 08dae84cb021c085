"""Sections for single games, and for games drawn from tiles."""
