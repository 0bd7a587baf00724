"""The operator's hand on the scope: corrections without training, trials, scans of traffic, near misses."""
