"""Answers with their routes, and the check that every edit still holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from ..backbones.batch import Batch, Example
from ..backbones.contexts import frozen
from ..edit import prompt_text
from ..errors import EditError
from ..results import Answer
from ..types import Progress, Prompt

if TYPE_CHECKING:
    from ..backbones import Backbone
    from ..backbones.batch import Encoded
    from ..types import Form
    from .live import Live

MAX_NEW_TOKENS = 32


def generate_answers(
    live: Live,
    prompts: Sequence[Prompt],
    form: Form | None,
    batch_size: int,
    progress: Progress | None,
    kwargs: Mapping[str, Any],
) -> list[Answer]:
    """Answer prompts in batches of similar length."""
    return answer_encoded(live, prompts, [live.backbone.encode(p, form) for p in prompts], batch_size, progress, kwargs)


def answer_encoded(
    live: Live,
    prompts: Sequence[Prompt],
    encoded: Sequence[Encoded],
    batch_size: int,
    progress: Progress | None,
    kwargs: Mapping[str, Any],
) -> list[Answer]:
    """Answer tokenised prompts in batches of similar length."""
    backbone = live.backbone
    if not isinstance(batch_size, int) or batch_size < 1:
        raise EditError(f"batch_size must be a positive integer, not {batch_size!r}")
    if unfit := sorted({"num_return_sequences", "return_dict_in_generate"} & set(kwargs)):
        raise EditError(
            f"ask() gives one answer per prompt and no tensors: leave out {unfit[0]}, or use model.generate()"
        )
    settings = greedy(backbone) | dict(kwargs)
    answers: dict[int, Answer] = {}
    for part, said in said_in_batches(backbone, encoded, batch_size, settings):
        routes = live.router.last_routes or [live.no_route] * len(part)
        for i, (text, tokens), route in zip(part, said, routes, strict=True):
            answers[i] = Answer(prompts[i], text, route, tokens)
        if progress:
            progress("asking", len(answers), len(encoded))
    return [answers[i] for i in range(len(encoded))]


def greedy(backbone: Backbone) -> dict[str, Any]:
    """Return what ``generate`` is given unless something else is wanted."""
    return {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, "pad_token_id": backbone.pad_id}


def said_in_batches(
    backbone: Backbone,
    encoded: Sequence[Encoded],
    batch_size: int,
    settings: Mapping[str, Any],
    around: Callable[[Batch], AbstractContextManager[object]] = nullcontext,
) -> Iterator[tuple[list[int], list[tuple[str, int]]]]:
    """Answer tokenised prompts in batches of similar length, each inside of ``around(batch)``.

    Yields:
        The numbers of a batch's prompts, and per prompt the answer and how many tokens it has.
    """
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        batch = backbone.batch([Example.of(encoded[i]) for i in part])
        with torch.no_grad(), frozen(backbone.model), around(batch):  # without dropout, whatever the model is set to
            said = backbone.answer(batch, settings)
        yield part, said


def short(prompt: Prompt, width: int = 60) -> str:
    """Return the user's words in one line of at most ``width`` characters."""
    text = " ".join(prompt_text(prompt).split())
    return text if len(text) <= width else text[: width - 1] + "…"
