"""What answers: the bank and the index of one model, kept in step with its store."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..edit import prompt_text
from ..errors import EditError, ModelError, StoreError
from ..hooks.blocks import block_from_tensors
from ..hooks.encoder_router import EncoderRouter
from ..hooks.router import Router
from ..hooks.state_reader import pooled_states, texts_of
from ..keys.encoder import Calibration
from ..keys.names import shares
from ..keys.pooling import PooledStates
from ..keys.similarity import Evidence, Similarity
from ..results import Route
from ..routing.calibration import SCOPE_SETTINGS
from ..routing.index import Hits, NeuronIndex
from ..routing.scope import NearestCache
from ..store.scope_cache import EVERY
from ..training.trainer import Trainer
from .prompt_lookup import PromptLookup

if TYPE_CHECKING:
    from ..backbones import Backbone, Locations
    from ..backbones.batch import Encoded
    from ..config import MeloConfig
    from ..edit import Edit
    from ..store.store import Store, StoredEdit

logger = logging.getLogger(__name__)

AT_ONCE = 64
"""Edits whose blocks and keys are read from the store at once."""


class Live:
    """The edits that answer. It hooks the model at once; ``follow`` a store to have any edits.

    Args:
        backbone: the model.
        locations: its key layer and edited modules.
        config: settings.

    Raises:
        ModelError: if the modules do not run as hooks need them to.
    """

    def __init__(self, backbone: Backbone, locations: Locations, config: MeloConfig) -> None:
        self.backbone = backbone
        self.config = config
        self.modules = locations.modules
        router = Router if backbone.source is None else EncoderRouter
        self.router = router(backbone, locations, self.decide)
        narrow = min(self.router.bank.sites, key=lambda site: min(site.inputs, site.outputs))
        if config.rank > min(narrow.inputs, narrow.outputs):
            self.router.detach()
            raise ModelError(
                f"rank {config.rank} is more than {narrow.name} has: {narrow.inputs} in, {narrow.outputs} out"
            )
        self.index = NeuronIndex(Similarity(1))
        self.calibration: Calibration | None = None
        self.store: Store
        self._calibrated: int | None = None
        self._followed = 0  # revision
        self._unlisted = 0  # edits that came or went since the scope's lists were kept
        self.wordings = PromptLookup()
        self._number: dict[str, int] = {}  # edit id -> its record's number in the store, greater for newer ones
        self._id: dict[int, str] = {}

    def follow(self, store: Store) -> None:
        """Answer with the edits of ``store``."""
        self.store = store
        self._refresh()

    def change(self, transaction: Callable[[], int]) -> int:
        """Run a transaction of the store, answer with what it left there, and return the revision."""
        with self.store.writing():  # no other thread's transaction comes between: what answers is what is stored
            before = self.store.revision
            revision = transaction()
            if revision != before:
                self._refresh()
                if self._unlisted >= EVERY:
                    self._keep_lists()
            return revision

    def _keep_lists(self) -> None:
        """Write what the scope knows to the store, once in so many changes; called while nothing can change."""
        self._unlisted = 0
        lists = self.index.lists
        try:
            self.store.keep_lists({"near": lists.near, "owner": lists.owner.int()})
        except StoreError as error:
            why = error.__cause__ or error
            logger.warning("the change is stored, but not the lists by which the store is opened faster (%s)", why)

    def _refresh(self) -> None:
        """Take in what changed in the store since it was last looked at."""
        known = self.store.changed_since(self._followed)
        self._followed = self.store.revision
        everything = self.wordings.ids.union(stored.edit.id for stored in self.store.edits()) if known is None else ()
        changed = frozenset(everything) if known is None else known
        self._unlisted += len(changed)
        live = {name: stored for name in changed if (stored := self.store.find(name)) is not None}
        self.wordings.follow({name: live[name].edit if name in live else None for name in changed})
        self._answer_with(dict(sorted(live.items(), key=lambda item: item[1].record)), changed)

    def _answer_with(self, live: dict[str, StoredEdit], changed: Collection[str]) -> None:
        """Make bank and index hold what the store holds: its enabled edits, their blocks and keys.

        Args:
            live: the edits of the store among those that changed.
            changed: ids of those that changed.
        """
        store, bank = self.store, self.router.bank
        calibration = store.calibration() if store.calibration_id != self._calibrated else None
        if calibration is not None:  # every edit has other keys now
            live = {stored.edit.id: stored for stored in store.edits()}
        wanted = {name: stored for name, stored in live.items() if stored.enabled}
        # Tensors made under a caller's inference_mode could not be changed outside of it.
        with self.router.lock, torch.inference_mode(False):
            if calibration is not None:
                self._calibrated, tensors, info = calibration
                self.calibration = Calibration.from_tensors(tensors, info)
                self.backbone.pooling = self.calibration.pooling(self.backbone.tokenizer)
                self.index = NeuronIndex(self.calibration.similarity, self.router.key_device)
                bank.remove(list(self._id))
                self._number, self._id = {}, {}
            held = [(name, number) for name in changed if (number := self._number.get(name)) is not None]
            gone = [number for name, number in held if name not in wanted or wanted[name].record != number]
            bank.remove(gone)
            self.index.remove(gone)
            for number in gone:
                del self._number[self._id.pop(number)]
            missing = [name for name in wanted if name not in self._number]
            to_come = Counter(wanted[name].rank for name in missing)
            for start in range(0, len(missing), AT_ONCE):
                names = missing[start : start + AT_ONCE]
                reach = {wanted[name].record: wanted[name].reach for name in names}
                blocks, keys = store.stacks(names)
                for numbers, block in blocks:
                    stack = block_from_tensors(block, self.modules)
                    rank = stack[self.modules[0]].a.shape[1]
                    bank.add_all(numbers, stack, [reach[n] for n in numbers], to_come[rank])  # type: ignore[misc]
                    to_come[rank] -= len(numbers)
                for numbers, own in keys:
                    self.index.add_all(numbers, own["keys"], own["quiet"], len(missing) - start)
                self._number |= {name: wanted[name].record for name in names}
                self._id |= {wanted[name].record: name for name in names}
            if calibration is not None and self.calibration is not None:
                prompts, config = self.calibration.prompts, self.scope_config(self.calibration.info)
                least = config.min_similarity if len(prompts) else config.document_similarity
                least = -1.0 if least is None else least
                self.index.calibrate(prompts, config.false_activation, least, self.calibration.of, self._lists())
            if len(self.index) and math.isinf(self.index.similarity):
                logger.warning(
                    "no edit can fire: too few calibration prompts ask something else; calibrate with others"
                )

    def scope_config(self, info: Mapping[str, Any]) -> MeloConfig:
        """Return the settings with those of the scope that a calibration states for itself."""
        return replace(self.config, **{name: info[name] for name in SCOPE_SETTINGS if name in info})

    def _lists(self) -> NearestCache | None:
        if (kept := self.store.lists()) is None:
            return None
        assert self.calibration is not None
        tensors, held = kept
        lists = NearestCache(tensors.get("near", Tensor()), tensors.get("owner", Tensor()), held)
        if not lists.fit(len(self.calibration.prompts)):
            return None
        self._unlisted = len(held.symmetric_difference(self._id))
        return lists

    @property
    def ready(self) -> bool:
        """Whether keys can be taken."""
        return self.calibration is not None

    @property
    def no_route(self) -> Route:
        """The route of a prompt while there are no edits."""
        return Route(None, None, self.index.threshold, None, "no edits")

    @property
    def trainer(self) -> Trainer:
        """What trains the blocks of a part of the edits."""
        return Trainer(self.router, self.config)

    def check_edit(self, edit: Edit) -> None:
        """Raise an EditError for what this mode cannot do."""

    @property
    def keeps_all(self) -> bool:
        """Whether an edit that does not hold is stored all the same."""
        return False

    @property
    def train_batch_size(self) -> int:
        """How many edits train at once."""
        return self.config.train_batch_size

    def decide(self, pooled: PooledStates) -> tuple[list[int], list[Route]]:
        """Map what the keys of B prompts are made of to edit numbers (-1: none) and routes."""
        with self.router.lock:  # another thread may be editing
            threshold = self.index.threshold
            if self.calibration is None or not len(self.index):
                return [-1] * pooled.count, [self.no_route] * pooled.count
            hits = self.index.search(self.calibration.keys(pooled.states, pooled.texts))
            owners, routes = [], []
            for owner, distance, quieted, near in _best_of_rows(hits, pooled, threshold):
                fires, hushed = distance < threshold, near < threshold
                if not fires and near <= distance:
                    owner, distance = quieted, near
                owners.append(owner if fires else -1)
                routes.append(
                    Route(
                        edit=self._id[owner] if fires else None,
                        distance=None if math.isinf(distance) else distance,
                        threshold=threshold,
                        nearest=self._id.get(owner),
                        reason="fired" if fires else "quiet" if hushed else "outside scope",
                    )
                )
            return owners, routes

    def evidence(self, pooled: PooledStates) -> list[Evidence | None]:
        """Return what makes the similarity of each of B prompts to its nearest edit; ``None`` where there is none."""
        with self.router.lock:
            routes = self.decide(pooled)[1]
            if self.calibration is None or not len(self.index):
                return [None] * pooled.count
            keys, rows = self.calibration.keys(pooled.states, pooled.texts), torch.tensor(pooled.rows)
            found: list[Evidence | None] = []
            for row, route in enumerate(routes):
                own = torch.nonzero(rows == row).flatten()
                found.append(None if route.nearest is None else self._evidence(route.nearest, pooled, keys, own))
            return found

    def _evidence(self, edit_id: str, pooled: PooledStates, keys: Tensor, own: Tensor) -> Evidence:
        """Return what makes the similarity of an edit to the nearest of the keys ``own``, in words too."""
        assert self.calibration is not None
        found, query, key = self.index.evidence(self._number[edit_id], keys[own])
        words = self.calibration.words
        if words is None or found.named is None:
            return found
        prompts = self.store.get(edit_id).edit.prompts
        wordings = [prompt for prompt in prompts for _ in self.backbone.forms(prompt)]
        said = shares(pooled.texts[int(own[query])], words)
        names = {word: share for word, share in shares(prompt_text(wordings[key]), words).items() if share}
        return found._replace(names={word: (share, word in said) for word, share in names.items()})

    def neighbours(self, edit_id: str) -> tuple[str | None, float | None, list[str]]:
        """Return the nearest other edit, its distance, and the edits whose scopes overlap its own; none if disabled."""
        with self.router.lock:
            if edit_id not in self._number:
                self.store.get(edit_id)  # an error that names some like it, if there is none
                return None, None, []
            nearest, distance, overlaps = self.index.neighbours(self._number[edit_id])
            return self._id.get(nearest), None if nearest < 0 else distance, [self._id[number] for number in overlaps]

    def keys(self, encoded: Sequence[Encoded], targets: Sequence[str] | None = None) -> Tensor:
        """Return the keys (n, k) of prompts, as the index sees them."""
        if self.calibration is None:
            raise EditError("this store has no calibration yet, so there are no keys: calibrate first")
        return self._keys(encoded, self.calibration)

    def _keys(self, encoded: Sequence[Encoded], calibration: Calibration) -> Tensor:
        states = pooled_states(self.router, encoded, pooling=calibration.pooling(self.backbone.tokenizer))
        return calibration.keys(states, texts_of(self.backbone, encoded))

    def hold(self, edits: Sequence[Edit], keys: Sequence[dict[str, Tensor]]) -> None:
        """Let edits be found that have keys and nothing that answers: for measuring routes, not for use."""
        with self.router.lock:
            for number, (edit, own) in enumerate(zip(edits, keys, strict=True), max(self._id, default=0) + 1):
                self.index.add(number, own["keys"], own["quiet"])
                self._number[edit.id], self._id[number] = number, edit.id

    def keys_of(self, edits: Sequence[Edit], calibration: Calibration | None) -> list[dict[str, Tensor]]:
        """Return, per edit, the ``keys`` (n, k) of its prompts in every form, and of its ``quiet`` ones."""
        encoded: list[Encoded] = []
        sizes: list[int] = []
        for prompts in (prompts for edit in edits for prompts in (edit.prompts, edit.quiet)):
            forms = [form for prompt in prompts for form in self.backbone.forms(prompt)]
            encoded += forms
            sizes.append(len(forms))
        if not encoded or calibration is None:
            return []
        keys = self._keys(encoded, calibration)
        parts = torch.split(keys, sizes)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        return [{"keys": keys.clone(), "quiet": quiet.clone()} for keys, quiet in pairs]


def _best_of_rows(hits: Hits, pooled: PooledStates, threshold: float) -> list[tuple[int, float, int, float]]:
    """Return, per prompt, owner and distance of the nearest of its keys, and of the nearest edit that was kept quiet.

    An edit that one key of a prompt keeps quiet is not reached by another one: a quiet prompt is obeyed as a whole.
    """
    columns = (hits.owner, hits.distance, hits.quieted, hits.quieted_distance)
    found = list(zip(pooled.rows, *(column.tolist() for column in columns), strict=True))
    hushed = (hits.quiet_distance < threshold).tolist()
    quiet = {(row, quieted) for (row, _, _, quieted, _), obeyed in zip(found, hushed, strict=True) if obeyed}
    best = [(-1, math.inf, -1, math.inf)] * pooled.count
    for row, owner, distance, quieted, near in found:
        if (row, owner) in quiet:
            owner, distance = -1, math.inf
        first, second = best[row][:2], best[row][2:]
        best[row] = (*min(first, (owner, distance), key=_distance), *min(second, (quieted, near), key=_distance))
    return best


def _distance(pair: tuple[int, float]) -> float:
    return pair[1]
