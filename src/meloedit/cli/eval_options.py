"""What ``meloedit eval`` is asked for, from options and a configuration file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import MeloEditError
from .options import Dtype


@dataclass
class Asked:
    """What is to be run, from options and a configuration file."""

    task: str = ""
    data: list[str] = field(default_factory=list)
    model: str = ""
    method: list[str] = field(default_factory=lambda: ["melo"])
    protocol: list[str] = field(default_factory=lambda: ["retention"])
    out: str = ""
    edits: int | None = None
    seed: int = 0
    rephrases: int | None = None
    near: int | None = None
    limit: int | None = 500
    every: int | None = None
    prefixes: bool = False
    routing: bool = False
    distractors: list[str] = field(default_factory=list)
    device: str | None = None
    dtype: str | None = None
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


def names_of(text: str | None) -> list[str] | None:
    """Return the names in a list separated by commas."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def read_asked(config: Path | None, given: Mapping[str, Any], settings: Sequence[str]) -> Asked:
    """Return what options ask for, the rest from a configuration file.

    Raises:
        MeloEditError: if either holds what there is not, or something that is needed is in neither.
    """
    asked = Asked()
    known = {name: type(getattr(asked, name)) for name in asked.__dataclass_fields__}
    values = _config(config) if config else {}
    for name, value in values.items():
        if name not in known:
            raise MeloEditError(f"{config}: no option {name!r}; there are: {', '.join(known)}")
        if name in _LISTS and isinstance(value, str):
            value = [value] if name in ("data", "distractors") else names_of(value)
        _check_kind(f"{config}: {name}", name, value)
        setattr(asked, name, value)
    for name, value in given.items():
        if value is not None and (value != [] or name not in ("data", "distractors")):
            setattr(asked, name, value)
    for method, setting, value in map(_setting, settings):
        asked.settings.setdefault(method, {})[setting] = value
    if asked.routing:
        asked.protocol = _routing_only(asked)
    _check_files(asked)
    asked.method, asked.protocol = list(dict.fromkeys(asked.method)), list(dict.fromkeys(asked.protocol))
    for name in ("task", "data", "model", "out", "method", "protocol"):
        if not getattr(asked, name) or (name == "data" and not all(map(str.strip, asked.data))):
            raise MeloEditError(f"--{name} is missing: give it, or {name} = ... in a file for --config")
    return asked


def _check_files(asked: Asked) -> None:
    for name, files in (("data", asked.data), ("distractors", asked.distractors)):
        if twice := [path for i, path in enumerate(files) if path in files[:i]]:
            raise MeloEditError(f"--{name}: {twice[0]} is given twice")
        if not all(path.strip() for path in files):
            raise MeloEditError(f"--{name}: give the name of a file, not an empty text")


def _routing_only(asked: Asked) -> list[str]:
    """Return the protocol of a run that measures routes; refuse what it does not do."""
    if asked.protocol not in (["retention"], ["routing"]) or asked.every:
        raise MeloEditError("--routing goes without --protocol and --every: nothing is trained, and nothing answers")
    return ["routing"]


def _setting(item: str) -> tuple[str, str, Any]:
    """Return method, name and value of ``METHOD.NAME=VALUE``; a value that is no JSON is a text."""
    name, dot, rest = item.partition(".")
    setting, equals, text = rest.partition("=")
    if not dot or not equals or not setting:
        raise MeloEditError(f"--set {item}: give METHOD.NAME=VALUE, as in grace.eps=3")
    try:
        return name, setting, json.loads(text)
    except ValueError:
        return name, setting, text
    except RecursionError:
        raise MeloEditError(f"--set {name}.{setting}: the value is nested too deeply") from None


_LISTS, _TEXTS = ("data", "distractors", "method", "protocol"), ("task", "model", "out", "device", "dtype")


def _check_kind(where: str, name: str, value: Any) -> None:
    """Refuse a value of the wrong kind from a file; options have kinds already."""
    texts = isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name in _LISTS and not texts:
        raise MeloEditError(f"{where} must be a text or a list of texts, not {value!r}")
    if name in _TEXTS and not isinstance(value, str):
        raise MeloEditError(f"{where} must be a text, not {value!r}")
    if name == "dtype" and value not in list(Dtype):
        raise MeloEditError(f"{where} must be one of {', '.join(Dtype)}, not {value!r}")
    if name in ("prefixes", "routing") and not isinstance(value, bool):
        raise MeloEditError(f"{where} must be true or false, not {value!r}")
    if name in ("edits", "rephrases", "near", "limit", "every", "seed") and (
        not whole or (value < 1 and name != "seed")
    ):
        raise MeloEditError(f"{where} must be a positive whole number, not {value!r}")
    if name == "settings" and not (isinstance(value, dict) and all(isinstance(own, dict) for own in value.values())):
        raise MeloEditError(f"{where} must be tables by method, as in [settings.grace]")


def _config(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MeloEditError(f"{path}: cannot be read ({error.strerror})") from None
    except RecursionError:
        raise MeloEditError(f"{path}: not TOML that can be read (nested too deeply)") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MeloEditError(f"{path}: not TOML ({error})") from None
