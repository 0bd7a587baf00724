"""Neighbourhoods: places by UMAP, in which what is alike lies together; distances mean nothing else there.

It needs the extra ``umap``.
"""

from __future__ import annotations

import hashlib
import threading
from importlib.util import find_spec
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import MeloEditError

LEAST = 10
"""Points below which there are no neighbourhoods to speak of."""
NEAR = 15
"""Neighbours by which a point is placed, at most."""
SEED = 0


def has_umap() -> bool:
    """Return whether the extra is installed."""
    return find_spec("umap") is not None


def need_umap() -> None:
    """Check that the extra is installed.

    Raises:
        MeloEditError: naming the extra.
    """
    if not has_umap():
        raise MeloEditError("a map by UMAP needs umap-learn: pip install 'meloedit[umap]'")


class Neighbourhoods:
    """Draws maps by UMAP, one at a time: what it is compiled to may not run in two threads at once.

    The latest fit is remembered, so that the same points are where they were, and others are put beside them quickly.
    With one version of the library, on one machine, the same points always have the same places.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: tuple[str, Any] = ("", None)

    def places(self, points: Tensor, fitted: int) -> Tensor:
        """Return where points (n, d) lie, (n, 2).

        Args:
            points: the points.
            fitted: the first of these shape the map; the others are only put onto it.

        Raises:
            MeloEditError: if the extra is not installed, or too few points shape the map.
        """
        need_umap()
        if fitted < LEAST:
            raise MeloEditError(
                f"a map by UMAP needs at least {LEAST} wordings of edits and kept prompts, and there are {fitted}: "
                "draw it by pca"
            )
        # A name that only others have is an axis of its own, and no reason to draw the map anew.
        wide = points[:, points[:fitted].any(0)].float().numpy()
        with self._lock:
            shaped = self._fit(np.ascontiguousarray(wide[:fitted]))
            parts = [shaped.embedding_]
            if fitted < len(wide):
                parts.append(shaped.transform(np.ascontiguousarray(wide[fitted:])))
        return points.new_tensor(np.concatenate(parts))

    def _fit(self, points: np.ndarray) -> Any:
        digest = hashlib.sha256(repr(points.shape).encode() + points.tobytes()).hexdigest()
        if self._latest[0] != digest:
            from umap import UMAP

            # It begins with the principal components, so that the picture is turned as that of pca is.
            shape = {"n_neighbors": min(NEAR, len(points) - 1), "init": "pca"}
            made = UMAP(**shape, random_state=SEED, transform_seed=SEED, n_jobs=1)
            self._latest = digest, made.fit(points)
        return self._latest[1]
