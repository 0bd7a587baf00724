"""What finds a prompt's edit, apart from what then answers: keys, a distance, and a scope where there is one.

Nothing is trained. The finders bear the names of the methods that route in that way.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...edit import prompt_text
from ...editor import Editor
from ...errors import MeloEditError
from ...hooks.state_reader import pooled_states, texts_of, with_segments
from ...keys.encoder import Calibration
from ...keys.pooling import PooledStates
from ...methods.in_context.rag import Rag, chord
from ...methods.memory.melo import Melo, MeloPaper
from ..run.folder import digest
from .features import kept

if TYPE_CHECKING:
    from ...backbones.batch import Encoded
    from ...edit import Edit
    from ...methods.base import Method
    from ...types import Progress, Prompt

AT_ONCE = 512
"""Prompts that are compared with all keys at once."""


@dataclass(frozen=True)
class Found:
    """The nearest edit of each of n prompts.

    Attributes:
        owner: (n,) its number among the edits; -1 where there is none.
        distance: (n,) how far its nearest key lies; inf where there is none.
    """

    owner: Tensor
    distance: Tensor


class Finder(ABC):
    """Finds edits for prompts.

    Args:
        base: the unedited model.
        settings: the method's settings.
        tell: told what is being done.

    Attributes:
        threshold: the distance below which an edit is in scope; ``None`` if there is no scope by itself.
    """

    threshold: float | None = None

    def __init__(self, base: Method, settings: Mapping[str, Any], tell: Progress) -> None:
        self.base, self.settings, self.tell = base, settings, tell

    @abstractmethod
    def learn(self, edits: Sequence[Edit]) -> None:
        """Take in edits."""

    @abstractmethod
    def find(self, prompts: Sequence[Prompt]) -> Found:
        """Return the nearest edit of each prompt."""

    def close(self) -> None:  # noqa: B027
        """Take every hook off the model."""


class MeloFinder(Finder):
    """The default mode's keys and scope, as the product has them."""

    def __init__(self, base: Method, settings: Mapping[str, Any], tell: Progress) -> None:
        super().__init__(base, settings, tell)
        self._editor = Editor(base.model, base.backbone.tokenizer, Melo.read_settings(settings).config)
        self._editor.prepare(tell)
        self._live = self._editor._live

    def learn(self, edits: Sequence[Edit]) -> None:
        """Take in the keys of edits in every form and wording."""
        forms = [[form for prompt in edit.prompts for form in self.base.backbone.forms(prompt)] for edit in edits]
        encoded = [form for own in forms for form in own]
        keys = self._calibration.keys(self._states(encoded, "keys of edits"), texts_of(self.base.backbone, encoded))
        keys = keys.split(list(map(len, forms)))
        self._live.hold(edits, [{"keys": own, "quiet": own[:0]} for own in keys])
        self._number = {edit.id: i for i, edit in enumerate(edits)}
        self.threshold = self._live.index.threshold

    @property
    def _calibration(self) -> Calibration:
        calibration = self._live.calibration
        if calibration is None:
            raise MeloEditError("there is no calibration")
        return calibration

    def _states(self, encoded: Sequence[Encoded], what: str) -> Tensor:
        router = self._live.router
        pooling = self._calibration.pooling(self.base.backbone.tokenizer)
        make = partial(pooled_states, router, encoded, self.tell, what, pooling)
        at = f"words {digest(pooling.identity)}"
        return _states(self.base, router.locations.key_layer, at, encoded, make)

    def find(self, prompts: Sequence[Prompt]) -> Found:
        """Ask the product, prompts with their segments."""
        backbone = self.base.backbone
        parts, rows = with_segments(backbone, [backbone.encode(prompt) for prompt in prompts])
        states, texts = self._states(parts, "keys of prompts"), texts_of(backbone, parts)
        routes = self._live.decide(PooledStates(states, texts, rows, len(prompts)))[1]
        owner = [-1 if route.nearest is None else self._number[route.nearest] for route in routes]
        distance = [math.inf if route.distance is None else route.distance for route in routes]
        return Found(torch.tensor(owner), torch.tensor(distance))

    def close(self) -> None:
        """Take every hook off the model."""
        self._editor.detach()


