"""Import: adapters that were exported, back into a store, if nobody has changed them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config import is_number
from ..edit import Edit
from ..engine.planning import Planner, PreparedEdit
from ..errors import EditError, MeloEditError
from ..store import GIVEN, Record
from .index import Entry, Index, read_index
from .layout import CONFIG, DIGITS, MANIFEST, PREFIX, WEIGHTS, adapter_name, factor_name, sha256

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..hooks.blocks import Site
    from ..store.tensors import Tensors

MAX_BYTES = 2_000_000_000
"""Bytes of a file of an adapter, at most."""


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        stored: ids of the edits that are in the store now.
        skipped: ids of those that were there already.
        replaced: ids of edits that had to go, since imported ones ask the same.
        revision: the revision of the store.
    """

    stored: tuple[str, ...]
    skipped: tuple[str, ...]
    replaced: tuple[str, ...]
    revision: int

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def read_adapter(folder: Path, entry: Entry) -> Tensors:
    """Return the block of an edit's adapter, as a store has it.

    Raises:
        MeloEditError: if a file is missing or was changed, or it is no adapter of meloedit's.
    """
    home = folder / entry.adapter
    manifest = _intact(home / MANIFEST, entry.manifest)
    try:
        sums: Mapping[str, str] = json.loads(manifest)["files"]
        wanted = {name: sums[name] for name in (CONFIG, WEIGHTS)}
    except (ValueError, KeyError, TypeError):
        raise MeloEditError(f"{home / MANIFEST} is no manifest of meloedit's") from None
    files = {name: _intact(home / name, checksum) for name, checksum in wanted.items()}
    return _block(home / WEIGHTS, files[WEIGHTS], files[CONFIG], entry.adapter)


def _intact(path: Path, checksum: str) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise MeloEditError(f"{path} is larger than any adapter's file is")
        data = path.read_bytes()
    except OSError as error:
        raise MeloEditError(f"{path} cannot be read ({error.strerror}): export the store again") from None
    if sha256(data) != checksum:
        raise MeloEditError(f"{path} was changed since it was exported (its checksum differs): export the store again")
    return data


def _block(path: Path, data: bytes, config: bytes, name: str) -> Tensors:
    from safetensors.torch import load

    try:
        tensors, settings = load(data), json.loads(config)
        block = {factor_name(weight) or "": tensor for weight, tensor in tensors.items()}
        tokens = settings.get("alora_invocation_tokens")
        invocation = tokens[0] if tokens else None
    except Exception as error:  # safetensors raises errors of many classes
        raise MeloEditError(f"{path} cannot be read: {error}") from None
    if "" in block or not all(t.dtype == torch.float16 and t.dim() == 2 for t in block.values()):
        raise MeloEditError(f"{path} has tensors that are no block's")
    if not all(bool(tensor.isfinite().all()) for tensor in block.values()):
        raise MeloEditError(f"{path} has numbers that are not finite")
    if adapter_name(block, invocation) != name[-len(PREFIX) - DIGITS :]:
        raise MeloEditError(f"{path} is not the adapter that {name} names: export the store again")
    return block


def import_adapters(engine: Engine, folder: str | Path, replace: bool = False, keep_both: bool = False) -> Imported:
    """Put exported edits into the store of an engine, all in one transaction; their keys are made on its model.

    Args:
        engine: the model and its store, which is calibrated.
        folder: what ``export_store`` wrote.
        replace: let an edit take the place of one with its id, or that may ask the same.
        keep_both: keep stored edits that ask the same in other words.

    Raises:
        MeloEditError: if the folder was changed, is of another model, or holds fused edits.
        EditError: if an edit is in the store with other content, or may ask what a stored one asks.
    """
    folder = Path(folder)
    index = read_index(folder)
    check_index(engine, folder, index)
    entries, blocks = {entry.edit.id: entry for entry in index.entries}, {}
    for edit_id, entry in entries.items():
        blocks[edit_id] = read_adapter(folder, entry)
        check_block(folder / entry.adapter, blocks[edit_id], engine.router.bank.sites)
    with engine.store.writing():
        prepared = Planner(engine, replace, keep_both).prepare([entry.given for entry in index.entries])
        new = [item for item in prepared if item.rows]
        records = _records(engine, index, entries, new, [blocks[item.edit.id] for item in new])
        made = {item.edit.id for item in new}
        replaced = dict.fromkeys(one for item in new for one in item.replaced if one not in made)
        removed = [edit_id for edit_id in replaced if engine.store.find(edit_id) is not None]
        revision = engine.store.revision
        if records:
            revision = engine.change(lambda: engine.store.put(records, "import", removed))
    skipped = tuple(item.edit.id for item in prepared if not item.rows)
    return Imported(tuple(item.edit.id for item in new), skipped, tuple(removed), revision)


