"""Records: the rows of a data file, with field access that reports file, line and field when a value is unusable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...edit import check_prompt
from ...errors import EditError
from ...rows import open_utf8, rows_of, source_name
from ...text import fields_found
from ...types import Prompt


class Record:
    """One row of a file. A missing field, or one of the wrong type, raises an EditError that says where.

    Args:
        where: file and line, for error messages.
        values: the row's fields.

    Raises:
        EditError: if ``values`` is not an object with fields.
    """

    def __init__(self, where: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise EditError(f"{where}: expected an object, not {type(values).__name__}")
        self.where = where
        self.values = values

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def get(self, name: str) -> Any:
        """Return the value of a required field, whatever its type."""
        if name not in self:
            raise EditError(f"{self.where}: no {name} {fields_found(self.values)}")
        return self.values[name]

    def text(self, name: str) -> str:
        """Return a required field that must be a non-empty string."""
        value = self.get(name)
        if not isinstance(value, str) or not value.strip():
            raise EditError(f"{self.where}: {name} must be a non-empty string, not {value!r}")
        return value

    def number(self, name: str) -> int:
        """Return a required field that must be a whole number."""
        value = self.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise EditError(f"{self.where}: {name} must be a whole number, not {value!r}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a required field that must be a list of non-empty strings; the list may be empty."""
        value = self.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            raise EditError(f"{self.where}: {name} must be a list of non-empty strings")
        return tuple(value)

    def nonempty_texts(self, name: str) -> tuple[str, ...]:
        """Return a required field that must be a list of at least one non-empty string."""
        value = self.texts(name)
        if not value:
            raise EditError(f"{self.where}: {name} is an empty list")
        return value

    def prompt(self, name: str) -> Prompt:
        """Return a required field that must be a prompt: a non-empty string, or chat messages, the user's last."""
        return self._checked(self.get(name), name)

    def prompts(self, name: str) -> tuple[Prompt, ...]:
        """Return an optional field that must be a list of prompts, empty if it is missing."""
        values = self.values.get(name)
        if values is None:
            return ()
        if not isinstance(values, list):
            raise EditError(f"{self.where}: {name} must be a list of prompts, not {values!r}")
        return tuple(self._checked(value, f"{name}[{i}]") for i, value in enumerate(values))

    def _checked(self, value: Any, name: str) -> Prompt:
        try:
            return check_prompt(value, name)
        except EditError as error:
            raise EditError(f"{self.where}: {error}") from None

    def leaves(self, name: str) -> tuple[str, ...]:
        """Return the non-empty strings of an optional field: a string, a list of strings, or nested lists."""
        texts = []
        waiting = [self.values.get(name)]
        while waiting:
            value = waiting.pop()
            if isinstance(value, list):
                waiting.extend(reversed(value))
            elif isinstance(value, str):
                texts.append(value)
            elif value is not None:
                raise EditError(f"{self.where}: {name} must be a string or a list of strings, not {value!r}")
        return tuple(text for text in texts if text.strip())

    def entries(self, name: str) -> list[Record]:
        """Return the objects of an optional field: one, a list of objects, or an object with a list for each kind."""
        entries = []
        waiting: list[tuple[str, Any]] = [(f"{self.where}: {name}", self.values.get(name))]
        while waiting:
            where, value = waiting.pop()
            if isinstance(value, list):
                waiting.extend((where, inner) for inner in reversed(value))
            elif isinstance(value, dict) and value and all(isinstance(inner, list) for inner in value.values()):
                waiting.extend((f"{where}.{kind}", inner) for kind, inner in reversed(value.items()))
            elif value:
                entries.append(Record(where, value))
        return entries

    def inner(self, name: str) -> Record:
        """Return the object in a required field as a record, whose errors name that field too."""
        return Record(f"{self.where}: {name}", self.get(name))


def read_records(path: str | Path) -> Iterator[Record]:
    """Yield the rows of a JSONL file or of one JSON list, gzipped or not.

    Raises:
        EditError: if the file cannot be read, a row is no object, or there is no row.
    """
    name, empty = source_name(path), True
    with open_utf8(path, name) as stream:
        for where, values in rows_of(stream, name):
            empty = False
            yield Record(where, values)
    if empty:  # otherwise every metric over no rows would later divide by zero
        raise EditError(f"{name}: no rows in it")
