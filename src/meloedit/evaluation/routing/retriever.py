"""The retriever: the part of a method that finds a prompt's edit, with keys, a distance and perhaps a scope.

Nothing is trained.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...files import cache_folder, json_hash, load_tensors, save_tensors

if TYPE_CHECKING:
    from ...backbones.batch import Encoded
    from ...edit import Edit
    from ...methods.base import Method
    from ...types import Progress, Prompt

CACHE_VERSION = 2
"""Raised when states are computed differently: states of other versions are computed again."""


@dataclass(frozen=True)
class Nearest:
    """The nearest edit of each of n prompts.

    Attributes:
        owner: (n,) the edit's number; -1 where there is none.
        distance: (n,) distance to its nearest key; inf where there is none.
    """

    owner: Tensor
    distance: Tensor


@dataclass(frozen=True)
class Alone(Nearest):
    """The distance of each of n prompts to one edit of its own, which is alone in the index.

    Attributes:
        owner: (n,) the place of the prompt's edit, which is the prompt's own; -1 where there is none.
        threshold: (n,) the distance below which that edit is in scope; ``None`` if the method has no scope.
        judged: (n,) 1 - the judge's score of each pair as a probability, by all its rules, whether or not the index
            proposes the edit; ``None`` if none judges.
    """

    threshold: Tensor | None
    judged: Tensor | None = None


class Retriever(ABC):
    """Finds the nearest edit for prompts.

    Args:
        base: the unedited model.
        settings: the method's settings.
        progress: called with what is being done, how much is done, and how much there is.

    Attributes:
        threshold: the distance below which an edit is in scope; ``None`` if the method has no scope.
    """

    threshold: float | None = None

    def __init__(self, base: Method, settings: Mapping[str, Any], progress: Progress) -> None:
        self.base, self.settings, self.progress = base, settings, progress

    @abstractmethod
    def add(self, edits: Sequence[Edit]) -> None:
        """Compute the edits' keys; called once."""

    @abstractmethod
    def search(self, prompts: Sequence[Prompt]) -> Nearest:
        """Return the nearest edit of each prompt."""

    @abstractmethod
    def search_pairs(self, edits: Sequence[Edit], prompts: Sequence[Prompt]) -> Alone:
        """Search for each of n prompts an index that holds one edit alone, that of the same place."""

    def close(self) -> None:  # noqa: B027
        """Remove every hook from the model."""


def cached_states(depends_on: Sequence[Any], count: int, compute: Callable[[], Tensor]) -> Tensor:
    """Return states from the cache folder; compute and store them if they are missing or damaged.

    A second try with another key or scope then needs no forward pass. The folder may be deleted at any time.

    Args:
        depends_on: everything that the states depend on, JSON-ready.
        count: how many rows there are.
        compute: computes the states (count, d), float32.
    """
    path = states_folder() / f"{json_hash([CACHE_VERSION, *depends_on])}.states"
    cached = load_tensors(path)
    if cached is not None and len(cached["states"]) == count:
        return cached["states"]
    states = compute().cpu().contiguous()
    save_tensors(path, {"states": states})
    return states


def states_folder() -> Path:
    """Return the folder of cached states."""
    return cache_folder() / "features"


def states_of(
    base: Method, layer: str, tokens: str, encoded: Sequence[Encoded], compute: Callable[[], Tensor]
) -> Tensor:
    """Return cached states of prompts at a layer; ``tokens`` says how a prompt's tokens are pooled."""
    spans = [[one.ids, [one.span.start, one.span.stop]] for one in encoded]
    depends_on = ["states", base.backbone.fingerprint(), layer, tokens, spans]
    return cached_states(depends_on, len(encoded), compute)
