"""Tasks: the edits and the prompts that score them, read from files of many formats and cleaned."""
