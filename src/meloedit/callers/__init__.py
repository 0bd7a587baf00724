"""What a caller brings: arguments of any kind, JSON that people wrote, tokenizers, settings of torch, and forks."""
