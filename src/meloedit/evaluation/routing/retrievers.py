"""Retrievers: the part of a method that finds a prompt's edit, with keys, a distance and perhaps a scope.

Nothing is trained. A retriever has the name of the method that routes in its way.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...edit import prompt_text
from ...editor import Editor
from ...errors import MeloEditError
from ...files import cache_folder, json_hash, load_tensors, save_tensors
from ...hooks.state_reader import pooled_states
from ...keys.pooling import PooledStates
from ...methods.in_context.rag import Rag, chord
from ...methods.memory.melo import Melo, MeloPaper
from ...routing.nearest import NearestPolicy
from ...routing.verifier import probability
from ...settings import PaperConfig

if TYPE_CHECKING:
    from ...backbones.batch import Encoded
    from ...edit import Edit
    from ...methods.base import Method
    from ...results import Route
    from ...routing.calibration import Calibration
    from ...types import Progress, Prompt

PROMPTS_AT_ONCE = 512
"""Prompts that are compared with all keys in one matrix."""
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

    def close(self) -> None:  # noqa: B027
        """Remove every hook from the model."""


class MeloRetriever(Retriever):
    """The default mode's keys, search and scope: the editor itself, without blocks."""

    def __init__(self, base: Method, settings: Mapping[str, Any], progress: Progress) -> None:
        super().__init__(base, settings, progress)
        self._editor = Editor(base.model, base.backbone.tokenizer, Melo.read_settings(settings).config)
        self._editor.prepare(progress)
        policy = self._editor.engine.policy
        assert isinstance(policy, NearestPolicy)
        self._policy = policy

    def add(self, edits: Sequence[Edit]) -> None:
        """Compute the keys of the edits in every form and wording."""
        forms = [[form for prompt in edit.prompts for form in self._policy.forms(prompt)] for edit in edits]
        encoded = [form for forms_of_edit in forms for form in forms_of_edit]
        asked = self._editor.engine.router.reader.all_asked(encoded)
        keys = self._calibration.encoder.keys(self._states(encoded, "keys of edits"), asked)
        parts = [part.clone().to_tensors() for part in keys.split(list(map(len, forms)))]
        quiet = [torch.zeros(len(forms_of_edit), dtype=torch.bool) for forms_of_edit in forms]
        self._policy.add_unblocked(
            edits, [part | {"quiet": of_edit} for part, of_edit in zip(parts, quiet, strict=True)]
        )
        self._number = {edit.id: i for i, edit in enumerate(edits)}
        scope = self._policy.scope
        self.threshold = self._policy.threshold if scope is None else 1 - probability(scope.least)

    @property
    def _calibration(self) -> Calibration:
        calibration = self._policy.calibration
        if calibration is None:
            raise MeloEditError("there is no calibration")
        return calibration

    def _states(self, encoded: Sequence[Encoded], what: str) -> Tensor:
        router = self._editor.engine.router
        pooling = self._calibration.encoder.pooling(self.base.backbone.tokenizer)
        compute = partial(pooled_states, router, encoded, self.progress, what, pooling)
        tokens = f"words {json_hash(pooling.fingerprint)}"
        return _states(self.base, router.locations.key_layer, tokens, encoded, compute)

    def search(self, prompts: Sequence[Prompt]) -> Nearest:
        """Return the nearest edit of each prompt, whose segments are compared too."""
        reader = self._editor.engine.router.reader
        parts, rows = reader.with_segments([self.base.backbone.encode(prompt) for prompt in prompts])
        states, asked = self._states(parts, "keys of prompts"), reader.all_asked(parts, rows)
        routes = self._policy.decide(PooledStates(states, asked, rows, len(prompts)))[1]
        owner = [-1 if route.nearest is None else self._number[route.nearest] for route in routes]
        distance = [_decisive_distance(route) for route in routes]
        return Nearest(torch.tensor(owner), torch.tensor(distance, dtype=torch.float64))

    def close(self) -> None:
        """Remove every hook from the model."""
        self._editor.unload()


def _decisive_distance(route: Route) -> float:
    """Return the number that decides: where a judge reads, 1 - its score, and more than 1 where it has no candidate."""
    apart = math.inf if route.distance is None else route.distance
    if route.least_score is None:
        return apart
    return 1 + apart if route.score is None else 1 - route.score


