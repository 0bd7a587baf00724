"""From prompts to keys: pure functions of states, tokens and texts. Knows no model, no store and no settings.

``segments.py`` finds the sentences of a prompt, ``names.py`` the names in it; ``pooling.py`` weighs its tokens and
takes means of their states; ``projection.py`` maps means to unit vectors; ``encoder.py`` puts these together into
``keys.py``; ``similarity.py`` says how near two keys lie. ``grammar.py`` makes the prompts that keys are fitted on.
"""
