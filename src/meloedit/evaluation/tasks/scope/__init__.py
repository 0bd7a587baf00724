"""Tasks that measure which prompts reach an edit: questions of a help desk, and pairs of prompts."""
