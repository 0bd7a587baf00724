"""Methods that keep edits beside the unchanged model and choose one of them per prompt."""
