"""Mode: the parts that the default mode and the paper mode differ in, chosen once when an editor is made."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import EditError, StoreError
from ..routing.calibration import BUILT_IN
from ..routing.nearest import NearestPolicy
from ..training.parts import BlockTrainer
from ..training.trainer import Trainer
from ..trying.same_question import Asking, asking_same
from ..trying.trial import Trials
from .recalibration import Recalibration

if TYPE_CHECKING:
    from ..config import MeloConfig
    from ..edit import Edit
    from ..hooks.router import Router
    from ..results import Trial
    from ..routing.policy import Policy
    from ..store import Store
    from ..types import Progress, Prompt

logger = logging.getLogger(__name__)


class Mode(Protocol):
    """One way to edit."""

    @property
    def policy(self) -> Policy:
        """Decides which edit answers."""

    @property
    def trainer(self) -> BlockTrainer:
        """Trains blocks."""

    @property
    def stores_all(self) -> bool:
        """Whether an edit that does not hold is stored all the same, since its batch shares the block."""

    def batch_size(self, edits_per_block: int | None) -> int:
        """Return how many edits train at once, and are stored in one transaction.

        Raises:
            EditError: if so many edits cannot share a block.
        """

    def check(self) -> None:
        """Raise a ModelError if what the settings name is not there: before a new store is made."""

    def calibrate(
        self,
        store: Store,
        prompts: Sequence[Prompt] | None,
        origin: str,
        scope: Mapping[str, Any],
        progress: Progress | None,
        model: Mapping[str, Any] | None = None,
    ) -> int:
        """Put a new calibration in force, see ``Recalibration``; return the new revision.

        ``model``: what the store says of its model from now on.
        """

    def prepare(self, store: Store, progress: Progress | None) -> int:
        """Do what the first edit needs; return the new revision."""

    def asking_same(self, edits: Sequence[Edit]) -> list[list[Asking]]:
        """Return, for each new edit, the enabled stored ones that ask the same in other words."""

    def trials(self, edits: Sequence[Edit]) -> list[Trial]:
        """Return what each edit would reach of its likely neighbours; where no judge decides none are asked."""

    def unmade(self, edits: Sequence[Edit]) -> AbstractContextManager[None]:
        """Let edits that have no block yet be found by their keys, for the length of a ``with`` block.

        Raises:
            EditError: if keys alone decide nothing.
        """

    def write_cache(self, store: Store) -> None:
        """Write what the policy derived to the store, where that is due; called while nothing can change."""


class DefaultMode:
    """A block per edit, the nearest key, a calibrated scope; implements ``Mode``."""

    stores_all = False

    def __init__(self, router: Router, config: MeloConfig, judge: str | None = None) -> None:
        self._router, self._config = router, config
        self.policy = NearestPolicy(router, config, judge)
        self.trainer = Trainer(router, config)
        self._trials = Trials(self.policy)

    def batch_size(self, edits_per_block: int | None) -> int:
        """Return how many edits train at once; each has a block of its own."""
        if edits_per_block is not None:
            raise EditError("edits_per_block: every edit has a block of its own in the default mode; leave it out")
        return self._config.train_batch_size

    def check(self) -> None:
        """Raise a ModelError if there is no judge as the settings name it."""
        self.policy.take_judge({})

    def calibrate(
        self,
        store: Store,
        prompts: Sequence[Prompt] | None,
        origin: str,
        scope: Mapping[str, Any],
        progress: Progress | None,
        model: Mapping[str, Any] | None = None,
    ) -> int:
        """Put a new calibration in force, see ``Recalibration``; return the new revision."""
        recalibration = Recalibration(self._router, self.policy, store)
        calibration, keys = recalibration.make(prompts, origin, scope, progress)
        if keys is None:  # another scope for the same keys: a row without tensors
            return store.rescope(calibration.info)
        return store.calibrate(calibration.to_tensors(), calibration.info, keys, model)

    def prepare(self, store: Store, progress: Progress | None) -> int:
        """Calibrate on the package's own prompts."""
        return self.calibrate(store, None, BUILT_IN, {}, progress)

    def asking_same(self, edits: Sequence[Edit]) -> list[list[Asking]]:
        """Return, for each new edit, the enabled stored ones that ask the same, as the judge says."""
        return asking_same(self.policy, edits)

    def trials(self, edits: Sequence[Edit]) -> list[Trial]:
        """Return what each edit would reach of its likely neighbours; without a judge none are asked."""
        return self._trials.of(edits)

    @contextmanager
    def unmade(self, edits: Sequence[Edit]) -> Iterator[None]:
        """Let edits that have no block yet be found by their keys, for the length of a ``with`` block."""
        keys = self.policy.keys_of(edits)
        records = self.policy.add_unblocked(edits, keys)
        try:
            yield
        finally:
            self.policy.drop(records)

    def write_cache(self, store: Store) -> None:
        """Write the scope's cache to the store, once in so many changes."""
        if (tensors := self.policy.cache_to_store()) is None:
            return
        try:
            store.keep_scope_cache(tensors)
        except StoreError as error:
            why = error.__cause__ or error
            logger.warning("the change is stored, but not the scope's cache, which makes opening faster (%s)", why)