class _TableFinder(Finder):
    """One key for each wording, and a distance to all of them."""

    def learn(self, edits: Sequence[Edit]) -> None:
        """Take in the keys of edits."""
        self._owner = torch.tensor([i for i, edit in enumerate(edits) for _ in edit.prompts])
        self._table = self.keys([prompt for edit in edits for prompt in edit.prompts])

    def find(self, prompts: Sequence[Prompt]) -> Found:
        """Compare with every key."""
        least = [self.distances(part).min(1) for part in self.keys(prompts).split(AT_ONCE)]
        nearest = torch.cat([part.indices for part in least])
        return Found(self._owner[nearest], torch.cat([part.values for part in least]))

    @abstractmethod
    def keys(self, prompts: Sequence[Prompt]) -> Tensor:
        """Return a key (n, k) of each prompt."""

    @abstractmethod
    def distances(self, keys: Tensor) -> Tensor:
        """Return the distances (n, m) of keys to all keys of edits."""


class PaperFinder(_TableFinder):
    """The paper's key: the key module's output at the prompt's last token, by Euclidean distance, nearest first.

    Clusters are left out, since they only ever take scope away: ``threshold`` is the initial radius.
    """

    def __init__(self, base: Method, settings: Mapping[str, Any], tell: Progress) -> None:
        super().__init__(base, settings, tell)
        config = MeloPaper.read_settings(settings).config
        self._editor = Editor(base.model, base.backbone.tokenizer, config)
        self.threshold = config.radius

    def keys(self, prompts: Sequence[Prompt]) -> Tensor:
        """Return raw states."""
        encoded = [self._editor.backbone.encode(prompt) for prompt in prompts]
        router = self._editor.router
        return _states(
            self.base,
            router.locations.key_layer,
            "last",
            encoded,
            lambda: pooled_states(router, encoded, self.tell, "keys of last tokens"),
        )

    def distances(self, keys: Tensor) -> Tensor:
        """Return |u - v|."""
        return torch.cdist(keys, self._table, compute_mode="donot_use_mm_for_euclid_dist")

    def close(self) -> None:
        """Take every hook off the model."""
        self._editor.detach()


class EncoderFinder(_TableFinder):
    """An external sentence encoder's vectors, by cosine; the distance is |u - v| of unit vectors."""

    def __init__(self, base: Method, settings: Mapping[str, Any], tell: Progress) -> None:
        super().__init__(base, settings, tell)
        self._rag = Rag(base.model, base.backbone.tokenizer, settings)
        least = self._rag.settings.min_similarity
        self.threshold = chord(torch.tensor(least)).item() if least > 0 else None

    def keys(self, prompts: Sequence[Prompt]) -> Tensor:
        """Return vectors of unit length."""
        texts = [prompt_text(prompt) for prompt in prompts]
        return kept(["encoder", self._rag.settings.encoder, texts], len(texts), lambda: self._rag.encoder.embed(texts))

    def distances(self, keys: Tensor) -> Tensor:
        """Return sqrt(2 - 2 cos)."""
        return chord(keys @ self._table.T)


FINDERS: Mapping[str, Callable[[Method, Mapping[str, Any], Progress], Finder]] = {
    "melo": MeloFinder,
    "melo-paper": PaperFinder,
    "rag": EncoderFinder,
}
"""What can be measured without training."""


def _states(base: Method, layer: str, at: str, encoded: Sequence[Encoded], make: Callable[[], Tensor]) -> Tensor:
    spans = [[one.ids, [one.words.start, one.words.stop]] for one in encoded]
    return kept(["states", base.backbone.fingerprint(), layer, at, spans], len(encoded), make)
