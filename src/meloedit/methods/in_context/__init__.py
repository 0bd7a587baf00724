"""Rivals that put the edit into the prompt."""
