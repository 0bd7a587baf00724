"""Settings from NAME=VALUE texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .config import MeloConfig
from .errors import ModelError

_PYTHON = {"None": None, "True": True, "False": False}
"""Values that are no JSON, but that whoever knows the Python names writes."""


def read_config(
    given: dict[str, Any], settings: Sequence[str], paper: bool = False, preset: str | None = None
) -> MeloConfig:
    """Return the settings of options, those that were given, and of ``NAME=VALUE`` texts; in paper mode if wanted.

    Raises:
        ModelError: if there is no such setting, or it cannot have this value.
    """
    values = {name: value for name, value in given.items() if value is not None}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ModelError(f"--set {setting}: give NAME=VALUE")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = _PYTHON.get(text, text)
        except RecursionError:
            raise ModelError(f"--set {name}: the value is nested too deeply") from None
    rank = values.get("rank")
    if isinstance(rank, int) and not paper:  # who asks for a rank above the largest tried wants that raised as well
        values.setdefault("max_rank", max(rank, MeloConfig.max_rank))
    try:
        if not paper:
            _refuse_paper(values)
            return MeloConfig.from_dict(values)
        if "preset" in values:
            raise ModelError("--set preset: use --preset NAME")
        return MeloConfig.paper(preset, **values)
    except TypeError as error:
        raise ModelError(f"a setting has a value of the wrong kind ({error})") from None


def _refuse_paper(values: dict[str, Any]) -> None:
    if values.get("mode") == "paper" or values.get("preset") is not None:
        raise ModelError("paper mode is chosen with --paper or --preset NAME, not with --set")
