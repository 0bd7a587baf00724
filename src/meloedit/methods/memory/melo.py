"""This package's two modes as methods, so that they are scored like their rivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...backbones.locations import locate
from ...config import MeloConfig, raise_max_rank
from ...editor import Editor
from ...errors import MeloEditError
from ...files import make_folder
from ...paper.config import PaperConfig
from ...paper.mode import locate_published
from ...store import Store
from ..base import Method, MethodAnswer, Size

if TYPE_CHECKING:
    from ...backbones.batch import Example
    from ...edit import Edit
    from ...results import Route
    from ...types import Progress, Prompt

STORE = "edits.melo"


@dataclass(frozen=True)
class MeloSettings:
    """A ``MeloConfig`` with the attribute that every method's settings have."""

    config: MeloConfig

    @property
    def edits_per_call(self) -> int:
        """How many edits the method gets at once: as many as share a block in paper mode, or else train in a batch."""
        config = self.config
        return config.edits_per_block if isinstance(config, PaperConfig) else config.train_batch_size


class Melo(Method):
    """The default mode: a block per edit, pooled keys, a calibrated scope. Settings: ``MeloConfig``'s."""

    name = "melo"
    routes = True
    removes = True
    paper: ClassVar[bool] = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._editor: Editor | None = None
        self._empty = 0  # the store's revision without edits

    def check(self) -> None:
        """Raise a ModelError if the settings do not fit the model."""
        config = self.settings.config.for_family(self.backbone.defaults, type(self.model).__name__)
        if isinstance(config, PaperConfig):
            locate_published(self.backbone, config)
        else:
            locate(self.backbone, config)

    @property
    def editor(self) -> Editor:
        """The editor; created on first use, with a new store, unless ``restore`` opened one."""
        if self._editor is None:
            store = None
            if self.folder is not None:
                store = make_folder(self.folder) / STORE
                store.unlink(missing_ok=True)
            self._editor = Editor(self.model, self.backbone.tokenizer, self.settings.config, store)
            self._editor.prepare()
            self._empty = self._editor.store.revision
        return self._editor

    @classmethod
    def read_settings(cls, given: Mapping[str, Any]) -> MeloSettings:
        """Return the settings as a configuration of the method's mode."""
        try:
            values = dict(given)
            if cls.paper:
                preset = values.pop("preset", None)
                config = PaperConfig.from_dict(values) if preset is None else PaperConfig.from_preset(preset, **values)
                return MeloSettings(config)
            if values.get("mode") == PaperConfig.mode or values.get("preset"):
                raise MeloEditError("paper mode is the method melo-paper")
            return MeloSettings(MeloConfig.from_dict(raise_max_rank(values)))
        except (MeloEditError, TypeError) as error:
            raise MeloEditError(f"method {cls.name}: {error}") from None

    def prepare(self, documents: Sequence[str]) -> None:
        """Calibrate on documents, if the task has any: the built-in questions say nothing about documents."""
        if self.editor and documents and not self.paper:
            self._empty = self.editor.calibrate(list(documents), "documents of the task")

    def _edit(self, edits: Sequence[Edit]) -> None:
        self.editor.edit(list(edits), keep_both=True)  # a benchmark's edits are all wanted

    def _remove(self, ids: Sequence[str]) -> None:
        stored = {item.edit.id for item in self.editor.edits()}
        if present := [name for name in ids if name in stored]:  # an edit that does not hold is not stored
            self.editor.remove(present)

    def _reset(self) -> None:
        if self.editor.store.revision != self._empty:
            self.editor.rollback(self._empty)

    def _answer(
        self, prompts: Sequence[Prompt], batch_size: int, progress: Progress | None, settings: Mapping[str, Any]
    ) -> list[MethodAnswer]:
        answers = self.editor.ask(list(prompts), batch_size=batch_size, progress=progress, **settings)
        return [MethodAnswer(answer.text, answer.route) for answer in answers]

    def route(self, prompts: Sequence[Prompt], batch_size: int = 32) -> list[Route | None]:
        """Return how prompts are routed, without generating answers."""
        return list(self.editor.route(list(prompts)))

    def around_forward(self, examples: Sequence[Example]) -> AbstractContextManager[object]:
        """Give the router the lengths of the prompts, if their answers follow them in one sequence."""
        if not self.backbone.answer_follows_prompt:
            return nullcontext()
        return self.editor.prompt_lengths([len(example.prompt) for example in examples])

    def size(self) -> Size:
        """Return the size of all blocks and keys, as stored."""
        stored = self.editor.edits()
        sites, keys = self.editor.engine.router.bank.sites, self.editor.index
        positions = self.editor.config.answer_positions or 0
        blocks = {item.holder: (item.rank, item.positions(positions)) for item in stored}
        numbers = sum(
            rank * sum(site.inputs + positions + site.outputs for site in sites) for rank, positions in blocks.values()
        )
        return Size(numbers + keys.numbers, sum(item.nbytes for item in stored))

    def blocks(self) -> dict[str, Any]:
        """Return the number of the record with each edit's block; an edit that does not hold has none."""
        return {item.edit.id: item.holder for item in self.editor.edits()}

    def checkpoint(self) -> dict[str, Any]:
        """Return the store's revision; the store is always on disk."""
        return {"revision": self.editor.store.revision, "empty": self._empty}

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Open the store at the revision of the checkpoint."""
        if self.folder is None:
            raise MeloEditError("a method without a folder keeps no state: give it one")
        if self._editor is not None:
            self._editor.unload()
        self._editor = Editor(self.model, self.backbone.tokenizer, store=Store.open(self.folder / STORE))
        if self.editor.store.revision != noted["revision"]:
            self.editor.rollback(noted["revision"])
        self._empty = noted["empty"]
        super().restore(noted, edits)

    def close(self) -> None:
        """Take every hook off the model."""
        if self._editor is not None:
            self._editor.unload()


class MeloPaper(Melo):
    """Paper mode: a block per batch of edits, keys of the last token, clusters. Settings: ``MeloConfig.paper``'s."""

    name = "melo-paper"
    paper = True
