"""Finished runs of ablations in a folder: a run that is there is read, not repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import canonical_json, json_hash, load_tensors, make_folder, save_tensors, write_json

if TYPE_CHECKING:
    from torch import Tensor

RUNS = "runs"
"""The folder of finished runs and keys, inside the folder of the ablations."""


class Runs:
    """Finished runs and keys, stored under a hash of their settings and of what all runs share.

    A file has the settings themselves too, so that a run of other settings is never taken for it.

    Args:
        folder: the folder of the ablations.
        shared: values that tell runs of the same settings apart: the model, the hash of the file of edits.

    Attributes:
        computed: how many runs were computed.
        read: how many runs were read from the folder.
    """

    def __init__(self, folder: Path, shared: Mapping[str, Any]) -> None:
        self.folder = make_folder(folder / RUNS)
        self._shared = dict(shared)
        self.computed = 0
        self.read = 0

    @property
    def finished(self) -> int:
        """How many runs were read or computed so far."""
        return self.computed + self.read

    def run(self, kind: str, settings: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a run's result from the folder; compute and store it if it is missing or damaged.

        Args:
            kind: the kind of run.
            settings: everything that the result depends on besides the shared values.
            compute: computes the result, JSON-ready.

        Raises:
            MeloEditError: if the result cannot be written.
        """
        path, text = self._place(kind, settings, "json")
        try:
            stored = json.loads(path.read_bytes())
            if canonical_json(stored["settings"]) == text and stored["sha256"] == json_hash(stored["result"], 64):
                self.read += 1
                return dict(stored["result"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):  # missing or damaged
            pass
        result = json.loads(json.dumps(compute()))  # what a later call will read
        write_json(path, {"settings": json.loads(text), "sha256": json_hash(result, 64), "result": result})
        self.computed += 1
        return result

    def keys(self, settings: Mapping[str, Any], compute: Callable[[], Tensor]) -> Tensor:
        """Return keys (n, d) in float32 from the folder; compute and store them if they are missing or damaged."""
        path, _ = self._place("keys", settings, "tensors")
        cached = load_tensors(path)
        if cached is not None:
            return cached["keys"]
        keys = compute().detach().float().cpu().contiguous()
        save_tensors(path, {"keys": keys})
        return keys

    def _place(self, kind: str, settings: Mapping[str, Any], suffix: str) -> tuple[Path, str]:
        """Return a run's path, and the canonical JSON of its settings."""
        values = {"kind": kind, **self._shared, **settings}
        return self.folder / f"{kind}-{json_hash(values)}.{suffix}", canonical_json(values)
