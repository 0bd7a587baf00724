"""Settings of a method: a frozen dataclass whose values are checked against the types of its defaults."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from ..errors import MeloEditError

AnySettings = TypeVar("AnySettings", bound="Settings")


@dataclass(frozen=True)
class Settings:
    """Settings that all methods have; each method has a subclass with more.

    Attributes:
        any_sign: names of numbers that may have any sign.
        from_zero: names of numbers that may be 0, but not negative; others must be positive.
        shares: names of numbers that lie between 0 and 1.
        fixed: names of settings that cannot be chosen: they have their defaults.
        files: names of settings that name files, whose content then belongs to the settings.
        edits_per_call: how many edits the method gets at once.
        seed: seed of the method's random numbers.

    Raises:
        MeloEditError: if a value is not of its default's type, or a number is out of range.
    """

    any_sign: ClassVar[tuple[str, ...]] = ("seed",)
    from_zero: ClassVar[tuple[str, ...]] = ()
    shares: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()
    edits_per_call: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            self._check(item.name, item.default, getattr(self, item.name))

    def _check(self, name: str, default: Any, value: Any) -> None:
        """Raise a MeloEditError if a value is not of its default's type, out of range, or cannot be chosen."""
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise MeloEditError(f"{name} must be true or false, not {value!r}")
        elif isinstance(default, str):
            if not isinstance(value, str):
                raise MeloEditError(f"{name} must be a text, not {value!r}")
        elif isinstance(default, (int, float)):
            self._check_number(name, isinstance(default, int), value)
        if name in self.fixed and value != default:
            raise MeloEditError(f"{name} must be {default!r}: it cannot be chosen")

    def _check_number(self, name: str, whole: bool, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise MeloEditError(f"{name} must be a {'whole ' if whole else ''}number, not {value!r}")
        if name in self.shares and not 0 <= value <= 1:
            raise MeloEditError(f"{name} must lie between 0 and 1, not {value!r}")
        free = name in (*self.any_sign, *self.from_zero, *self.shares)
        if not (-math.inf < value < math.inf and (value > 0 or free)):
            raise MeloEditError(f"{name} must be positive and finite, not {value!r}")
        if value < 0 and name in self.from_zero:
            raise MeloEditError(f"{name} must not be negative, not {value!r}")


def read_settings(method: str, kind: type[AnySettings], values: Mapping[str, Any]) -> AnySettings:
    """Return a method's settings, with its defaults for those that are not given.

    Args:
        method: the method's name, for errors.
        kind: the method's settings.
        values: the values to set, by name.

    Raises:
        MeloEditError: if there is no such setting, or a value does not fit it.
    """
    known = [item.name for item in dataclasses.fields(kind)]
    if unknown := sorted(set(values) - set(known)):
        names = ", ".join(name for name in known if name not in kind.fixed)
        raise MeloEditError(f"method {method} has no setting {unknown[0]!r}; it has: {names}")
    try:
        return kind(**values)
    except MeloEditError as error:
        raise MeloEditError(f"method {method}: {error}") from None
