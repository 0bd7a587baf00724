"""MELO as published (arXiv 2312.11795): its settings, its clusters, its shared blocks. Nothing outside needs it."""
