"""Worlds: weights with a name that can be loaded, stepped, scored and adapted to gymnasium."""
