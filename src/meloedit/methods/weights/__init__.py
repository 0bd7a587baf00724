"""Rivals that change or adapt weights: one set of weights holds all edits."""
