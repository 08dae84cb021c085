"""Simulators as gymnasium environments, their presets, the recorder and its policies."""
