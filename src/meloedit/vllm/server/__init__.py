"""What stands behind the edits' routes on vLLM's API server."""
