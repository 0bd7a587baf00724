"""Routes measured without training: which edit each prompt finds."""
