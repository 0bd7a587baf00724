"""What methods share that write the edits nearest to a prompt before it: keys, routes, room, where an answer ends.

The retriever compares unit vectors of a text encoder by cosine. The answer is the first line that the model writes:
no training has taught it to stop after the answer.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ...backbones.loading import ENCODER
from ...edit import prompt_text
from ...errors import EditError, MeloEditError
from ...results import Route
from ..base import Method, Size
from ..settings import Settings
from .text_encoder import TextEncoder

if TYPE_CHECKING:
    from ...backbones.batch import Encoded
    from ...edit import Edit
    from ...types import Prompt


@dataclass(frozen=True)
class RetrievalSettings(Settings):
    """Settings of retrieval.

    Attributes:
        encoder: ``minilm``, a folder or a hub name of an encoder.
        min_similarity: cosine below which an edit is left out; a prompt without any edit stays as it is.
    """

    any_sign: ClassVar[tuple[str, ...]] = ("seed", "min_similarity")
    edits_per_call: int = 64
    encoder: str = ENCODER
    min_similarity: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.min_similarity <= 1:
            raise MeloEditError(f"min_similarity must be between -1 and 1, not {self.min_similarity!r}")


def filled(template: str, **texts: str) -> str:
    """Return a template with its parts filled in, in one pass, since the texts may contain braces."""
    return re.sub("{(" + "|".join(texts) + ")}", lambda part: texts[part[1]], template)


def chord(cosine: Tensor) -> Tensor:
    """Return the distance |u - v| = sqrt(2 - 2 cos) of unit vectors from their cosine."""
    return (2 - 2 * cosine).clamp(min=0).sqrt()  # rounding can make a cosine larger than 1


class Retrieval(Method):
    """Writes retrieved edits before the prompt; the model is not changed. A subclass says what is written."""

    routes = True
    removes = True
    unfit: ClassVar[Mapping[str, str]] = {"document": "a classifier reads no facts before a document"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.backbone.documents:
            raise MeloEditError(
                f"method {self.name} cannot serve {type(self.model).__name__}: {self.unfit['document']}"
            )
        self.encoder = TextEncoder(self.settings.encoder, self.backbone.device)
        self._routes: list[Route | None] = []
        self._keys = torch.zeros(0, self.encoder.size, device=self.encoder.device)
        self._edit_ids: list[str] = []  # the edit of each key
        self._facts: dict[str, str] = {}

    @property
    def top(self) -> int:
        """How many edits are written before a prompt."""
        return 1

    @abstractmethod
    def fact(self, edit: Edit) -> str:
        """Return an edit as it is written before a prompt."""

    @abstractmethod
    def texts(self, prompt: str, names: Sequence[str]) -> Iterator[str]:
        """Yield what the model reads in place of a prompt, the longest text first, for want of room shorter ones.

        Args:
            prompt: the prompt's text.
            names: the edits that are near to it, at least one, the nearest first.
        """

    # -- editing

    def _edit(self, edits: Sequence[Edit]) -> None:
        if again := [edit.id for edit in edits if edit.id in self.edits]:  # the new one takes its place
            self._remove(again)
        wordings = [(edit.id, prompt_text(prompt)) for edit in edits for prompt in edit.prompts]
        self._keys = torch.cat([self._keys, self.encoder.embed([text for _, text in wordings])])
        self._edit_ids += [name for name, _ in wordings]
        self._facts |= {edit.id: self.fact(edit) for edit in edits}

    def _remove(self, ids: Sequence[str]) -> None:
        rest = [i for i, name in enumerate(self._edit_ids) if name not in ids]
        self._keys, self._edit_ids = self._keys[rest], [self._edit_ids[i] for i in rest]
        self._facts = {name: fact for name, fact in self._facts.items() if name not in ids}

    def _reset(self) -> None:
        self._keys, self._edit_ids, self._facts = self._keys[:0], [], {}

    # -- answering

    def encode(self, prompts: Sequence[Prompt]) -> list[Encoded]:
        """Write the nearest facts before each prompt, and tokenise it; this also decides the routes."""
        self._routes = [None] * len(prompts)
        if not self._edit_ids:
            return super().encode(prompts)
        texts = [prompt_text(prompt) for prompt in prompts]
        hits = (self.encoder.embed(texts) @ self._keys.T).topk(min(self.top, len(self._edit_ids)))
        read: list[Encoded] = []
        distance, threshold = chord(hits.values[:, 0]).tolist(), chord(torch.tensor(self._least)).item()
        for i, (near, rows) in enumerate(zip(hits.values.tolist(), hits.indices.tolist(), strict=True)):
            names = [self._edit_ids[k] for cosine, k in zip(near, rows, strict=True) if cosine >= self._least]
            self._routes[i] = Route(
                names[0] if names else None,
                distance[i],
                threshold,
                self._edit_ids[rows[0]],
                "fired" if names else "outside scope",
            )
            read.append(self._read(prompts[i], list(dict.fromkeys(names))))
        return read

    @property
    def _least(self) -> float:
        return float(self.settings.min_similarity)

    def _read(self, prompt: Prompt, names: Sequence[str]) -> Encoded:
        """Return the tokens of facts and prompt, with as much of what is written as the model has room for."""
        for text in self.texts(prompt_text(prompt), names) if names else ():
            whole = text if isinstance(prompt, str) else [*prompt[:-1], {"role": "user", "content": text}]
            with suppress(EditError):
                return self.backbone.encode(whole)
        return self.backbone.encode(prompt)

    def finish(self, text: str, route: Route | None) -> str:
        """Return the first line if a fact stands before the prompt; other prompts get the unedited model's answer."""
        return text if route is None or route.edit is None else text.strip().split("\n")[0].strip()

    def last_routes(self, indices: Sequence[int]) -> list[Route | None]:
        """Return which fact stands before each prompt."""
        return [self._routes[i] for i in indices]

    # -- size and state

    def kept_texts(self) -> Iterator[str]:
        """Yield the texts that are kept for the edits."""
        yield from self._facts.values()

    def size(self) -> Size:
        """Return the vectors and the bytes of what is written, without the encoder."""
        text = sum(len(one.encode()) for one in self.kept_texts())
        return Size(self._keys.numel(), self._keys.numel() * 4 + text)

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Make the edits again: to encode them takes less time than to read a file."""
        self.reset()
        for start in range(0, len(edits), self.settings.edits_per_call):
            self.edit(edits[start : start + self.settings.edits_per_call])
