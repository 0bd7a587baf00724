"""Save what can be saved of a damaged store, or of one of the format before, into a new one; and say what was lost."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ...errors import StoreError
from ...files import write_bytes
from ...text import join_names
from .. import database, making
from ..chain import Live
from ..guard.integrity import verify
from .pages import working_copy
from .rebuild import fit_in_force, is_whole, live_edits, usable, write_live, write_whole
from .salvage import Saved, salvage

__all__ = ["Repair", "repair"]


@dataclass(frozen=True)
class Repair:
    """What a repair saved.

    Attributes:
        store: the new store.
        edits: how many edits are live in it.
        whole: whether all of the old one was saved, with its history.
        lost: a line for each thing that was lost; none if all was saved.
        again: a file with the edits whose text is whole and whose block or keys are lost, to make them again; ``None``
            if there are none.
    """

    store: Path
    edits: int
    whole: bool
    lost: list[str]
    again: Path | None = None


def repair(path: str | Path, to: str | Path) -> Repair:
    """Write what is whole in a store into a new one. The file itself is left as it is.

    Args:
        path: the store, of this format or of the one before.
        to: the new file. Beside it, as ``TO.again.jsonl``, come the edits that must be made again, if there are any.

    Raises:
        StoreError: if nothing can be saved, or the new file cannot be made.
    """
    source, target = database.real_path(path), database.real_path(to)
    database.file_id(source, path)
    making.check_free(target, to)
    again = Path(f"{to}.again.jsonl")
    making.check_free(database.real_path(again), again)
    with ExitStack() as stack:
        try:
            stack.enter_context(database.file_lock(source, path))
        except StoreError as error:
            if error.__cause__ is None:  # another process is writing
                raise
            # No lock can be made in a folder that is read-only; nobody writes there either.
        db, number, replaced = stack.enter_context(working_copy(source, path))
        saved = salvage(db, number)
    lost: list[str] = []
    texts: list[str] = []
    if is_whole(saved):  # a schema that was put right costs nothing
        making.create(target, to, lambda db: write_whole(db, saved))
        live = live_edits(saved)[0]
    else:
        if replaced:
            saved.problems.append("the schema was not a store's own")
        live, lost, texts = _choose(saved, path)
        making.create(target, to, lambda db: write_live(db, saved, live, lost))
    if wrong := verify(to):
        target.unlink()
        raise StoreError(f"{path} cannot be repaired: what is left makes no sound store ({wrong[0]})")
    if texts:
        write_bytes(again, ("\n".join(texts) + "\n").encode())
    return Repair(Path(to), len(live), not lost, lost, again if texts else None)


def _choose(saved: Saved, path: str | Path) -> tuple[Live, list[str], list[str]]:
    """Return the live edits that can be saved, what is lost, and the texts of the edits to make again."""
    if not {"model", "config"} <= saved.meta.keys():
        raise StoreError(f"{path} cannot be repaired: its settings, or the name of its model, are lost")
    live, unsure = live_edits(saved)
    found = fit_in_force(saved)
    fit = None if found is None else found[1]
    kept = {edit_id: value for edit_id, value in live.items() if usable(saved, value[0], fit)}
    lost, texts = list(saved.problems), []
    for edit_id, (record, _, _) in live.items():
        if edit_id not in kept:
            text = saved.records[record][0].edit if record in saved.records else None
            lost.append(f"edit {edit_id!r}: " + ("make it again, its text is whole" if text else "all of it"))
            texts += [json.dumps(json.loads(text))] if text else []
    if off := [edit_id for edit_id, value in kept.items() if unsure and not value[1]]:
        lost.append(f"whether these were enabled: {join_names(list(map(repr, off)))}; they are disabled now")
    lost.append("the history")
    return kept, lost, texts
