"""PaperMode: MELO as published. Clusters decide, edits share blocks, every edit is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ..backbones import locate
from ..config import MeloConfig, is_positive
from ..errors import EditError, ModelError
from ..results import Trial
from .config import PaperConfig
from .policy import ClusterPolicy
from .trainer import BatchTrainer

if TYPE_CHECKING:
    from ..backbones import Backbone, Locations
    from ..edit import Edit
    from ..hooks.router import Router
    from ..store import Store
    from ..trying.same_question import Asking
    from ..types import Progress, Prompt


class PaperMode:
    """A block per batch of edits; implements ``engine.mode.Mode``."""

    stores_all = True

    def __init__(self, router: Router, config: MeloConfig) -> None:
        assert isinstance(config, PaperConfig)
        self._config = config
        self.policy = ClusterPolicy(router, config)
        self.trainer = BatchTrainer(router, config)

    def batch_size(self, edits_per_block: int | None) -> int:
        """Return how many edits share a block: as many as are declared, or fewer."""
        declared = self._config.edits_per_block
        if edits_per_block is None:
            return declared
        if not is_positive(edits_per_block):
            raise EditError(f"edits_per_block must be a positive integer, not {edits_per_block!r}")
        if edits_per_block > declared:
            raise EditError(
                f"{edits_per_block} edits are more than a block is declared for: edits_per_block is {declared}"
            )
        return edits_per_block

    def check(self) -> None:
        """Do nothing: there is no judge."""

    def calibrate(
        self,
        store: Store,
        prompts: Sequence[Prompt] | None,
        origin: str,
        scope: Mapping[str, Any],
        progress: Progress | None,
        model: Mapping[str, Any] | None = None,
    ) -> int:
        """Refuse: there is nothing to calibrate."""
        raise EditError("paper mode takes keys as they are: there is nothing to calibrate")

    def prepare(self, store: Store, progress: Progress | None) -> int:
        """Make the empty calibration that the store's keys belong to."""
        return store.calibrate({}, {"source": "none"}, {})

    def asking_same(self, edits: Sequence[Edit]) -> list[list[Asking]]:
        """Return none: the paper compares no texts."""
        return [[] for _ in edits]

    def trials(self, edits: Sequence[Edit]) -> list[Trial]:
        """Ask nothing: the paper compares no texts."""
        return [Trial(edit.id) for edit in edits]

    def unmade(self, edits: Sequence[Edit]) -> AbstractContextManager[None]:
        """Refuse: an edit's place in a cluster depends on those before it."""
        raise EditError("paper mode cannot tell what an edit would answer before it is made: make it in a copy")

    def write_cache(self, store: Store) -> None:
        """Do nothing: clusters derive nothing that is worth storing."""


def locate_published(backbone: Backbone, config: MeloConfig) -> Locations:
    """Find the key layer and the edited modules, of a preset by name.

    Raises:
        ModelError: naming the preset, if it does not fit the model.
    """
    try:
        return locate(backbone, config)
    except ModelError as error:
        if not isinstance(config, PaperConfig) or config.preset is None:
            raise
        name = type(backbone.model).__name__
        raise ModelError(f"preset {config.preset!r} does not fit {name}: {error}") from None