def check_kind(folder: Path, index: Index) -> None:
    """Refuse a fused adapter.

    Raises:
        MeloEditError: if it is one.
    """
    if index.kind == "fused":
        raise MeloEditError(f"{folder} holds several edits fused into one adapter, which cannot be taken apart again")


def check_index(engine: Engine, folder: Path, index: Index) -> None:
    """Refuse adapters that cannot be edits of a store.

    Raises:
        MeloEditError: saying why.
    """
    store = engine.store
    check_kind(folder, index)
    if engine.config.mode != "default":
        raise MeloEditError(
            f"{store.path} is in {engine.config.mode} mode, whose edits share blocks: nothing is imported"
        )
    if (made := index.model.get("fingerprint")) != store.model["fingerprint"]:
        raise MeloEditError(
            f"{folder} is of the model {index.model.get('name')} (fingerprint {made}), {store.path} of "
            f"{store.model['name']} (fingerprint {store.model['fingerprint']}): import it into a store of its own model"
        )


def check_block(path: Path, block: Tensors, sites: Sequence[Site]) -> None:
    """Refuse a block that does not fit the edited modules.

    Raises:
        MeloEditError: naming the factor.
    """
    names = {f"{site.name}.{letter}" for site in sites for letter in "AB"}
    if odd := sorted(names ^ set(block)):
        what = "is missing" if odd[0] in names else "is of no edited module of this store"
        raise MeloEditError(f"{path}: {odd[0]} {what}; the edited modules must be the same")
    rank = len(block[f"{sites[0].name}.A"])
    for site in sites:
        shapes = {"A": (rank, site.inputs), "B": (site.outputs, rank)}
        for letter, shape in shapes.items():
            found = tuple(block[f"{site.name}.{letter}"].shape)
            if found != shape or not 0 < rank <= min(site.inputs, site.outputs):
                raise MeloEditError(f"{path}: {site.name}.{letter} is {found}, not {shape}: it is of another model")


def _records(
    engine: Engine,
    index: Index,
    entries: Mapping[str, Entry],
    new: Sequence[PreparedEdit],
    blocks: Sequence[Tensors],
) -> list[Record]:
    records = []
    edits = [_corrected(item, entries[item.edit.id].edit) for item in new]
    for item, edit, block, keys in zip(new, edits, blocks, engine.policy.keys_of(edits), strict=True):
        entry = entries[edit.id]
        if engine.policy.clash(keys):
            raise EditError(f"edit {edit.id!r}: a quiet prompt has the same key as the edit's own prompt")
        report: dict[str, Any] = {name: value for name, value in entry.report.items() if is_number(value)}
        report |= {"positions": 0, "places": list(engine.backbone.first_places(edit.target))}
        if item.given != edit:
            report[GIVEN] = item.given.to_dict()
        rank = len(next(tensor for name, tensor in block.items() if name.endswith(".A")))
        reach = "answer" if index.kind == "alora" else "all"
        records.append(Record(edit, rank, reach, report, block, keys))
    return records


def _corrected(item: PreparedEdit, exported: Edit) -> Edit:
    """Return a planned edit with the corrections of its scope that were exported."""
    variants, quiet = list(item.edit.variants), list(item.edit.quiet)
    variants += [prompt for prompt in exported.variants if prompt not in variants]
    quiet += [prompt for prompt in exported.quiet if prompt not in quiet]
    return replace_fields(item.edit, variants=tuple(variants), quiet=tuple(quiet))
