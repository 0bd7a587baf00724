"""What a caller brings: arguments of any kind, JSON that people wrote, settings of torch, threads and forks."""
