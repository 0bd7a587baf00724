"""Tasks: edits and the prompts that score them, read from files."""
