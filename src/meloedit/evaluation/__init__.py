"""Measuring edits: what the data sets hold, and the one definition of every figure."""
