"""The folder of a run: what was asked for, what is done already, and what came out.

``run.json`` says what the run is of: a folder of another configuration is refused. ``result.json`` has the figures,
``observations/METHOD.jsonl`` one line for every prompt that was scored. ``parts`` holds observations as they were made,
after which a run that was killed goes on, and ``states/METHOD`` the edited state and how far editing is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...errors import MeloEditError
from ...files import make_folder, write_bytes, write_json
from .observe import Observation

LOCK = ".lock"


def digest(value: Any) -> str:
    """Return a short digest of JSON-ready values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class RunFolder:
    """A run's folder.

    Args:
        path: the folder; made if it is not there.
        asked: what the run is of, JSON-ready.
        states: where edited states are kept; runs of several protocols share them.
        answers: where the unedited model's answers are kept; runs of one model can share them.

    Attributes:
        made: how many parts were made, not read.

    Raises:
        MeloEditError: if the folder holds a run of something else, or other files, or cannot be written.
    """

    def __init__(
        self, path: Path, asked: Mapping[str, Any], states: Path | None = None, answers: Path | None = None
    ) -> None:
        self.path = make_folder(path)
        self.made = 0
        self.states = make_folder(states or path / "states")
        self._answers = answers or self.states
        self._asked: Any = json.loads(json.dumps(asked))
        wanted = self._asked
        held = read_json(path / "run.json", dict, f"remove {path}, or choose another --out")
        if held is None:
            if any(name.name not in ("states", LOCK) for name in path.iterdir()):
                raise MeloEditError(f"{path} is not empty and holds no run: choose another folder for --out")
        elif held != wanted:
            other = [name for name in wanted if held.get(name) != wanted[name]] or ["another version's settings"]
            said = f"{other[0]} is {held.get(other[0])!r} there, {wanted.get(other[0])!r} here"
            raise MeloEditError(f"{path} holds a run of another configuration ({said}): choose another --out")

    def _begin(self) -> None:
        """Write down what the run is of, once there is something to keep."""
        if not (self.path / "run.json").exists():
            write_json(self.path / "run.json", self._asked)

    def part(self, name: str, count: int, make: Callable[[], list[Observation]]) -> list[Observation]:
        """Return so many observations that were made before under a name, or make them."""
        self._begin()
        path = self.path / "parts" / f"{name}.json"
        held = read_json(path)
        if isinstance(held, list) and len(held) == count:
            return held
        rows = make()
        self.made += 1
        make_folder(path.parent)
        write_bytes(path, json.dumps(rows).encode())
        held = json.loads(json.dumps(rows))
        return list(held)

    def shared(self, name: str, count: int, make: Callable[[], list[str]]) -> list[str]:
        """Return so many answers that a run which shares the unedited model's made before, or make them."""
        self._begin()
        path = self._answers / f"{name}.json"
        held = read_json(path)
        if not isinstance(held, list) or len(held) != count:
            held = make()
            make_folder(path.parent)
            write_bytes(path, json.dumps(held).encode())
        return held

    def observations(self, method: str) -> Path:
        """Return where the observations of a method are."""
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


class Progressed:
    """How far a method's editing is, kept beside its state.

    Args:
        folder: the method's folder.
        identity: digest of what the state depends on.

    Raises:
        MeloEditError: if the folder holds the state of something else.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = make_folder(folder)
        self._path = folder / "progress.json"
        held = read_json(self._path, dict, f"remove {folder}, and the edits are made anew")
        if held is not None and held.get("identity") != identity:
            advice = f"choose another --out, or remove {folder}"
            raise MeloEditError(f"{folder} holds edits made with other settings: {advice}")
        if held is not None and not _is_progress(held):
            raise MeloEditError(f"{self._path} is damaged: remove {folder}, and the edits are made anew")
        self.held: dict[str, Any] = held or {"identity": identity, "done": 0, "state": None, "parts": []}

    @property
    def done(self) -> int:
        """How many edits are made."""
        return int(self.held["done"])

    def note(self, done: int, state: Mapping[str, Any], seconds: float, processor: float) -> None:
        """Note that so many edits are made, and what the last part of them took."""
        part = {"edits": done - self.done, "seconds": seconds, "processor": processor}
        self.held = self.held | {"done": done, "state": dict(state), "parts": [*self.held["parts"], part]}
        write_json(self._path, self.held)


def _is_progress(held: Mapping[str, Any]) -> bool:
    """Whether numbers that were read add up to edits that were made."""
    done, parts, state = held.get("done"), held.get("parts"), held.get("state")
    if not isinstance(done, int) or not isinstance(parts, list) or (done and not isinstance(state, dict)):
        return False
    made = [edits for part in parts if isinstance(part, dict) and isinstance(edits := part.get("edits"), int)]
    return len(made) == len(parts) and min(made, default=1) > 0 and sum(made) == done


def read_json(path: Path, kind: type = object, advice: str = "") -> Any:
    """Return a file's values; ``None`` where there is none.

    Raises:
        MeloEditError: if it cannot be read or holds another kind of value.
    """
    advice = advice or f"remove {path}, and the run makes it anew"
    try:
        held = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise MeloEditError(f"{path} cannot be read ({error}): {advice}") from None
    if not isinstance(held, kind):
        raise MeloEditError(f"{path} is damaged: {advice}")
    return held


def check_parts(path: Path, protocols: Sequence[str], known: Iterable[str]) -> None:
    """Refuse to put a run of one protocol and parts of several into the same folder.

    Raises:
        MeloEditError: naming what is there.
    """
    if len(protocols) > 1 and (path / "run.json").exists():
        raise MeloEditError(f"{path} holds a run of one protocol: choose another --out for several")
    if len(protocols) == 1 and (parts := [name for name in known if (path / name / "run.json").exists()]):
        there = ",".join(parts)
        raise MeloEditError(
            f"{path} holds parts of several protocols: give --protocol {there}, or choose another --out"
        )


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder; what ends before it wrote anything leaves nothing behind.

    Raises:
        MeloEditError: if another process is running there.
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
        _sweep(path, new)
        lock.release()


def _sweep(path: Path, new: Sequence[Path]) -> None:
    """Remove the lock and empty folders where there is nothing else, then the folders that were made for it."""
    inside = sorted(path.rglob("*"), reverse=True)
    if any(not one.is_dir() and one != path / LOCK for one in inside):
        return
    with suppress(OSError):  # it cannot be removed, or somebody has just put something there: it stays
        for one in inside:
            one.rmdir() if one.is_dir() else one.unlink()
        for folder in new:
            folder.rmdir()
