"""Rivals that change or adapt weights: one set of weights carries all edits, for every prompt."""
