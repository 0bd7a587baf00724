"""What is read of vLLM's model runners, V1 and V2, and put around them. No other room knows their insides."""
