"""Model, index and store kept in step: how edits are made, answered and checked."""
