"""SERAC (arXiv 2206.06520) as in its authors' code (eric-mitchell/serac, ``algs/rep.py``): edits in a memory.

A scope classifier (``scope.py``) compares a prompt with each edit of the memory. If the nearest is similar enough, a
small counterfactual model answers: it reads the edit, then the prompt. Otherwise the base model answers. Both learn
beforehand from training edits: cedit times the counterfactual model's loss, plus cloc times the classifier's. Nothing
is trained when an edit is made, and removing it takes it out of the memory.

The counterfactual model is of the base model's kind and tokenizer, since a result is compared token by token: a copy of
its first layers and its last one, which is trained as a whole. (The authors take a T5-small beside a T5-large.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ...backbones import open_backbone
from ...backbones.batch import Example
from ...backbones.contexts import frozen
from ...backbones.loading import ENCODER
from ...backbones.shortened import kept_layers, shortened
from ...edit import prompt_text
from ...engine.answering import generate_in_batches, greedy
from ...errors import EditError
from ...results import Route
from ...training.trainer import seeded
from ..base import MethodAnswer, Size
from ..checkpoint import read_state, write_state
from ..free_memory import check_room
from ..in_context.text_encoder import TextEncoder
from .losses import token_losses
from .method import COPIES, LearnedMethod
from .scope import balanced_loss, log_similarities
from .settings import LearnedSettings

if TYPE_CHECKING:
    from ...backbones import Backbone
    from ...backbones.batch import Encoded
    from ...edit import Edit
    from ...types import Progress, Prompt
    from .lessons import Lesson

NUMBERS_AT_ONCE = 2**25
"""Numbers of prompts, edits and vectors, multiplied, that are compared at once: 128 MB of differences."""
ANSWER_ROOM = 32
"""Tokens that an edit before a prompt leaves for the answer."""


@dataclass(frozen=True)
class SeracSettings(LearnedSettings):
    """Settings with the authors' values.

    Attributes:
        encoder: the classifier's encoder: ``minilm``, a folder or a hub name.
        scale: factor of the squared distance.
        threshold: similarity above which an edit answers.
        layers: most layers of the counterfactual model in each stack.
        context_words: most words of an edit's prompt that the counterfactual model reads, from its end.
    """

    shares = ("threshold",)
    encoder: str = ENCODER
    scale: float = 1.0
    threshold: float = 0.5
    layers: int = 6
    context_words: int = 100


class SeracNetwork(nn.Module):
    """The classifier's encoder and the counterfactual model. Both learn without dropout, as in the released code."""

    def __init__(self, encoder: nn.Module, counterfactual: nn.Module) -> None:
        super().__init__()
        self.encoder, self.counterfactual = encoder, counterfactual
        self.requires_grad_(True)

    def train(self, mode: bool = True) -> SeracNetwork:
        """Stay as in use: dropout is all that differs."""
        return super().train(False)


class Record(NamedTuple):
    """A wording of an edit in the memory."""

    edit: str
    prompt: str
    target: str


