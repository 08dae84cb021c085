"""Evaluation of worlds: sections of metrics with intervals and baselines, a report, and speed."""
