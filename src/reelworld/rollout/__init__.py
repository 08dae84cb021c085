"""Sessions: a model and the state of the streams that are played in it."""
