"""Command line: one module per verb, see ``main.VERBS``."""
