"""Engine: one model, its policy and its store kept in step. What answers is always what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ..callers.fork_lock import ForkLock
from ..callers.precision import exact
from ..errors import ModelError
from ..hooks.encoder_router import EncoderRouter
from ..hooks.key_reader import KeyReader
from ..hooks.router import Router
from ..hooks.state_reader import pooled_prompts
from ..keys.pooling import PooledStates, Pooling
from ..keys.similarity import Evidence
from ..results import Neighbours, Route
from ..routing.policy import Changes
from .prevailing import PromptLookup
from .stored_blocks import checked_blocks

if TYPE_CHECKING:
    from ..backbones import Backbone, Locations
    from ..backbones.batch import Encoded
    from ..config import MeloConfig
    from ..routing.policy import Policy
    from ..store import Store, StoredEdit
    from ..types import Progress
    from .mode import Mode

T = TypeVar("T")

BLOCKS_AT_ONCE = 64
"""Blocks that are read from the store at once."""


class Engine:
    """Hooks the model at once; ``follow`` a store to have any edits.

    A *holder* is the record that holds a block: the edit's, or, where edits share a block, the first of its batch's.

    A change may be stopped (Ctrl-C, no memory) after it is stored and before everything here follows it. Whatever is
    asked next follows the whole store anew, see ``keep_up``.

    Args:
        backbone: the model.
        locations: its key layer and edited modules.
        config: settings.
        open_mode: makes the parts that the modes differ in, given the hooks and the settings.

    Raises:
        ModelError: if the modules do not run as hooks need them to, or the rank is too large for one.
    """

    def __init__(
        self,
        backbone: Backbone,
        locations: Locations,
        config: MeloConfig,
        open_mode: Callable[[Router, MeloConfig], Mode],
    ) -> None:
        self.backbone = backbone
        self.config = config
        self.modules = locations.modules
        self.lock = ForkLock()  # guards policy and blocks
        self._changing = ForkLock()  # held as long as a change is under way
        self._open_mode = open_mode
        router_class = Router if backbone.answer_follows_prompt else EncoderRouter
        self.router = router_class(backbone, locations, KeyReader(backbone, config.key_tokens), self, self.lock)
        try:
            self._check_rank()
            self._mode = open_mode(self.router, config)
        except BaseException:
            self.router.detach()
            raise
        self.store: Store
        self._follows = False
        self._prompts = PromptLookup()
        self._followed: int | None = 0  # revision; None: not the whole of any
        self._record: dict[str, int] = {}  # id of an enabled edit -> its record
        self._holder_of_record: dict[int, int] = {}
        self._uses: Counter[int] = Counter()  # holder -> how many enabled edits it serves
        self._places: dict[str, tuple[int, int]] = {}  # id of an enabled edit -> its first places

    def _check_rank(self) -> None:
        narrow = min(self.router.bank.sites, key=lambda site: min(site.inputs, site.outputs))
        if self.config.rank > min(narrow.inputs, narrow.outputs):
            raise ModelError(
                f"rank {self.config.rank} is more than {narrow.name} has: {narrow.inputs} in, {narrow.outputs} out"
            )

    # -- following the store

    def follow(self, store: Store) -> None:
        """Answer with the edits of ``store``."""
        self.store = store
        self._refresh()
        self._follows = True

    def change(self, transaction: Callable[[], int]) -> int:
        """Run a transaction of the store, answer with what it stored, and return the revision."""
        with self.store.writing():  # no other thread's transaction comes between: what answers is what is stored
            self.keep_up()
            before = self.store.revision
            with self._changing:
                revision = transaction()
                if revision != before:
                    self._refresh()
            if revision != before:
                self._mode.write_cache(self.store)
            return revision

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
        if not self.router.attached:
            raise ModelError("this editor was taken off its model: make another with Editor.from_pretrained")
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
        with self.lock, torch.inference_mode(False), exact(self.router.key_device):
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
            self._mode.policy.follow(self.store, changes)
            self._followed = revision

    def _forget(self) -> None:
        """Begin as if no store had been followed."""
        self.router.bank.clear()
        self._prompts, self._mode = PromptLookup(), self._open_mode(self.router, self.config)
        self._record, self._holder_of_record, self._uses, self._places = {}, {}, Counter(), {}

    @property
    def mode(self) -> Mode:
        """What the default mode and the paper mode differ in, in step with the store."""
        self.keep_up()
        return self._mode

    @property
    def policy(self) -> Policy:
        """Decides which edit answers, in step with the store."""
        return self.mode.policy

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
        bank = self.router.bank
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
                block = checked_blocks(tensors, self.router.bank.sites, self.store.path, owners, missing)
                reaches = [missing[owner].reach for owner in owners]
                self.router.bank.add_all(owners, block, reaches, to_come[shape])  # type: ignore[arg-type]
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
            elif begun is not None and (over := self.backbone.place_in(edit.target, begun).over):
                records[row], routes[row] = -1, replace(routes[row], edit=None, reason=over)
        return records, routes

    def target(self, edit_id: str) -> str:
        """Return the target of an edit that answers."""
        return self._prompts.edit(edit_id).target

    def first_place(self, edit_id: str, bare: bool) -> int:
        """Return the answer position of the first token of the target of an edit that answers."""
        return self._places.get(edit_id, (0, 0))[bare]

    # -- what callers ask

    def route(self, encoded: Sequence[Encoded], progress: Progress | None = None) -> list[Route]:
        """Return the routes of prompts, running only the layers up to the key layer."""
        routes = self._with_keys(encoded, lambda pooled: self._decide(pooled)[1], progress)
        return [
            route if prompted else route.without_prompt()
            for route, prompted in zip(routes, self._have_words(encoded), strict=True)
        ]

    def _have_words(self, encoded: Sequence[Encoded]) -> list[bool]:
        spans = [prompt.span for prompt in map(self.router.reader.locate, encoded)]
        return [span.start < span.stop for span in spans]

    def evidence(self, encoded: Sequence[Encoded]) -> list[Evidence | None]:
        """Return the terms of each prompt's similarity to its nearest edit; ``None`` where there are none."""
        found = self._with_keys(encoded, self.policy.evidence)
        return [one if prompted else None for one, prompted in zip(found, self._have_words(encoded), strict=True)]

    def _with_keys(
        self, encoded: Sequence[Encoded], ask: Callable[[PooledStates], list[T]], progress: Progress | None = None
    ) -> list[T]:
        """Pool the states of prompts and ask the policy; again, if another thread calibrates meanwhile."""
        while True:
            pooling = self.policy.pooling
            pooled = pooled_prompts(self.router, encoded, progress, "routing", pooling)
            with self.lock, exact(self.router.key_device):
                if self.policy.pooling is pooling:
                    return ask(pooled)

    def neighbours(self, edit_id: str) -> Neighbours:
        """Return the nearest other edit, and the edits whose scopes overlap this one's; nothing if it is disabled."""
        with self.lock:
            return self.policy.neighbours(edit_id)


class UnloadedEngine:
    """Stands for the engine of an editor that was unloaded."""

    def __getattr__(self, name: str) -> Any:
        raise ModelError("this editor was unloaded from its model: make another with Editor.from_pretrained")
