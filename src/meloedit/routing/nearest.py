"""NearestPolicy: the default mode. The edit with the nearest key answers, if it lies within the calibrated scope."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..edit import prompt_text
from ..errors import EditError
from ..hooks.state_reader import pooled_states
from ..keys.keys import Keys, KeyShape
from ..keys.names import name_shares
from ..keys.pooling import PooledStates, Pooling
from ..keys.similarity import Evidence, same_keys
from ..results import Neighbours, Route
from .calibration import SCOPE_SETTINGS, Calibration
from .index import SAME_KEY, Candidates, NeuronIndex
from .policy import Changes, KeyTensors
from .scope import NearestCache

if TYPE_CHECKING:
    from ..backbones.batch import Encoded
    from ..config import MeloConfig
    from ..edit import Edit
    from ..hooks.router import Router
    from ..store import Store
    from ..types import Prompt

logger = logging.getLogger(__name__)

EDITS_AT_ONCE = 64
"""Edits whose keys are read from the store at once."""
CACHE_EVERY = 512
"""Edits that come or go before the scope's cache is written again; opening a store compares so many at most."""


class NearestPolicy:
    """Decides by the nearest key, see ``NeuronIndex`` and ``Scope``; implements ``Policy``.

    Args:
        router: the model and its hooks.
        config: settings.
    """

    def __init__(self, router: Router, config: MeloConfig) -> None:
        self._router, self._config = router, config
        self._backbone = router.backbone
        self.index = NeuronIndex(KeyShape(1))
        self.calibration: Calibration | None = None
        self.pooling: Pooling | None = None
        self._calibration_id: int | None = None
        self._store: Store
        self._record: dict[str, int] = {}  # edit id -> its record's number in the store, greater for newer ones
        self._id: dict[int, str] = {}
        self._uncached = 0  # edits that came or went since the scope's cache was written

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
    def counts(self) -> dict[str, int]:
        """How many edits the index holds."""
        return {"edits": len(self.index)}

    def check_edit(self, edit: Edit) -> None:
        """Do nothing: every edit can be served."""

    def forms(self, prompt: Prompt) -> list[Encoded]:
        """Return a prompt in every form the model may be asked it in."""
        return self._backbone.forms(prompt)

    # -- keys

    def keys(self, encoded: Sequence[Encoded], targets: Sequence[str] | None = None) -> Keys:
        """Return the keys (n,) of prompts.

        Raises:
            EditError: if there is no calibration yet.
        """
        if self.calibration is None:
            raise EditError("this store has no calibration yet, so there are no keys: calibrate first")
        return self.keys_under(self.calibration, encoded)

    def keys_under(self, calibration: Calibration, encoded: Sequence[Encoded]) -> Keys:
        """Return the keys (n,) that prompts have under a calibration."""
        pooling = calibration.encoder.pooling(self._backbone.tokenizer)
        states = pooled_states(self._router, encoded, pooling=pooling)
        return calibration.encoder.keys(states, self._router.reader.texts(encoded))

    def keys_of(self, edits: Sequence[Edit], calibration: Calibration | None = None) -> list[KeyTensors]:
        """Return, per edit, the keys of its prompts, then of its quiet prompts (``quiet`` marks them), in every form.

        Args:
            edits: the edits.
            calibration: the calibration to use; ``None``: the one in force.
        """
        forms = [
            [[form for prompt in prompts for form in self.forms(prompt)] for prompts in (edit.prompts, edit.quiet)]
            for edit in edits
        ]
        calibration = calibration or self.calibration
        if not forms or calibration is None:
            return []
        keys = self.keys_under(calibration, [form for pair in forms for part in pair for form in part])
        parts = keys.split([len(prompts) + len(quiet) for prompts, quiet in forms])
        return [
            part.clone().to_tensors() | {"quiet": torch.arange(len(part)) >= len(prompts)}
            for part, (prompts, _) in zip(parts, forms, strict=True)
        ]

    def clash(self, keys: KeyTensors) -> bool:
        """Return whether a quiet prompt of an edit has the same key as one of its own prompts."""
        quiet, every = keys["quiet"], Keys.from_tensors(keys)
        return same_keys(every[~quiet], every[quiet], SAME_KEY)

    # -- following the store

    def follow(self, store: Store, changes: Changes) -> None:
        """Make the index hold the store's enabled edits."""
        self._store = store
        recalibrated = store.calibration_id != self._calibration_id and self._load_calibration(store)
        self._uncached += len(changes.ids)
        active = {edit_id: stored.record for edit_id, stored in changes.active.items()}
        known = [(edit_id, record) for edit_id in changes.ids if (record := self._record.get(edit_id)) is not None]
        gone = [record for edit_id, record in known if active.get(edit_id) != record]
        self.index.remove(gone)
        for record in gone:
            del self._record[self._id.pop(record)]
        new = {edit_id: record for edit_id, record in active.items() if edit_id not in self._record}
        self._add(store, list(new.values()))
        self._record |= new
        self._id |= {record: edit_id for edit_id, record in new.items()}
        if recalibrated:
            self._calibrate(store)
        if len(self.index) and math.isinf(self.index.similarity):
            logger.warning("no edit can fire: too few calibration prompts ask something else; calibrate with others")

    def _load_calibration(self, store: Store) -> bool:
        """Take up the store's calibration: every edit has other keys now."""
        if (found := store.calibration()) is None:
            return False
        self._calibration_id, tensors, info = found
        self.calibration = Calibration.from_tensors(tensors, info)
        self.pooling = self.calibration.encoder.pooling(self._backbone.tokenizer)
        self.index = NeuronIndex(self.calibration.encoder.shape, self._router.key_device)
        self._record, self._id = {}, {}
        return True

    def _add(self, store: Store, records: Sequence[int]) -> None:
        for start in range(0, len(records), EDITS_AT_ONCE):
            for owners, tensors in store.key_stacks(records[start : start + EDITS_AT_ONCE]):
                self.index.add_all(owners, Keys.from_tensors(tensors), tensors["quiet"], len(records) - start)

    def _calibrate(self, store: Store) -> None:
        assert self.calibration is not None
        prompts, config = self.calibration.prompts, self.scope_config(self.calibration.info)
        least = config.min_similarity if len(prompts) else config.document_similarity
        least = -1.0 if least is None else least
        cache = self._stored_cache(store, len(prompts))
        self.index.set_scope(prompts, config.false_activation, least, self.calibration.prompt_of, cache)

    def scope_config(self, info: Mapping[str, Any]) -> MeloConfig:
        """Return the config, with scope settings overridden by those that a calibration states in its ``info``."""
        return replace(self._config, **{name: info[name] for name in SCOPE_SETTINGS if name in info})

    def _stored_cache(self, store: Store, prompts: int) -> NearestCache | None:
        if (found := store.scope_cache()) is None:
            return None
        tensors, owners = found
        cache = NearestCache(tensors.get("near", Tensor()), tensors.get("owner", Tensor()), owners)
        if not cache.fits(prompts):
            return None
        self._uncached = len(owners.symmetric_difference(self._id))
        return cache

    def cache_to_store(self) -> KeyTensors | None:
        """Return the scope's cache if it is time to write it to the store again, else ``None``."""
        if self._uncached < CACHE_EVERY:
            return None
        self._uncached = 0
        cache = self.index.nearest_cache
        return {"near": cache.near, "owner": cache.owner.int()}

    def add_unblocked(self, edits: Sequence[Edit], keys: Sequence[KeyTensors]) -> None:
        """Add edits that have keys but no block. For evaluating routing only."""
        for record, (edit, tensors) in enumerate(zip(edits, keys, strict=True), max(self._id, default=0) + 1):
            stacked = {name: tensor[None] for name, tensor in tensors.items()}
            self.index.add_all([record], Keys.from_tensors(stacked), stacked["quiet"])
            self._record[edit.id], self._id[record] = record, edit.id

    # -- deciding

    def decide(self, pooled: PooledStates) -> tuple[list[int], list[Route]]:
        """Return for each of B prompts the record of the edit that answers (-1: none), and its route."""
        if self.calibration is None or not len(self.index):
            return [-1] * pooled.count, [self.no_route] * pooled.count
        threshold = self.index.threshold
        candidates = self.index.search(self.calibration.encoder.keys(pooled.states, pooled.texts))
        records, routes = [], []
        for record, distance, suppressed, near in _nearest_of_prompts(candidates, pooled, threshold):
            fires, is_quiet = distance < threshold, near < threshold
            if not fires and near <= distance:
                record, distance = suppressed, near
            records.append(record if fires else -1)
            routes.append(
                Route(
                    edit=self._id[record] if fires else None,
                    distance=None if math.isinf(distance) else distance,
                    threshold=threshold,
                    nearest=self._id.get(record),
                    reason="fired" if fires else "quiet" if is_quiet else "outside scope",
                )
            )
        return records, routes

    def evidence(self, pooled: PooledStates) -> list[Evidence | None]:
        """Return the terms of each of B prompts' similarity to its nearest edit; ``None`` where there are none."""
        routes = self.decide(pooled)[1]
        if self.calibration is None or not len(self.index):
            return [None] * pooled.count
        keys, rows = self.calibration.encoder.keys(pooled.states, pooled.texts), torch.tensor(pooled.rows)
        found: list[Evidence | None] = []
        for prompt, route in enumerate(routes):
            of_prompt = torch.nonzero(rows == prompt).flatten()
            found.append(None if route.nearest is None else self._evidence(route.nearest, pooled, keys, of_prompt))
        return found

    def _evidence(self, edit_id: str, pooled: PooledStates, keys: Keys, rows: Tensor) -> Evidence:
        """Return the terms of an edit's similarity to the nearest of the keys ``rows``, with the words of its names."""
        assert self.calibration is not None
        terms, query, key = self.index.evidence(self._record[edit_id], keys[rows])
        words = self.calibration.encoder.words
        if words is None or terms.entity_overlap is None:
            return terms
        prompts = self._store.get(edit_id).edit.prompts
        wordings = [prompt for prompt in prompts for _ in self.forms(prompt)]
        mentioned = name_shares(pooled.texts[int(rows[query])], words)
        names = {word: share for word, share in name_shares(prompt_text(wordings[key]), words).items() if share}
        return terms._replace(names={word: (share, word in mentioned) for word, share in names.items()})

    def neighbours(self, edit_id: str) -> Neighbours:
        """Return the nearest other edit, and the edits whose scopes overlap this one's; nothing if it is disabled."""
        if edit_id not in self._record:
            self._store.get(edit_id)  # an error that names ids like it, if there is no such edit
            return Neighbours(None, None, [])
        nearest, distance, overlaps = self.index.neighbours(self._record[edit_id])
        return Neighbours(
            self._id.get(nearest), None if nearest < 0 else distance, [self._id[record] for record in overlaps]
        )


