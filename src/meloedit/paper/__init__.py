"""MELO as published (arXiv 2312.11795). Four places outside import it (pyproject.toml names them).

``config.py`` and ``presets.py`` are its settings, ``clusters.py`` (with ``tables.py``) the clusters of Section 4.2,
``policy.py`` the search of Eq. 9 and 10 on them, ``trainer.py`` the training of Eq. 8, ``timeline.py`` the order in
which edits came and went, which decides what the clusters hold, and ``mode.py`` puts them together.
"""
