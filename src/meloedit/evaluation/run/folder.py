"""The folder of a run: its configuration, the parts done so far, and the results.

``run.json`` holds the run's configuration; a folder of another configuration is refused. ``result.json`` has the
figures, ``observations/METHOD.jsonl`` one line for every scored prompt. A killed run continues from ``parts``, the
observations so far, and from ``states/METHOD``, the edited state with the progress of editing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from filelock import FileLock, Timeout

from ...errors import MeloEditError
from ...files import make_folder, write_bytes, write_json
from ..metrics.estimates import Estimate
from ..metrics.observation import problem

if TYPE_CHECKING:
    from ..metrics.observation import Observation

LOCK = ".lock"


class RunFolder:
    """A run's folder.

    Args:
        path: the folder; created if missing.
        configuration: the run's configuration, JSON-ready.
        states: folder of edited states; by default inside ``path``. Runs of several protocols share it.
        answers: folder of the unedited model's answers; by default ``states``. Runs of one model can share it.

    Attributes:
        computed: how many parts were computed rather than read.

    Raises:
        MeloEditError: if the folder holds a run of another configuration or other files, or cannot be written.
    """

    def __init__(
        self, path: Path, configuration: Mapping[str, Any], states: Path | None = None, answers: Path | None = None
    ) -> None:
        self.path = make_folder(path)
        self.computed = 0
        self.states = make_folder(states or path / "states")
        self._answers = answers or self.states
        self._configuration: Any = json.loads(json.dumps(configuration))
        here = self._configuration
        there = read_json(path / "run.json", dict, f"remove {path}, or choose another --out")
        if there is None:
            if any(entry.name not in ("states", LOCK) for entry in path.iterdir()):
                raise MeloEditError(f"{path} is not empty and holds no run: choose another folder for --out")
        elif there != here:
            names = [name for name in here if there.get(name) != here[name]] or ["another version's settings"]
            difference = f"{names[0]} is {there.get(names[0])!r} there, {here.get(names[0])!r} here"
            raise MeloEditError(f"{path} holds a run of another configuration ({difference}): choose another --out")

    def _begin(self) -> None:
        """Write the configuration, once there is something to store."""
        if not (self.path / "run.json").exists():
            write_json(self.path / "run.json", self._configuration)

    def part(self, name: str, count: int, compute: Callable[[], list[Observation]]) -> list[Observation]:
        """Return the ``count`` observations stored under a name; compute and store them if they are missing."""
        self._begin()
        path = self.path / "parts" / f"{name}.json"
        stored = read_json(path)
        if isinstance(stored, list) and len(stored) == count:
            for number, row in enumerate(stored, 1):
                if (why := problem(row)) is not None:
                    raise MeloEditError(f"{path}, row {number}: damaged ({why}): remove the file, it is computed anew")
            return stored
        rows = compute()
        self.computed += 1
        make_folder(path.parent)
        text = json.dumps(rows)
        write_bytes(path, text.encode())
        return list(json.loads(text))  # what a later run will read

    def base_answers(self, name: str, count: int, compute: Callable[[], list[str]]) -> list[str]:
        """Return ``count`` answers of the unedited model, which runs can share; compute them if they are missing."""
        self._begin()
        path = self._answers / f"{name}.json"
        stored = read_json(path)
        if isinstance(stored, list) and len(stored) == count:
            return stored
        answers = compute()
        make_folder(path.parent)
        write_bytes(path, json.dumps(answers).encode())
        return answers

    def observations(self, method: str) -> Path:
        """Return the path of a method's observations."""
        return self.path / "observations" / f"{method}.jsonl"

    def write_observations(self, method: str, rows: Sequence[Observation]) -> None:
        """Write all observations of a method."""
        self._begin()
        path = self.observations(method)
        make_folder(path.parent)
        write_bytes(path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write the figures."""
        write_json(self.path / "result.json", result)


class EditingPart(TypedDict):
    """One call of a method's ``edit``: how many edits, wall-clock seconds, processor seconds."""

    edits: int
    seconds: float
    processor: float


class EditingProgress:
    """How many edits a method has made, stored beside its state, so that a killed run can continue.

    Args:
        folder: the method's folder; created if missing.
        run_key: hash of everything that the state depends on.

    Raises:
        MeloEditError: if the folder holds the state of other settings, or the file is damaged.
    """

    def __init__(self, folder: Path, run_key: str) -> None:
        self.folder = make_folder(folder)
        self._path = folder / "progress.json"
        stored = read_json(self._path, dict, f"remove {folder}, and the edits are made anew")
        if stored is not None and stored.get("identity") != run_key:
            advice = f"choose another --out, or remove {folder}"
            raise MeloEditError(f"{folder} holds edits made with other settings: {advice}")
        if stored is not None and not _is_progress(stored):
            raise MeloEditError(f"{self._path} is damaged: remove {folder}, and the edits are made anew")
        self._stored: dict[str, Any] = stored or {"identity": run_key, "done": 0, "state": None, "parts": []}

    @property
    def done(self) -> int:
        """How many edits are made."""
        return int(self._stored["done"])

    @property
    def state(self) -> Any:
        """The method's checkpoint after these edits; ``None`` before the first."""
        return self._stored["state"]

    @property
    def parts(self) -> list[EditingPart]:
        """What each call of the method took, in order."""
        return list(self._stored["parts"])

    def advance(self, done: int, state: Mapping[str, Any], seconds: float, processor: float) -> None:
        """Store that ``done`` edits are made, the method's checkpoint, and what the last part took."""
        part: EditingPart = {"edits": done - self.done, "seconds": seconds, "processor": processor}
        self._stored = self._stored | {"done": done, "state": dict(state), "parts": [*self.parts, part]}
        self._stored.pop("answer_time", None)
        write_json(self._path, self._stored)

    def answer_time(self, measure: Callable[[], Estimate]) -> Estimate:
        """Return how long answers take after these edits; it is measured once for all protocols."""
        stored = self._stored.get("answer_time")
        if stored is None:
            stored = asdict(measure())
            self._stored = self._stored | {"answer_time": stored}
            write_json(self._path, self._stored)
        return Estimate(**stored)


def _is_progress(stored: Mapping[str, Any]) -> bool:
    """Whether the numbers of a file add up to the edits that it says are made."""
    done, parts, state = stored.get("done"), stored.get("parts"), stored.get("state")
    if not isinstance(done, int) or not isinstance(parts, list) or (done and not isinstance(state, dict)):
        return False
    timed = stored.get("answer_time")
    if timed is not None and not (isinstance(timed, dict) and set(timed) == {"value", "low", "high", "n"}):
        return False
    counts = [edits for part in parts if isinstance(part, dict) and isinstance(edits := part.get("edits"), int)]
    return len(counts) == len(parts) and min(counts, default=1) > 0 and sum(counts) == done


def read_json(path: Path, kind: type = object, advice: str = "") -> Any:
    """Return the value in a JSON file; ``None`` if the file is missing.

    Args:
        path: the file.
        kind: the type that the value must have.
        advice: what to do about a damaged file, for the error.

    Raises:
        MeloEditError: if it cannot be read or holds a value of another type.
    """
    advice = advice or f"remove {path}, and the run makes it anew"
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise MeloEditError(f"{path} cannot be read ({error}): {advice}") from None
    if not isinstance(value, kind):
        raise MeloEditError(f"{path} is damaged: {advice}")
    return value


def check_parts(path: Path, protocols: Sequence[str], known: Iterable[str]) -> None:
    """Refuse to mix a run of one protocol and parts of several protocols in one folder.

    Raises:
        MeloEditError: naming the runs in the folder.
    """
    if len(protocols) > 1 and (path / "run.json").exists():
        raise MeloEditError(f"{path} holds a run of one protocol: choose another --out for several")
    if len(protocols) == 1 and (parts := [name for name in known if (path / name / "run.json").exists()]):
        there = ",".join(parts)
        raise MeloEditError(
            f"{path} holds parts of several protocols: give --protocol {there}, or choose another --out"
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a run's folder against other processes. If nothing was written in it, it is removed at the end.

    Raises:
        MeloEditError: if another process has locked it.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    lock = FileLock(make_folder(path) / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MeloEditError(f"another process is running in {path}: wait for it, or choose another --out") from None
    try:
        yield
    finally:
        _remove_if_empty(path, new)
        lock.release()


def _remove_if_empty(path: Path, new: Sequence[Path]) -> None:
    """Remove the lock and the folders of a run without files, then the parent folders created for it."""
    inside = sorted(path.rglob("*"), reverse=True)
    if any(not entry.is_dir() and entry != path / LOCK for entry in inside):
        return
    with suppress(OSError):  # a folder that cannot be removed, or was just filled by another process, stays
        for entry in inside:
            entry.rmdir() if entry.is_dir() else entry.unlink()
        for folder in new:
            folder.rmdir()
