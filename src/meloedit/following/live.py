"""Live: what answers, kept in step with a store. What answers is always what is stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..callers.fork_lock import ForkLock
from ..callers.precision import exact
from ..keys.pooling import PooledStates, Pooling
from ..results import Route
from ..routing.policy import Changes
from .blocks import checked_blocks
from .lookup import PromptLookup

if TYPE_CHECKING:
    from ..config import MeloConfig
    from ..routing.policy import Host, Policy
    from ..store import Store, StoredEdit

BLOCKS_AT_ONCE = 64
"""Blocks that are read from the store at once."""


class Live(ABC):
    """Follows a store, over anything that has a bank of blocks, a prompt reader and a device for keys.

    A *holder* is the record that holds a block: the edit's, or, where edits share a block, the first of its batch's.

    A change may be stopped (Ctrl-C, no memory) after it is stored and before everything here follows it. Whatever is
    asked next follows the whole store anew, see ``keep_up``.

    Attributes:
        host: has the bank, the reader and the device; whoever derives sets it, then calls ``begin``.
        lock: guards policy and blocks.

    Args:
        config: settings.
    """

    host: Host
    store: Store

    def __init__(self, config: MeloConfig) -> None:
        self.config = config
        self.lock = ForkLock()
        self._changing = ForkLock()  # held as long as a change is under way
        self._policy: Policy
        self._follows = False
        self._prompts = PromptLookup()
        self._followed: int | None = 0  # revision; None: not the whole of any
        self._record: dict[str, int] = {}  # id of an enabled edit -> its record
        self._holder_of_record: dict[int, int] = {}
        self._uses: Counter[int] = Counter()  # holder -> how many enabled edits it serves
        self._places: dict[str, tuple[int, int]] = {}  # id of an enabled edit -> its first places

    @abstractmethod
    def open_policy(self) -> Policy:
        """Return a policy that knows no edit yet."""

    def check_attached(self) -> None:  # noqa: B027 -- not every host can be taken off
        """Raise a ModelError if the blocks no longer act; by default they always do."""

    def follow(self, store: Store) -> None:
        """Answer with the edits of ``store``."""
        self.store = store
        self._refresh()
        self._follows = True

    def refresh(self) -> int:
        """Load what other processes changed in the store, answer with it, and return the revision."""
        with self.store.alone(), self._changing:
            self.store.refresh()
            if self._followed != self.store.revision:
                self._refresh()
            return self.store.revision

    def keep_up(self) -> None:
        """Follow the store anew if a change was stopped between its commit and what answers.

        Raises:
            MeloEditError: if that fails again: then nothing is answered, rather than by edits that are not stored. Or
                if the hooks were taken off the model (``release``).
        """
        self.check_attached()
        if not self._follows or self._followed == self.store.revision:
            return
        if not self._changing.acquire(blocking=False):
            return  # another thread's change is under way
        try:
            if self._followed != self.store.revision:
                self._refresh()
        finally:
            self._changing.release()

    def _refresh(self) -> None:
        """Follow what changed in the store since the last time; all of it, if that time was stopped."""
        # Tensors made under a caller's inference_mode could not be changed outside of it.
        with self.lock, torch.inference_mode(False), exact(self.host.key_device):
            followed, self._followed, revision = self._followed, None, self.store.revision
            if followed is None:
                self._forget()
            ids = None if followed is None else self.store.changed_since(followed)
            if ids is None:
                ids = frozenset(self._prompts.ids.union(stored.edit.id for stored in self.store.edits()))
            stored = {edit_id: found for edit_id in ids if (found := self.store.find(edit_id)) is not None}
            self._prompts.follow({edit_id: stored[edit_id].edit if edit_id in stored else None for edit_id in ids})
            in_order = sorted(stored.items(), key=lambda item: item[1].record)
            changes = Changes(ids, {edit_id: found for edit_id, found in in_order if found.enabled})
            self._follow_blocks(changes)
            self._policy.follow(self.store, changes)
            self._followed = revision

    def _forget(self) -> None:
        """Begin as if no store had been followed."""
        self.host.bank.clear()
        self._prompts, self._policy = PromptLookup(), self.open_policy()
        self._record, self._holder_of_record, self._uses, self._places = {}, {}, Counter(), {}

    @property
    def policy(self) -> Policy:
        """Decides which edit answers, in step with the store."""
        self.keep_up()
        return self._policy

    @property
    def prompts(self) -> PromptLookup:
        """The stored edits by their prompts, in step with the store."""
        self.keep_up()
        return self._prompts

    def _follow_blocks(self, changes: Changes) -> None:
        """Make the bank hold the blocks of the enabled edits."""
        for edit_id in changes.ids:
            self._places.pop(edit_id, None)
            if (record := self._record.pop(edit_id, None)) is not None:
                self._uses[self._holder_of_record.pop(record)] -= 1
        for edit_id, stored in changes.active.items():
            self._record[edit_id], self._holder_of_record[stored.record] = stored.record, stored.holder
            self._uses[stored.holder], self._places[edit_id] = self._uses[stored.holder] + 1, stored.places
        unused = [holder for holder, uses in self._uses.items() if not uses]
        bank = self.host.bank
        bank.remove(unused)
        for holder in unused:
            del self._uses[holder]
        there = bank.owners
        self._read_blocks({s.holder: s for s in changes.active.values() if s.holder not in there})

    def _read_blocks(self, missing: Mapping[int, StoredEdit]) -> None:
        """Read blocks from the store; ``missing`` names for each holder an edit that it serves."""
        holders, to_come = list(missing), Counter(self._shape(stored) for stored in missing.values())
        for start in range(0, len(holders), BLOCKS_AT_ONCE):
            for owners, tensors in self.store.block_stacks(holders[start : start + BLOCKS_AT_ONCE]):
                shape = self._shape(missing[owners[0]])
                block = checked_blocks(tensors, self.host.bank.sites, self.store.path, owners, missing)
                reaches = [missing[owner].reach for owner in owners]
                self.host.bank.add_all(owners, block, reaches, to_come[shape])  # type: ignore[arg-type]
                to_come[shape] -= len(owners)

    def _shape(self, stored: StoredEdit) -> tuple[int, int]:
        """Return rank and answer positions of a stored block."""
        return stored.rank, stored.positions(self.config.answer_positions or 0)

    @property
    def revision(self) -> int:
        """The revision of the store whose edits answer; it stays while the caller has the lock."""
        self.keep_up()
        return self.store.revision if self._followed is None else self._followed

    # -- what the hooks ask

    @property
    def pooling(self) -> Pooling | None:
        """The weights of tokens in the means that keys are made of."""
        return self.policy.pooling

    def decide(self, pooled: PooledStates) -> tuple[list[int], list[Route]]:
        """Return for each of B prompts the holder of the block that answers (-1: none), and its route."""
        with self.lock:
            records, routes = self._decide(pooled)
            return [self._holder_of_record.get(record, record) for record in records], routes

    def _decide(self, pooled: PooledStates) -> tuple[list[int], list[Route]]:
        """Decide as the policy does; an edit stays out where its answer is given, or a tool has answered.

        Edits are read as they answer. The store may be a change ahead, which another thread has just committed.
        """
        records, routes = self.policy.decide(pooled)
        for row in {*pooled.after_tools, *pooled.begun}:
            if (edit_id := routes[row].edit) is None:
                continue
            edit, begun = self._prompts.edit(edit_id), pooled.begun.get(row)
            if row in pooled.after_tools and not edit.over_tools:
                records[row], routes[row] = -1, replace(routes[row], edit=None, reason="tool result")
            elif begun is not None and (over := self.host.backbone.place_in(edit.target, begun).over):
                records[row], routes[row] = -1, replace(routes[row], edit=None, reason=over)
        return records, routes

    def target(self, edit_id: str) -> str:
        """Return the target of an edit that answers."""
        return self._prompts.edit(edit_id).target

    def first_place(self, edit_id: str, bare: bool) -> int:
        """Return the answer position of the first token of the target of an edit that answers."""
        return self._places.get(edit_id, (0, 0))[bare]
