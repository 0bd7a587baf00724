"""IKE (arXiv 2305.12740) as in EasyEdit (``models/ike``): a new fact stands before the prompt, behind demonstrations.

The demonstrations come from training edits. EasyEdit takes the nearest ones of all demonstrations; the authors
(Zce1112zslx/IKE) the nearest facts, each shown as a copy, an update or a retain (``choose="facts"``). Both hand the
model the fact that a prompt is about. Here the fact must be found, as for ``rag``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...edit import prompt_text
from ...errors import MeloEditError
from ..data_files import read_training_edits
from ..free_memory import check_room
from .demonstrations import FACT, Demonstrations, parts_of, texts_of
from .retrieval import Retrieval, RetrievalSettings

if TYPE_CHECKING:
    from ...edit import Edit

CHOICES = ("demonstrations", "facts")


@dataclass(frozen=True)
class IkeSettings(RetrievalSettings):
    """Settings of IKE.

    Attributes:
        k: demonstrations before a fact; 0: the fact alone.
        choose: what the nearest ones are chosen among: all ``demonstrations`` (EasyEdit), or ``facts`` (the authors).
        train: file of training edits.
        train_size: how many of them are read, from the first on.
    """

    from_zero = ("k",)
    files = ("train",)
    k: int = 16
    choose: str = "demonstrations"
    train: str = ""
    train_size: int = 10000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.choose not in CHOICES:
            raise MeloEditError(f"choose must be {' or '.join(CHOICES)}, not {self.choose!r}")


class Ike(Retrieval):
    """Writes the nearest edit before the prompt as a new fact, behind demonstrations of what new facts mean."""

    name = "ike"
    Settings = IkeSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.settings.k and not self.settings.train:
            raise MeloEditError(
                "method ike needs training edits for its demonstrations: set ike.train to a file of them, or ike.k to 0"
            )
        self._demonstrations: Demonstrations | None = None
        self._shown: dict[str, list[str]] = {}  # the demonstrations before each edit

    def _edit(self, edits: Sequence[Edit]) -> None:
        super()._edit(edits)
        self._shown |= dict(zip([edit.id for edit in edits], self._chosen(edits), strict=True))

    def _chosen(self, edits: Sequence[Edit]) -> list[list[str]]:
        """Return the demonstrations before each of some edits."""
        settings = self.settings
        if not settings.k:
            return [[] for _ in edits]
        if self._demonstrations is None:
            among_facts = settings.choose == "facts"
            rows = read_training_edits(settings.train, settings.train_size)
            self._demonstrations = Demonstrations(rows, self.encoder, settings.encoder, among_facts)
        prompts, targets = [prompt_text(edit.prompt) for edit in edits], [edit.target for edit in edits]
        return self._demonstrations.chosen(prompts, targets, settings.k, settings.seed)

    def check(self) -> None:
        """Raise a MeloEditError if the training edits cannot be read, or their vectors have no room."""
        if self.settings.k:
            rows = read_training_edits(self.settings.train, self.settings.train_size)
            facts = self.settings.choose == "facts"
            count = sum(len(texts_of(parts_of(row, facts), facts)) for row in rows)
            need = 2 * torch.float32.itemsize * self.encoder.size * count  # in parts, and as one
            check_room(self.name, need, f"the vectors of {count:,} demonstrations", self.encoder.device)

    def _remove(self, ids: Sequence[str]) -> None:
        super()._remove(ids)
        self._shown = {name: shown for name, shown in self._shown.items() if name not in ids}

    def _reset(self) -> None:
        super()._reset()
        self._shown = {}

    def kept_texts(self) -> Iterator[str]:
        """Yield the facts and the demonstrations before each."""
        yield from super().kept_texts()
        for shown in self._shown.values():
            yield from shown

    def fact(self, edit: Edit) -> str:
        """Return an edit's prompt and target as one text."""
        return f"{prompt_text(edit.prompt)} {edit.target}"

    def texts(self, prompt: str, names: Sequence[str]) -> Iterator[str]:
        """Yield the prompt behind its fact, and that behind as many demonstrations as there is room for."""
        new = FACT.format_map({"fact": self._facts[names[0]], "prompt": prompt})
        shown = self._shown[names[0]]
        for count in range(len(shown), -1, -1):
            # What is farthest goes first: the authors have the nearest at the end, EasyEdit at the beginning.
            kept = shown[len(shown) - count :] if self.settings.choose == "facts" else shown[:count]
            yield "".join(kept) + new
