"""The options of ``meloedit eval``: those of the command line, the rest from a configuration file."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import MeloEditError
from ..settings import parse_setting
from .options import Address, Device, Dtype, DtypeName, ExecutorChoice, ExecutorName, Json, Workers, split_names


@dataclass(frozen=True)
class GivenOptions:
    """The options of the command line; those that were not given are ``None``, false or empty."""

    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="zsre (or your questions), counterfact, mquake, knowedit, ripple, scotus, hallucination, helpdesk, "
            "pairs (--routing).",
        ),
    ] = None
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="The task's files, in any order; repeatable. hf://datasets/OWNER/NAME/FILE."),
    ] = None
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="A folder, a hub name, or smollm2.")
    ] = None
    method: Annotated[
        str | None, typer.Option(metavar="A,B", help="Methods, also of other packages; default: melo.")
    ] = None
    edits: Annotated[int | None, typer.Option(metavar="N", min=1, help="Make the first N edits of the seed.")] = None
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="retention (default), teacher-forced, immediate, single, paper; of two each has a subfolder of --out.",
        ),
    ] = None
    out: Annotated[str | None, typer.Option(metavar="DIR", help="The run's folder; a run there goes on.")] = None
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of the order of the edits; default: 0.")] = None
    rephrases: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Rephrasings of each edit that are scored; default: all.")
    ] = None
    near: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Near prompts of each edit that are scored; default: all.")
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Far prompts (of each kind), upstream and accurate ones; default: 500."),
    ] = None
    every: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Score after every N edits too, for growth curves.")
    ] = None
    prefixes: Annotated[
        bool, typer.Option("--prefixes", help="Score edits behind five system prompts and lead-ins too.")
    ] = False
    routing: Annotated[
        bool, typer.Option("--routing", help="Measure which edits prompts reach; nothing is trained.")
    ] = False
    distractors: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="With --routing: edits stored beside the task's, not scored; repeatable."),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METHOD.NAME=VALUE", help="A method's setting; repeatable."),
    ] = None
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same as TOML: task = ..., [settings.grace] eps = 3.")
    ] = None
    executor: ExecutorChoice = ExecutorName.local
    workers: Workers = None
    address: Address = None
    device: Device = None
    dtype: DtypeName = None
    as_json: Json = False


@dataclass
class EvalOptions:
    """What to run, with defaults; the fields are also the names that a configuration file may have."""

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


def read_options(given: GivenOptions) -> EvalOptions:
    """Return the options of the command line, and for those not given, those of its configuration file.

    Raises:
        MeloEditError: if an option or a value is wrong, or something that is needed is in neither place.
    """
    options = EvalOptions()
    known = {name: type(getattr(options, name)) for name in options.__dataclass_fields__}
    for name, value in (_read_config(given.config) if given.config else {}).items():
        if name not in known:
            raise MeloEditError(f"{given.config}: no option {name!r}; there are: {', '.join(known)}")
        if name in _LISTS and isinstance(value, str):
            value = [value] if name in _FILES else split_names(value)
        _check_kind(f"{given.config}: {name}", name, value)
        setattr(options, name, value)
    for name, value in _values(given).items():
        setattr(options, name, value)
    _add_settings(options, given.settings or [])
    if options.routing:
        options.protocol = _routing_protocol(options)
    _check_files(options)
    options.method, options.protocol = list(dict.fromkeys(options.method)), list(dict.fromkeys(options.protocol))
    for name in ("task", "data", "model", "out", "method", "protocol"):
        if not getattr(options, name) or (name == "data" and not all(map(str.strip, options.data))):
            raise MeloEditError(f"--{name} is missing: give it, or {name} = ... in a file for --config")
    return options


def _values(given: GivenOptions) -> dict[str, Any]:
    """Return the options of the command line that were given and stand for themselves, as a file would have them."""
    others = ("settings", "config", "executor", "workers", "address", "as_json")
    values = {name: value for name, value in vars(given).items() if name not in others}
    values |= {name: split_names(value) for name in ("method", "protocol") if (value := values[name]) is not None}
    values["dtype"] = given.dtype and given.dtype.value
    unset = {name for name, value in values.items() if value is None or value is False}
    unset |= {name for name in _FILES if values[name] == []}
    return {name: value for name, value in values.items() if name not in unset}


def _check_files(options: EvalOptions) -> None:
    for name, files in (("data", options.data), ("distractors", options.distractors)):
        if repeated := [path for i, path in enumerate(files) if path in files[:i]]:
            raise MeloEditError(f"--{name}: {repeated[0]} is given twice")
        if not all(path.strip() for path in files):
            raise MeloEditError(f"--{name}: give the name of a file, not an empty text")


def _routing_protocol(options: EvalOptions) -> list[str]:
    """Return the protocol of a run that measures routing alone; refuse options that need more than routing."""
    if options.protocol not in (["retention"], ["routing"]) or options.every:
        raise MeloEditError("--routing goes without --protocol and --every: nothing is trained, and nothing answers")
    return ["routing"]


def _add_settings(options: EvalOptions, settings: Sequence[str]) -> None:
    """Add ``METHOD.NAME=VALUE`` texts to the settings of the methods."""
    form = "METHOD.NAME=VALUE, as in grace.eps=3"
    for item in settings:
        names, value = parse_setting(item, form)
        method, dot, name = names.partition(".")
        if not dot or not name:
            raise MeloEditError(f"--set {item}: give {form}")
        options.settings.setdefault(method, {})[name] = value


_FILES = ("data", "distractors")
_LISTS = (*_FILES, "method", "protocol")
_TEXTS = ("task", "model", "out", "device", "dtype")


def _check_kind(where: str, name: str, value: Any) -> None:
    """Refuse a value of the wrong kind from a file; typer checks those of the command line."""
    texts = isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
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
    if name == "settings" and not (isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())):
        raise MeloEditError(f"{where} must be tables by method, as in [settings.grace]")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MeloEditError(f"{path}: cannot be read ({error.strerror})") from None
    except RecursionError:
        raise MeloEditError(f"{path}: not TOML that can be read (nested too deeply)") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MeloEditError(f"{path}: not TOML ({error})") from None
