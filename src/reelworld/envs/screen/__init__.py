"""Recorder of the screen with the keys and the mouse of that time."""
