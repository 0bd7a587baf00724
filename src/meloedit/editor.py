"""Editor: the public face. It edits a model, answers with it, and keeps the store in step."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .adapters.views import AdapterView
from .backbones import locate, open_backbone
from .backbones.loading import check_loaded, open_model, uncompiled
from .callers.arguments import checked
from .config import MeloConfig
from .edit import Edit
from .engine.editing import EditRun
from .engine.engine import Engine, UnloadedEngine
from .engine.hub import HubStore, find_store
from .engine.mode import DefaultMode
from .engine.opening import check_fits, check_new, create_store, model_facts, move_store
from .engine.planning import Planner
from .engine.views import ModelView, StoreView
from .errors import ModelError
from .oversight.views import OperatorView
from .paper.clusters import ClusterIndex
from .paper.config import PaperConfig, config_from_dict
from .paper.mode import PaperMode, locate_published
from .paper.policy import ClusterPolicy
from .readers import SourcedEdit, edit_list
from .results import EditReport
from .routing.calibration import Calibration
from .routing.index import NeuronIndex
from .routing.nearest import NearestPolicy
from .store import Store
from .types import Progress
from .workers.executors import Executor, part_trainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .backbones import Backbone, Locations

Edits = Edit | Mapping[str, Any] | Sequence[Edit | SourcedEdit | Mapping[str, Any]]
"""One edit or many, each as an ``Edit``, as ``read_edits`` gives it, or an object with ``prompt`` and ``target``."""


@checked
class Editor(StoreView, ModelView, OperatorView, AdapterView, HubStore):
    """**Hooks the model it is given**: until ``unload``, calls on ``editor.model`` are routed through the edits.

    The base weights are never written. Every change is a transaction in the store; what answers is what was read back.
    ``Editor.create`` makes a new store, ``Editor.from_pretrained`` opens one.

    Args:
        model: a Hugging Face model; its dtype, device and device map are followed.
        tokenizer: its tokenizer.
        config: settings, of the default mode or a ``PaperConfig``; ``None``: the defaults, or those of ``store``.
        store: where the edits live; a path: a new file; ``None``: a temporary store, gone unless ``save`` copies it.
        name: what the store calls the model; ``None``: the name the model was loaded by.
        judge: the judge to take in place of the store's while this editor lasts, see ``MeloConfig``; ``None``: that.
        rekey: move ``store`` to this model, another copy of the one that it was made on: the keys are made again,
            calibrated on the package's own prompts. The blocks stay: ``check`` says which edits still hold.

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
        judge: str | Path | None = None,
        rekey: bool = False,
    ) -> None:
        if config is not None and not isinstance(config, MeloConfig):
            kind = type(config).__name__
            raise ModelError(f"config must be a MeloConfig, not a {kind}: MeloConfig.from_dict makes one of values")
        settings = config_from_dict(store.config) if isinstance(store, Store) else config or MeloConfig()
        self.model = model = uncompiled(model)
        self.tokenizer = tokenizer = check_loaded(model, tokenizer)
        self.backbone = open_backbone(model, tokenizer, settings.document_tokens)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        # what workers load the model by
        self._source = name or (store.fact("name") if isinstance(store, Store) else None)
        if isinstance(store, Store):
            check_fits(store, settings, config, self.backbone, rekey)
        settings = settings.for_family(self.backbone.defaults, type(model).__name__)
        self.engine, locations = _engine_on(self.backbone, settings, None if judge is None else str(judge))
        try:
            # last of all: a model that cannot be edited leaves no store behind
            if not isinstance(store, Store):
                self.engine.mode.check()
                store = create_store(self._path(store), self.backbone, locations, settings, name)
            elif rekey:
                move_store(store, self.engine, model_facts(self.backbone, locations, name))
            self.store: Store = store
            self.config = config_from_dict(self.store.config)
            self._hub_mixin_config = self.config.to_dict()
            self.engine.follow(self.store)
        except BaseException:
            self.engine.router.detach()
            raise

    def _path(self, path: str | Path | None) -> str | Path:
        """Return where a new store goes: a folder that lives as long as the editor, where no path is given."""
        if path is not None:
            return path
        self._scratch = tempfile.TemporaryDirectory(prefix="meloedit-")
        return Path(self._scratch.name) / "edits.melo"

    @classmethod
    def create(
        cls,
        model: PreTrainedModel | str | Path,
        tokenizer: PreTrainedTokenizerBase | None = None,
        config: MeloConfig | None = None,
        store: str | Path | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> Editor:
        """Make an editor and a new store.

        Args:
            model: a loaded model, or where to load it from: a folder, a hub name, or ``smollm2``.
            tokenizer: the tokenizer of a loaded model.
            config: settings; ``None``: the defaults.
            store: path of the new store; ``None``: a temporary one.
            name: what the store calls the model; ``None``: the name it is loaded by.
            kwargs: passed on when the model is loaded (``dtype``, ``device_map``, ...).

        Raises:
            StoreError: if the store exists already.
        """
        check_new(store)
        loaded, tokenizer = open_model(model, tokenizer, **kwargs)
        if name is None and isinstance(model, str | Path):
            name = str(model)
        editor = cls(loaded, tokenizer, config, store, name)
        if isinstance(model, str | Path):
            editor._source = str(model)
        return editor

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        store: str | Path,
        model: PreTrainedModel | str | Path | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        judge: str | Path | None = None,
        rekey: bool = False,
        **kwargs: Any,
    ) -> Editor:
        """Open a store on the model it was made for.

        Args:
            store: a store's file, a folder that ``save_pretrained`` wrote, or a repository on the Hub.
            model: the model, or where to load it from; ``None``: by the name that the store knows.
            tokenizer: needed beside a loaded model.
            revision: of the repository.
            token: for the repository.
            cache_dir: where what is downloaded goes.
            judge: the judge to take in place of the store's while the editor lasts.
            rekey: move the store to ``model``, another copy of its model (quantised, another number format): make the
                keys again and check every edit. Those that no longer hold are named in a warning.
            kwargs: passed on when the model is loaded (``dtype``, ``device_map``, ...).
        """
        opened = Store.open(find_store(store, revision=revision, token=token, cache_dir=cache_dir))
        loaded, tokenizer = open_model(opened.fact("name") if model is None else model, tokenizer, **kwargs)
        name = str(model) if isinstance(model, str | Path) else None
        editor = cls(loaded, tokenizer, store=opened, name=name, judge=judge, rekey=rekey)
        return editor.warn_of_broken() if rekey else editor

    def __repr__(self) -> str:
        if isinstance(self.engine, UnloadedEngine):
            return "Editor(unloaded)"
        name, mode = self.store.model["name"], self.config.mode
        return f"Editor({name}, {mode} mode, {len(self)} edits, revision {self.store.revision}, {self.store.path})"

    @property
    def index(self) -> NeuronIndex | ClusterIndex:
        """The index of the edits that answer: a ``NeuronIndex``, in paper mode a ``ClusterIndex``."""
        policy = self.engine.policy
        assert isinstance(policy, (NearestPolicy, ClusterPolicy))
        return policy.index

    @property
    def calibration(self) -> Calibration | None:
        """The calibration in force; ``None`` in paper mode."""
        policy = self.engine.policy
        return policy.calibration if isinstance(policy, NearestPolicy) else None

    def edit(
        self,
        edits: Edits,
        replace: bool = False,
        progress: Progress | None = None,
        edits_per_block: int | None = None,
        keep_both: bool = False,
        trial: bool = True,
        strict: bool = False,
        executor: str | Executor | None = None,
    ) -> list[EditReport]:
        """Train and store edits; each is in the store whole or not at all.

        Edits that are there already (same id and content) are skipped. The latest prevails: an edit replaces a stored
        one of its prompt and, where the judge is sure, one that asks the same in other words with another target.

        Args:
            edits: one edit or many, as ``Edit`` or as objects with ``prompt`` and ``target``.
            replace: let an edit replace one with the same id and other content, or one that may ask the same.
            progress: told how many edits are done.
            edits_per_block: paper mode: how many of the edits share a block; ``None``: as many as the settings say.
            keep_both: keep stored edits that ask the same in other words.
            trial: ask each edit its likely neighbours first, see ``trial``; it is kept quiet on those that would reach
                it of which one word was changed.
            strict: do not store an edit that its trial warns of.
            executor: who trains: ``local`` (this process, the default), ``spawn`` or ``ray``, or a ``Spawn`` or ``Ray``
                of ``meloedit.workers.executors``, which say how many workers. What is stored is the same.

        Returns:
            A report per edit, in order. One that does not hold is not stored (in paper mode it is, with its batch),
            and its report says ``holds=False``.

        Raises:
            EditError: before any training, if an edit is not usable, two contradict each other, or one may ask what a
                stored one asks, with another target.
        """
        many = edit_list(edits)
        parts = self.edit_in_parts(many, replace, progress, edits_per_block, keep_both, trial, strict, executor)
        reports = {report.id: report for part in parts for report in part}
        return [reports[edit.id] for edit in many]

    def edit_in_parts(
        self,
        edits: Edits,
        replace: bool = False,
        progress: Progress | None = None,
        edits_per_block: int | None = None,
        keep_both: bool = False,
        trial: bool = True,
        strict: bool = False,
        executor: str | Executor | None = None,
    ) -> Iterator[list[EditReport]]:
        """Do as ``edit``, handing out the reports of each part once it is stored: leaving off keeps those."""
        batch_size = self.engine.mode.batch_size(edits_per_block)
        with self.engine.store.writing():  # from planning on: what an edit replaces must still be there
            prepared = Planner(self.engine, replace, keep_both).prepare(edit_list(edits))
            self.prepare(progress)
            trainer = part_trainer(executor, self.engine, self._source, open_engine)
            yield from EditRun(self.engine, prepared, batch_size, progress, trial, strict, trainer).parts()

    # -- saving and leaving

    def save(self, path: str | Path) -> None:
        """Copy the store to a new file."""
        self.engine.store.copy(path)

    def unload(self) -> PreTrainedModel:
        """Take every hook off and return the model, untouched."""
        if isinstance(self.engine, UnloadedEngine):
            return self.model
        self.engine.router.detach()
        self.store.close()
        self.engine = UnloadedEngine()  # type: ignore[assignment]
        if self._scratch:
            self._scratch.cleanup()
        return self.model

    def __enter__(self) -> Editor:
        return self

    def __exit__(self, *raised: object) -> None:
        self.unload()


def _engine_on(backbone: Backbone, settings: MeloConfig, judge: str | None) -> tuple[Engine, Locations]:
    """Return an engine without a store in the mode of the settings, and the modules that it edits."""
    paper = isinstance(settings, PaperConfig)
    locations = (locate_published if paper else locate)(backbone, settings)
    mode = PaperMode if paper else partial(DefaultMode, judge=judge)
    return Engine(backbone, locations, settings, mode), locations


def open_engine(model: Any, tokenizer: Any, values: Mapping[str, Any]) -> Engine:
    """Return an engine without a store, as workers that train have it; ``values`` are a store's settings."""
    settings = config_from_dict(values)
    return _engine_on(open_backbone(model, tokenizer, settings.document_tokens), settings, None)[0]
