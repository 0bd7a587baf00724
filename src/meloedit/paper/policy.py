"""Paper mode: the blocks and the cluster index of arXiv 2312.11795, kept in step with a store."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..backbones.batch import EncoderBatch, Example
from ..engine.live import Live
from ..errors import EditError
from ..hooks.blocks import block_from_tensors
from ..hooks.state_reader import pooled_states
from ..keys.pooling import PooledStates
from ..results import Route
from .clusters import ClusterIndex
from .timeline import Step, Timeline
from .trainer import BatchTrainer

if TYPE_CHECKING:
    from ..backbones.batch import Encoded
    from ..edit import Edit
    from ..keys.encoder import Calibration
    from ..store.store import Store, StoredEdit

logger = logging.getLogger(__name__)


class PaperLive(Live):
    """The edits that answer in paper mode: one block per batch of edits, clusters of raw keys.

    A key is the output of the key module at the last real token of the prompt; ``reference_quirks`` takes the last
    position of the padded batch instead, for causal models the answer's.
    """

    index: ClusterIndex  # type: ignore[assignment]

    def follow(self, store: Store) -> None:
        """Answer with the edits of ``store``."""
        if self.config.reference_quirks:
            logger.warning("reference_quirks is on: results repeat what the released code does, not the paper")
        self._timeline = Timeline()
        self._seen = 0
        self._at: Step | None = None
        self._holder: dict[int, int] = {}  # record -> the record that holds its block
        self._sharing: Counter[int] = Counter()  # such a record -> how many enabled edits it serves
        self._new_index()
        super().follow(store)

    def _new_index(self) -> None:
        config, router = self.config, self.router
        self.index = ClusterIndex(
            router.key_size, config.radius, config.expand, router.key_device, quirks=config.reference_quirks
        )

    def _keep_lists(self) -> None:
        """Do nothing: clusters have no calibration prompts."""

    def _answer_with(self, live: dict[str, StoredEdit], changed: Collection[str]) -> None:
        """Make bank and index hold what the store holds."""
        store, bank = self.store, self.router.bank
        opening = self._seen == 0
        last = self._timeline.follow(store.history(limit=store.revision - self._seen))
        self._seen = store.revision
        wanted = {name: stored for name, stored in live.items() if stored.enabled}
        with self.router.lock, torch.inference_mode(False):
            steps = last.since(self._at)
            if steps is None:  # rolled back: the whole way again
                self._new_index()
                steps, opening = last.since(None) or [], True
            self._walk(steps, tell=not opening)
            self._at = last
            for name in changed:
                record = self._number.pop(name, None)
                if record is not None:
                    del self._id[record]
                    self._sharing[self._holder.pop(record)] -= 1
            for name, stored in wanted.items():
                self._number[name], self._id[stored.record] = stored.record, name
                self._holder[stored.record] = stored.holder
                self._sharing[stored.holder] += 1
            unused = [holder for holder, edits in self._sharing.items() if not edits]
            bank.remove(unused)
            for holder in unused:
                del self._sharing[holder]
            missing = sorted({stored.holder for stored in wanted.values()}.difference(bank.owners))
            for holder, found in store.records(missing).items() if missing else ():
                bank.add(holder, block_from_tensors(found.block, self.modules), "all")

    def _walk(self, steps: Sequence[Step], tell: bool) -> None:
        """Let steps happen to the index; ``tell`` what they make it forget, unless that was told before."""
        records = self.store.records(sorted({number for step in steps for number in step.added})) if steps else {}
        for step in steps:
            self.index.remove(step.removed)
            rows = [(number, key) for number in step.added for key in records[number].keys["keys"]]
            if not rows:
                continue
            owners = [number for number, _ in rows]
            labels = [self._label(records[number].edit) for number in owners]
            # Blocks are known by the records that hold them; the index only needs to tell them apart.
            forgotten = self.index.add_batch(owners, owners, torch.stack([key for _, key in rows]), labels)
            if forgotten and tell:
                names = [records[n].edit.id if n in records else self._id.get(n, "?") for n in forgotten if n >= 0]
                logger.warning(
                    "the index forgot %d keys in conflicts with new edits: %s%s",
                    len(forgotten),
                    ", ".join(names[:5]),
                    " ..." if len(names) > 5 else "",
                )

    def _label(self, edit: Edit) -> Hashable:
        """Return what makes two edits agree: the target; under ``reference_quirks`` the sum of its token ids."""
        if not self.config.reference_quirks:
            return edit.target.strip()
        return sum(self.backbone.encode_target(edit.target, self.backbone.encode(edit.prompt)))

    # -- what the engine asks

    @property
    def ready(self) -> bool:
        """Whether the store can take edits: keys are taken as they are."""
        return self.store.calibration_id is not None

    @property
    def no_route(self) -> Route:
        """The route of a prompt while there are no edits."""
        return Route(None, None, 0.0, None, "no edits")

    @property
    def trainer(self) -> BatchTrainer:
        """What trains the block of a batch of edits."""
        return BatchTrainer(self.router, self.config)

    def check_edit(self, edit: Edit) -> None:
        """Refuse quiet prompts, of which the paper's index knows nothing."""
        if edit.quiet:
            raise EditError("paper mode has no quiet prompts: leave them out")

    @property
    def keeps_all(self) -> bool:
        """Whether an edit that does not hold is stored all the same: its batch shares the block."""
        return True

    @property
    def train_batch_size(self) -> int:
        """How many edits share a block."""
        return self.config.edits_per_block

    def decide(self, pooled: PooledStates) -> tuple[list[int], list[Route]]:
        """Map the key-module states of B prompts to the blocks that answer (-1: none) and routes (Eq. 9 and 10)."""
        with self.router.lock:
            if not self._number:
                return [-1] * pooled.count, [self.no_route] * pooled.count
            found = self.index.search(pooled.states)
            columns = (found.block, found.owner, found.distance, found.radius)
            blocks, routes = [], []
            for block, owner, distance, radius in zip(*(column.tolist() for column in columns), strict=True):
                fires, name = block >= 0, self._id.get(owner)
                blocks.append(self._holder[block] if fires else -1)
                routes.append(
                    Route(name if fires else None, distance, radius, name, "fired" if fires else "outside scope")
                )
            return blocks, routes

    def neighbours(self, edit_id: str) -> tuple[str | None, float | None, list[str]]:
        """Return nothing: clusters overlap as the paper has it, and a conflict decides between them for good."""
        return None, None, []

    def keys(self, encoded: Sequence[Encoded], targets: Sequence[str] | None = None) -> Tensor:
        """Return the keys (n, d) of prompts; ``reference_quirks`` takes them of prompts and targets, as one batch."""
        if not self.config.reference_quirks:
            return pooled_states(self.router, encoded)
        backbone = self.backbone
        rows = [Example.of(item) for item in encoded]
        if targets is not None and backbone.source is None:
            rows = [
                Example([*item.ids, *backbone.encode_target(target, item)], [], (0, 1))
                for item, target in zip(encoded, targets, strict=True)
            ]
        size = self.config.edits_per_block
        parts = [
            EncoderBatch.of(rows[start : start + size], backbone.pad_id, backbone.device, last_column=True)
            for start in range(0, len(rows), size)
        ]
        return torch.cat([self.router.pooled(part).cpu() for part in parts])

    def keys_of(self, edits: Sequence[Edit], calibration: Calibration | None) -> list[dict[str, Tensor]]:
        """Return, per edit, the ``keys`` (n, d) of its prompts."""
        pairs = [(self.backbone.encode(prompt), edit.target) for edit in edits for prompt in edit.prompts]
        if not pairs:
            return []
        keys = self.keys([encoded for encoded, _ in pairs], [target for _, target in pairs])
        return [{"keys": part.clone()} for part in torch.split(keys, [len(edit.prompts) for edit in edits])]
