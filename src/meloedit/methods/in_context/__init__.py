"""Rivals that write edits into the prompt, for the unchanged model to read."""
