"""Sections of an evaluation."""
