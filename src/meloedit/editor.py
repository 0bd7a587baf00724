"""Editor: the public face. It edits a model, answers with it, and keeps the store in step."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .backbones import Locations, open_backbone
from .backbones.loading import load_model
from .config import MeloConfig
from .edit import Edit, check_prompt
from .engine.answering import generate_answers
from .engine.checking import check_edits
from .engine.editing import train_in_parts
from .engine.live import Live
from .engine.planning import plan
from .engine.recalibration import anew
from .errors import EditError, ModelError, StoreError
from .hooks.router import Router
from .hooks.state_reader import pooled_parts
from .keys.encoder import Calibration
from .keys.similarity import Evidence
from .paper.clusters import ClusterIndex
from .paper.policy import PaperLive
from .readers import SourcedEdit
from .results import Answer, Check, EditReport, Route
from .routing.index import NeuronIndex
from .store.store import Revision, Store, StoredEdit
from .types import Form, Progress, Prompt

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

Edits = Edit | Mapping[str, Any] | Sequence[Edit | SourcedEdit | Mapping[str, Any]]
"""One edit or many, each as an ``Edit``, as ``read_edits`` gives it, or an object with ``prompt`` and ``target``."""


class Editor:
    """**Hooks the model it is given**: until ``detach``, calls on ``editor.model`` are routed through the edits.

    The base weights are never written. Every change is a transaction in the store; what answers is what was read back.

    Args:
        model: a Hugging Face causal language model; its dtype, device and device map are followed.
        tokenizer: its tokenizer.
        config: settings; ``None``: the defaults, or those of ``store``.
        store: where the edits live; ``None``: a temporary store, gone with the editor unless ``save`` copies it.
        name: what the store calls the model; ``None``: the name the model was loaded by.

    Raises:
        ModelError: if the model cannot be edited with these settings.
        StoreError: if the store was made for another model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: MeloConfig | None = None,
        store: Store | str | Path | None = None,
        name: str | None = None,
    ) -> None:
        if config is not None and not isinstance(config, MeloConfig):
            raise ModelError(f"config must be a MeloConfig, not {config!r}: MeloConfig.from_dict makes one of values")
        self.model = model
        self.tokenizer = tokenizer
        self.backbone = open_backbone(model, tokenizer)
        fingerprint = self.backbone.fingerprint()
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        config = self._agreed(store, config, fingerprint) if isinstance(store, Store) else config or MeloConfig()
        config = self.backbone.configure(config)
        locations = self.backbone.locate(config)
        self._live = (Live if config.mode == "default" else PaperLive)(self.backbone, locations, config)
        try:
            # last of all: a model that cannot be edited leaves no store behind
            if not isinstance(store, Store):
                store = self._new_store(store, locations, config, fingerprint, name)
            self.store = store
            self.config = MeloConfig.from_dict(store.config)
            self._live.follow(store)
        except BaseException:
            self._live.router.detach()
            raise

    @property
    def router(self) -> Router:
        """The hooks on the model."""
        return self._live.router

    @property
    def index(self) -> NeuronIndex | ClusterIndex:
        """The index of the edits that answer: a ``NeuronIndex``, in paper mode a ``ClusterIndex``."""
        return self._live.index

    @property
    def index_counts(self) -> dict[str, int]:
        """How much the index holds: edits; in paper mode clusters and keys, and conflicts and forgotten keys so far."""
        index = self.index
        return {"edits": len(index)} if isinstance(index, NeuronIndex) else index.counts

    @property
    def threshold(self) -> float:
        """The distance below which a prompt reaches an edit; in paper mode the initial radius of a cluster."""
        index = self.index
        return index.threshold if isinstance(index, NeuronIndex) else self.config.radius

    @property
    def calibration(self) -> Calibration | None:
        """The calibration in force."""
        return self._live.calibration

    @classmethod
    def from_pretrained(
        cls, name: str, config: MeloConfig | None = None, store: str | Path | None = None, **kwargs: Any
    ) -> Editor:
        """Load a model (a folder, a hub name, or ``smollm2``) and make an editor and a new store for it."""
        if store is not None and Path(store).exists():
            raise StoreError(f"{store} exists already: open it with Editor.load, or choose another path")
        return cls(*load_model(name, **kwargs), config=config, store=store, name=name)

    @classmethod
    def load(
        cls,
        path: str | Path,
        model: PreTrainedModel | str | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        **kwargs: Any,
    ) -> Editor:
        """Open a store on the model it was made for.

        Args:
            path: the store.
            model: the model, or where to load it from; ``None``: by the name that the store knows.
            tokenizer: needed beside a loaded model.
            kwargs: passed on when the model is loaded (``dtype``, ``device_map``, ...).
        """
        store = Store.open(path)
        if model is None or isinstance(model, str):
            return cls(*load_model(model or store.model["name"], **kwargs), store=store)
        if tokenizer is None:
            raise ModelError("Editor.load needs the tokenizer beside a loaded model")
        return cls(model, tokenizer, store=store)

    def _agreed(self, store: Store, config: MeloConfig | None, fingerprint: str) -> MeloConfig:
        """Return the settings of a store that was made for this model."""
        settings = MeloConfig.from_dict(store.config)
        if config is not None and config.mode != settings.mode:
            raise StoreError(
                f"{store.path} was made in {settings.mode} mode and cannot be opened in {config.mode} mode: open it "
                "without a config, or make another store"
            )
        if config is not None and config != settings:
            raise StoreError(f"{store.path} was made with other settings: open it without a config")
        made, now = store.model.get("dtype"), str(self.model.dtype)
        if store.model["fingerprint"] != fingerprint:
            named = self.model.config._name_or_path or type(self.model).__name__
            # float16 rounds otherwise than bfloat16, to which fingerprints are rounded
            hint = f"; if it is the same model, load it in {made}, not in {now}" if made != now else ""
            raise StoreError(
                f"{store.path} was made for {store.model['name']} (fingerprint {store.model['fingerprint']}), "
                f"this model is {named} (fingerprint {fingerprint}){hint}"
            )
        if made != now:
            logger.warning("edits were made in %s, the model is in %s: check them", made, now)
        return settings

    def _new_store(
        self, path: str | Path | None, locations: Locations, config: MeloConfig, fingerprint: str, name: str | None
    ) -> Store:
        if path is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="meloedit-")
            path = Path(self._scratch.name) / "edits.melo"
        # The modules that were chosen are written down: a later version may choose others.
        settings = config.to_dict() | {"modules": list(locations.modules), "key_layer": locations.key_layer}
        known = name or self.model.config._name_or_path or type(self.model).__name__
        return Store.create(path, {"name": known, "fingerprint": fingerprint, "dtype": str(self.model.dtype)}, settings)

    # -- editing

    def edit(
        self,
        edits: Edits,
        replace: bool = False,
        progress: Progress | None = None,
        batch: int | None = None,
    ) -> list[EditReport]:
        """Train and store edits; each is in the store whole or not at all.

        Edits that are there already (same id and content) are skipped. An edit of a prompt that another edit asks
        replaces it.

        Args:
            edits: one edit or many, as ``Edit`` or as objects with ``prompt`` and ``target``.
            replace: let an edit take the place of one with the same id and other content.
            progress: told how many edits are done.
            batch: paper mode: how many of the edits share a block; ``None``: as many as the settings declare.

        Returns:
            A report per edit, in order. One that does not hold is not stored (in paper mode it is, with its batch),
            and its report says ``held=False``.

        Raises:
            EditError: before any training, if an edit is not usable or two contradict each other.
        """
        many = _edit_list(edits)
        made = {report.id: report for part in self.edit_in_parts(many, replace, progress, batch) for report in part}
        return [made[edit.id] for edit in many]

    def edit_in_parts(
        self,
        edits: Edits,
        replace: bool = False,
        progress: Progress | None = None,
        batch: int | None = None,
    ) -> Iterator[list[EditReport]]:
        """Do as ``edit``, handing out the reports of each part once it is stored: leaving off keeps those."""
        size = self._batch_size(batch)
        planned = plan(self._live, _edit_list(edits), replace)
        with self._live.store.writing():
            self.prepare(progress)
            yield from train_in_parts(self._live, planned, size, progress)

    def _batch_size(self, batch: int | None) -> int:
        if batch is None:
            return self._live.train_batch_size
        if self.config.mode != "paper":
            raise EditError("batch: every edit has a block of its own in the default mode; leave it out")
        if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
            raise EditError(f"batch must be a positive integer, not {batch!r}")
        if batch > self.config.edits_per_block:
            raise EditError(
                f"a batch of {batch} edits is larger than a block is declared for: edits_per_block is "
                f"{self.config.edits_per_block}"
            )
        return batch

    def prepare(self, progress: Progress | None = None) -> None:
        """Do what has to be done before the first edit: calibrate on the package's own prompts."""
        if self._live.ready:
            return
        if self.config.mode == "paper":
            self._live.change(lambda: self._live.store.calibrate({}, {"source": "none"}, {}))
        else:
            self.calibrate(progress=progress)

    def remove(self, ids: str | Sequence[str]) -> int:
        """Remove edits; their prompts get the base model's answers again, bit for bit. Return the new revision."""
        return self._live.change(lambda: self._live.store.remove([ids] if isinstance(ids, str) else ids))

    def enable(self, ids: str | Sequence[str]) -> int:
        """Let disabled edits answer again. Return the new revision."""
        return self._live.change(lambda: self._live.store.set_enabled([ids] if isinstance(ids, str) else ids, True))

    def disable(self, ids: str | Sequence[str]) -> int:
        """Keep edits from answering without removing them. Return the new revision."""
        return self._live.change(lambda: self._live.store.set_enabled([ids] if isinstance(ids, str) else ids, False))

    def rollback(self, to: int) -> int:
        """Bring back the edits of revision ``to``; that is a new revision itself, which is returned."""
        if not isinstance(to, int) or isinstance(to, bool):
            raise StoreError(f"a revision is a whole number, not {to!r}")
        return self._live.change(lambda: self._live.store.rollback(to))

    def calibrate(
        self,
        prompts: Sequence[Prompt] | None = None,
        source: str = "given",
        progress: Progress | None = None,
        false_activation: float | None = None,
        min_similarity: float | None = None,
    ) -> int:
        """Learn keys, set the scope by the package's own prompts or by yours, and take all keys anew.

        With a setting of the scope and no prompts, keys and calibration prompts stay, and the scope alone changes.

        Args:
            prompts: prompts that no edit should answer, 2,000 or more, like the traffic to come.
            source: where they are from; kept in the store.
            progress: told how many prompts are done.
            false_activation: stated share of such prompts that fires, from now on; ``None``: as it was.
            min_similarity: similarity below which nothing fires, from now on; ``None``: as it was.

        Returns:
            The new revision.
        """
        if self.config.mode == "paper":
            raise EditError("paper mode takes keys as they are: there is nothing to calibrate")
        given = {"false_activation": false_activation, "min_similarity": min_similarity}
        scope = {name: value for name, value in given.items() if value is not None}
        with self._live.store.writing():
            made, keys = anew(self._live, prompts, source, scope, progress)
            return self._live.change(lambda: self._live.store.calibrate(made.to_tensors(), made.info, keys))

    # -- answering

    def ask(
        self,
        prompts: Prompt | Sequence[Prompt],
        form: Form | None = None,
        batch_size: int = 32,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[Answer]:
        """Answer prompts, greedily unless ``kwargs`` for ``generate`` say otherwise, and say how each was routed.

        Args:
            prompts: one or many; a list of chat messages is one prompt.
            form: ``chat`` puts strings into the chat template, ``raw`` does not; ``None``: raw.
            batch_size: prompts per call of ``generate``.
            progress: told how many prompts are done.
            kwargs: passed to ``generate``.
        """
        return generate_answers(self._live, _prompt_list(prompts), form, batch_size, progress, kwargs)

    def route(
        self, prompts: Prompt | Sequence[Prompt], form: Form | None = None, progress: Progress | None = None
    ) -> list[Route]:
        """Say which edit each prompt would reach, running only the layers up to the key layer."""
        encoded = [self.backbone.encode(prompt, form) for prompt in _prompt_list(prompts)]
        pooled = pooled_parts(self.router, encoded, progress, "routing", self.backbone.pooling)
        return self._live.decide(pooled)[1]

    def evidence(self, prompts: Prompt | Sequence[Prompt], form: Form | None = None) -> list[Evidence | None]:
        """Say what makes each prompt's similarity to its nearest edit; ``None`` without edits, and in paper mode."""
        encoded = [self.backbone.encode(prompt, form) for prompt in _prompt_list(prompts)]
        return self._live.evidence(pooled_parts(self.router, encoded, pooling=self.backbone.pooling))

    def keys(self, prompts: Prompt | Sequence[Prompt], targets: Sequence[str] | None = None) -> Tensor:
        """Return the keys (n, k) of prompts, float32, as the index sees them.

        Args:
            prompts: one or many.
            targets: their targets; only the released code's key (``reference_quirks``) depends on them.
        """
        encoded = [self.backbone.encode(prompt) for prompt in _prompt_list(prompts)]
        return self._live.keys(encoded, targets)

    def check(self, batch_size: int = 32, progress: Progress | None = None) -> Check:
        """Ask every edit again, in every wording and form, and look for edits whose scopes overlap."""
        return check_edits(self._live, batch_size, progress)

    def routing(self, prompt_lengths: Sequence[int]) -> AbstractContextManager[None]:
        """State how many real tokens of each row are prompt, for this thread's plain ``model(...)`` calls."""
        return self.router.prompt_lengths(prompt_lengths)

    def disabled(self) -> AbstractContextManager[None]:
        """Let this thread's calls in the block see the base model."""
        return self.router.disabled()

    @property
    def last_routes(self) -> list[Route]:
        """How the prompts that this thread asked last were routed."""
        return self.router.last_routes

    def neighbours(self, edit_id: str) -> tuple[str | None, float | None, list[str]]:
        """Return the nearest other edit, its distance, and the edits whose scopes overlap its own; none if disabled."""
        return self._live.neighbours(edit_id)

    # -- the store

    def edits(self) -> list[StoredEdit]:
        """Return the edits, oldest first."""
        return self._live.store.edits()

    def history(self, edit_id: str | None = None, limit: int | None = None) -> list[Revision]:
        """Return every change, oldest first."""
        return self._live.store.history(edit_id, limit)

    def save(self, path: str | Path) -> None:
        """Copy the store to a new file."""
        self._live.store.copy(path)

    def detach(self) -> PreTrainedModel:
        """Take every hook off and return the model, untouched."""
        if isinstance(self._live, _Detached):
            return self.model
        self._live.router.detach()
        self.store.close()
        self._live = _Detached()  # type: ignore[assignment]
        if self._scratch:
            self._scratch.cleanup()
        return self.model

    def __enter__(self) -> Editor:
        return self

    def __exit__(self, *raised: object) -> None:
        self.detach()


class _Detached:
    """Stands where the live edits were."""

    def __getattr__(self, name: str) -> Any:
        raise ModelError("this editor was detached from its model: make another with Editor.load")


def _edit_list(edits: Edits) -> list[Edit]:
    if not isinstance(edits, (Edit, Mapping, Iterable)) or isinstance(edits, (str, bytes)):
        raise EditError(f"edits must be an Edit, an object with prompt and target, or a list, not {edits!r}")
    many = [edits] if isinstance(edits, (Edit, Mapping)) else list(edits)
    plain = [edit.edit if isinstance(edit, SourcedEdit) else edit for edit in many]  # as read_edits gives them
    return [edit if isinstance(edit, Edit) else Edit.from_dict(edit) for edit in plain]


def _prompt_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if not isinstance(prompts, (str, list, tuple)):
        raise EditError(f"prompts must be a string, chat messages, or a list of these, not {type(prompts).__name__}")
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], Mapping)):
        return [check_prompt(prompts)]
    return [check_prompt(prompt, f"prompts[{i}]") for i, prompt in enumerate(prompts)]
