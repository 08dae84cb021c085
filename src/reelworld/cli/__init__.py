"""The command line: one small file per verb, see ``main.VERBS``."""
