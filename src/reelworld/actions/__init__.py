"""Whatever comes from or goes to actions: models that find actions in recordings which have none."""
