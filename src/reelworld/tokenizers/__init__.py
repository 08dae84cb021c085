"""Pixels to codes and back, one file per tokenizer."""
