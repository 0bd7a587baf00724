"""What a store has for routing: keys, calibrations, and the scope's cache, which saves comparing and judging.

Whoever wrote the file may have written anything, and this is the one check of it. What passes has the shapes, types and
ranges that the index computes with. What does not is one error that names it; a cache that does not is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..edit import MAX_PROMPTS
from ..errors import MeloEditError
from ..keys.encoder import KeyEncoder
from ..keys.keys import Keys, KeyShape
from ..keys.names import COUNTERS
from ..store.schema import damaged
from .calibration import Calibration
from .judged_scope import JudgedScope
from .policy import KeyTensors
from .scope import NO_KEY, NearestCache
from .verifier import RULES

if TYPE_CHECKING:
    from ..store import Store

Kept = tuple[KeyTensors, frozenset[int]]
"""What ``Store.scope_cache`` returns: the tensors, and the records that they cover."""
MAX_KEYS = 4 * MAX_PROMPTS
"""Most keys of an edit: one for each of its prompts in each form, of which no model has more than four."""
UNIT = 1.01
"""Greatest length of a unit vector, after rounding to float16."""


def check_keys(tensors: Mapping[str, Tensor], shape: KeyShape, store: Store, owners: Sequence[int]) -> None:
    """Check the stacked keys (n, f, ...) of n edits.

    Args:
        tensors: the parts of the keys, and ``quiet``.
        shape: the shape of a key under the calibration in force.
        store: the store that has them.
        owners: their records.

    Raises:
        StoreError: naming an edit whose keys cannot be.
    """
    if (wrong := _wrong_keys(tensors, shape)) is not None:
        row, why = wrong
        edit_id = next((stored.edit.id for stored in store.edits() if stored.record == owners[row]), owners[row])
        raise damaged(store.path, f"the keys of edit {edit_id!r}: {why}")


def _wrong_keys(tensors: Mapping[str, Tensor], shape: KeyShape) -> tuple[int, str] | None:
    """Return the first row that cannot be, and why."""
    quiet = tensors.get("quiet")
    if quiet is None or quiet.dtype != torch.bool or quiet.dim() != 2 or not 1 <= quiet.shape[1] <= MAX_KEYS:
        return 0, f"which of them are quiet is not stated for 1 to {MAX_KEYS:,} keys"
    if (why := _wrong_parts(tensors, shape, tuple(quiet.shape))) is not None:
        return 0, why
    keys = Keys.from_tensors(tensors)
    longest = torch.stack([part.norm(dim=-1).amax(1) for part in (keys.content, keys.relation) if part.shape[-1]])
    shares = keys.word_shares if keys.word_shares.shape[-1] else keys.content.new_zeros(*quiet.shape, 1)
    tests = {
        "all are quiet": quiet.all(1),
        "a vector is longer than a unit vector": (longest > UNIT).any(0),
        "the shares of words do not lie between 0 and 1": ((shares < 0).any(2) | (shares.sum(2) > UNIT)).any(1),
    }
    for why, wrong in tests.items():
        if bool(wrong.any()):
            return int(wrong.nonzero()[0]), why
    return None


def _wrong_parts(tensors: Mapping[str, Tensor], shape: KeyShape, rows: tuple[int, ...]) -> str | None:
    """Return what is wrong with the types and shapes of keys, ``rows`` being their leading dimensions."""
    sizes = {"content": shape.content, "relation": shape.relation}
    sizes |= {"word_codes": shape.words, "word_shares": shape.words}
    for part, size in sizes.items():
        dtype = torch.int32 if part == "word_codes" else torch.float32
        found = tensors.get(part)
        if found is None and size:
            return f"{part} is missing"
        if found is not None and (tuple(found.shape) != (*rows, size) or found.dtype != dtype):
            return f"{part} has the shape {tuple(found.shape)} in {found.dtype}, not {(*rows, size)} in {dtype}"
    return None


def read_calibration(
    found: tuple[int, Mapping[str, Tensor], Mapping[str, Any]], states: int, name: str | Path
) -> Calibration:
    """Return the calibration that a store has.

    Args:
        found: its number, its tensors, and what the store says about it.
        states: how many numbers a state of the key layer has.
        name: the store's name in messages.

    Raises:
        StoreError: if it cannot be.
    """
    number, tensors, info = found
    try:
        calibration = Calibration.from_tensors(tensors, info)
        wrong = _wrong_calibration(calibration, states)
    except MeloEditError:
        raise
    except Exception as error:  # tensors of any kind fail in as many ways
        raise damaged(name, f"calibration {number} cannot be used: {type(error).__name__} {error}") from error
    if wrong is not None:
        raise damaged(name, f"calibration {number} cannot be used: {wrong}")
    return calibration


def _wrong_calibration(calibration: Calibration, states: int) -> str | None:
    """Return why a calibration cannot be used with states of so many numbers; ``None`` if it can."""
    if type(calibration.info.get("prompts")) is not int:
        return "it does not say how many prompts it has"
    return _wrong_encoder(calibration.encoder, states) or _wrong_prompts(calibration)


def _wrong_encoder(encoder: KeyEncoder, states: int) -> str | None:
    for projection in (encoder.content, encoder.relation):
        if projection is not None and (
            projection.components.dim() != 2
            or projection.components.shape[1] != states
            or projection.mean.shape != (states,)
            or {projection.mean.dtype, projection.components.dtype} != {torch.float32}
        ):
            return f"it projects states of another size than {states}"
    if (encoder.relation is None) != (encoder.words is None):
        return "it has names without relations, or relations without names"
    if encoder.words is not None and encoder.words.counts.shape != (1 + COUNTERS,):
        return "it has counts of words of another size"
    if (weights := encoder.token_weights) is not None and (weights.dim() != 1 or not len(weights)):
        return "it has no weights of tokens"
    return None


def _wrong_prompts(calibration: Calibration) -> str | None:
    prompts, of = calibration.prompts, calibration.prompt_of
    if (why := _wrong_parts(prompts.to_tensors(), calibration.encoder.shape, (len(prompts),))) is not None:
        return f"the keys of its prompts: {why}"
    if len(prompts) and float(prompts.content.norm(dim=1).max()) > UNIT:
        return "the key of a prompt is longer than a unit vector"
    if of is None:
        return None
    if of.dtype != torch.int64 or of.shape != (len(prompts),):
        return "it does not say which prompt each key is of"
    count = int(of.max()) + 1 if len(of) else 0
    if len(of) and not 0 <= int(of.min()) <= count <= len(prompts):
        return "it has keys of prompts that cannot be"
    return "it has fewer prompts than keys are of" if 0 < len(calibration.asked) < count else None


# ---------------------------------------------------------------------------------------------------- the scope's cache


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
    """Return what ``nearest_of`` and ``restore_scores`` read; ``scope``: the scores, if a judge decides."""
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
