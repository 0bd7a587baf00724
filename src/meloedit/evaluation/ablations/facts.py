"""What the ablations are given and keep: facts from a file, settings, finished runs in a folder.

torch is imported late: how its threads wait is settled when a model is loaded, and before it is imported.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import MeloConfig
from ...edit import Edit, check_prompt, prompt_key
from ...errors import EditError, MeloEditError, ModelError
from ...files import make_folder, write_bytes, write_json
from ...readers import json_rows, open_text
from ...settings import read_config
from ...text import counted
from ...types import Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from ...backbones import Backbone

RUNS = "runs"
"""The folder, inside the one that is written to, of finished runs and keys."""


@dataclass(frozen=True)
class Fact:
    """An edit, and other wordings of its prompt that it is not trained on."""

    edit: Edit
    rephrases: tuple[Prompt, ...] = ()

    @property
    def wordings(self) -> tuple[Prompt, ...]:
        """The prompt and then its rephrasings."""
        return (self.edit.prompt, *self.rephrases)

    @property
    def unseen(self) -> Prompt | None:
        """The first rephrasing that the edit is not trained on."""
        own = {prompt_key(prompt) for prompt in self.edit.prompts}
        return next((prompt for prompt in self.rephrases if prompt_key(prompt) not in own), None)


@dataclass(frozen=True)
class Facts:
    """The facts that were read: the file's name, the sha256 of its bytes, and as many of its lines as were wanted."""

    name: str
    sha256: str
    items: tuple[Fact, ...]

    @property
    def edits(self) -> list[Edit]:
        """The edits, in the file's order."""
        return [fact.edit for fact in self.items]

    def named(self, backbone: Backbone) -> Facts:
        """Return the facts with their targets as the model writes them (a label by its name)."""
        return replace(self, items=tuple(replace(fact, edit=backbone.named(fact.edit)) for fact in self.items))

    def need_rephrases(self) -> None:
        """Raise an error if no fact has a rephrasing that it is not trained on."""
        if not any(fact.unseen for fact in self.items):
            raise EditError(f"{self.name} has no rephrases: generality is measured on wordings that are never trained")


def read_facts(path: Path, count: int | None = None) -> Facts:
    """Read the first ``count`` facts of a JSONL file (``.gz`` too): ``prompt``, ``target`` and ``rephrases`` a line.

    Raises:
        EditError: naming file and line, if a line is not a fact; or if there are none, or fewer than ``count``.
    """
    digest = _sha256(path)
    items: list[Fact] = []
    for where, values in islice(_rows(path), count):
        try:
            edit = Edit.from_dict(values)
            given = values.get("rephrases") or []
            if not isinstance(given, list):
                raise EditError(f"rephrases must be a list of prompts, not {type(given).__name__}")
            rephrases = tuple(check_prompt(prompt, f"rephrases[{i}]") for i, prompt in enumerate(given))
        except EditError as error:
            raise EditError(f"{where}: {error}") from None
        items.append(Fact(edit, rephrases))
    if not items:
        raise EditError(f"{path} holds no edits")
    if count is not None and len(items) < count:
        there = counted(len(items), "edit")
        raise EditError(f"{path} holds {there}, fewer than the {count:,} asked for: give --count {len(items)}")
    return Facts(path.name, digest, tuple(items))


def read_questions(path: Path) -> tuple[list[str], str]:
    """Read the ``question`` of each line of a JSONL file (``.gz`` too); return them and the sha256 of its bytes.

    Raises:
        EditError: naming file and line, if a line has no question; or if there are none.
    """
    digest, questions = _sha256(path), []
    for where, values in _rows(path):
        question = values.get("question") if isinstance(values, dict) else None
        if not isinstance(question, str) or not question.strip():
            raise EditError(f"{where}: no question, which must be a string that is not empty")
        questions.append(question)
    if not questions:
        raise EditError(f"{path} holds no questions")
    return questions, digest


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise EditError(f"{path}: cannot be read ({error.strerror})") from None


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with open_text(path) as stream:
            yield from json_rows(stream, str(path))
    except UnicodeDecodeError as error:
        raise EditError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise EditError(f"{path}: not a readable gzip file ({error})") from None


def paper_settings(preset: str | None, settings: Sequence[str]) -> Callable[..., MeloConfig]:
    """Return what makes a configuration of paper mode: these settings, and those that a run varies.

    Raises:
        ModelError: if there is no such preset or setting, or a setting cannot have this value.
    """
    for setting in settings:
        if setting.partition("=")[0] in ("mode", "preset"):
            raise ModelError(f"--set {setting}: the ablations are of paper mode; a preset is chosen with --preset")

    def configure(**varied: Any) -> MeloConfig:
        rest = [setting for setting in settings if setting.partition("=")[0] not in varied]
        return read_config(varied, rest, paper=True, preset=preset)

    configure()
    return configure


def read_numbers(option: str, text: str, kind: Callable[[str], Any], more: str = "") -> list[Any]:
    """Return the positive numbers of an option, each once.

    Args:
        option: its name, for an error.
        text: numbers separated by commas.
        kind: int or float.
        more: what else the option takes.

    Raises:
        MeloEditError: if it holds anything else.
    """
    words = "positive whole numbers" if kind is int else "positive numbers"
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise MeloEditError(f"{option} {text}: give {words} separated by commas{more}")
    return list(dict.fromkeys(numbers))


class Runs:
    """Finished runs in a folder; one that is there is read, not repeated.

    A run is known by its settings and by what all runs of the folder's user share (model, edits). Its file is named
    after a digest of both and holds them, so that a file of other settings is never taken for it.

    Args:
        folder: where they are; made if it is not there.
        shared: what tells apart runs of the same settings: the model, the edits file's sha256.
    """

    def __init__(self, folder: Path, shared: Mapping[str, Any]) -> None:
        self.folder = make_folder(folder / RUNS)
        self._shared = dict(shared)
        self.made = 0
        self.read = 0

    @property
    def kept(self) -> int:
        """How many finished runs were read or made so far."""
        return self.made + self.read

    def run(self, kind: str, settings: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what ``make`` returns (JSON-ready values), or what it did when it ran with these settings before."""
        path, text = self._place(kind, settings, "json")
        try:
            held = json.loads(path.read_bytes())
            if _canonical(held["settings"]) == text and held["sha256"] == _check(held["result"]):
                self.read += 1
                return dict(held["result"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):  # none yet, or a damaged one: made anew
            pass
        result = json.loads(json.dumps(make()))  # what a later call will read
        write_json(path, {"settings": json.loads(text), "sha256": _check(result), "result": result})
        self.made += 1
        return result

    def keys(self, settings: Mapping[str, Any], make: Callable[[], Tensor]) -> Tensor:
        """Return a tensor in the same way, kept as safetensors."""
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import save

        path, text = self._place("keys", settings, "safetensors")
        try:
            with safe_open(str(path), "pt") as held:
                noted, keys = held.metadata() or {}, held.get_tensor("keys")
                if noted.get("settings") == text and noted.get("sha256") == _check(keys.tolist()):
                    return keys
        except (OSError, SafetensorError):
            pass
        keys = make().detach().float().cpu().contiguous()
        write_bytes(path, save({"keys": keys}, {"settings": text, "sha256": _check(keys.tolist())}))
        return keys

    def _place(self, kind: str, settings: Mapping[str, Any], suffix: str) -> tuple[Path, str]:
        text = _canonical({"kind": kind, **self._shared, **settings})
        return self.folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.{suffix}", text


def _check(result: Any) -> str:
    return hashlib.sha256(_canonical(result).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
