"""Engine: one model, its policy and its store kept in step. What answers is always what is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..callers.precision import exact
from ..errors import ModelError
from ..following.live import Live
from ..hooks.encoder_router import EncoderRouter
from ..hooks.key_reader import KeyReader
from ..hooks.router import Router
from ..hooks.state_reader import pooled_prompts
from ..keys.pooling import PooledStates
from ..keys.similarity import Evidence
from ..results import Neighbours, Route

if TYPE_CHECKING:
    from ..backbones import Backbone, Locations
    from ..backbones.batch import Encoded
    from ..config import MeloConfig
    from ..routing.policy import Policy
    from ..types import Progress
    from .mode import Mode

T = TypeVar("T")


class Engine(Live):
    """Hooks the model at once; ``follow`` a store to have any edits.

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
        super().__init__(config)
        self.backbone = backbone
        self.modules = locations.modules
        self._open_mode = open_mode
        router_class = Router if backbone.answer_follows_prompt else EncoderRouter
        self.router = router_class(backbone, locations, KeyReader(backbone, config.key_tokens), self, self.lock)
        self.host = self.router
        self._mode: Mode
        try:
            self._check_rank()
            self._policy = self.open_policy()
        except BaseException:
            self.router.detach()
            raise

    def _check_rank(self) -> None:
        narrow = min(self.router.bank.sites, key=lambda site: min(site.inputs, site.outputs))
        if self.config.rank > min(narrow.inputs, narrow.outputs):
            raise ModelError(
                f"rank {self.config.rank} is more than {narrow.name} has: {narrow.inputs} in, {narrow.outputs} out"
            )

    # -- following the store

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

    @property
    def mode(self) -> Mode:
        """What the default mode and the paper mode differ in, in step with the store."""
        self.keep_up()
        return self._mode

    def open_policy(self) -> Policy:
        """Return the policy of a new mode."""
        self._mode = self._open_mode(self.router, self.config)
        return self._mode.policy

    def check_attached(self) -> None:
        """Raise a ModelError if the hooks were taken off the model (``release``)."""
        if not self.router.attached:
            raise ModelError("this editor was taken off its model: make another with Editor.from_pretrained")

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
