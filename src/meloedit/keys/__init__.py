"""From prompts to keys: which tokens are pooled, which words are names, and how two keys are compared."""
