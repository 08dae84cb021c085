"""``WorldModel``, the interface of all models, and parts shared by several systems."""
