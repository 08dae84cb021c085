"""Readers of recording files, one module per format; ``registry.FORMATS`` lists them."""
