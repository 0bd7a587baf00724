"""Rivals that learn beforehand, from training edits, how to make edits."""
