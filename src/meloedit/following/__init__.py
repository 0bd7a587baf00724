"""What answers, kept in step with a store: blocks in a bank, keys in an index. It needs no model.

``live.py`` follows a store over any ``Host``: the router of a Hugging Face model, or another engine's worker.
``lookup.py`` has its edits by their prompts, ``blocks.py`` checks the blocks that a file brings.
"""
