"""What is known before a pass runs: what the plugin refuses, and whether the base model is the store's."""
