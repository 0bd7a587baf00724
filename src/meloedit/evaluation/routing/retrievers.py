"""Retrievers: those of the methods whose routing can be measured alone, by the name of the method."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...editor import Editor
from ...errors import MeloEditError
from ...files import json_hash
from ...hooks.state_reader import pooled_states
from ...keys.pooling import PooledStates
from ...methods.memory.melo import Melo
from ...routing.index import NeuronIndex
from ...routing.nearest import NearestPolicy
from .retriever import Nearest, Retriever, states_of
from .tables import EncoderRetriever, PaperRetriever

if TYPE_CHECKING:
    from ...backbones.batch import Encoded
    from ...edit import Edit
    from ...methods.base import Method
    from ...routing.calibration import Calibration
    from ...routing.policy import KeyTensors
    from ...types import Progress, Prompt


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
        self._policy.add_unblocked(edits, self._keys(edits))
        self._number = {edit.id: i for i, edit in enumerate(edits)}
        self.threshold = self._policy.threshold

    def _keys(self, edits: Sequence[Edit]) -> list[KeyTensors]:
        forms = [[form for prompt in edit.prompts for form in self._policy.forms(prompt)] for edit in edits]
        encoded = [form for forms_of_edit in forms for form in forms_of_edit]
        texts = self._editor.engine.router.reader.texts(encoded)
        keys = self._calibration.encoder.keys(self._states(encoded, "keys of edits"), texts)
        parts = [part.clone().to_tensors() for part in keys.split(list(map(len, forms)))]
        quiet = [torch.zeros(len(forms_of_edit), dtype=torch.bool) for forms_of_edit in forms]
        return [part | {"quiet": of_edit} for part, of_edit in zip(parts, quiet, strict=True)]

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
        return states_of(self.base, router.locations.key_layer, tokens, encoded, compute)

    def search(self, prompts: Sequence[Prompt]) -> Nearest:
        """Return the nearest edit of each prompt, whose segments are compared too."""
        routes = self._policy.decide(self._pooled(prompts))[1]
        owner = [-1 if route.nearest is None else self._number[route.nearest] for route in routes]
        distance = [math.inf if route.distance is None else route.distance for route in routes]
        return Nearest(torch.tensor(owner), torch.tensor(distance))

    def search_pairs(self, edits: Sequence[Edit], prompts: Sequence[Prompt]) -> Nearest:
        """Search for each prompt an index of one edit, whose scope is the settings' floor.

        The floor (``min_similarity``) is what holds while edits are few; calibration prompts are not compared with each
        edit, which would take most of the time.
        """
        pooled, keys, policy, whole = self._pooled(prompts), self._keys(edits), self._policy, self._policy.index
        texts_of: list[list[int]] = [[] for _ in prompts]
        for at, row in enumerate(pooled.rows):
            texts_of[row].append(at)
        owner, distance = [], []
        try:
            for place, (edit, key, rows) in enumerate(zip(edits, keys, texts_of, strict=True)):
                policy.index = self._empty_index()
                policy.add_unblocked([edit], [key])
                texts = [pooled.texts[at] for at in rows]
                (route,) = policy.decide(PooledStates(pooled.states[rows], texts, [0] * len(rows), 1))[1]
                owner.append(-1 if route.nearest is None else place)
                distance.append(math.inf if route.distance is None else route.distance)
            self.threshold = policy.threshold
        finally:
            policy.index = whole
        return Nearest(torch.tensor(owner), torch.tensor(distance))

    def _empty_index(self) -> NeuronIndex:
        """Return an index without edits and without calibration prompts, whose scope is the settings' floor."""
        prompts, config = self._calibration.prompts, self._policy.scope_config(self._calibration.info)
        least = config.min_similarity if len(prompts) else config.document_similarity
        index = NeuronIndex(self._calibration.encoder.shape)
        index.set_scope(prompts[:0], config.false_activation, -1.0 if least is None else least)
        return index

    def _pooled(self, prompts: Sequence[Prompt]) -> PooledStates:
        reader = self._editor.engine.router.reader
        parts, rows = reader.with_segments([self.base.backbone.encode(prompt) for prompt in prompts])
        states, texts = self._states(parts, "keys of prompts"), reader.texts(parts)
        return PooledStates(states, texts, rows, len(prompts))

    def close(self) -> None:
        """Remove every hook from the model."""
        self._editor.unload()


RETRIEVERS: Mapping[str, Callable[[Method, Mapping[str, Any], Progress], Retriever]] = {
    "melo": MeloRetriever,
    "melo-paper": PaperRetriever,
    "rag": EncoderRetriever,
}
"""The methods whose routing can be measured without training."""
