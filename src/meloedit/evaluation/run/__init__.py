"""A run: ask methods what a task asks, in the order of a protocol, and keep what they answered."""