class Serac(LearnedMethod):
    """Answers prompts in the scope of an edit by a small model that reads the edit; the base model is not changed."""

    name = "serac"
    Settings = SeracSettings
    routes = True
    removes = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scope: TextEncoder | None = None
        self.counterfactual: Backbone | None = None
        self._routes: list[Route | None] = []
        self._keys = torch.zeros(0)
        self._records: list[Record] = []

    def check(self) -> None:
        """Raise a MeloEditError if there is no such encoder, or memory does not suffice to learn."""
        encoder = TextEncoder(self.settings.encoder, "cpu")
        weights = sum(weight.numel() for weight in encoder.model.parameters())
        weights += sum(weight.numel() for weight in self.model.parameters())
        for _, stack in self.backbone.stacks:
            kept = kept_layers(len(stack), self.settings.layers)
            weights -= sum(w.numel() for i, layer in enumerate(stack) if i not in kept for w in layer.parameters())
        check_room(self.name, COPIES * 4 * weights, "its networks while they learn", self.backbone.device)

    # -- learning

    def _make_learner(self) -> nn.Module:
        self.scope = TextEncoder(self.settings.encoder, self.backbone.device)
        model = shortened(self.backbone, self.settings.layers).float()
        self.counterfactual = open_backbone(model, self.backbone.tokenizer)
        self._reset()
        return SeracNetwork(self.scope.model, model)

    def _sources(self) -> list[str]:
        from ...backbones.layers import fingerprint

        assert self.scope is not None, "its network is made first"
        return [fingerprint(self.scope.model)]

    def _lesson_loss(self, lessons: Sequence[Lesson], number: int) -> Tensor:
        scope, counterfactual = self._networks()
        settings, queries = self.settings, []
        for lesson in lessons:  # the edit's own prompt as often as another wording
            own = bool(torch.randint(2, (1,), generator=seeded(settings.seed, number, f"own {lesson.edit.id}")))
            prompts = lesson.outer_prompts
            queries.append(lesson.edit.prompt if own else prompts[lesson.wording(number, settings.seed)])
        records = [_record(lesson.edit, lesson.edit.prompt) for lesson in lessons]
        keys = scope.vectors([self._key_text(record) for record in records])
        # apart, since texts of a kind have like lengths, and little is padded
        inside = scope.vectors([prompt_text(prompt) for prompt in queries])
        outside = scope.vectors([prompt_text(lesson.held) for lesson in lessons])
        similar = [log_similarities(one, keys, settings.scale).diagonal() for one in (inside, outside)]
        rows = []
        for query, record in zip(queries, records, strict=True):
            encoded = self._read(query, record)
            rows.append(Example.of(encoded, counterfactual.encode_target(record.target, encoded)))
        said = token_losses([logits.float() for logits in counterfactual.narrow_logits(rows)], rows)
        return settings.cedit * said.mean() + settings.cloc * balanced_loss(*similar)

    def _networks(self) -> tuple[TextEncoder, Backbone]:
        self._fitted()
        assert self.scope is not None and self.counterfactual is not None, "they are made with the network"
        return self.scope, self.counterfactual

    # -- the memory

    def _key_text(self, record: Record) -> str:
        """Return what the classifier reads of an edit."""
        assert self.scope is not None, "it is made before any edit is read"
        return f"{record.prompt}{self.scope.separator}{record.target}{self.scope.separator}"

    def _edit(self, edits: Sequence[Edit]) -> None:
        scope, _ = self._networks()
        if again := [edit.id for edit in edits if edit.id in self.edits]:  # the new one takes its place
            self._remove(again)
        records = [_record(edit, prompt) for edit in edits for prompt in edit.prompts]
        self._keys = torch.cat([self._keys, scope.embed([self._key_text(record) for record in records])])
        self._records += records

    def _remove(self, ids: Sequence[str]) -> None:
        rest = [i for i, record in enumerate(self._records) if record.edit not in ids]
        self._keys, self._records = self._keys[rest], [self._records[i] for i in rest]

    def _reset(self) -> None:
        size = self.scope.size if self.scope is not None else 0
        self._keys = torch.zeros(0, size, device=self.backbone.device)
        self._records = []

    # -- answering

    def _decide(self, prompts: Sequence[Prompt]) -> list[Record | None]:
        """Return the record that answers each prompt, if one does, and note the routes."""
        self._routes = [None] * len(prompts)
        if not self._records:
            return [None] * len(prompts)
        if not prompts:
            return []
        scope, _ = self._networks()
        queries = scope.embed([prompt_text(prompt) for prompt in prompts])
        rows = max(1, NUMBERS_AT_ONCE // self._keys.numel())
        parts = [log_similarities(part, self._keys, self.settings.scale).max(1) for part in queries.split(rows)]
        logs, nearest = (torch.cat(one) for one in zip(*parts, strict=True))
        records = [self._records[i] for i in nearest.tolist()]
        fires = (logs.exp() > self.settings.threshold).tolist()
        limit = -math.log(self.settings.threshold) / self.settings.scale if self.settings.threshold else math.inf
        distances = (-logs / self.settings.scale).tolist()
        self._routes = [
            Route(one.edit if fired else None, far, limit, one.edit, "fired" if fired else "outside scope")
            for one, fired, far in zip(records, fires, distances, strict=True)
        ]
        return [record if fired else None for record, fired in zip(records, fires, strict=True)]

    def _read(self, prompt: Prompt, record: Record) -> Encoded:
        """Return what the counterfactual model reads: the edit, or as much as there is room for, then the prompt."""
        assert self.counterfactual is not None, "it is made before any prompt is read"
        reader, words, count = self.counterfactual, record.prompt.split(), self.settings.context_words
        room = ANSWER_ROOM if reader.answer_follows_prompt else 0
        while True:
            context = " ".join([*words[-count:], record.target]) if count else record.target
            text = f"{context}\n{prompt_text(prompt)}"
            given: Prompt = text if isinstance(prompt, str) else [*prompt[:-1], {"role": "user", "content": text}]
            with suppress(EditError):
                encoded = reader.encode(given)
                if reader.max_length is None or len(encoded.ids) + room <= reader.max_length:
                    return encoded
            if not count:
                return reader.encode(prompt)
            count = min(count, len(words)) // 2

    def _answer(
        self, prompts: Sequence[Prompt], batch_size: int, progress: Progress | None, settings: Mapping[str, Any]
    ) -> list[MethodAnswer]:
        records = self._decide(prompts)
        routes = self._routes
        outside = [i for i, record in enumerate(records) if record is None]
        answers = super()._answer([prompts[i] for i in outside], batch_size, progress, settings)
        texts = {i: answer.text for i, answer in zip(outside, answers, strict=True)}
        fired = [(i, record) for i, record in enumerate(records) if record is not None]
        if fired:
            _, counterfactual = self._networks()
            encoded = [self._read(prompts[i], record) for i, record in fired]
            given = greedy(counterfactual) | dict(settings)
            for part, said in generate_in_batches(counterfactual, encoded, batch_size, given):
                texts |= {fired[k][0]: text for k, (text, _) in zip(part, said, strict=True)}
                if progress:
                    progress("asking", len(texts), len(prompts))
        self._routes = routes
        return [MethodAnswer(texts[i], route) for i, route in enumerate(routes)]

    def logits(self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return per prompt the logits that predict its target: the base model's, or the counterfactual model's."""
        records = self._decide(prompts)
        logits = super().logits(prompts, targets)  # of all, so that a prompt out of scope gets the same bits
        fired = [(i, record) for i, record in enumerate(records) if record is not None]
        if fired:
            _, counterfactual = self._networks()
            rows = [Example.of(self._read(prompts[i], record), targets[i]) for i, record in fired]
            with torch.no_grad(), frozen(counterfactual.model):
                said = counterfactual.target_logits(rows)
            for (i, _), one in zip(fired, said, strict=True):
                logits[i] = one.to(logits[i])
        return logits

    def last_routes(self, indices: Sequence[int]) -> list[Route | None]:
        """Return which edit answers each prompt."""
        return [self._routes[i] if i < len(self._routes) else None for i in indices]

    def route(self, prompts: Sequence[Prompt], batch_size: int = 32) -> list[Route | None]:
        """Return how prompts are routed; the classifier alone runs."""
        self._decide(prompts)
        return list(self._routes)

    # -- size and state

    def size(self) -> Size:
        """Return the vectors and the bytes of the edits' texts, without the networks, which serve all edits."""
        text = sum(len((record.prompt + record.target).encode()) for record in self._records)
        return Size(self._keys.numel(), self._keys.nbytes + text)

    def checkpoint(self) -> dict[str, Any]:
        """Write the vectors."""
        return write_state(self.folder, {"keys": self._keys})

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Bring back the vectors, and the records of the edits."""
        super().restore(noted, edits)
        self._keys = read_state(self.folder, noted)["keys"].to(self.backbone.device)
        self._records = [_record(edit, prompt) for edit in self.edits.values() for prompt in edit.prompts]


def _record(edit: Edit, prompt: Prompt) -> Record:
    return Record(edit.id, prompt_text(prompt).strip(), edit.target.strip())
