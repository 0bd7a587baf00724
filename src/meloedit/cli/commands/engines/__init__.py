"""Commands that bring edits to other engines, and back."""
