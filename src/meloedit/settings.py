"""Read settings written as NAME=VALUE, as the command line takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from .config import SCOPE_SETTINGS, MeloConfig, raise_max_rank
from .errors import ModelError
from .paper.config import PaperConfig

_PYTHON = {"None": None, "True": True, "False": False}
"""Python's names for values that JSON spells otherwise; users write both."""


def parse_setting(text: str, form: str = "NAME=VALUE") -> tuple[str, Any]:
    """Return the name and the value of a setting; a value that is neither JSON nor a Python name stays a text.

    Args:
        text: the setting, ``NAME=VALUE``.
        form: what an error asks for.

    Raises:
        ModelError: if the text has no ``=``, or the value is nested too deeply.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ModelError(f"--set {text}: give {form}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, _PYTHON.get(value, value)
    except RecursionError:
        raise ModelError(f"--set {name}: the value is nested too deeply") from None


def read_config(
    given: dict[str, Any], settings: Sequence[str], paper: bool = False, preset: str | None = None
) -> MeloConfig:
    """Return the settings of options, those that were given, and of ``NAME=VALUE`` texts; in paper mode if wanted.

    Raises:
        ModelError: if there is no such setting, or it cannot have this value.
    """
    values = {name: value for name, value in given.items() if value is not None}
    values |= map(parse_setting, settings)
    try:
        if not paper:
            _refuse_paper(values)
            return MeloConfig.from_dict(raise_max_rank(values))
        if foreign := [name for name in SCOPE_SETTINGS if values.get(name) is not None]:
            raise ModelError(f"setting {foreign[0]!r} is of the default mode: in paper mode the radius is the scope")
        if "preset" in values:
            raise ModelError("--set preset: use --preset NAME")
        return PaperConfig.from_dict(values) if preset is None else PaperConfig.from_preset(preset, **values)
    except TypeError as error:
        raise ModelError(f"a setting has a value of the wrong kind ({error})") from None


def _refuse_paper(values: dict[str, Any]) -> None:
    default = {item.name for item in fields(MeloConfig)}
    if foreign := sorted(set(values) & {item.name for item in fields(PaperConfig)} - default - {"preset"}):
        raise ModelError(f"setting {foreign[0]!r} is of paper mode: choose that with --paper or --preset NAME")
    if values.get("mode") == "paper" or values.get("preset") is not None:
        raise ModelError("paper mode is chosen with --paper or --preset NAME, not with --set")
