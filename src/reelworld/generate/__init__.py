"""Loops a model over time: samplers, sessions, rollouts."""
