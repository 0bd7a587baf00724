"""The commands ``export`` and ``import``: edits as adapters that PEFT and other engines load, and back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ....errors import MeloEditError
from ....text import counted, join_names, plain
from ...loading import change_since, check_new, lasting_name, load, open_editor, open_store
from ...options import Device, DtypeName, Json, KeepBoth, ModelName, Replace, StoreOptions, with_options
from ...terminal import progress_display, put, put_json, report_if_stopped

if TYPE_CHECKING:
    from ....adapters.checking import Compared
    from ....adapters.exporting import Exported
    from ....adapters.fusing import Fused
    from ....adapters.importing import Imported
    from ....editor import Editor
    from ....types import Progress


class Format(StrEnum):
    """Kinds of adapters."""

    peft = "peft"
    alora = "alora"


@with_options(StoreOptions)
def export(
    options: StoreOptions,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; an earlier export is brought up to date.")],
    format: Annotated[
        Format, typer.Option("--format", help="peft: LoRAs; alora: PEFT's activated LoRAs, exact in chats alone.")
    ] = Format.peft,
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="This edit alone; repeatable. Default: all enabled.")
    ] = None,
    fused: Annotated[
        bool, typer.Option("--fuse", help="Make one adapter of them that is always on, and measure what it loses.")
    ] = False,
    rank: Annotated[int, typer.Option("--rank", metavar="N", min=1, help="Rank of the fused adapter.")] = 16,
    check: Annotated[
        bool, typer.Option("--check", help="Ask the adapters through PEFT and compare with the store's own answers.")
    ] = False,
) -> None:
    """Write edits as adapters that PEFT and vLLM load.

    Each is a folder, named by its content; an index says which edit it carries. Other engines that read PEFT's files
    load them, too.

    The store must be made for that: meloedit init NEW --model MODEL --for-export. Only alora, --fuse and --check load
    the model.

    Example: meloedit export facts.melo adapters

    Example: meloedit export facts.melo fused --fuse --id mayor --id tower --rank 4
    """
    if fused and (check or format != Format.peft):
        raise MeloEditError("--fuse makes one LoRA, whose losses are measured: leave out --check and --format")
    if check:
        from ....adapters.checking import need_peft

        need_peft()
    compared = None
    if fused or check or format == Format.alora:
        with progress_display() as progress, open_editor(options, progress) as editor:
            if fused:
                _show_fused(editor.export_fused(folder, rank, ids, progress), options.as_json)
                return
            made = editor.export(folder, format.value, ids, progress)
            compared = editor.check_adapters(folder, progress) if check else None
    else:
        from ....adapters import export_store

        with open_store(options.store) as store, progress_display() as progress:
            made = export_store(store, folder, ids, progress=progress)
    _show_exported(made, compared, options.as_json)


def _show_exported(made: Exported, compared: Compared | None, as_json: bool) -> None:
    if as_json:
        put_json(made.to_dict() | ({"check": compared.to_dict()} if compared else {}))
    else:
        kept = len(set(made.adapters.values())) - made.written
        put(f"{counted(len(made.adapters), 'edit')} in {made.folder}: {made.written} written, {kept} there already")
        if made.removed:
            put(f"  {counted(len(made.removed), 'adapter')} of earlier edits removed")
        if made.disabled:
            put(f"  left out, as they are disabled: {plain(join_names(made.disabled))}")
        if compared:
            put(
                f"through PEFT {compared.same_edits} of {counted(compared.edits, 'edit')} answer as the store does "
                f"({compared.same} of {compared.asked} prompts)"
            )
            for line in compared.differ:
                put(f"  {plain(line)}")
    if compared and compared.differ:
        raise MeloEditError(f"{len(compared.differ)} of {compared.asked} answers differ")


def _show_fused(made: Fused, as_json: bool) -> None:
    if as_json:
        put_json(made.to_dict())
        return
    put(f"{counted(made.edits, 'edit')} in one adapter of rank {made.rank}: {made.folder / made.adapter}")
    put(f"  the whole sum has rank {made.whole_rank}; the rank cuts off up to {made.lost:.1%} of a module's change")
    put(f"  edits' prompts answered right: {made.held} of {made.asked}; not cut off, {made.held_whole}; routed, all")
    put(f"  other prompts with another answer: {made.changed} of {made.others}; routed, none")


def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `export` wrote.")],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store of the same model; made if it is missing.")],
    replace: Replace = False,
    keep_both: KeepBoth = False,
    model: ModelName = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Put exported edits into a store.

    Nothing is trained; the edits' keys are made anew on the store's model. A folder in which anything was changed by
    hand is refused. Then every edit of the store is asked: exit code 1 if one does not hold.

    Example: meloedit import adapters facts.melo
    """
    from ....adapters import read_index
    from ....adapters.importing import check_kind

    index = read_index(folder)
    check_kind(folder, index)
    new = not store.exists()
    options = StoreOptions(store, model, device, dtype, as_json)
    before = 0 if new else open_store(store).revision

    def stored_so_far() -> str:
        return "nothing was changed" if not store.exists() else change_since(store, before)

    with report_if_stopped(stored_so_far), progress_display() as progress:
        opened = (
            _new_store(options, index.model, index.settings, progress) if new else open_editor(options, progress, True)
        )
        with opened as editor:
            made = editor.import_adapters(folder, replace, keep_both, progress)
            if new:
                editor.save(store)
            broken = list(dict.fromkeys(one.id for one in editor.check(progress=progress).broken))
    _show_imported(made, store, broken, as_json)


@contextmanager
def _new_store(
    options: StoreOptions, facts: Mapping[str, Any], settings: Mapping[str, Any], progress: Progress
) -> Iterator[Editor]:
    """Make a store with the settings of an export, which is not in its place yet."""
    check_new(options.store)
    name = lasting_name(options.model or str(facts.get("name") or ""))
    stored = str(facts.get("dtype") or "").removeprefix("torch.") or None
    hint = "" if options.model else "; if the model has moved, say where with --model"
    loaded, tokenizer = load(name, options.device, options.dtype or stored, progress, hint)
    from ....config import MeloConfig
    from ....editor import Editor

    with (
        tempfile.TemporaryDirectory() as scratch,
        Editor(loaded, tokenizer, MeloConfig.from_dict(settings), Path(scratch) / options.store.name, name) as editor,
    ):
        yield editor


def _show_imported(made: Imported, store: Path, broken: list[str], as_json: bool) -> None:
    if as_json:
        put_json(made.to_dict() | {"broken": broken})
    else:
        put(
            f"{counted(len(made.stored), 'edit')} stored in {store}, {len(made.skipped)} there already; "
            f"revision {made.revision}"
        )
        if made.replaced:
            put(f"  replacing {plain(join_names(made.replaced))}")
    if broken:
        raise MeloEditError(
            f"{counted(len(broken), 'edit')} of {store} do not hold on this model: {join_names(broken)}"
        )
