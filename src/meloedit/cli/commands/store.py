"""The commands that need only the store, not its model: they start fast, because torch is not imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...edit import quoted as quoted_prompt
from ...errors import ModelError
from ...text import counted, format_size, join_names, plain
from ..loading import change_since, open_store
from ..options import EditIds, Json, StorePath
from ..terminal import Column, note, one_line, put, put_json, put_table, quoted, report_if_stopped

if TYPE_CHECKING:
    from ...store import Revision, Store, StoredEdit


def ls(
    store: StorePath,
    at: Annotated[int | None, typer.Option("--at", metavar="REVISION", help="As of an earlier revision.")] = None,
    as_json: Json = False,
) -> None:
    """List the edits.

    Example: meloedit ls facts.melo
    """
    with open_store(store) as opened:
        edits = opened.edits(at)
    if as_json:
        put_json([_as_dict(stored) for stored in edits])
    elif not edits:
        put(f'no edits; add one with: meloedit edit {quoted(store)} --prompt "..." --target "..."')
    else:
        columns: list[Column] = [
            ("id", {"overflow": "fold"}),
            ("prompt", {"ratio": 1}),
            "target",
            "state",
            ("rank", {"justify": "right"}),
            ("revision", {"justify": "right"}),
        ]
        rows = [
            (plain(s.edit.id), one_line(s.edit.prompt), one_line(s.edit.target), _state(s), s.rank, s.revision)
            for s in edits
        ]
        put_table(columns, rows)


def show(
    store: StorePath,
    edit_id: Annotated[str | None, typer.Argument(metavar="ID", help="An edit; without it, the store itself.")] = None,
    as_json: Json = False,
) -> None:
    """Show everything about one edit, or about the store.

    Example: meloedit show facts.melo 3f2a9c417d55
    """
    with open_store(store) as opened:
        if edit_id is None:
            facts = _store_facts(opened)
            changes = []
        else:
            facts = _as_dict(opened.get(edit_id))
            changes = opened.history(edit_id)
    if as_json:
        put_json(facts | ({"history": [_revision(item) for item in changes]} if edit_id else {}))
        return
    for name, value in _flat(facts):
        put(f"{plain(name):<16} {value}")
    for item in changes:
        put(f"{'revision ' + str(item.revision):<16} {item.time}  {item.action}")


def rm(store: StorePath, ids: EditIds, as_json: Json = False) -> None:
    """Remove edits; the history keeps them.

    It says so if a neighbour with the same target may answer the prompt of a removed edit from now on.

    Example: meloedit rm facts.melo 3f2a9c417d55
    """
    from ...oversight.still_answered import still_answered

    _change(store, as_json, lambda opened: opened.remove(ids))
    with open_store(store) as opened:
        gone = [stored.edit for stored in opened.edits(opened.revision - 1) if stored.edit.id in ids]
        try:
            answered = still_answered(opened, gone)
        except ModelError as error:  # the judge's file is missing or damaged; the edits are removed all the same
            note(f"warning: whether a neighbour still answers was not looked up: {plain(str(error))}")
            return
    for edit_id, other in answered:
        note(f"note: what edit {plain(edit_id)} was asked may still be answered by edit {plain(other)}, same target")


def enable(store: StorePath, ids: EditIds, as_json: Json = False) -> None:
    """Let disabled edits answer again."""
    _change(store, as_json, lambda opened: opened.set_enabled(ids, True))


def disable(store: StorePath, ids: EditIds, as_json: Json = False) -> None:
    """Keep edits from answering, without removing them."""
    _change(store, as_json, lambda opened: opened.set_enabled(ids, False))


def rollback(
    store: StorePath,
    revision: Annotated[int, typer.Argument(metavar="REVISION", help="A revision, as `history` shows them.")],
    as_json: Json = False,
) -> None:
    """Bring back the edits of an earlier revision.

    Its calibration comes back too, and with it its scope. The rollback is a new revision, so it can be undone as well.

    Example: meloedit rollback facts.melo 3
    """
    _change(store, as_json, lambda opened: opened.rollback(revision))


def history(
    store: StorePath,
    edit_id: Annotated[str | None, typer.Argument(metavar="ID", help="Only the changes of this edit.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="Only the last N.")] = None,
    as_json: Json = False,
) -> None:
    """List every change of the store, oldest first.

    Example: meloedit history facts.melo --limit 10
    """
    with open_store(store) as opened:
        revisions = opened.history(edit_id, limit)
    if as_json:
        put_json([_revision(item) for item in revisions])
        return
    columns: list[Column] = [
        ("revision", {"justify": "right"}),
        "time (UTC)",
        "action",
        ("edits", {"ratio": 1, "overflow": "fold"}),
    ]
    put_table(
        columns,
        [(item.revision, item.time[:19].replace("T", " "), _action(item), _changes(item)) for item in revisions],
    )


def _change(path: Path, as_json: bool, change: Any) -> None:
    with open_store(path) as opened:
        before = opened.revision
        with report_if_stopped(lambda: change_since(path, before)):
            after = change(opened)
            gone, come = opened.diff(before, after)
            _show_change(path, as_json, before, after, gone, come)


def _show_change(path: Path, as_json: bool, before: int, after: int, gone: list[str], come: list[str]) -> None:
    both = [edit_id for edit_id in gone if edit_id in come]
    removed = [edit_id for edit_id in gone if edit_id not in both]
    added = [edit_id for edit_id in come if edit_id not in both]
    if as_json:
        put_json({"revision": after, "before": before, "removed": removed, "added": added, "changed": both})
        return
    parts = [(len(removed), "removed"), (len(added), "brought back"), (len(both), "changed")]
    summary = ", ".join(f"{counted(number, 'edit')} {what}" for number, what in parts if number)
    if after == before:
        put(f"nothing to change; revision {after}")
    else:
        put(f"{summary or 'no edits changed'}; revision {after} (undo with: meloedit rollback {quoted(path)} {before})")


def _state(stored: StoredEdit) -> str:
    return "on" if stored.enabled else "off"


def _as_dict(stored: StoredEdit) -> dict[str, Any]:
    from ...store import GIVEN

    return stored.edit.to_dict() | {
        "enabled": stored.enabled,
        "rank": stored.rank,
        "reach": stored.reach,
        "revision": stored.revision,
        "bytes": stored.nbytes,
        "report": {name: value for name, value in stored.report.items() if name != GIVEN},
    }


def _store_facts(opened: Store) -> dict[str, Any]:
    edits = opened.edits()
    return {
        "store": str(opened.path),
        "bytes": opened.path.stat().st_size,
        "revision": opened.revision,
        "edits": len(edits),
        "enabled": sum(stored.enabled for stored in edits),
        "calibration": opened.calibration_id,
        "scope": opened.calibration_info(),
        "model": opened.model,
        "config": opened.config,
    }


def _revision(item: Revision) -> dict[str, Any]:
    changes = [
        {"id": change.edit_id, "removed": change.record is None, "enabled": change.enabled} for change in item.changes
    ]
    return {
        "revision": item.revision,
        "time": item.time,
        "action": item.action,
        "detail": item.detail,
        "changes": changes,
    }


def _action(item: Revision) -> str:
    return " ".join([item.action, *(f"{name} {_detail(value)}" for name, value in item.detail.items())])


def _detail(value: object) -> str:
    """Return a fact about a change; of prompts the first one."""
    if not isinstance(value, list):
        return one_line(str(value))
    return quoted_prompt(value[0]) + (f" and {len(value) - 1:,} more" if len(value) > 1 else "")


def _changes(item: Revision) -> str:
    return join_names([f"{'-' if change.record is None else '+'}{change.edit_id}" for change in item.changes])


def _flat(facts: dict[str, Any]) -> list[tuple[str, object]]:
    """Return facts as names and values, one pair for each item of a list or an object."""
    lines: list[tuple[str, object]] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [(f"{name}.{key}" if name != "config" else key, _text(item)) for key, item in value.items()]
        elif isinstance(value, list):
            lines += [(name if i == 0 else "", _text(item)) for i, item in enumerate(value)]
        else:
            lines.append((name, format_size(value) if name == "bytes" else _text(value)))
    return lines


def _text(value: object) -> object:
    if isinstance(value, dict) and value.keys() == {"role", "content"}:
        return f"{value['role']}: {one_line(value['content'])}"
    if isinstance(value, list):
        return ", ".join(str(_text(item)) for item in value)
    return one_line(value) if isinstance(value, str) else plain(str(value))
