"""What an editing method must do to be scored: edit a batch, answer, give logits, remove where it can, say its size."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ..backbones import open_backbone
from ..backbones.batch import Example
from ..backbones.contexts import frozen, run_once
from ..engine.answering import greedy, said_in_batches
from ..errors import EditError, MeloEditError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..backbones.batch import Batch, Encoded
    from ..edit import Edit
    from ..results import Route
    from ..types import Progress, Prompt


@dataclass(frozen=True)
class Said:
    """An answer, and how its prompt was routed by a method that routes."""

    text: str
    route: Route | None = None


@dataclass(frozen=True)
class Size:
    """What edits add to a model: numbers that are stored, and their bytes."""

    parameters: int
    nbytes: int


@dataclass(frozen=True)
class Settings:
    """A method's settings; each method has its own subclass.

    Attributes:
        together: how many edits it is given at once.
        seed: what its random numbers depend on.
    """

    free: ClassVar[tuple[str, ...]] = ("seed",)
    """Numbers that need not be positive."""
    fixed: ClassVar[tuple[str, ...]] = ()
    """Settings that a method has but that cannot be chosen."""
    together: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            whole = isinstance(item.default, int) and not isinstance(item.default, bool)
            if whole and (not isinstance(value, int) or isinstance(value, bool)):
                raise MeloEditError(f"{item.name} must be a whole number, not {value!r}")
            if isinstance(item.default, bool) and not isinstance(value, bool):
                raise MeloEditError(f"{item.name} must be true or false, not {value!r}")
            if isinstance(item.default, float) and (not isinstance(value, (int, float)) or isinstance(value, bool)):
                raise MeloEditError(f"{item.name} must be a number, not {value!r}")
            if isinstance(item.default, str) and not isinstance(value, str):
                raise MeloEditError(f"{item.name} must be a text, not {value!r}")
            number = whole or isinstance(item.default, float)
            if number and not (-math.inf < value < math.inf and (value > 0 or item.name in self.free)):
                raise MeloEditError(f"{item.name} must be positive and finite, not {value!r}")


class Method(ABC):
    """One way to edit a model. It owns the model it is given until ``close``, which gives the model back unedited.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        settings: values that differ from the defaults of ``Settings``.
        folder: where its state is kept between ``checkpoint`` and ``restore``.

    Attributes:
        name: by which it is asked for.
        Settings: its settings.
        routes: whether it decides per prompt if an edit answers.
        removes: whether single edits can be removed.
        unfit: kinds of task that it cannot serve, each with the reason.

    Raises:
        MeloEditError: if a setting is unknown or does not fit the model.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Settings]] = Settings
    routes: ClassVar[bool] = False
    removes: ClassVar[bool] = False
    unfit: ClassVar[Mapping[str, str]] = {}

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
        self.folder = Path(folder) if folder is not None else None
        self.edits: dict[str, Edit] = {}

    @classmethod
    def read_settings(cls, given: Mapping[str, Any]) -> Any:
        """Return settings, the defaults where nothing is given.

        Raises:
            MeloEditError: if there is no such setting, or its value is of the wrong kind.
        """
        known = [item.name for item in dataclasses.fields(cls.Settings)]
        if unknown := sorted(set(given) - set(known)):
            free = ", ".join(name for name in known if name not in cls.Settings.fixed)
            raise MeloEditError(f"method {cls.name} has no setting {unknown[0]!r}; it has: {free}")
        try:
            return cls.Settings(**given)
        except MeloEditError as error:
            raise MeloEditError(f"method {cls.name}: {error}") from None

    @classmethod
    def check_task(cls, task: str, kind: str) -> None:
        """Raise a MeloEditError if the method cannot serve a task of this kind."""
        if kind in cls.unfit:
            raise MeloEditError(f"method {cls.name} cannot serve task {task}: {cls.unfit[kind]}")

    def check(self) -> None:  # noqa: B027
        """Raise a MeloEditError if the settings do not fit the model, where that was not found out already."""

    # -- editing

    def edit(self, edits: Sequence[Edit]) -> None:
        """Make edits, given at once."""
        named = [self.backbone.named(edit) for edit in edits]
        self._edit(named)
        self.edits |= {edit.id: edit for edit in named}

    def prepare(self, documents: Sequence[str]) -> None:  # noqa: B027
        """Do what comes before the first edit; ``documents`` are texts that no edit should answer, if there are any."""

    @abstractmethod
    def _edit(self, edits: Sequence[Edit]) -> None: ...

    def remove(self, ids: Sequence[str]) -> None:
        """Remove edits.

        Raises:
            EditError: if there are no such edits, or the method cannot remove any.
        """
        if not self.removes:
            raise EditError(f"method {self.name} cannot remove an edit: all of them share the same weights")
        if missing := [name for name in ids if name not in self.edits]:
            raise EditError(f"method {self.name} has no edit {missing[0]!r}")
        self._remove(ids)
        self.edits = {name: edit for name, edit in self.edits.items() if name not in ids}

    def _remove(self, ids: Sequence[str]) -> None:
        raise NotImplementedError

    def reset(self) -> None:
        """Forget all edits: the model is as it was given."""
        self._reset()
        self.edits = {}

    @abstractmethod
    def _reset(self) -> None: ...

    # -- answering

    def answer(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int = 20,
        batch_size: int = 32,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[Said]:
        """Answer prompts greedily, until the model stops by itself or has said ``max_new_tokens``.

        Args:
            prompts: the prompts.
            max_new_tokens: most tokens of an answer.
            batch_size: prompts per call of ``generate``.
            progress: told how many prompts are done.
            kwargs: passed to ``generate``.
        """
        encoded = self.encode(prompts)
        settings = greedy(self.backbone) | {"max_new_tokens": max_new_tokens} | kwargs
        said: dict[int, Said] = {}
        for part, answers in said_in_batches(self.backbone, encoded, batch_size, settings, self.answering):
            for i, (text, _), route in zip(part, answers, self.routed(part), strict=True):
                said[i] = Said(self.finish(text, route), route)
            if progress:
                progress("asking", len(said), len(prompts))
        return [said[i] for i in range(len(prompts))]

    def encode(self, prompts: Sequence[Prompt]) -> list[Encoded]:
        """Return prompts as tokens, as the method has the model read them."""
        return [self.backbone.encode(prompt) for prompt in prompts]

    def answering(self, batch: Batch) -> AbstractContextManager[object]:
        """Surround the call of ``generate`` on a batch."""
        return nullcontext()

    def routed(self, part: Sequence[int]) -> list[Route | None]:
        """Return how the prompts of the last call were routed, of which these are the numbers in ``encode``."""
        return [None] * len(part)

    def finish(self, text: str, route: Route | None) -> str:
        """Return the answer that a generated text holds, of a prompt that was routed like this.

        Where the answer is to be the unedited model's, this is done to that one too before the two are compared.
        """
        return text

    def logits(self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return per prompt the logits (T, vocabulary) that predict the T tokens of its target, in one batch.

        How a prompt is routed depends on the prompt alone, as in ``answer``.
        """
        rows = [Example.of(encoded, target) for encoded, target in zip(self.encode(prompts), targets, strict=True)]
        with torch.no_grad(), frozen(self.model), self.reading(rows):
            return self.backbone.target_logits(rows)

    def route(self, prompts: Sequence[Prompt], batch_size: int = 32) -> list[Route | None]:
        """Return how prompts are routed, without answers."""
        routes: dict[int, Route | None] = {}
        order = sorted(range(len(prompts)), key=lambda i: len(str(prompts[i])))
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            self.logits([prompts[i] for i in part], [[0]] * len(part))
            routes |= dict(zip(part, self.routed(range(len(part))), strict=True))
        return [routes[i] for i in range(len(prompts))]

    def reading(self, rows: Sequence[Example]) -> AbstractContextManager[object]:
        """Tell hooks where the prompts of the rows end, for plain calls of the model."""
        return nullcontext()

    # -- what it is and keeps

    @abstractmethod
    def size(self) -> Size:
        """Return what the edits made so far take, calibration and the like left out."""

    def blocks(self) -> dict[str, Any]:
        """Return what carries each edit: two edits of one block are answered by the same weights."""
        return {name: name for name in self.edits}

    def checkpoint(self) -> dict[str, Any]:
        """Write the state to ``folder``; return what ``restore`` needs to find it again."""
        return {}

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Bring back the state of a checkpoint, at which ``edits`` were made."""
        self.edits = {edit.id: self.backbone.named(edit) for edit in edits}

    def close(self) -> None:
        """Give the model back as it was."""
        self.reset()

    # -- for subclasses

    def rows(self, edits: Sequence[Edit]) -> list[Example]:
        """Return the tokens of edits: the prompt in each wording, and the target with the token that ends it."""
        pairs = [(self.backbone.encode(prompt), edit.target) for edit in edits for prompt in edit.prompts]
        return [Example.of(encoded, self.backbone.encode_target(target, encoded)) for encoded, target in pairs]

    def below_once(self, name: str) -> AbstractContextManager[None]:
        """Run the layers below the one that a module is in once for many passes over the same rows."""
        stack, at = self.backbone.place_of(name)
        stacks = [layers for _, layers in self.backbone.stacks[: stack + 1]]
        return run_once([layer for layers in stacks[:-1] for layer in layers] + list(stacks[-1][:at]))

    def loss(self, rows: Sequence[Example]) -> Tensor:
        """Return the mean over rows of the mean cross-entropy of the row's target tokens, in nats."""
        losses = [
            torch.nn.functional.cross_entropy(logits.float(), torch.tensor(row.target, device=logits.device))
            for logits, row in zip(self.backbone.target_logits(rows), rows, strict=True)
        ]
        return torch.stack(losses).mean()


@contextmanager
def only_trains(model: PreTrainedModel, weights: Sequence[Tensor]) -> Iterator[None]:
    """Let gradients reach these weights alone, without dropout in the base model."""
    with frozen(model), torch.enable_grad():
        for weight in weights:
            weight.requires_grad_(True)
        try:
            yield
        finally:
            for weight in weights:
                weight.requires_grad_(False)
                weight.grad = None
