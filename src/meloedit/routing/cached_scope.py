"""What the store keeps of a scope, so that opening it compares no keys and judges no pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from .judged_scope import JudgedScope
from .policy import KeyTensors
from .scope import NO_KEY, NearestCache
from .verifier import RULES

Kept = tuple[KeyTensors, frozenset[int]]
"""What ``Store.scope_cache`` returns: the tensors, and the records that they cover."""


def nearest_of(kept: Kept | None, prompts: int) -> NearestCache | None:
    """Return the keys nearest to the calibration prompts; ``None`` if the store has none for so many prompts."""
    if kept is None:
        return None
    tensors, owners = kept
    cache = NearestCache(tensors.get("near", Tensor()), tensors.get("owner", Tensor()), owners)
    if not cache.fits(prompts) or not set(cache.owner[cache.near > NO_KEY].unique().tolist()) <= owners:
        return None
    return cache


def restore_scores(tensors: KeyTensors, scope: JudgedScope) -> None:
    """Let a scope start from the scores that the store keeps, if its judge gave them."""
    judged, scores = tensors.get("judged"), tensors.get("scores")
    if judged is None or scores is None or judged.dtype != torch.int32 or scores.dtype != torch.float32:
        return
    if judged.shape != (len(scores), 2) or scores.dim() != 1 or bool(scores.isnan().any()):
        return
    if _judge_of(tensors) == _rules(scope):
        scope.restore(tensors["judged"], tensors["scores"])


def scope_to_tensors(near: NearestCache, scope: JudgedScope | None) -> KeyTensors:
    """Return what the two functions above read; ``scope``: the scores, if a judge decides."""
    tensors = {"near": near.near, "owner": near.owner.int()}
    if scope is None:
        return tensors
    return tensors | scope.to_tensors() | {"judge": torch.tensor(list(_rules(scope).encode()), dtype=torch.uint8)}


def _rules(scope: JudgedScope) -> str:
    """Return what the scores follow from: the judge, and the rules that lower its scores."""
    return f"{scope.judge.name}/{RULES}"


def _judge_of(tensors: KeyTensors) -> str | None:
    judge = tensors.get("judge")
    if judge is None or judge.dtype != torch.uint8 or judge.dim() != 1 or len(judge) > 1000:
        return None
    return bytes(judge.tolist()).decode("utf-8", "replace")
