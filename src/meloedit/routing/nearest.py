"""NearestPolicy: the default mode. The nearest keys propose edits, and the judge, if there is one, decides."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ..config import SCOPE_SETTINGS
from ..edit import prompt_text
from ..errors import EditError
from ..keys.keys import Keys, KeyShape
from ..keys.pooling import PooledStates, Pooling
from ..keys.similarity import Evidence, same_keys
from ..results import Neighbours, Route
from .calibration import JUDGE_NAME, Calibration
from .choice import Choice, by_distance, by_judge_of_words, candidates_of, prompts_of, reaches
from .explained import Explained
from .index import SAME_KEY, NeuronIndex
from .judged_scope import JudgedScope, set_scope
from .key_maker import KeyMaker
from .policy import Changes, Host, KeyTensors
from .stored import check_keys, nearest_of, read_calibration, restore_scores, scope_to_tensors
from .verifier import CANDIDATES, JudgeInUse, Verifier, Wordings, probability

if TYPE_CHECKING:
    from ..backbones.batch import Encoded
    from ..config import MeloConfig
    from ..edit import Edit
    from ..store import Store
    from ..types import Prompt

logger = logging.getLogger(__name__)

EDITS_AT_ONCE = 64
"""Edits whose keys are read from the store at once."""
OTHER_JUDGE = "%s was calibrated with the judge %s, it is %s now: other prompts may fire until it is calibrated again"
CACHE_EVERY = 512
"""Edits that come or go before the scope's cache is written again; opening a store compares so many at most."""


