"""Which edit answers a prompt, in the default mode.

``nearest.py`` decides: it makes keys of pooled states (``keys/``), asks ``index.py`` for the edit with the nearest key,
and lets it answer if it lies within the scope (``scope.py``), one distance that ``calibration.py`` sets by prompts that
no edit should answer. ``policy.py`` says what the engine asks of any policy; the paper's is ``paper/policy.py``.
"""
