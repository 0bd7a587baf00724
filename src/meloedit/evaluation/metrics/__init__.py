"""Figures with their intervals, from observations."""
