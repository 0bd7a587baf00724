"""Which edit answers a prompt, in the default mode.

``nearest.py`` decides: it makes keys of pooled states (``keys/``), and ``index.py`` proposes the edits with the nearest
ones, as far as ``scope.py`` lets them. Then the judge (``verifier.py``) reads the prompt beside each, and ``choice.py``
takes the best one whose score exceeds the least score, which ``judged_scope.py`` sets; without a judge, the nearest.
``calibration.py`` has the prompts that no edit should answer, by which both scopes are set, and ``stored.py`` what a
store keeps of all this. ``policy.py`` says what the engine asks of any policy; the paper's is ``paper/policy.py``.
"""
