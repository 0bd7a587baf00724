"""Methods that keep edits beside the model and choose one per prompt."""
