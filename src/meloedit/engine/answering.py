"""Answerer: answers with their routes. Below it, what every editing method generates with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from ..backbones.batch import Batch, Example
from ..backbones.contexts import frozen
from ..callers.arguments import shown
from ..errors import EditError, MeloEditError
from ..results import Answer
from ..text import plain, shorten
from ..types import Form, Progress, Prompt

if TYPE_CHECKING:
    from ..backbones import Backbone
    from ..backbones.batch import Encoded
    from .engine import Engine

MAX_NEW_TOKENS = 32
Answered = tuple[list[int], list[tuple[str, int]]]
"""The numbers of some prompts, and the answer to each with its number of tokens."""


class Answerer:
    """Asks the edited model.

    Args:
        engine: the model and its store.
        batch_size: prompts per call of ``generate``.
        progress: told how many prompts are done.

    Raises:
        EditError: if the batch size is no positive integer.
    """

    def __init__(self, engine: Engine, batch_size: int = 32, progress: Progress | None = None) -> None:
        if batch_size < 1:
            raise EditError(f"batch_size must be a positive integer, not {batch_size!r}")
        engine.keep_up()
        self._engine, self._batch_size, self._progress = engine, batch_size, progress

    def answer(self, prompts: Sequence[Prompt], form: Form | None, kwargs: Mapping[str, Any]) -> list[Answer]:
        """Answer prompts in a form; ``kwargs`` go to ``generate``."""
        encoded = [self._engine.backbone.encode(prompt, form) for prompt in prompts]
        return self.answer_encoded(prompts, encoded, kwargs)

    def answer_encoded(
        self, prompts: Sequence[Prompt], encoded: Sequence[Encoded], kwargs: Mapping[str, Any]
    ) -> list[Answer]:
        """Answer tokenised prompts in batches of similar length."""
        engine = self._engine
        if unfit := sorted({"num_return_sequences", "return_dict_in_generate"} & set(kwargs)):
            raise EditError(
                f"ask() gives one answer per prompt and no tensors: leave out {unfit[0]}, or use model.generate()"
            )
        settings = greedy(engine.backbone) | dict(kwargs)
        answers: dict[int, Answer] = {}
        batches = generate_in_batches(engine.backbone, encoded, self._batch_size, settings)
        while (batch := self._next(batches, kwargs)) is not None:
            part, generated = batch
            routes = engine.router.last_routes or [engine.policy.no_route] * len(part)
            for i, (text, tokens), route in zip(part, generated, routes, strict=True):
                answers[i] = Answer(prompts[i], text, route, tokens)
            if self._progress:
                self._progress("asking", len(answers), len(encoded))
        return [answers[i] for i in range(len(encoded))]

    def _next(self, batches: Iterator[Answered], kwargs: Mapping[str, Any]) -> Answered | None:
        with arguments_of_generate(kwargs):
            return next(batches, None)


@contextmanager
def arguments_of_generate(given: Iterable[str]) -> Iterator[None]:
    """Turn what transformers raises about the arguments of ``generate`` into one line; without any, nothing is caught.

    Args:
        given: the names of the arguments that the caller gave.
    """
    try:
        yield
    except (MeloEditError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers and torch raise many kinds
        if not (names := [shown(name) if not isinstance(name, str) else plain(name) for name in given]):
            raise
        why = shorten(str(error), 200) or type(error).__name__
        raise EditError(f"generate cannot run with these arguments ({', '.join(names)}): {why}") from error


def greedy(backbone: Backbone) -> dict[str, Any]:
    """Return the settings of ``generate`` unless a caller wants others."""
    return {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, "pad_token_id": backbone.pad_id}


def generate_in_batches(
    backbone: Backbone,
    encoded: Sequence[Encoded],
    batch_size: int,
    settings: Mapping[str, Any],
    around: Callable[[Batch], AbstractContextManager[object]] = nullcontext,
) -> Iterator[Answered]:
    """Answer tokenised prompts in batches of similar length, each inside of ``around(batch)``.

    Yields:
        The numbers of a batch's prompts, and per prompt the answer and how many tokens it has.
    """
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        batch = backbone.pad([Example.of(encoded[i]) for i in part])
        with torch.no_grad(), frozen(backbone.model), around(batch):  # without dropout, whatever the model is set to
            generated = backbone.answer(batch, settings)
        yield part, generated
