"""The one check of blocks as a store has them: whoever wrote the file may have written anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import MAX_ANSWER_POSITIONS
from ..errors import StoreError
from ..hooks.blocks import Block, Site, block_from_tensors
from ..store.schema import damaged

if TYPE_CHECKING:
    from ..store import Store, StoredEdit


def checked_blocks(
    tensors: Mapping[str, Tensor],
    sites: Sequence[Site],
    name: str | Path,
    owners: Sequence[int],
    serves: Mapping[int, StoredEdit],
) -> Block:
    """Return stacked blocks (n, ...), each with the factors of every edited module.

    Args:
        tensors: the factors by name, as the store has them.
        sites: the edited modules.
        name: the store's name in messages.
        owners: the records that have them.
        serves: an edit that each serves.

    Raises:
        StoreError: naming an edit whose block does not fit the model, or has another rank than it states.
    """
    names = [site.name for site in sites]
    block = None if _missing(tensors, names) else block_from_tensors(tensors, names)
    for owner in owners:
        stored = serves[owner]
        why = _missing(tensors, names) if block is None else _misfit(block, sites, stored.rank)
        if why:
            raise damaged(name, f"the block of edit {stored.edit.id!r}: {why}")
    assert block is not None
    return block


def check_blocks(store: Store, sites: Sequence[Site]) -> None:
    """Refuse to move a store to a model that its blocks do not fit; the first one stands for all.

    Raises:
        StoreError: naming the module of another size, or the edit whose block is damaged.
    """
    serves = {stored.holder: stored for stored in store.edits()[:1]}
    for owners, tensors in store.block_stacks(list(serves)):
        for site in sites:
            a, b = (tensors.get(f"{site.name}.{factor}", torch.empty(0)) for factor in "AB")
            if a.dim() == b.dim() == 3 and (a.shape[2], b.shape[1]) != (site.inputs, site.outputs):
                raise StoreError(
                    f"{store.path} cannot be moved: its blocks of {site.name} are for {a.shape[2]} inputs and "
                    f"{b.shape[1]} outputs, this model has {site.inputs} and {site.outputs}: it is another model"
                )
        checked_blocks(tensors, sites, store.path, owners, serves)


def _missing(tensors: Mapping[str, Tensor], names: Sequence[str]) -> str:
    """Return which factor is missing, or of no edited module; empty if none is."""
    needed = [f"{name}.{factor}" for name in names for factor in ("A", "B")]
    if missing := [factor for factor in needed if factor not in tensors]:
        return f"{missing[0]} is missing"
    unknown = sorted(set(tensors) - {*needed, *(f"{name}.P" for name in names)})
    return f"{unknown[0]} is of no edited module" if unknown else ""


def _misfit(block: Block, sites: Sequence[Site], rank: int) -> str:
    """Return which factor does not fit the model, or the rank that an edit states; empty if all do."""
    positions = block[sites[0].name].p.shape[-1]
    if positions > MAX_ANSWER_POSITIONS + 1:
        return f"it has {positions:,} answer positions"
    for site in sites:
        shapes = {"A": (rank, site.inputs), "B": (site.outputs, rank), "P": (rank, positions)}
        for (factor, shape), found in zip(shapes.items(), block[site.name], strict=True):
            if tuple(found.shape[1:]) != shape or found.dtype != torch.float16:
                size = f"{tuple(found.shape[1:])} in {found.dtype}"
                return f"{site.name}.{factor} is {size}, not {shape} in torch.float16"
    return ""
