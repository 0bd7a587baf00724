"""What a method has learned, in a file: tensors and notes, whole or not at all, with a checksum."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import MeloEditError
from ...files import load_tensors, save_tensors

VERSION = 1
"""Counts changes of what such a file holds, or of how its content is learned."""
NOTES = "notes"


@dataclass(frozen=True)
class Kept:
    """A file's content.

    Attributes:
        notes: JSON-ready values.
        tensors: tensors by name.
    """

    notes: dict[str, Any]
    tensors: dict[str, Tensor]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with a prefix, by the rest of their names."""
        return {name.removeprefix(prefix): one for name, one in self.tensors.items() if name.startswith(prefix)}


def write_kept(path: Path, model: str, notes: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write what a method has learned; if the folder cannot be written, a warning is logged.

    Args:
        path: the file.
        model: the fingerprint of the model that it was learned on.
        notes: JSON-ready values.
        tensors: tensors by name.
    """
    text = json.dumps({"version": VERSION, "model": model, **notes}).encode()
    values = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
    save_tensors(path, values | {NOTES: torch.tensor(list(text), dtype=torch.uint8)})


def forget(path: Path) -> None:
    """Remove a file, and what killed processes left of it: parts that they were writing."""
    for one in (path, *path.parent.glob(f"{path.name}.*.part")):
        with suppress(OSError):
            one.unlink(missing_ok=True)


def read_kept(path: Path, method: str, model: str, needed: Iterable[str]) -> Kept | None:
    """Read what a method has learned.

    Args:
        path: the file.
        method: the method's name, for errors.
        model: the fingerprint of the model at hand.
        needed: names of tensors that the file must have.

    Returns:
        The content; ``None`` if there is no such file.

    Raises:
        MeloEditError: if the file is damaged, of another version, or of another model.
    """
    if not path.exists():
        return None
    found = load_tensors(path)
    notes = _notes(found)
    damaged = f"method {method}: {path} is damaged: remove it, and the method learns anew"
    if found is None or notes is None:
        raise MeloEditError(damaged)
    if notes.get("version") != VERSION:
        raise MeloEditError(
            f"method {method}: {path} is of another version ({notes.get('version')}, this one reads {VERSION}): "
            "remove it, and the method learns anew"
        )
    if notes.get("model") != model:
        raise MeloEditError(
            f"method {method}: {path} was learned on another model ({notes.get('model')}, this one is {model}): choose "
            "another folder"
        )
    if set(needed) - set(found):
        raise MeloEditError(damaged)
    return Kept(notes, found)


def _notes(found: Mapping[str, Tensor] | None) -> dict[str, Any] | None:
    """Return the notes of a file; ``None`` if it has none."""
    try:
        notes = json.loads(bytes((found or {})[NOTES].tolist()))
    except (KeyError, ValueError):
        return None
    return notes if isinstance(notes, dict) else None
