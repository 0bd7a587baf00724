"""Retrieval: the edits nearest to a prompt are written before it, and the model reads them.

The retriever is an encoder: the mean over its last states, at unit length, compared by cosine. The answer is the first
line that the model writes, since nothing else has taught it to stop there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...backbones.loading import ENCODER, encoder_folder, why_not_loaded
from ...edit import prompt_text
from ...errors import EditError, MeloEditError
from ...results import Route
from ..base import Method, Settings, Size

if TYPE_CHECKING:
    from ...backbones.batch import Encoded
    from ...edit import Edit
    from ...types import Prompt


@dataclass(frozen=True)
class RagSettings(Settings):
    """Settings of retrieval.

    Attributes:
        encoder: ``minilm``, a folder or a hub name of an encoder.
        top: how many edits are written before a prompt.
        min_similarity: cosine below which an edit is left out; a prompt with none is asked as it is.
        fact: how an edit is written, with ``{prompt}`` and ``{target}``.
        form: how facts and prompt are put together, with ``{facts}`` and ``{prompt}``.
    """

    free = ("seed", "min_similarity")
    together: int = 64
    encoder: str = ENCODER
    top: int = 1
    min_similarity: float = 0.0
    fact: str = "{prompt} {target}"
    form: str = "{facts}\n{prompt}"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.min_similarity <= 1:
            raise MeloEditError(f"min_similarity must be between -1 and 1, not {self.min_similarity!r}")
        for name, parts in (("fact", ("{prompt}", "{target}")), ("form", ("{facts}", "{prompt}"))):
            if not all(part in getattr(self, name) for part in parts):
                raise MeloEditError(f"{name} must contain {' and '.join(parts)}, not {getattr(self, name)!r}")


def _filled(form: str, **texts: str) -> str:
    """Return a form with its parts filled in, in one pass: what is filled in may hold braces."""
    return re.sub("{(" + "|".join(texts) + ")}", lambda part: texts[part[1]], form)


def chord(cosine: Tensor) -> Tensor:
    """Return the distance |u - v| = sqrt(2 - 2 cos) of unit vectors."""
    return (2 - 2 * cosine).clamp(min=0).sqrt()  # rounding can make a cosine more than one


class Rag(Method):
    """Puts retrieved edits into the prompt; the model itself is not changed."""

    name = "rag"
    Settings = RagSettings
    routes = True
    removes = True
    unfit = {"document": "a classifier reads no facts before a document"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.backbone.documents:
            raise MeloEditError(f"method rag cannot serve {type(self.model).__name__}: {self.unfit['document']}")
        from transformers import AutoModel, AutoTokenizer

        name = str(encoder_folder()) if self.settings.encoder == ENCODER else self.settings.encoder
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name)
            self._encoder: Any = AutoModel.from_pretrained(name).eval().to(self.backbone.device)
        except (OSError, ValueError) as error:
            raise MeloEditError(
                f"method rag: cannot load the encoder {name!r} ({why_not_loaded(name, error)}); "
                f"give encoder a folder, a hub name, or {ENCODER!r}"
            ) from None
        self._routes: list[Route | None] = []
        self._keys = torch.zeros(0, self._encoder.config.hidden_size, device=self._encoder.device)
        self._owners: list[str] = []  # the edit of each key
        self._facts: dict[str, str] = {}

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors (n, d) of texts, of unit length."""
        parts = []
        for start in range(0, len(texts), 64):
            inputs = self._tokenizer(
                list(texts[start : start + 64]), padding=True, truncation=True, max_length=256, return_tensors="pt"
            ).to(self._encoder.device)
            states = self._encoder(**inputs).last_hidden_state
            mask = inputs["attention_mask"][..., None]
            parts.append((states * mask).sum(1) / mask.sum(1))
        return torch.nn.functional.normalize(torch.cat(parts), dim=-1)

    def _edit(self, edits: Sequence[Edit]) -> None:
        wordings = [(edit.id, prompt_text(prompt)) for edit in edits for prompt in edit.prompts]
        self._keys = torch.cat([self._keys, self.embed([text for _, text in wordings])])
        self._owners += [name for name, _ in wordings]
        self._facts |= {
            edit.id: _filled(self.settings.fact, prompt=prompt_text(edit.prompt).strip(), target=edit.target.strip())
            for edit in edits
        }

    def _remove(self, ids: Sequence[str]) -> None:
        kept = [i for i, name in enumerate(self._owners) if name not in ids]
        self._keys, self._owners = self._keys[kept], [self._owners[i] for i in kept]
        self._facts = {name: fact for name, fact in self._facts.items() if name not in ids}

    def _reset(self) -> None:
        self._keys, self._owners, self._facts = self._keys[:0], [], {}

    def encode(self, prompts: Sequence[Prompt]) -> list[Encoded]:
        """Write the nearest facts before each prompt, and tokenise it."""
        self._routes = [None] * len(prompts)
        if not self._owners:
            return super().encode(prompts)
        texts = [prompt_text(prompt) for prompt in prompts]
        found = (self.embed(texts) @ self._keys.T).topk(min(self.settings.top, len(self._owners)))
        read: list[Encoded] = []
        distance, threshold = chord(found.values[:, 0]).tolist(), chord(torch.tensor(self._least)).item()
        for i, (near, rows) in enumerate(zip(found.values.tolist(), found.indices.tolist(), strict=True)):
            names = [self._owners[k] for cosine, k in zip(near, rows, strict=True) if cosine >= self._least]
            self._routes[i] = Route(
                names[0] if names else None,
                distance[i],
                threshold,
                self._owners[rows[0]],
                "fired" if names else "outside scope",
            )
            read.append(self._read(prompts[i], list(dict.fromkeys(names))))
        return read

    @property
    def _least(self) -> float:
        return float(self.settings.min_similarity)

    def _read(self, prompt: Prompt, names: Sequence[str]) -> Encoded:
        """Return a prompt behind facts as tokens, with as many of the nearest facts as the model has room for."""
        for count in range(len(names), 0, -1):
            with suppress(EditError):
                return self.backbone.encode(self._before(prompt, names[:count]))
        return self.backbone.encode(prompt)

    def _before(self, prompt: Prompt, names: Sequence[str]) -> Prompt:
        """Return a prompt with facts before the user's own words, the nearest last."""
        if not names:
            return prompt
        facts = "\n".join(self._facts[name] for name in reversed(names))
        text = _filled(self.settings.form, prompt=prompt_text(prompt), facts=facts)
        return text if isinstance(prompt, str) else [*prompt[:-1], {"role": "user", "content": text}]

    def finish(self, text: str, route: Route | None) -> str:
        """Return the first line where a fact was read; what no fact concerns is answered as ever."""
        return text if route is None or route.edit is None else text.strip().split("\n")[0].strip()

    def routed(self, part: Sequence[int]) -> list[Route | None]:
        """Return which fact was read with each prompt."""
        return [self._routes[i] for i in part]

    def size(self) -> Size:
        """Return the vectors and the bytes of the facts; the encoder is not counted."""
        text = sum(len(fact.encode()) for fact in self._facts.values())
        return Size(self._keys.numel(), self._keys.numel() * 4 + text)

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Read the edits again: their vectors take less time than a file would."""
        self.reset()
        for start in range(0, len(edits), self.settings.together):
            self.edit(edits[start : start + self.settings.together])
