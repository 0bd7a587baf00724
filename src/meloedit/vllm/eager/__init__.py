"""The passes of vLLM's V1 runner, one operation after another: hooks on the modules read and write in them."""
