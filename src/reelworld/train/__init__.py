"""One training loop for every part: stages, optimizer, averages, checkpoints, logs, pre-encoding."""
