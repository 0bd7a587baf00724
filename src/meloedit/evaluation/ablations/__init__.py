"""The paper's ablations on any model."""
