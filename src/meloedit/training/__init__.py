"""Training: one block per edit, all edits of a part together, over a frozen prefix that is computed once."""
