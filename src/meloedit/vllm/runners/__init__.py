"""What is read of vLLM's model runners, and nowhere else: V1, and V2, which GPUs have by default."""
