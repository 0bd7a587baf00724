"""The paper's ablations on any model: radius, map of keys, rank, key layer, efficiency."""