class _TableRetriever(Retriever):
    """One key for each wording, and distances to all of them."""

    def add(self, edits: Sequence[Edit]) -> None:
        """Compute a key for each wording of each edit."""
        self._owner = torch.tensor([i for i, edit in enumerate(edits) for _ in edit.prompts])
        self._table = self.keys([prompt for edit in edits for prompt in edit.prompts])

    def search(self, prompts: Sequence[Prompt]) -> Nearest:
        """Return the edit with the nearest of all keys, for each prompt."""
        minima = [self.distances(part).min(1) for part in self.keys(prompts).split(PROMPTS_AT_ONCE)]
        nearest = torch.cat([part.indices for part in minima])
        return Nearest(self._owner[nearest], torch.cat([part.values for part in minima]))

    @abstractmethod
    def keys(self, prompts: Sequence[Prompt]) -> Tensor:
        """Return the key of each prompt (n, d)."""

    @abstractmethod
    def distances(self, keys: Tensor) -> Tensor:
        """Return the distances (n, m) of keys (n, d) to all m keys of edits."""


class PaperRetriever(_TableRetriever):
    """The paper's key, the key module's output at the prompt's last token, by Euclidean distance.

    Clusters are left out, since they only narrow the scope: ``threshold`` is the initial radius.
    """

    def __init__(self, base: Method, settings: Mapping[str, Any], progress: Progress) -> None:
        super().__init__(base, settings, progress)
        config = MeloPaper.read_settings(settings).config
        assert isinstance(config, PaperConfig)
        self._editor = Editor(base.model, base.backbone.tokenizer, config)
        self.threshold = config.radius

    def keys(self, prompts: Sequence[Prompt]) -> Tensor:
        """Return the states of the last tokens (n, d)."""
        encoded = [self._editor.backbone.encode(prompt) for prompt in prompts]
        router = self._editor.engine.router
        return _states(
            self.base,
            router.locations.key_layer,
            "last",
            encoded,
            lambda: pooled_states(router, encoded, self.progress, "keys of last tokens"),
        )

    def distances(self, keys: Tensor) -> Tensor:
        """Return |u - v|."""
        return torch.cdist(keys, self._table, compute_mode="donot_use_mm_for_euclid_dist")

    def close(self) -> None:
        """Remove every hook from the model."""
        self._editor.unload()


class EncoderRetriever(_TableRetriever):
    """An external sentence encoder's vectors; the distance is |u - v| of unit vectors."""

    def __init__(self, base: Method, settings: Mapping[str, Any], progress: Progress) -> None:
        super().__init__(base, settings, progress)
        self._rag = Rag(base.model, base.backbone.tokenizer, settings)
        similarity = self._rag.settings.min_similarity
        self.threshold = chord(torch.tensor(similarity)).item() if similarity > 0 else None

    def keys(self, prompts: Sequence[Prompt]) -> Tensor:
        """Return vectors of unit length (n, d)."""
        texts = [prompt_text(prompt) for prompt in prompts]
        return cached_states(
            ["encoder", self._rag.settings.encoder, texts], len(texts), lambda: self._rag.encoder.embed(texts)
        )

    def distances(self, keys: Tensor) -> Tensor:
        """Return sqrt(2 - 2 cos)."""
        return chord(keys @ self._table.T)


RETRIEVERS: Mapping[str, Callable[[Method, Mapping[str, Any], Progress], Retriever]] = {
    "melo": MeloRetriever,
    "melo-paper": PaperRetriever,
    "rag": EncoderRetriever,
}
"""The methods whose routing can be measured without training."""


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


def _states(base: Method, layer: str, tokens: str, encoded: Sequence[Encoded], compute: Callable[[], Tensor]) -> Tensor:
    """Return cached states of prompts at a layer; ``tokens`` says how a prompt's tokens are pooled."""
    spans = [[one.ids, [one.span.start, one.span.stop]] for one in encoded]
    depends_on = ["states", base.backbone.fingerprint(), layer, tokens, spans]
    return cached_states(depends_on, len(encoded), compute)
