"""What an earlier command found in a run's folder: its methods stay in the result beside those of the present command.

A method is in ``result.json`` only once it is finished, so that what is kept here is whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .folder import read_json

if TYPE_CHECKING:
    from .folder import RunFolder

TABLES = ("methods", "growth", "details")
"""The fields of a result that have an entry for each method."""


@dataclass(frozen=True)
class Former:
    """The entries of an earlier result, by table and method, and the settings of each method."""

    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: RunFolder, fingerprint: str) -> Former:
        """Read what a folder holds of the methods whose observations are there; nothing if the model was another one.

        Raises:
            MeloEditError: if ``result.json`` is damaged.
        """
        held = read_json(folder.path / "result.json", dict) or {}
        told = _table(held, "provenance")
        there = [name for name in _table(held, "methods") if folder.observations(name).is_file()]
        if told.get("fingerprint") != fingerprint:
            return cls()
        tables = {table: _some(_table(held, table), there) for table in TABLES}
        return cls(tables, _some(_table(_table(told, "configuration"), "settings"), there))

    def of_method(self, table: str, name: str) -> Mapping[str, Any]:
        """Return what a table held of a method; empty where it held nothing."""
        return _table(self.tables.get(table, {}), name)

    def joined(self, result: Mapping[str, Any], planned: Collection[str]) -> dict[str, Any]:
        """Return a result together with the methods that the present command is not about, in their order of old."""
        order = list(dict.fromkeys([*self.tables.get("methods", {}), *result["methods"]]))
        made = dict(result)
        for table in TABLES:
            if table in result:
                made[table] = _joined(self.tables.get(table, {}), result[table], order, planned)
        told = result["provenance"]
        asked = told["configuration"]
        settings = _joined(self.settings, asked["settings"], [*order, *asked["settings"]], planned)
        made["provenance"] = told | {"configuration": asked | {"settings": settings}}
        if kept := [name for name in made["methods"] if name not in planned]:
            said = f"kept from an earlier command in this folder: {', '.join(kept)}"
            made["notes"] = [*result["notes"], said]
        return made


def _joined(
    old: Mapping[str, Any], new: Mapping[str, Any], order: Collection[str], planned: Collection[str]
) -> dict[str, Any]:
    every = {name: value for name, value in old.items() if name not in planned} | dict(new)
    return {name: every[name] for name in order if name in every}


def _some(table: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: table[name] for name in names if name in table}


def _table(held: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = held.get(name)
    return value if isinstance(value, dict) else {}
