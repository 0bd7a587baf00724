"""Reading a run folder for a report; observations are summarised line by line, since they may not fit into memory."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import MeloEditError
from ...text import counted
from ..metrics.observation import LONGEST, problem
from ..run.plan import PROTOCOLS
from .cases import WorstCases, is_bad
from .values import finite, number, short

RESULT = "result.json"
OBSERVATIONS = "observations"


@dataclass(frozen=True)
class StoredEstimate:
    """A figure as a file has it: value, interval, number of rows. Each may be missing, NaN or infinite."""

    value: float | None
    ci: tuple[float | None, float | None] | None = None
    n: float | None = None


@dataclass
class ObservationSummary:
    """The summary of a method's observations.

    Attributes:
        rows: how many there are.
        torn: whether the last line is incomplete, since the run was still writing it.
        routes: by set, how often prompts were routed right, wrong, to none.
        distances: by set, the finite distances.
        thresholds: the finite thresholds.
        worst: by set, the worst cases.
    """

    rows: int = 0
    torn: bool = False
    routes: dict[str, Counter[str]] = field(default_factory=dict)
    distances: dict[str, array[float]] = field(default_factory=dict)
    thresholds: array[float] = field(default_factory=lambda: array("d"))
    worst: dict[str, WorstCases] = field(default_factory=dict)

    def add(self, row: dict[str, Any]) -> None:
        """Add one observation."""
        self.rows += 1
        where = row["set"]
        if isinstance(routed := row.get("routed"), str):
            self.routes.setdefault(where, Counter())[routed] += 1
        distance, threshold = number(row.get("distance")), number(row.get("threshold"))
        if finite(distance):
            self.distances.setdefault(where, array("d")).append(distance or 0.0)
        if finite(threshold):
            self.thresholds.append(threshold or 0.0)
        if is_bad(where, row):
            self.worst.setdefault(where, WorstCases()).add(row)


@dataclass(frozen=True)
class Run:
    """A run folder's contents.

    Attributes:
        folder: the folder.
        result: the content of result.json.
        methods: each method's figures by metric.
        growth: each method's growth curve: number of edits and the figures by metric, in rising order.
        seen: the summary of each method's observations, if it has any.
    """

    folder: Path
    result: dict[str, Any]
    methods: dict[str, dict[str, StoredEstimate]]
    growth: dict[str, list[tuple[float, dict[str, StoredEstimate]]]]
    seen: dict[str, ObservationSummary]

    @property
    def finished(self) -> bool:
        """Whether all methods are done."""
        return self.result.get("finished") is True

    @property
    def edits(self) -> float | None:
        """The number of edits."""
        return number(self.result.get("edits"))

    @property
    def routing(self) -> bool:
        """Whether routes alone were measured."""
        return self.result.get("protocol") == "routing"

    def unscoped(self) -> list[str]:
        """Return the methods without a threshold, which route every prompt to its nearest edit."""
        return [name for name, seen in self.seen.items() if self.routing and seen.rows and not seen.thresholds]

    def text(self, name: str) -> str:
        """Return one of the texts of result.json, or a dash."""
        return short(str(self.result.get(name) or "–"))

    def names(self) -> list[str]:
        """Return the methods with figures, a growth curve or observations."""
        return list(dict.fromkeys([*self.methods, *self.growth, *self.seen]))

    def progress(self) -> str:
        """Return in words how much of the run is done."""
        if self.finished:
            return "finished"
        reached = {name: f"{points[-1][0]:,.0f}" for name, points in self.growth.items() if points}
        parts = [f"{name} {reached.get(name, '?')}" if name in reached else name for name in self.names()]
        if not parts:
            return "unfinished: no method has figures yet"
        known = self.edits is not None and finite(self.edits) and reached
        of = f" of {counted(int(self.edits or 0), 'edit')}" if known else ""
        return f"unfinished: so far {', '.join(map(short, parts))}{of}"


def parts_of(folder: Path) -> list[Path]:
    """Return the run folders in a folder: itself, or the folders of its protocols in their order."""
    parts = [folder / name for name in PROTOCOLS if (folder / name / RESULT).is_file()]
    return [folder] if (folder / RESULT).is_file() or not parts else parts


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        MeloEditError: if it is no run folder, or a file in it is damaged; the message names file and line.
    """
    if not folder.is_dir():
        raise MeloEditError(f"{folder} is no folder: give the folder of a run, made with meloedit eval --out DIR")
    path = folder / RESULT
    if not path.is_file():
        raise MeloEditError(
            f"{folder} is no run folder: it has no {RESULT}; a run is made with meloedit eval --out DIR"
        )
    run = read_result(path)
    result, methods, growth = run.result, run.methods, run.growth
    names = [*methods, *growth, *sorted(file.stem for file in (folder / OBSERVATIONS).glob("*.jsonl"))]
    seen = {}
    for name in dict.fromkeys(names):
        file = folder / OBSERVATIONS / f"{name}.jsonl"
        if (
            "\0" not in name and file.parent.name == OBSERVATIONS and file.is_file()
        ):  # a name must not lead out of the folder
            seen[name] = _read_observations(file, result.get("finished") is True)
    return Run(folder, result, methods, growth, seen)


