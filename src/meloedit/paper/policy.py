"""ClusterPolicy: which block answers in paper mode, by clusters of raw keys (arXiv 2312.11795, Section 4.2)."""

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

    A key is the output of the key module at the last real token of the prompt; under ``reference_quirks`` at the last
    position of the padded batch, for causal models that of the answer.

    Args:
        router: the model and its hooks.
        config: settings.
    """

    pooling: Pooling | None = None
    """Raw states are keys: no token is weighed."""

    def __init__(self, router: Router, config: PaperConfig) -> None:
        self._router, self._config = router, config
        self._backbone = router.backbone
        self.index = self._new_index()
        self._store: Store | None = None
        self._timeline = Timeline()
        self._seen = 0  # revision
        self._at: Step | None = None
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
        """Whether the store can take edits: keys are taken as they are, so its empty calibration is enough."""
        return self._store is not None and self._store.calibration_id is not None

    @property
    def threshold(self) -> float:
        """The initial radius of a cluster."""
        return self._config.radius

    @property
    def no_route(self) -> Route:
        """The route of a prompt while there are no edits."""
        return Route(None, None, 0.0, None, "no edits")

    @property
    def counts(self) -> dict[str, int]:
        """How many clusters and keys the index holds, and how many conflicts and forgotten keys there were."""
        return self.index.counts

    def check_edit(self, edit: Edit) -> None:
        """Refuse quiet prompts, of which the paper's index knows nothing."""
        if edit.quiet:
            raise EditError("paper mode has no quiet prompts: leave them out")

    def forms(self, prompt: Prompt) -> list[Encoded]:
        """Return a prompt as it is written: the paper's keys and blocks know no other form."""
        return [self._backbone.encode(prompt)]

    # -- keys

    def keys(self, encoded: Sequence[Encoded], targets: Sequence[str] | None = None) -> Tensor:
        """Return the keys (n, d) of prompts; ``reference_quirks`` takes them of prompts and targets, as one batch."""
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
        """Apply to the index what happened in the store, in its order: the order decides what the index holds."""
        self._store = store
        opening = self._seen == 0
        last = self._timeline.follow(store.history(limit=store.revision - self._seen))
        self._seen = store.revision
        steps = last.since(self._at)
        if steps is None:  # rolled back: the whole way again
            self.index = self._new_index()
            steps, opening = last.since(None) or [], True
        self._walk(store, steps, warn=not opening)
        self._at = last
        for edit_id in changes.ids:
            if (record := self._record.pop(edit_id, None)) is not None:
                del self._id[record]
        for edit_id, stored in changes.active.items():
            self._record[edit_id], self._id[stored.record] = stored.record, edit_id

    def _walk(self, store: Store, steps: Sequence[Step], warn: bool) -> None:
        """Apply steps to the index; ``warn`` of the keys that it forgets, unless that was done before."""
        records = store.records(sorted({number for step in steps for number in step.added})) if steps else {}
        for step in steps:
            self.index.remove(step.removed)
            rows = [(number, key) for number in step.added for key in records[number].keys["keys"]]
            if not rows:
                continue
            owners = [number for number, _ in rows]
            labels = [self._label(records[number].edit) for number in owners]
            # Blocks are known by the records that hold them; the index only needs to tell them apart.
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
        """Return what makes two edits agree: the target; under ``reference_quirks`` the sum of its token ids."""
        if not self._config.reference_quirks:
            return edit.target.strip()
        return sum(self._backbone.encode_target(edit.target, self._backbone.encode(edit.prompt)))

    # -- deciding

    def decide(self, pooled: PooledStates) -> tuple[list[int], list[Route]]:
        """Return for each of B prompts the record whose block answers (-1: none), and its route (Eq. 9 and 10)."""
        if not self._record:
            return [-1] * pooled.count, [self.no_route] * pooled.count
        found = self.index.search(pooled.states)
        columns = (found.block, found.owner, found.distance, found.radius)
        records, routes = [], []
        for record, owner, distance, radius in zip(*(column.tolist() for column in columns), strict=True):
            fires, name = record >= 0, self._id.get(owner)
            records.append(record if fires else -1)
            routes.append(Route(name if fires else None, distance, radius, name, "fired" if fires else "outside scope"))
        return records, routes

    def evidence(self, pooled: PooledStates) -> list[Evidence | None]:
        """Return nothing: a distance of raw states has no terms."""
        return [None] * pooled.count

    def neighbours(self, edit_id: str) -> Neighbours:
        """Return nothing: clusters overlap as the paper has it, and a conflict decides between them for good."""
        return Neighbours(None, None, [])
