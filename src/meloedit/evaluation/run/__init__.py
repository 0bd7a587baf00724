"""Runs: methods make a task's edits and answer its prompts under a protocol; a run that was killed can continue."""