def read_result(path: Path) -> Run:
    """Read a file of results, without the observations beside it.

    Raises:
        MeloEditError: if it cannot be read, or is damaged; the message names file and line.
    """
    result = _read_json(path)
    methods = {name: _figures(path, f"methods.{name}", given) for name, given in _table(path, result, "methods")}
    growth = {name: _points(path, name, given) for name, given in _table(path, result, "growth")}
    return Run(path.parent, result, methods, growth, {})


def _read_json(path: Path) -> dict[str, Any]:
    data = _bytes(path)
    try:
        value = json.loads(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MeloEditError(f"{path}, line {line}: damaged (not UTF-8 text)") from None
    except json.JSONDecodeError as error:
        raise MeloEditError(f"{path}, line {error.lineno}: damaged ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise MeloEditError(f"{path}: damaged ({error})") from None
    if not isinstance(value, dict):
        raise MeloEditError(f"{path}, line 1: damaged (no JSON object)")
    return value


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MeloEditError(f"{path} cannot be read ({error.strerror})") from None


def _read_observations(path: Path, finished: bool) -> ObservationSummary:
    seen = ObservationSummary()
    try:
        with open(path, "rb") as stream:
            for count, line in enumerate(iter(lambda: stream.readline(LONGEST + 1), b""), 1):
                if len(line) > LONGEST:
                    raise MeloEditError(f"{path}, line {count}: damaged (longer than {LONGEST:,} bytes)")
                if not line.strip():
                    continue
                if not finished and not line.endswith(b"\n"):
                    seen.torn = True  # the run was still writing it
                    break
                seen.add(_observation(line, f"{path}, line {count}"))
    except OSError as error:
        raise MeloEditError(f"{path} cannot be read ({error.strerror})") from None
    return seen


def _observation(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MeloEditError(f"{where}: damaged ({getattr(error, 'msg', None) or 'not UTF-8 JSON'})") from None
    if (why := problem(row)) is not None:
        raise MeloEditError(f"{where}: damaged ({why})")
    return dict(row)


def _table(path: Path, result: dict[str, Any], name: str) -> list[tuple[str, Any]]:
    given = result.get(name)
    if given is None:
        return []
    if not isinstance(given, dict):
        raise MeloEditError(f"{path}: damaged ({name} is no JSON object)")
    return list(given.items())


def _figures(path: Path, where: str, given: Any) -> dict[str, StoredEstimate]:
    if not isinstance(given, dict):
        raise MeloEditError(f"{path}: damaged ({short(where)} is no JSON object)")
    return {name: _measured(path, f"{where}.{name}", value) for name, value in given.items()}


def _points(path: Path, name: str, given: Any) -> list[tuple[float, dict[str, StoredEstimate]]]:
    points: list[tuple[float, dict[str, StoredEstimate]]] = []
    for at, point in enumerate(given if isinstance(given, list) else [None]):
        where = f"growth.{name}[{at}]"
        edits = number(point.get("edits")) if isinstance(point, dict) else None
        if edits is None or not finite(edits):
            raise MeloEditError(f"{path}: damaged ({short(where)} has no number of edits)")
        rest = {metric: value for metric, value in point.items() if metric != "edits"}
        points.append((edits, _figures(path, where, rest)))
    return sorted(points, key=lambda point: point[0])


def _measured(path: Path, where: str, given: Any) -> StoredEstimate:
    values: Mapping[str, Any] = given if isinstance(given, dict) else {"value": given}
    value, ci = values.get("value"), values.get("ci")
    numbers = [value, *(ci if isinstance(ci, list) else [])]
    wrong = any(item is not None and number(item) is None for item in numbers)
    if wrong or not (ci is None or isinstance(ci, list) and len(ci) == 2):
        raise MeloEditError(f"{path}: damaged ({short(where)} is no figure with value, ci and n)")
    interval = (number(ci[0]), number(ci[1])) if ci is not None else None
    return StoredEstimate(number(value), interval, number(values.get("n")))