Pair = tuple[int, float]
"""A record, and its distance."""


def _nearest_of_prompts(
    candidates: Candidates, pooled: PooledStates, threshold: float
) -> Iterator[tuple[int, float, int, float]]:
    """Yield, per prompt, record and distance of the edit nearest to any of its keys, and of the nearest suppressed one.

    An edit that one key of a prompt suppresses is not reached by another one: a quiet prompt is obeyed as a whole.
    """
    columns = (
        candidates.owner[:, 0],
        candidates.distance[:, 0],
        candidates.suppressed,
        candidates.suppressed_distance,
    )
    found = list(zip(pooled.rows, *(column.tolist() for column in columns), strict=True))
    in_scope = (candidates.quiet_distance < threshold).tolist()
    quiet = {(row, suppressed) for (row, _, _, suppressed, _), obeyed in zip(found, in_scope, strict=True) if obeyed}
    best: list[tuple[Pair, Pair]] = [((-1, math.inf), (-1, math.inf))] * pooled.count
    by_distance: Callable[[Pair], float] = lambda pair: pair[1]  # noqa: E731
    for row, record, distance, suppressed, near in found:
        if (row, record) in quiet:
            record, distance = -1, math.inf
        first, second = best[row]
        best[row] = min(first, (record, distance), key=by_distance), min(second, (suppressed, near), key=by_distance)
    for (record, distance), (suppressed, near) in best:
        yield record, distance, suppressed, near
