"""What a new edit would reach: stored edits that ask the same, and likely neighbours that it should not answer."""
