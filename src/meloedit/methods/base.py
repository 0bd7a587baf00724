"""The protocol of an editing method: make edits, answer prompts, remove edits, report their size, save the state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ..backbones import open_backbone
from ..backbones.batch import Example
from ..backbones.contexts import frozen
from ..engine.answering import generate_in_batches, greedy
from ..errors import EditError, MeloEditError
from .settings import Settings, read_settings

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..backbones.batch import Batch, Encoded
    from ..edit import Edit
    from ..results import Route
    from ..types import Progress, Prompt


@dataclass(frozen=True)
class MethodAnswer:
    """An answer, and the route of its prompt if the method routes."""

    text: str
    route: Route | None = None


@dataclass(frozen=True)
class Size:
    """What edits add to a model: how many numbers are stored, and their bytes."""

    parameters: int
    nbytes: int

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> Size:
        """Return the size of some tensors."""
        tensors = list(tensors)
        return cls(sum(tensor.numel() for tensor in tensors), sum(tensor.nbytes for tensor in tensors))


class Method(ABC):
    """One way to edit a model. **It changes the model in place** until ``close`` gives it back unedited.

    A subclass implements ``_edit``, ``_reset`` and ``size``, and whatever else of this class does not fit it.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        settings: values that differ from the defaults of ``Settings``.
        folder: where ``checkpoint`` writes its state; ``None`` for a method that is never restored.

    Attributes:
        name: the method's key in ``METHODS``.
        Settings: the class of its settings.
        routes: whether it decides per prompt if an edit answers.
        removes: whether single edits can be removed.
        removes_exactly: whether a removed edit is as if never made, to the bit, where edits are made one at a time.
        learns: whether it learns from training edits (``fit``) before it makes any.
        unfit: kinds of task that it cannot serve, each with the reason.
        causal_only: why it serves decoder-only models alone; empty: it serves others, too.
        edits: the edits so far, by id, in the order in which they were made.

    Raises:
        MeloEditError: if a setting is unknown or does not fit the model, or the method does not serve its family.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Settings]] = Settings
    routes: ClassVar[bool] = False
    removes: ClassVar[bool] = False
    removes_exactly: ClassVar[bool] = True
    learns: ClassVar[bool] = False
    unfit: ClassVar[Mapping[str, str]] = {}
    causal_only: ClassVar[str] = ""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: Mapping[str, Any] | None = None,
        folder: str | Path | None = None,
    ) -> None:
        self.settings: Any = self.read_settings(settings or {})
        self.model = model
        self.backbone = open_backbone(model, tokenizer)
        if self.causal_only and not self.backbone.answer_follows_prompt:
            raise MeloEditError(f"method {self.name} cannot serve {type(model).__name__}: {self.causal_only}")
        self.folder = Path(folder) if folder is not None else None
        self.edits: dict[str, Edit] = {}

    @classmethod
    def read_settings(cls, given: Mapping[str, Any]) -> Any:
        """Return the method's settings, with its defaults for those that are not given.

        Raises:
            MeloEditError: if there is no such setting, or its value is of the wrong kind.
        """
        return read_settings(cls.name, cls.Settings, given)

    @classmethod
    def check_task(cls, task: str, kind: str) -> None:
        """Raise a MeloEditError if the method cannot serve a task of this kind, so that no run starts in vain."""
        if kind in cls.unfit:
            raise MeloEditError(f"method {cls.name} cannot serve task {task}: {cls.unfit[kind]}")

    @classmethod  # noqa: B027
    def check_edits(cls, edits: Sequence[Edit]) -> None:
        """Raise a MeloEditError if the method cannot make one of the edits, so that no run starts in vain."""

    def check(self) -> None:  # noqa: B027
        """Raise a MeloEditError if the settings do not fit the model; an evaluation calls this before any work."""

    # -- editing

    def fit(self, edits: Sequence[Edit], progress: Progress | None = None) -> None:  # noqa: B027
        """Learn from training edits how to make others; a method with ``learns = True`` overrides this.

        Args:
            edits: their variants are wordings that they must answer too, their quiet prompts some to leave alone.
            progress: as in ``answer``.
        """

    def prepare(self, documents: Sequence[str]) -> None:  # noqa: B027
        """Do what comes before the first edit, such as calibrating.

        Args:
            documents: unlabelled texts like the task's prompts, which no edit should answer; empty if it has none.
        """

    def edit(self, edits: Sequence[Edit]) -> None:
        """Make edits in one call, at most ``settings.edits_per_call``."""
        named = [self.backbone.as_written(edit) for edit in edits]
        self._edit(named)
        for edit in named:
            self.edits.pop(edit.id, None)  # one that is made anew is the newest
            self.edits[edit.id] = edit

    @abstractmethod
    def _edit(self, edits: Sequence[Edit]) -> None:
        """Make edits so that ``answer`` gives their targets; ``edit`` adds them to ``self.edits`` afterwards."""

    def remove(self, ids: Sequence[str]) -> None:
        """Remove edits.

        Raises:
            EditError: if there are no such edits, or the method cannot remove any.
        """
        if self.removes and (missing := [name for name in ids if name not in self.edits]):
            raise EditError(f"method {self.name} has no edit {missing[0]!r}")
        self._remove(ids)
        self.edits = {name: edit for name, edit in self.edits.items() if name not in ids}

    def _remove(self, ids: Sequence[str]) -> None:
        """Remove edits that exist; a class with ``removes = True`` overrides this."""
        raise EditError(f"method {self.name} cannot remove an edit: all of them share the same weights")

    def reset(self) -> None:
        """Remove all edits: the model answers as it did before the first."""
        self._reset()
        self.edits = {}

    @abstractmethod
    def _reset(self) -> None:
        """Bring the unedited model back, bit for bit; edits may follow. Must work without any edit, too."""

    # -- answering

    def answer(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int = 20,
        batch_size: int = 32,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[MethodAnswer]:
        """Answer prompts greedily, until the model stops by itself or has written ``max_new_tokens`` tokens.

        Args:
            prompts: the prompts.
            max_new_tokens: most tokens of an answer.
            batch_size: prompts per call of ``generate``.
            progress: called with ``"asking"``, the number of finished prompts, and that of all.
            kwargs: passed to ``generate``.
        """
        return self._answer(prompts, batch_size, progress, {"max_new_tokens": max_new_tokens} | kwargs)

    def _answer(
        self, prompts: Sequence[Prompt], batch_size: int, progress: Progress | None, settings: Mapping[str, Any]
    ) -> list[MethodAnswer]:
        """Answer prompts by ``generate`` with these settings."""
        settings = greedy(self.backbone) | dict(settings)
        answers: dict[int, MethodAnswer] = {}
        batches = generate_in_batches(self.backbone, self.encode(prompts), batch_size, settings, self.around_generate)
        for part, texts in batches:
            for i, (text, _), route in zip(part, texts, self.last_routes(part), strict=True):
                answers[i] = MethodAnswer(self.finish(text, route), route)
            if progress:
                progress("asking", len(answers), len(prompts))
        return [answers[i] for i in range(len(prompts))]

    def encode(self, prompts: Sequence[Prompt]) -> list[Encoded]:
        """Return prompts as the tokens that the model reads; a method may write something before a prompt."""
        return [self.backbone.encode(prompt) for prompt in prompts]

    def examples(self, edits: Sequence[Edit]) -> list[Example]:
        """Return the examples of edits: each wording with the target's tokens and the token that ends it."""
        pairs = [(self.backbone.encode(prompt), edit.target) for edit in edits for prompt in edit.prompts]
        return [Example.of(encoded, self.backbone.encode_target(target, encoded)) for encoded, target in pairs]

    def around_generate(self, batch: Batch) -> AbstractContextManager[object]:
        """Return a context for the call of ``generate`` on a batch, such as one that tells hooks where prompts end."""
        return nullcontext()

    def around_forward(self, examples: Sequence[Example]) -> AbstractContextManager[object]:
        """Return a context for a plain forward call on prompts with their targets, padded on the right."""
        return nullcontext()

    def last_routes(self, indices: Sequence[int]) -> list[Route | None]:
        """Return the routes of the last call of the model.

        Args:
            indices: the positions that its prompts had in the last call of ``encode``.
        """
        return [None] * len(indices)

    def finish(self, text: str, route: Route | None) -> str:
        """Return the answer in a generated text, such as its first line.

        An evaluation also calls this on the unedited model's text before it compares the two, with the edited
        model's route.
        """
        return text

    def logits(self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return per prompt the logits (T, vocabulary) that predict its target's T tokens, in one batch.

        The prompt alone decides the route, as in ``answer``.
        """
        pairs = zip(self.encode(prompts), targets, strict=True)
        examples = [Example.of(encoded, target) for encoded, target in pairs]
        with torch.no_grad(), frozen(self.model), self.around_forward(examples):
            return self.backbone.target_logits(examples)

    def route(self, prompts: Sequence[Prompt], batch_size: int = 32) -> list[Route | None]:
        """Return how prompts are routed, without generating answers."""
        routes: dict[int, Route | None] = {}
        order = sorted(range(len(prompts)), key=lambda i: len(str(prompts[i])))
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            self.logits([prompts[i] for i in part], [[0]] * len(part))
            routes |= dict(zip(part, self.last_routes(range(len(part))), strict=True))
        return [routes[i] for i in range(len(prompts))]

    def layer_at(self, depth: float) -> tuple[str, int]:
        """Return the name of the last stack, and the number of its layer at a relative depth from 0 to 1."""
        prefix, layers = self.backbone.stacks[-1]
        return prefix, min(int(depth * len(layers)), len(layers) - 1)

    # -- size and state

    @abstractmethod
    def size(self) -> Size:
        """Return the size of all edits so far, without calibration and the like."""

    def blocks(self) -> dict[str, Any]:
        """Return what carries each edit, by id: edits with equal values are answered by the same weights."""
        return {name: name for name in self.edits}

    def details(self) -> dict[str, Any]:
        """Return what a result should say of the method beside its figures, JSON-ready."""
        return {}

    def checkpoint(self) -> dict[str, Any]:
        """Write the state to ``folder``; return JSON-ready values from which ``restore`` finds it."""
        return {}

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Bring back the state of a checkpoint, whatever happened since.

        Args:
            noted: what ``checkpoint`` returned.
            edits: the edits that the checkpoint covers, in their order.
        """
        self.edits = {edit.id: self.backbone.as_written(edit) for edit in edits}

    def close(self) -> None:
        """Take the method off the model, which is then as it was given."""
        self.reset()
