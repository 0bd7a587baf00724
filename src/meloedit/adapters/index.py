"""Index: the file beside the adapters that says which edit each of them carries, with a checksum over all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ..edit import Edit
from ..errors import EditError, MeloEditError
from ..files import json_hash
from .layout import DIGITS, FORMAT, PREFIX, Kind, as_json

INDEX = "index.json"
KINDS = get_args(Kind)
MAX_BYTES = 1_000_000_000
"""Bytes of an index, at most."""
NAME = re.compile(rf"(fused-)?{PREFIX}[0-9a-f]{{{DIGITS}}}")
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One edit of an index.

    Attributes:
        edit: the edit.
        given: the edit as it was given, before its scope was put right.
        adapter: the name of the adapter that carries it.
        manifest: the SHA-256 of that adapter's manifest.
        report: what its training reported.
    """

    edit: Edit
    given: Edit
    adapter: str
    manifest: str
    report: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        values: dict[str, Any] = {"id": self.edit.id, "adapter": self.adapter, "manifest": self.manifest}
        values |= {"edit": self.edit.to_dict(), "report": dict(self.report)}
        return values | ({"given": self.given.to_dict()} if self.given != self.edit else {})


@dataclass(frozen=True)
class Index:
    """What a folder of adapters holds.

    Attributes:
        kind: what kind of adapters.
        model: what the store said of its model.
        settings: the store's settings.
        revision: the revision of the store that was exported.
        entries: its edits.
    """

    kind: str
    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    revision: int
    entries: tuple[Entry, ...]

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        values = {
            "format": "meloedit-adapters",
            "version": FORMAT,
            "kind": self.kind,
            "model": dict(self.model),
            "settings": dict(self.settings),
            "revision": self.revision,
            "edits": [entry.to_dict() for entry in self.entries],
        }
        return as_json(values | {"checksum": _checksum(values)})


def _checksum(values: Mapping[str, Any]) -> str:
    return json_hash(values, 64)


def read_index(folder: Path) -> Index:
    """Read the index of a folder of adapters.

    Raises:
        MeloEditError: if there is none, it was changed by hand or damaged, or it is of another format.
    """
    path = folder / INDEX
    try:
        if path.stat().st_size > MAX_BYTES:
            raise MeloEditError(f"{path} is larger than any index is")
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise MeloEditError(
            f"{folder} is no folder of adapters: {INDEX} cannot be read ({error.strerror}); meloedit export makes one"
        ) from None
    except (ValueError, RecursionError):
        raise MeloEditError(f"{path} is damaged: it is no JSON; {AGAIN}") from None
    if not isinstance(values, dict) or values.get("format") != "meloedit-adapters":
        raise MeloEditError(f"{path} is no index of meloedit's")
    if values.get("version") != FORMAT:
        raise MeloEditError(f"{path} has format {values.get('version')!r}, this meloedit reads format {FORMAT}")
    checksum = values.pop("checksum", None)
    if checksum != _checksum(values):
        raise MeloEditError(f"{path} was changed since it was written (its checksum differs): {AGAIN}")
    try:
        return _index(values)
    except (KeyError, TypeError, ValueError, EditError, RecursionError) as error:
        raise MeloEditError(f"{path} has an entry that cannot be: {error}") from None


AGAIN = "export the store again"


def _index(values: Mapping[str, Any]) -> Index:
    kind, model, settings, revision = (values[name] for name in ("kind", "model", "settings", "revision"))
    if kind not in KINDS or not isinstance(model, dict) or not isinstance(settings, dict) or type(revision) is not int:
        raise ValueError("kind, model, settings or revision is none")
    entries = tuple(map(_entry, values["edits"]))
    if len({entry.edit.id for entry in entries}) < len(entries):
        raise ValueError("an edit comes twice")
    return Index(kind, model, settings, revision, entries)


def _entry(values: Mapping[str, Any]) -> Entry:
    edit = Edit.from_dict(values["edit"])
    given = Edit.from_dict(values.get("given", values["edit"]))
    adapter, manifest, report = values["adapter"], values["manifest"], values["report"]
    if edit.id != values["id"] or given.id != edit.id:
        raise ValueError(f"edit {values['id']!r} holds another id")
    if not isinstance(adapter, str) or not NAME.fullmatch(adapter) or not HASH.fullmatch(str(manifest)):
        raise ValueError(f"edit {edit.id!r} names no adapter")
    if not isinstance(report, dict):
        raise ValueError(f"edit {edit.id!r} has no report")
    return Entry(edit, given, adapter, manifest, report)