class NearestPolicy:
    """Decides by the judge's score, see ``by_judge``, or else by the nearest key, see ``by_distance``.

    It implements ``Policy``.

    Args:
        host: the model and its hooks, or whatever else runs its layers.
        config: settings.
        judge: the judge to take, whatever the settings and the store say; ``None``: theirs.
    """

    def __init__(self, host: Host, config: MeloConfig, judge: str | None = None) -> None:
        self._host, self._config = host, config if judge is None else replace(config, judge=judge)
        self._instead = self._config.judge if judge is not None else None
        self._backbone, self._key_maker = host.backbone, KeyMaker(host)
        self.index = NeuronIndex(KeyShape(1))
        self.calibration: Calibration | None = None
        self.pooling: Pooling | None = None
        self._calibration_id: int | None = None
        self._store: Store
        self._record: dict[str, int] = {}  # edit id -> its record's number in the store, greater for newer ones
        self.ids: dict[int, str] = {}  # of the enabled edits by their records
        self._edits: dict[int, Edit] = {}  # these edits: the store may be a change ahead, which is not followed yet
        self._uncached = 0  # edits that came or went since the scope's cache was written
        self._wordings: dict[int, Wordings] = {}  # of the records that were candidates
        self.judging = JudgeInUse(host.key_device, self._wordings_of, never=self._backbone.documents)
        self.scope: JudgedScope | None = None  # there is one once a calibration is in force, if a judge decides

    @property
    def ready(self) -> bool:
        """Whether keys can be computed: there is a calibration."""
        return self.calibration is not None

    @property
    def threshold(self) -> float:
        """The distance below which a prompt reaches an edit."""
        return self.index.threshold

    @property
    def no_route(self) -> Route:
        """The route of a prompt while there are no edits."""
        return Route(None, None, self.index.threshold, None, "no edits")

    @property
    def least_score(self) -> float | None:
        """The judge's score, a probability, that a prompt must exceed; ``None`` where no judge decides."""
        return None if self.scope is None else probability(self.scope.least)

    @property
    def counts(self) -> dict[str, int]:
        """How many edits the index holds."""
        return {"edits": len(self.index)}

    def check_edit(self, edit: Edit) -> None:
        """Do nothing: every edit can be served."""

    def forms(self, prompt: Prompt) -> list[Encoded]:
        """Return an edit's prompt in every form the model may be asked it in; one without words is an error."""
        return self._backbone.forms(self._host.reader.worded(prompt))

    def take_judge(self, info: Mapping[str, Any]) -> None:
        """Open the judge that the settings name, or the ``info`` of a calibration; a ModelError if there is none."""
        self.judging.take(self.scope_config(info).judge)

    @property
    def verifier(self) -> Verifier | None:
        """The second stage; ``None`` where no judge decides."""
        return self.judging.verifier

    # -- keys

    def keys(self, encoded: Sequence[Encoded], targets: Sequence[str] | None = None) -> Keys:
        """Return the keys (n,) of prompts.

        Raises:
            EditError: if there is no calibration yet.
        """
        if self.calibration is None:
            raise EditError("this store has no calibration yet, so there are no keys: calibrate first")
        return self._key_maker.of_prompts(self.calibration, encoded)

    def keys_of(self, edits: Sequence[Edit], calibration: Calibration | None = None) -> list[KeyTensors]:
        """Return, per edit, the keys of its prompts, then of its quiet prompts (``quiet`` marks them), in every form.

        ``calibration`` is the one in force where it is not given.
        """
        calibration = calibration or self.calibration
        return [] if calibration is None else self._key_maker.of_edits(calibration, edits)

    def clash(self, keys: KeyTensors) -> bool:
        """Return whether a quiet prompt of an edit has the same key as one of its own prompts."""
        quiet, every = keys["quiet"], Keys.from_tensors(keys)
        return same_keys(every[~quiet], every[quiet], SAME_KEY)

    # -- following the store

    def follow(self, store: Store, changes: Changes) -> None:
        """Make the index hold the store's enabled edits."""
        self._store = store
        recalibrated = store.calibration_id != self._calibration_id and self._load_calibration(store)
        self.take_judge({} if self.calibration is None else self.calibration.info)
        self._uncached += len(changes.ids)
        active = {edit_id: stored.record for edit_id, stored in changes.active.items()}
        gone = [self._record[i] for i in changes.ids if i in self._record and active.get(i) != self._record[i]]
        self.index.remove(gone)
        for record in gone:
            del self._record[self.ids.pop(record)], self._edits[record]
        new = {edit_id: record for edit_id, record in active.items() if edit_id not in self._record}
        self._add(store, list(new.values()))
        self._record |= new
        self.ids |= {record: edit_id for edit_id, record in new.items()}
        self._edits |= {record: changes.active[edit_id].edit for edit_id, record in new.items()}
        self._wordings = {record: asked for record, asked in self._wordings.items() if record in self.ids}
        if recalibrated:
            self._calibrate(store)
        self._judge_scope()
        least = -math.inf if self.scope is None else self.scope.least
        if len(self.index) and math.inf in (self.index.similarity, least):
            logger.warning("no edit can fire: too few calibration prompts ask something else; calibrate with others")

    def _load_calibration(self, store: Store) -> bool:
        """Take up the store's calibration: every edit has other keys now."""
        if (found := store.calibration()) is None:
            return False
        self.calibration, self._calibration_id = read_calibration(found, self._host.key_size, store.path), found[0]
        self.pooling = self.calibration.encoder.pooling(self._backbone.tokenizer)
        self.index = NeuronIndex(self.calibration.encoder.shape, self._host.key_device)
        self._record, self.ids, self._edits = {}, {}, {}
        return True

    def _add(self, store: Store, records: Sequence[int]) -> None:
        for start in range(0, len(records), EDITS_AT_ONCE):
            for owners, tensors in store.key_stacks(records[start : start + EDITS_AT_ONCE]):
                check_keys(tensors, self.index.shape, store, owners)
                self._add_keys(owners, tensors, len(records) - start)

    def _add_keys(self, owners: Sequence[int], tensors: KeyTensors, room: int = 0) -> None:
        """Add edits' keys (n, f); where a judge reads the quiet prompts, their keys decide nothing and stay out."""
        add = self.index.add_all if self.verifier is None else self.index.add_unquiet
        add(owners, Keys.from_tensors(tensors), tensors["quiet"], room)

    def _calibrate(self, store: Store) -> None:
        assert self.calibration is not None
        prompts, info = self.calibration.prompts, self.calibration.info
        kept = store.scope_cache()
        if (cache := nearest_of(kept, len(prompts))) is not None:
            self._uncached = len(cache.owners.symmetric_difference(self.ids))
        self.scope = set_scope(self.index, self.calibration, self.scope_config(info), self.verifier, cache)
        if self.scope is None or self.verifier is None:
            return
        if kept is not None:
            restore_scores(kept[0], self.scope)
        if (name := info.get(JUDGE_NAME)) not in (None, self.verifier.judge.name):
            logger.warning(OTHER_JUDGE, store.path, name, self.verifier.judge.name)

    def scope_config(self, info: Mapping[str, Any]) -> MeloConfig:
        """Return the config, with scope settings overridden by those that a calibration states in its ``info``."""
        stated = {name: info[name] for name in SCOPE_SETTINGS if name in info}
        return replace(self._config, **stated | ({} if self._instead is None else {"judge": self._instead}))

    def cache_to_store(self) -> KeyTensors | None:
        """Return the scope's cache if it is time to write it to the store again, else ``None``."""
        due, self._uncached = self._uncached >= CACHE_EVERY, self._uncached % CACHE_EVERY
        return scope_to_tensors(self.index.nearest_cache, self.scope) if due else None

    def add_unblocked(self, edits: Sequence[Edit], keys: Sequence[KeyTensors]) -> list[int]:
        """Add edits that have keys but no block, which can be found alone; return their records, for ``drop``."""
        records = list(range(first := max(self.ids, default=0) + 1, first + len(edits)))
        for record, edit, tensors in zip(records, edits, keys, strict=True):
            self._add_keys([record], {name: tensor[None] for name, tensor in tensors.items()})
            self._record[edit.id], self.ids[record], self._edits[record] = record, edit.id, edit
        self._judge_scope()
        return records

    def drop(self, records: Sequence[int]) -> None:
        """Take edits out of the index again."""
        self.index.remove(records)
        for record in records:
            del self.ids[record], self._edits[record]
            self._wordings.pop(record, None)
        self._record = {edit_id: record for record, edit_id in self.ids.items()}
        self._judge_scope()

    def _judge_scope(self) -> None:
        if self.scope is not None:
            self.index.judge_scope(self.scope)

    def _wordings_of(self, record: int) -> Wordings:
        if (found := self._wordings.get(record)) is None:
            found = self._wordings[record] = Wordings.of(self._edits[record])
        return found

    def _wordings_by_form(self, edit_id: str) -> list[str]:
        """Return the text of each of an edit's keys, in the order of ``keys_of``."""
        prompts = self._edits[self._record[edit_id]].prompts
        return [prompt_text(prompt) for prompt in prompts for _ in self.forms(prompt)]

    # -- deciding

    def decide(self, pooled: PooledStates) -> tuple[list[int], list[Route]]:
        """Return for each of B prompts the record of the edit that answers (-1: none), and its route."""
        if self.calibration is None or not len(self.index):
            return [-1] * pooled.count, [self.no_route] * pooled.count
        choices = self._choices(pooled, thresholds := reaches(pooled, self.index, self.scope), brief=True)
        routes = [self._route(*one) for one in zip(choices, thresholds, strict=True)]
        return [choice.record for choice in choices], routes

    def _choices(self, pooled: PooledStates, thresholds: Sequence[float], brief: bool = False) -> list[Choice]:
        assert self.calibration is not None
        keys = self.calibration.encoder.keys(pooled.states, pooled.asked)
        if self.scope is None:
            return by_distance(self.index.search(keys), pooled, self.index.threshold)
        assert self.verifier is not None
        found = candidates_of(self.index.search(keys, CANDIDATES), pooled, thresholds)
        return by_judge_of_words(self.verifier, pooled, found, self.scope.least, brief)

    def _route(self, choice: Choice, threshold: float) -> Route:
        best = choice.best
        return Route(
            edit=self.ids.get(choice.record),
            distance=None if math.isinf(best.distance) else best.distance,
            threshold=threshold,
            nearest=self.ids.get(best.record),
            reason=choice.reason,
            score=None if math.isinf(best.score) else probability(best.score),
            least_score=self.least_score,
        )

    def evidence(self, pooled: PooledStates) -> list[Evidence | None]:
        """Return the terms of each of B prompts' similarity to its nearest edit; ``None`` where there are none."""
        if self.calibration is None or not len(self.index):
            return [None] * pooled.count
        choices, read = self._choices(pooled, reaches(pooled, self.index, self.scope)), prompts_of(pooled)
        explained = Explained(self.index, self.calibration, self.verifier, self.ids, self._wordings_by_form)
        keys, rows = self.calibration.encoder.keys(pooled.states, pooled.asked), torch.tensor(pooled.rows)
        found: list[Evidence | None] = []
        for prompt, choice in enumerate(choices):
            of_prompt = torch.nonzero(rows == prompt).flatten()
            found.append(
                None
                if choice.best.record < 0
                else explained.evidence(choice, read[prompt], keys[of_prompt], [pooled.asked[i] for i in of_prompt])
            )
        return found

    def neighbours(self, edit_id: str) -> Neighbours:
        """Return the nearest other edit, and the edits whose scopes overlap this one's; nothing if it is disabled."""
        if edit_id not in self._record:
            self._store.get(edit_id)  # an error that names ids like it, if there is no such edit
            return Neighbours(None, None, [])
        nearest, distance, overlaps = self.index.neighbours(self._record[edit_id])
        if self.verifier is not None and self.scope is not None:
            overlaps = self.verifier.overlaps(self._record[edit_id], overlaps[:CANDIDATES], self.scope.least)
        ids = [self.ids[record] for record in overlaps]
        return Neighbours(self.ids.get(nearest), None if nearest < 0 else distance, ids)
