"""This package's two modes, behind the protocol of all methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...config import MeloConfig
from ...editor import Editor
from ...errors import MeloEditError
from ...files import make_folder
from ...store import Store
from ..base import Method, Said, Size

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ...backbones.batch import Example
    from ...edit import Edit
    from ...results import Route
    from ...types import Progress, Prompt

STORE = "edits.melo"


@dataclass(frozen=True)
class MeloSettings:
    """``MeloConfig``'s settings, and how many edits are made at once: as many as train together, or share a block."""

    config: MeloConfig

    @property
    def together(self) -> int:
        """How many edits are made at once."""
        return self.config.edits_per_block if self.config.mode == "paper" else self.config.train_batch_size


class Melo(Method):
    """The default mode: a block per edit, pooled and whitened keys, one calibrated scope. Settings are MeloConfig's."""

    name = "melo"
    routes = True
    removes = True
    paper: ClassVar[bool] = False

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: Mapping[str, Any] | None = None,
        folder: str | Path | None = None,
    ) -> None:
        super().__init__(model, tokenizer, settings, folder)
        self.tokenizer = tokenizer
        self._made: Editor | None = None
        self._empty = 0

    def check(self) -> None:
        """Raise a ModelError if the settings do not fit the model."""
        self.backbone.locate(self.backbone.configure(self.settings.config))

    @property
    def editor(self) -> Editor:
        """The editor; a new one, on a new store, where no state was restored."""
        if self._made is None:
            store = None
            if self.folder is not None:
                store = make_folder(self.folder) / STORE
                store.unlink(missing_ok=True)
            self._made = Editor(self.model, self.tokenizer, self.settings.config, store)
            self._made.prepare()
            self._empty = self._made.store.revision
        return self._made

    @classmethod
    def read_settings(cls, given: Mapping[str, Any]) -> MeloSettings:
        """Return the settings as a configuration of the method's mode."""
        try:
            values = dict(given)
            if cls.paper:
                return MeloSettings(MeloConfig.paper(values.pop("preset", None), **values))
            if values.get("mode") == "paper" or values.get("preset"):
                raise MeloEditError("paper mode is the method melo-paper")
            rank = values.get("rank")
            if isinstance(rank, int):  # who asks for a rank above the largest tried wants that raised as well
                values.setdefault("max_rank", max(rank, MeloConfig.max_rank))
            return MeloSettings(MeloConfig.from_dict(values))
        except (MeloEditError, TypeError) as error:
            raise MeloEditError(f"method {cls.name}: {error}") from None

    def prepare(self, documents: Sequence[str]) -> None:
        """Calibrate on texts like those to come, where the shipped questions mean nothing."""
        if self.editor and documents and not self.paper:
            self._empty = self.editor.calibrate(list(documents), "documents of the task")

    def _edit(self, edits: Sequence[Edit]) -> None:
        self.editor.edit(list(edits))

    def _remove(self, ids: Sequence[str]) -> None:
        stored = {item.edit.id for item in self.editor.edits()}
        if held := [name for name in ids if name in stored]:  # what did not hold is not there
            self.editor.remove(held)

    def _reset(self) -> None:
        if self.editor.store.revision != self._empty:
            self.editor.rollback(self._empty)

    def answer(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int = 20,
        batch_size: int = 32,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[Said]:
        """Answer prompts, each with its route."""
        settings = {"max_new_tokens": max_new_tokens} | kwargs
        answers = self.editor.ask(list(prompts), batch_size=batch_size, progress=progress, **settings)
        return [Said(answer.text, answer.route) for answer in answers]

    def route(self, prompts: Sequence[Prompt], batch_size: int = 32) -> list[Route | None]:
        """Return how prompts are routed, without answers."""
        return list(self.editor.route(list(prompts)))

    def reading(self, rows: Sequence[Example]) -> AbstractContextManager[object]:
        """Tell the router where prompts end, where the answer follows them in one sequence."""
        return (
            self.editor.routing([len(r.prompt) for r in rows]) if self.backbone.answer_follows_prompt else nullcontext()
        )

    def size(self) -> Size:
        """Return the numbers of all blocks and keys, and their bytes as stored."""
        stored = self.editor.edits()
        sites, keys = self.editor.router.bank.sites, self.editor.index
        blocks = {item.holder: item.rank for item in stored}
        places = self.editor.config.answer_positions or 0
        numbers = sum(rank * sum(site.inputs + places + site.outputs for site in sites) for rank in blocks.values())
        return Size(numbers + keys.numbers, sum(item.nbytes for item in stored))

    def blocks(self) -> dict[str, Any]:
        """Return the record that holds each edit's block; an edit that did not hold has none."""
        return {item.edit.id: item.holder for item in self.editor.edits()}

    def checkpoint(self) -> dict[str, Any]:
        """Return the store's revision; the store is on disk already."""
        return {"revision": self.editor.store.revision, "empty": self._empty}

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Open the store again, at the revision that was noted."""
        if self.folder is None:
            raise MeloEditError("a method without a folder keeps no state: give it one")
        if self._made is not None:
            self._made.detach()
        self._made = Editor(self.model, self.tokenizer, store=Store.open(self.folder / STORE))
        if self.editor.store.revision != noted["revision"]:
            self.editor.rollback(noted["revision"])
        self._empty = noted["empty"]
        super().restore(noted, edits)

    def close(self) -> None:
        """Take every hook off the model."""
        if self._made is not None:
            self._made.detach()


class MeloPaper(Melo):
    """Paper mode: a block per batch of edits, keys of the last token, clusters. Settings are MeloConfig.paper's."""

    name = "melo-paper"
    paper = True
