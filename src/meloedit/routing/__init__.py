"""Which edit answers a prompt: the index of keys, and the scope that calibration prompts set."""
