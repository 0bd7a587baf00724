"""What the store keeps of a scope, so that opening it compares no keys and judges no pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .judged_scope import JudgedScope
from .policy import KeyTensors
from .scope import NearestCache

if TYPE_CHECKING:
    from ..store import Store


def nearest_from_store(store: Store, prompts: int) -> NearestCache | None:
    """Return the keys nearest to the calibration prompts; ``None`` if the store has none for so many prompts."""
    if (found := store.scope_cache()) is None:
        return None
    tensors, owners = found
    cache = NearestCache(tensors.get("near", Tensor()), tensors.get("owner", Tensor()), owners)
    return cache if cache.fits(prompts) else None


def scores_from_store(store: Store, scope: JudgedScope) -> None:
    """Let a scope start from the scores that the store keeps, if its judge gave them."""
    if (found := store.scope_cache()) is not None and _judge_of(found[0]) == scope.judge.name:
        scope.restore(found[0]["judged"], found[0]["scores"])


def scope_to_tensors(near: NearestCache, scope: JudgedScope | None) -> KeyTensors:
    """Return what the two functions above read; ``scope``: the scores, if a judge decides."""
    tensors = {"near": near.near, "owner": near.owner.int()}
    if scope is None:
        return tensors
    return tensors | scope.to_tensors() | {"judge": torch.tensor(list(scope.judge.name.encode()), dtype=torch.uint8)}


def _judge_of(tensors: KeyTensors) -> str | None:
    return bytes(tensors["judge"].tolist()).decode() if "judge" in tensors else None
