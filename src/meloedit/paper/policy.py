"""ClusterPolicy: decides in paper mode which block answers, by clusters of raw keys (arXiv 2312.11795, Section 4.2)."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..backbones.batch import EncoderBatch, Example
from ..errors import EditError
from ..hooks.state_reader import pooled_states
from ..keys.pooling import PooledStates, Pooling
from ..keys.similarity import Evidence
from ..results import Neighbours, Route
from .clusters import ClusterIndex
from .timeline import Step, Timeline

if TYPE_CHECKING:
    from ..backbones.batch import Encoded
    from ..edit import Edit
    from ..hooks.router import Router
    from ..routing.policy import Changes, KeyTensors
    from ..store import Store
    from ..types import Prompt
    from .config import PaperConfig

logger = logging.getLogger(__name__)


class ClusterPolicy:
    """Decides by the nearest cluster and its nearest key; implements ``Policy``.

    A key is the output of the key layer at the prompt's last real token. Under ``reference_quirks`` it is the output at
    the last position of the padded batch; a causal model's batch includes the answers.

    Args:
        router: the model and its hooks.
        config: the settings.
    """

    pooling: Pooling | None = None
    """Keys are raw states, so tokens have no weights."""

    def __init__(self, router: Router, config: PaperConfig) -> None:
        self._router, self._config = router, config
        self._backbone = router.backbone
        self.index = self._new_index()
        self._store: Store | None = None
        self._timeline = Timeline()
        self._seen_revision = 0
        self._step: Step | None = None  # the last step that the index has applied
        self._record: dict[str, int] = {}  # id of an enabled edit -> its record in the store
        self._id: dict[int, str] = {}
        if config.reference_quirks:
            logger.warning("reference_quirks is on: results repeat what the released code does, not the paper")

    def _new_index(self) -> ClusterIndex:
        config, router = self._config, self._router
        return ClusterIndex(
            router.key_size, config.radius, config.expand, router.key_device, quirks=config.reference_quirks
        )

    @property
    def ready(self) -> bool:
        """Whether the store can take edits: raw keys need no fit, so its empty calibration is enough."""
        return self._store is not None and self._store.calibration_id is not None

    @property
    def threshold(self) -> float:
        """The initial radius of a cluster."""
        return self._config.radius

    @property
    def least_score(self) -> float | None:
        """Nothing: no judge decides."""
        return None

    @property
    def no_route(self) -> Route:
        """The route of a prompt while there are no edits."""
        return Route(None, None, 0.0, None, "no edits")

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of clusters and keys, and of conflicts and forgotten keys so far."""
        return self.index.counts

    def check_edit(self, edit: Edit) -> None:
        """Refuse an edit with quiet prompts, which the paper's index does not have.

        Raises:
            EditError: if it has any.
        """
        if edit.quiet:
            raise EditError("paper mode has no quiet prompts: leave them out")

    def forms(self, prompt: Prompt) -> list[Encoded]:
        """Return a prompt in the one form in which it was given: paper mode trains and keys no other."""
        return [self._backbone.encode(prompt)]

    # -- keys

    def keys(self, encoded: Sequence[Encoded], targets: Sequence[str] | None = None) -> Tensor:
        """Return the keys (n, d) of prompts; ``reference_quirks`` reads them from batches of prompts and targets."""
        if not self._config.reference_quirks:
            return pooled_states(self._router, encoded)
        backbone = self._backbone
        rows = [Example(prompt.ids, []) for prompt in encoded]
        if targets is not None and backbone.answer_follows_prompt:
            pairs = zip(encoded, targets, strict=True)
            rows = [Example([*prompt.ids, *backbone.encode_target(target, prompt)], []) for prompt, target in pairs]
        size = self._config.edits_per_block
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        batches = [EncoderBatch.of(part, backbone.pad_id, backbone.device) for part in parts]
        return torch.cat([self._router.key_states(batch)[:, -1].float().cpu() for batch in batches])

    def keys_of(self, edits: Sequence[Edit]) -> list[KeyTensors]:
        """Return, per edit, the ``keys`` (n, d) of its prompts."""
        pairs = [(self._backbone.encode(prompt), edit.target) for edit in edits for prompt in edit.prompts]
        if not pairs:
            return []
        keys = self.keys([encoded for encoded, _ in pairs], [target for _, target in pairs])
        return [{"keys": part.clone()} for part in torch.split(keys, [len(edit.prompts) for edit in edits])]

    def clash(self, keys: KeyTensors) -> bool:
        """Return false: there are no quiet prompts."""
        return False

    # -- following the store

    def follow(self, store: Store, changes: Changes) -> None:
        """Apply the store's new revisions to the index in their order, on which the clusters depend."""
        self._store = store
        replayed = self._seen_revision == 0
        last = self._timeline.follow(store.history(limit=store.revision - self._seen_revision))
        self._seen_revision = store.revision
        steps = last.since(self._step)
        if steps is None:  # after a rollback: build the index again from the start
            self.index = self._new_index()
            steps, replayed = last.since(None) or [], True
        self._apply(store, steps, warn=not replayed)
        self._step = last
        for edit_id in changes.ids:
            if (record := self._record.pop(edit_id, None)) is not None:
                del self._id[record]
        for edit_id, stored in changes.active.items():
            self._record[edit_id], self._id[stored.record] = stored.record, edit_id

    def _apply(self, store: Store, steps: Sequence[Step], warn: bool) -> None:
        """Apply steps to the index; with ``warn``, log the keys that it forgets."""
        records = store.records(sorted({number for step in steps for number in step.added})) if steps else {}
        for step in steps:
            self.index.remove(step.removed)
            rows = [(number, key) for number in step.added for key in records[number].keys["keys"]]
            if not rows:
                continue
            owners = [number for number, _ in rows]
            labels = [self._label(records[number].edit) for number in owners]
            # A record's number serves as its block's: the index only passes it on.
            forgotten = self.index.add_batch(owners, owners, torch.stack([key for _, key in rows]), labels)
            if forgotten and warn:
                names = [records[n].edit.id if n in records else self._id.get(n, "?") for n in forgotten if n >= 0]
                logger.warning(
                    "the index forgot %d keys in conflicts with new edits: %s%s",
                    len(forgotten),
                    ", ".join(names[:5]),
                    " ..." if len(names) > 5 else "",
                )

    def _label(self, edit: Edit) -> Hashable:
        """Return an edit's label: its target; under ``reference_quirks`` the sum of the target's token ids."""
        if not self._config.reference_quirks:
            return edit.target.strip()
        return sum(self._backbone.encode_target(edit.target, self._backbone.encode(edit.prompt)))

    # -- deciding

    def decide(self, pooled: PooledStates) -> tuple[list[int], list[Route]]:
        """Return for each prompt the record whose block answers (-1: none), and its route (Eq. 9 and 10)."""
        if not self._record:
            return [-1] * pooled.count, [self.no_route] * pooled.count
        hits = self.index.search(pooled.states)
        columns = (hits.block, hits.owner, hits.distance, hits.radius)
        records, routes = [], []
        for record, owner, distance, radius in zip(*(column.tolist() for column in columns), strict=True):
            fires, name = record >= 0, self._id.get(owner)
            records.append(record if fires else -1)
            routes.append(Route(name if fires else None, distance, radius, name, "fired" if fires else "outside scope"))
        return records, routes

    def evidence(self, pooled: PooledStates) -> list[Evidence | None]:
        """Return ``None`` for each prompt: a distance between raw states has no terms to explain."""
        return [None] * pooled.count

    def neighbours(self, edit_id: str) -> Neighbours:
        """Return no neighbours: conflicts settle overlaps when an edit enters the index."""
        return Neighbours(None, None, [])
