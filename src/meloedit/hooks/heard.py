"""The tokens of a cache's columns, kept on the cache itself: a later turn may come without those before it.

They stand on the cache and not on its batch, since copies of a cache share their batch and may go on in different ways.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def remember(cache: Any, attribute: str, past: int, tokens: Tensor | None) -> None:
    """Keep the tokens (B, T) of the columns of a cache from ``past`` on; ``None``: embeddings, which are not known."""
    if torch.compiler.is_compiling():
        return
    if not past or not hasattr(cache, attribute):
        setattr(cache, attribute, [])
    known = None if tokens is None else tokens.detach()
    getattr(cache, attribute).append((past, known))  # in place: there is one call per generated token


def heard(cache: Any, attribute: str, rows: int, past: int) -> Tensor | None:
    """Return the tokens (B, past) of the columns of a cache, -1 where they are not known; ``None`` if none are."""
    runs: list[tuple[int, Tensor | None]] = getattr(cache, attribute, [])
    if all(tokens is None for _, tokens in runs):
        return None
    found = torch.full((rows, past), -1)
    for start, tokens in runs:
        if tokens is None:
            found[:, start:] = -1  # in the place of what an earlier run had there
            continue
        part = tokens[:, : max(0, past - start)]
        if len(part) == rows and part.shape[1]:
            found[:, start : start + part.shape[1]] = part.cpu()
    return found
