"""EditMap: stored edits, their scopes and prompts in two dimensions, for people to look at. It decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..keys.keys import Keys
from ..keys.principal import Axes, points_of
from ..store.tensors import Tensors
from .neighbourhoods import Neighbourhoods

if TYPE_CHECKING:
    from ..backbones.batch import Encoded
    from ..engine.engine import Engine
    from ..store import StoredEdit

EDITS_AT_ONCE = 64
"""Edits whose keys are read from the store at once."""
DIGITS = 9
"""Decimal places of a place and a radius."""
SAME_PLACE = 0.01
"""Share of the map's width within which two wordings of an edit are one point."""

Place = tuple[float, float]
AnyKeys = Keys | Tensor
"""Keys of prompts, and in paper mode raw states."""


@dataclass(frozen=True)
class PlacedEdit:
    """Where an edit lies.

    Attributes:
        stored: the edit.
        place: of its prompt.
        wordings: the places of its other wordings, where they differ.
        radius: how far its scope reaches from each of them, about: what the map shows of a distance is less than all
            of it, and the radius is shortened by as much as distances are on average. ``None``: on this map distances
            mean too little for it.
    """

    stored: StoredEdit
    place: Place
    wordings: list[Place]
    radius: float | None


@dataclass(frozen=True)
class EditMap:
    """A map.

    Attributes:
        edits: the edits.
        prompts: where each prompt lies, in the order in which they were given.
        shares: the share of all differences between what is on the map that each of its two axes shows; ``None`` where
            the axes are none, but only who lies beside whom counts.
    """

    edits: list[PlacedEdit]
    prompts: list[Place]
    shares: tuple[float, float] | None


def sample(stored: Sequence[StoredEdit], most: int) -> list[StoredEdit]:
    """Return at most so many edits, spread evenly over all."""
    if len(stored) <= most:
        return list(stored)
    return [stored[i * len(stored) // most] for i in range(most)]


def stored_keys(engine: Engine, stored: Sequence[StoredEdit]) -> list[AnyKeys]:
    """Return the keys of edits as the store has them, per edit those of its wordings; an empty list for no edits."""
    found: dict[int, AnyKeys] = {}
    records = [one.record for one in stored]
    for start in range(0, len(records), EDITS_AT_ONCE):
        for owners, tensors in engine.store.key_stacks(records[start : start + EDITS_AT_ONCE]):
            found |= zip(owners, _split(tensors, len(owners)), strict=True)
    return [_one_form(found[one.record], len(one.edit.prompts)) for one in stored]


def _split(tensors: Tensors, count: int) -> list[AnyKeys]:
    if "keys" in tensors:
        return list(tensors["keys"])
    every = Keys.from_tensors(tensors)
    return [every[i][~tensors["quiet"][i]] for i in range(count)]


def _one_form(keys: AnyKeys, wordings: int) -> AnyKeys:
    """Return one key for each wording: an edit has keys for each form in which a prompt may come."""
    forms = len(keys) // wordings
    return keys[::forms] if forms * wordings == len(keys) else keys


def prompt_keys(engine: Engine, encoded: Sequence[Encoded]) -> AnyKeys:
    """Return the keys (n,) of prompts; it runs the model's lower layers."""
    keys = engine.policy.keys(encoded)
    return keys.to("cpu")


def join(parts: Sequence[AnyKeys]) -> AnyKeys:
    """Return keys in one piece."""
    if isinstance(parts[0], Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return Keys.cat([part for part in parts if isinstance(part, Keys)])


def draw_map(
    engine: Engine,
    stored: Sequence[StoredEdit],
    edit_keys: Sequence[AnyKeys],
    prompts: Sequence[AnyKeys],
    fitted: int,
    umap: Neighbourhoods | None = None,
) -> EditMap:
    """Draw edits and prompts: by the principal components of their keys, or by UMAP.

    Args:
        engine: whose scopes are drawn.
        stored: the edits.
        edit_keys: their keys, as ``stored_keys`` returns them.
        prompts: keys of prompts, one each.
        fitted: the first of these shape the map, as the edits do; the others are only put onto it.
        umap: draws by UMAP, in place of the principal components.

    Raises:
        MeloEditError: if UMAP is wanted and is not installed, or has too few points.
    """
    sizes, count = [len(keys) for keys in edit_keys], len(prompts)
    if not sizes and not count:
        return EditMap([], [], (0.0, 0.0) if umap is None else None)
    keys = join([*edit_keys, *prompts])
    points = keys if isinstance(keys, Tensor) else points_of(keys)
    total = sum(sizes)
    shares, radii = None, [None] * len(sizes)
    if umap is None:
        fitting = points[: total + fitted]
        axes = Axes.of(fitting if len(fitting) > 2 else points)  # two points are a line, and one is nothing
        flat, shares = axes.places(points), (round(axes.shares[0], DIGITS), round(axes.shares[1], DIGITS))
        shortened = sum(axes.shares) ** 0.5
        radii = [round(radius * shortened, DIGITS) for radius in _radii(engine, edit_keys)]
    else:
        flat = umap.places(points, total + fitted)
    # Sums of floats differ in their last digits with the order in which threads add them: the same map all the same.
    places: list[Place] = [(round(x, DIGITS), round(y, DIGITS)) for x, y in flat.tolist()]
    near = SAME_PLACE * _width(places[:total])
    drawn, start = [], 0
    for one, size, radius in zip(stored, sizes, radii, strict=True):
        own, *others = places[start : start + size]
        drawn.append(PlacedEdit(one, own, _apart(own, others, near), radius))
        start += size
    return EditMap(drawn, places[total:], shares)


def _radii(engine: Engine, edit_keys: Sequence[AnyKeys]) -> list[float]:
    """Return how far each edit's scope reaches; in paper mode each cluster has a radius of its own."""
    own = [keys[0] for keys in edit_keys if isinstance(keys, Tensor)]
    with engine.lock:
        policy: Any = engine.policy
        if not own:
            return [policy.threshold] * len(edit_keys)
        return policy.index.search(torch.stack(own)).radius.clamp(min=0).tolist()


def _width(places: Sequence[Place]) -> float:
    return max((max(axis) - min(axis) for axis in zip(*places, strict=True)), default=0.0)


def _apart(own: Place, others: Sequence[Place], near: float) -> list[Place]:
    """Return those places that do not lie on another one."""
    kept = [own]
    for place in others:
        if all(abs(place[0] - x) > near or abs(place[1] - y) > near for x, y in kept):
            kept.append(place)
    return kept[1:]
