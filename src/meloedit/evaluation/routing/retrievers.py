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
from ...routing.judged_scope import of_short
from ...routing.nearest import NearestPolicy
from ...routing.verifier import CANDIDATE_SHARE, Candidate, Verifier, Wordings, asked
from .retriever import Alone, Nearest, Retriever, states_of
from .tables import EncoderRetriever, PaperRetriever

if TYPE_CHECKING:
    from ...backbones.batch import Encoded
    from ...edit import Edit
    from ...methods.base import Method
    from ...results import Route
    from ...routing.calibration import Calibration
    from ...routing.policy import KeyTensors
    from ...types import Progress, Prompt

PAIRS_TOLD = 256
"""Pairs between two calls of the progress."""


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
        self.threshold = self._threshold

    def _keys(self, edits: Sequence[Edit]) -> list[KeyTensors]:
        forms = [[form for prompt in edit.prompts for form in self._policy.forms(prompt)] for edit in edits]
        encoded = [form for forms_of_edit in forms for form in forms_of_edit]
        texts = self._editor.engine.router.reader.all_asked(encoded)
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
        distance = [_decisive(route) for route in routes]
        return Nearest(torch.tensor(owner), torch.tensor(distance, dtype=torch.float64))

    def search_pairs(self, edits: Sequence[Edit], prompts: Sequence[Prompt]) -> Alone:
        """Search for each prompt an index of one edit, with the scope that the calibration gives this edit.

        States are computed in batches; then one edit after another enters an empty index, is searched and leaves it.
        """
        pooled, keys, policy, whole = self._pooled(prompts), self._keys(edits), self._policy, self._policy.index
        rows_of: list[list[int]] = [[] for _ in prompts]
        for row, prompt in enumerate(pooled.rows):
            rows_of[prompt].append(row)
        found = []
        policy.index = self._empty_index()
        try:
            for place, (edit, key, rows) in enumerate(zip(edits, keys, rows_of, strict=True)):
                policy.add_unblocked([edit], [key])
                texts = [pooled.asked[row] for row in rows]
                (route,) = policy.decide(PooledStates(pooled.states[rows], texts, [0] * len(rows), 1))[1]
                found.append((-1 if route.nearest is None else place, _decisive(route), self._threshold))
                policy.index.remove(list(policy.index.nearest_cache.owners))
                if place % PAIRS_TOLD == PAIRS_TOLD - 1:
                    self.progress("melo: pairs", place + 1, len(edits))
        finally:
            policy.index = whole
        owner, distances, thresholds = zip(*found, strict=True)
        near, far = (torch.tensor(column, dtype=torch.float64) for column in (distances, thresholds))
        return Alone(torch.tensor(owner), near, far, self._judged(edits, prompts))

    def _judged(self, edits: Sequence[Edit], prompts: Sequence[Prompt]) -> Tensor | None:
        """Return 1 - the judge's score (n,) of each prompt beside the edit of its place; ``None`` without a judge."""
        if self._policy.verifier is None:
            return None
        verifier = Verifier(self._policy.verifier.judge, lambda place: Wordings.of(edits[place]))
        scored = verifier.score(list(map(asked, prompts)), [[Candidate(place, 0.0)] for place in range(len(edits))])
        return torch.tensor([1 - one.probabilities[0] for (one,) in scored], dtype=torch.float64)

    @property
    def _threshold(self) -> float:
        """The number below which ``_decisive`` says that an edit fires."""
        least = self._policy.least_score
        return self._policy.threshold if least is None else 1 - least

    def _empty_index(self) -> NeuronIndex:
        """Return an index without edits, with the scope of the calibration."""
        calibration, config = self._calibration, self._policy.scope_config(self._calibration.info)
        least = config.min_similarity if len(calibration.prompts) else config.document_similarity
        index = NeuronIndex(calibration.encoder.shape, self._editor.engine.router.key_device)
        floor = -1.0 if least is None else least
        judged = self._policy.scope is not None
        rate, short = (CANDIDATE_SHARE, of_short(calibration)) if judged else (config.false_activation, None)
        index.set_scope(calibration.prompts, rate, floor, calibration.prompt_of, short=short)
        return index

    def _pooled(self, prompts: Sequence[Prompt]) -> PooledStates:
        reader = self._editor.engine.router.reader
        parts, rows = reader.with_segments([self.base.backbone.encode(prompt) for prompt in prompts])
        states, texts = self._states(parts, "keys of prompts"), reader.all_asked(parts, rows)
        return PooledStates(states, texts, rows, len(prompts))

    def close(self) -> None:
        """Remove every hook from the model."""
        self._editor.unload()


def _decisive(route: Route) -> float:
    """Return the number that decides: where a judge reads, 1 - its score, and more than 1 where it has no candidate."""
    apart = math.inf if route.distance is None else route.distance
    if route.least_score is None:
        return apart
    return 1 + apart if route.score is None else 1 - route.score


RETRIEVERS: Mapping[str, Callable[[Method, Mapping[str, Any], Progress], Retriever]] = {
    "melo": MeloRetriever,
    "melo-paper": PaperRetriever,
    "rag": EncoderRetriever,
}
"""The methods whose routing can be measured without training."""
