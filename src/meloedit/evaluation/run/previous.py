"""Results of runs as ``result.json`` has them, and those of an earlier command, which are merged into the new result.

A method enters ``result.json`` only when it is finished, so every earlier entry is complete.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .folder import read_json
from .provenance import provenance

if TYPE_CHECKING:
    from ..tasks.task import Task
    from .folder import RunFolder
    from .plan import RunPlan

TABLES = ("methods", "growth", "details")
"""The fields of a result that have an entry for each method."""


def make_result(
    plan: RunPlan,
    task: Task,
    fingerprint: str,
    tables: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str],
    finished: bool,
    **counts: int,
) -> dict[str, Any]:
    """Return a run's result.

    Args:
        plan: the plan.
        task: the task after selection: the edits that were made, the prompts that were scored.
        fingerprint: the unedited model's.
        tables: ``methods`` and further fields with an entry for each method.
        notes: sentences for the reader.
        finished: whether all methods are done.
        counts: further numbers, which stand behind the number of edits.
    """
    settings = {name: dict(given) for name, given in plan.methods.items()}
    origin = {"fingerprint": fingerprint, "cleaning": dict(task.cleaning)}
    return {
        "protocol": plan.protocol,
        "task": task.name,
        "model": plan.model,
        "data": [dict(item) for item in task.files],
        "edits": len(task.items),
        **counts,
        "provenance": provenance() | origin | {"configuration": {"settings": settings, **plan.configuration()}},
        **tables,
        "notes": list(notes),
        "finished": finished,
    }


@dataclass(frozen=True)
class PreviousResult:
    """The entries of an earlier result.

    Attributes:
        tables: for each of ``TABLES`` the entries by method.
        settings: the settings by method.
    """

    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: RunFolder, fingerprint: str) -> PreviousResult:
        """Read the entries of the methods whose observations exist; none if the result is of another model.

        Raises:
            MeloEditError: if ``result.json`` is damaged.
        """
        stored = read_json(folder.path / "result.json", dict) or {}
        origin = _table(stored, "provenance")
        methods = [name for name in _table(stored, "methods") if folder.observations(name).is_file()]
        if origin.get("fingerprint") != fingerprint:
            return cls()
        tables = {table: _selected(_table(stored, table), methods) for table in TABLES}
        return cls(tables, _selected(_table(_table(origin, "configuration"), "settings"), methods))

    def entry(self, table: str, method: str) -> Mapping[str, Any]:
        """Return a method's entry in a table; empty if there is none."""
        return _table(self.tables.get(table, {}), method)

    def merged(self, result: Mapping[str, Any], planned: Collection[str]) -> dict[str, Any]:
        """Return a result with the earlier entries of all methods that are not ``planned``; they keep their order."""
        order = list(dict.fromkeys([*self.tables.get("methods", {}), *result["methods"]]))
        merged = dict(result)
        for table in TABLES:
            if table in result:
                merged[table] = _merged(self.tables.get(table, {}), result[table], order, planned)
        origin = result["provenance"]
        configuration = origin["configuration"]
        settings = configuration["settings"]
        settings = _merged(self.settings, settings, [*order, *settings], planned)
        merged["provenance"] = origin | {"configuration": configuration | {"settings": settings}}
        if earlier := [name for name in merged["methods"] if name not in planned]:
            note = f"kept from an earlier command in this folder: {', '.join(earlier)}"
            merged["notes"] = [*result["notes"], note]
        return merged


def _merged(
    old: Mapping[str, Any], new: Mapping[str, Any], order: Collection[str], planned: Collection[str]
) -> dict[str, Any]:
    every = {name: value for name, value in old.items() if name not in planned} | dict(new)
    return {name: every[name] for name in order if name in every}


def _selected(table: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: table[name] for name in names if name in table}


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}
