"""Metrics: what is observed of a prompt, and how observations become figures with intervals."""
