"""Export: the enabled edits of a store as a folder of adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MeloEditError, ModelError, StoreError
from ..store.records import GIVEN
from .folders import remove_folder, write_file, write_folder, writing
from .index import INDEX, NAME, Entry, Index, read_index
from .layout import Adapter, Kind, make_adapter

if TYPE_CHECKING:
    from ..store import Store, StoredEdit
    from ..store.tensors import Tensors
    from ..types import Progress

CAUSAL = "CAUSAL_LM"
"""The task of the models whose blocks can be exported, as a store has it."""
BLOCKS_AT_ONCE = 64
"""Blocks that are read from the store at once."""
FOR_EXPORT = {"reach": "all", "answer_positions": 0}
"""The settings of a store whose blocks are plain LoRAs."""
FACTS = ("steps", "rank", "loss", "confidence", "seconds")
"""What an index says of an edit's training."""


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        folder: where the adapters are.
        adapters: the adapter of each edit, by id.
        written: how many folders were written; the others were there already.
        removed: adapters of an earlier export that no edit has any longer.
        disabled: ids of edits that were left out, as they are disabled.
    """

    folder: Path
    adapters: dict[str, str]
    written: int
    removed: tuple[str, ...]
    disabled: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        lists = {"removed": list(self.removed), "disabled": list(self.disabled)}
        return {"folder": str(self.folder), "adapters": self.adapters, "written": self.written, **lists}


def export_store(
    store: Store,
    folder: str | Path,
    ids: Sequence[str] | None = None,
    invocation: int | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the enabled edits of a store as adapters, a folder for each; no model is needed.

    Each folder is written whole or not at all. The index comes last: until then the earlier one stands, all of whose
    adapters are there. Adapters that the earlier index had and the new one has not are then removed.

    Args:
        store: the store.
        folder: where to; made if it is missing.
        ids: the edits; ``None``: all that are enabled.
        invocation: make activated LoRAs that act from this token on; ``None``: LoRAs that act on every token.
        progress: told how many edits are done.

    Raises:
        StoreError: if the store's blocks are no LoRAs of this kind, naming the settings to use.
        MeloEditError: if a folder cannot be written.
    """
    kind: Kind = "peft" if invocation is None else "alora"
    chosen, disabled = choose(store, ids)
    check_exportable(store, chosen, kind)
    folder, entries, written = Path(folder), [], 0
    with writing(folder):
        before = earlier(folder)
        for group in _by_block(store, chosen):
            for stored, block in group:
                adapter = make_adapter(block, store.model, kind, invocation)
                written += write_folder(folder / adapter.name, adapter.files)
                entries.append(entry(stored, adapter))
                if progress:
                    progress("exporting", len(entries), len(chosen))
        removed = finish(folder, Index(kind, store.model, store.config, store.revision, tuple(entries)), before)
    return Exported(folder, {one.edit.id: one.adapter for one in entries}, written, removed, disabled)


def choose(store: Store, ids: Sequence[str] | None) -> tuple[list[StoredEdit], tuple[str, ...]]:
    """Return the edits to export, and the ids of those that are left out as they are disabled.

    Raises:
        StoreError: if a chosen edit is unknown or disabled, or there is nothing to export.
    """
    if ids is None:
        stored = store.edits()
        chosen = [one for one in stored if one.enabled]
        disabled = tuple(one.edit.id for one in stored if not one.enabled)
    else:
        chosen, disabled = [store.get(edit_id) for edit_id in dict.fromkeys(ids)], ()
        if off := [one.edit.id for one in chosen if not one.enabled]:
            raise StoreError(f"{store.path}: edit {off[0]!r} is disabled: enable it first")
    if not chosen:
        raise StoreError(f"{store.path} has no enabled edits to export")
    return chosen, disabled


def check_exportable(store: Store, chosen: Sequence[StoredEdit], kind: Kind) -> None:
    """Refuse blocks that are no LoRAs of a kind.

    Raises:
        StoreError: naming the edit, what its block has that no such LoRA has, and the settings to use.
    """
    if (task := store.model.get("task", CAUSAL)) != CAUSAL:
        raise StoreError(f"{store.path} is for a model of the task {task}: decoder-only language models alone, for now")
    default = store.config.get("answer_positions") or 0
    wanted = "answer" if kind == "alora" else "all"
    for stored in chosen:
        if stored.reach != wanted:
            where = "from the end of the prompt on" if stored.reach == "answer" else "on every token"
            rule = "from its invocation token on" if kind == "alora" else "on every token"
            raise StoreError(
                f"{store.path}: the block of edit {stored.edit.id!r} acts {where} (reach={stored.reach}), and "
                f"{'an activated LoRA' if kind == 'alora' else 'a LoRA'} {rule}: {_remedy(kind)}"
            )
        if positions := stored.positions(default):
            raise StoreError(
                f"{store.path}: the block of edit {stored.edit.id!r} has inputs for {positions} answer positions, "
                f"which no LoRA has: {_remedy(kind)}"
            )


def _remedy(kind: Kind) -> str:
    options = "--set answer_positions=0" if kind == "alora" else "--for-export (reach=all, answer_positions=0)"
    return f"make a store with meloedit init NEW --model MODEL {options}, and edit it anew"


def _by_block(store: Store, chosen: Sequence[StoredEdit]) -> Iterator[list[tuple[StoredEdit, Tensors]]]:
    """Yield edits with their blocks, some at a time, in the order of the edits."""
    for start in range(0, len(chosen), BLOCKS_AT_ONCE):
        part = chosen[start : start + BLOCKS_AT_ONCE]
        blocks: dict[int, Tensors] = {}
        for holders, stacks in store.block_stacks(list(dict.fromkeys(stored.holder for stored in part))):
            for row, holder in enumerate(holders):
                blocks[holder] = {name: stack[row] for name, stack in stacks.items()}
        yield [(stored, blocks[stored.holder]) for stored in part]


def blocks_of(store: Store, chosen: Sequence[StoredEdit]) -> list[Tensors]:
    """Return the blocks of edits."""
    return [block for group in _by_block(store, chosen) for _, block in group]


def entry(stored: StoredEdit, adapter: Adapter) -> Entry:
    """Return what the index says of an edit."""
    report = {name: stored.report[name] for name in FACTS if name in stored.report}
    given = stored.given if GIVEN in stored.report else stored.edit
    return Entry(stored.edit, given, adapter.name, adapter.manifest, report)


def earlier(folder: Path) -> set[str]:
    """Return the adapters that the index of an earlier export has; none if there is no such index, or a damaged one.

    Raises:
        MeloEditError: if there is something else in the folder, so that it is no folder of adapters.
    """
    if not (folder / INDEX).exists():
        foreign = [
            path.name for path in folder.iterdir() if not path.name.startswith(".") and not NAME.fullmatch(path.name)
        ]
        if foreign:
            raise MeloEditError(f"{folder} has other files ({min(foreign)!r}): give a new folder, or one of an export")
        return set()
    try:
        return {one.adapter for one in read_index(folder).entries}
    except MeloEditError:
        return set()


def finish(folder: Path, index: Index, before: set[str]) -> tuple[str, ...]:
    """Write the index, then remove the adapters that it has no longer; return their names."""
    write_file(folder / INDEX, index.to_bytes())
    gone = sorted(before - {one.adapter for one in index.entries})
    for name in gone:
        remove_folder(folder / name)
    return tuple(gone)


def check_format(name: str) -> None:
    """Refuse a format that there is not.

    Raises:
        ModelError: naming those that there are.
    """
    if name not in ("peft", "alora"):
        raise ModelError(f"there is no format {name!r}: peft and alora are")
