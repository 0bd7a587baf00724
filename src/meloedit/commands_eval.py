"""``meloedit eval``: score methods on a task under a named protocol."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import MeloEditError
from .options import Device, Dtype, DtypeName, Json
from .terminal import note, progress, put, put_json, saying, shell, table

if TYPE_CHECKING:
    from .terminal import Column

MAIN = (
    "edit_success",
    "generality",
    "portability",
    "locality_near",
    "locality_far",
    "activation_near",
    "activation_far",
)
PAPER = ("f1_edits", "f1_generality", "f1_locality", "accuracy_edits", "accuracy_generality", "accuracy_upstream")
PERPLEXITY = ("ppl_edits", "ppl_accurate", "ppl_locality")
COST = ("edits_per_minute", "answer_time_ratio")


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
    device: str | None = None
    dtype: str | None = None
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


def evaluate(
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="zsre, counterfact, mquake, scotus or hallucination.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="The task's files, in any order; repeatable. hf://datasets/OWNER/NAME/FILE."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="A folder, a hub name, or smollm2.")
    ] = None,
    method: Annotated[str | None, typer.Option(metavar="A,B", help="Methods; default: melo.")] = None,
    edits: Annotated[int | None, typer.Option(metavar="N", min=1, help="Make the first N edits of the seed.")] = None,
    protocol: Annotated[
        str | None, typer.Option(metavar="A,B", help="retention (default), teacher-forced, immediate, paper.")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="The run's folder; a run there goes on.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of the order of the edits; default: 0.")] = None,
    rephrases: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Rephrasings of each edit that are scored; default: all.")
    ] = None,
    near: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Near prompts of each edit that are scored; default: all.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Far prompts (of each kind), upstream and accurate ones; default: 500."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Score after every N edits too, for growth curves.")
    ] = None,
    prefixes: Annotated[
        bool, typer.Option("--prefixes", help="Score edits behind five system prompts and lead-ins too.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METHOD.NAME=VALUE", help="A method's setting; repeatable."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same as TOML: task = ..., [settings.grace] eps = 3.")
    ] = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Score editing methods on a task.

    All edits first, then answers by free generation, on rephrasings that were never trained, beside the unedited model:
    see docs/evaluation.md. A run that was interrupted goes on where it stopped.

    Example: meloedit eval --task zsre --data facts.jsonl --model smollm2 --method melo,grace --edits 100 --out run
    """
    given = {"task": task, "data": data, "model": model, "method": _names(method), "edits": edits, "out": out}
    given |= {"protocol": _names(protocol), "seed": seed, "rephrases": rephrases, "limit": limit}
    given |= {"near": near, "every": every}
    given |= {"prefixes": prefixes or None, "device": device, "dtype": dtype and dtype.value}
    asked = read_asked(config, given, settings or [])
    from .evaluation.folder import RunFolder, alone

    folder = Path(asked.out)
    plans = _plans(asked)
    kept = f"what is finished is kept in {shell(folder)}: the same command goes on"
    with alone(folder), saying(lambda: kept), progress() as tell:
        results = []
        for plan in plans:
            own = folder if len(asked.protocol) == 1 else folder / plan.protocol
            run = RunFolder(own, plan.identity(), folder / "states")
            results.append((own, _run(asked, plan, run, tell)))
    if as_json:
        put_json(results[0][1] if len(results) == 1 else [result for _, result in results])
        return
    for own, result in results:
        _show(own, result)


def _names(text: str | None) -> list[str] | None:
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
        if name in ("data", "method", "protocol") and isinstance(value, str):
            value = [value] if name == "data" else _names(value)
        _check_kind(f"{config}: {name}", name, value)
        setattr(asked, name, value)
    for name, value in given.items():
        if value is not None and (value != [] or name != "data"):
            setattr(asked, name, value)
    for method, setting, value in map(_setting, settings):
        asked.settings.setdefault(method, {})[setting] = value
    asked.method, asked.protocol = list(dict.fromkeys(asked.method)), list(dict.fromkeys(asked.protocol))
    for name in ("task", "data", "model", "out", "method", "protocol"):
        if not getattr(asked, name) or (name == "data" and not all(map(str.strip, asked.data))):
            raise MeloEditError(f"--{name} is missing: give it, or {name} = ... in a file for --config")
    return asked


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


_LISTS, _TEXTS = ("data", "method", "protocol"), ("task", "model", "out", "device", "dtype")


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
    if name == "prefixes" and not isinstance(value, bool):
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


def _plans(asked: Asked) -> list[Any]:
    """Check all that can be checked before any work, and read the task's files."""
    from .evaluation.plan import PROTOCOLS, Plan
    from .evaluation.tasks import load_task
    from .methods import METHODS, method_class

    for protocol in asked.protocol:
        if protocol not in PROTOCOLS:
            raise MeloEditError(f"no protocol {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    if len(asked.protocol) > 1 and (asked.every or {"immediate", "paper"} & set(asked.protocol)):
        raise MeloEditError("--protocol: retention and teacher-forced alone can share a run, and without --every")
    methods = [method_class(name) for name in asked.method]
    if strange := [name for name in asked.settings if name not in asked.method]:
        known = "is not among --method" if strange[0] in METHODS else f"is no method; there are: {', '.join(METHODS)}"
        raise MeloEditError(f"a setting is given for {strange[0]!r}, which {known}")
    settings = {kind.name: asked.settings.get(kind.name, {}) for kind in methods}
    for kind in methods:
        kind.read_settings(settings[kind.name])
    task = load_task(asked.task, asked.data, asked.seed, asked.protocol[0], asked.rephrases, asked.near)
    if not task.only_wrong:
        task.take(asked.edits)
    for kind in methods:
        kind.check_task(task.name, task.kind)
    more = {name: getattr(asked, name) for name in ("rephrases", "near", "device", "dtype")}
    own = (asked.edits, asked.seed, asked.limit, asked.every, asked.prefixes)
    return [Plan(task, protocol, asked.model, settings, *own, more) for protocol in asked.protocol]


def _run(asked: Asked, plan: Any, folder: Any, tell: Any) -> dict[str, Any]:
    from functools import partial

    from .evaluation.run import Runner
    from .opening import load

    load_quietly = partial(load, asked.model, asked.device, asked.dtype, lambda what, done, of: None)
    tell(f"loading {asked.model}", 0, 1)
    for name, count in plan.task.left_out():
        note(f"{plan.task.name}: {count:,} {name} left out")
    return Runner(plan, folder, load_quietly, tell).run()


def _show(folder: Path, result: Mapping[str, Any]) -> None:
    """Print the main figures."""
    methods = result["methods"]
    shown = [n for n in (*MAIN, *PAPER, *PERPLEXITY, *COST) if any(n in figures for figures in methods.values())]
    columns: list[Column] = ["method", *((name.replace("_", " "), {"justify": "right"}) for name in shown)]
    rows = [[name, *(_cell(own.get(metric)) for metric in shown)] for name, own in methods.items()]
    put(f"{result['task']}, {result['protocol']}, {result['edits']:,} edits on {result['model']}")
    table(columns, rows)
    put("")
    put(f"in {shell(folder)}: result.json, observations; for a page: meloedit report {shell(folder)}")


def _cell(figure: Mapping[str, Any] | None) -> str:
    return "–" if figure is None else f"{figure['value']:.3g}" if figure["value"] >= 10 else f"{figure['value']:.3f}"
