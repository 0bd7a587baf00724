"""What a method does with prompts, beside what the unedited model does: one observation, JSON-ready, for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .prompts import Ask, reference_ids, target_ids

if TYPE_CHECKING:
    from ...methods.base import Method, MethodAnswer

Observation = dict[str, Any]
AT_ONCE = 8
"""Prompts whose logits are held at once: a vocabulary's are large."""


def answered(text: str, answers: Sequence[str]) -> bool:
    """Return whether a text is the first answer, or one of several but for case; ends are stripped."""
    if len(answers) == 1:
        return text.strip() == answers[0].strip()
    return text.strip().casefold() in {answer.strip().casefold() for answer in answers}


def observe(
    method: Method,
    base: Method,
    asks: Sequence[Ask],
    said: Mapping[int, str],
    longest: int,
    generate: bool = True,
    likelihood: bool = False,
) -> list[Observation]:
    """Ask a method, and compare it with the unedited model where that is what is wanted.

    Args:
        method: the method, with its edits made.
        base: the unedited model.
        asks: what to ask.
        said: what the unedited model answers, by the number of the ask; for those with ``kept`` and no answers.
        longest: most tokens of an answer.
        generate: whether answers are generated.
        likelihood: whether targets are scored by their logits; those of asks with ``kept`` always are.
    """
    rows = [_blank(ask, said.get(i)) for i, ask in enumerate(asks)]
    if generate:
        for row, ask, answer in zip(rows, asks, method.answer([a.prompt for a in asks], longest), strict=True):
            _answer(row, ask, answer, method)
    scored = [i for i, ask in enumerate(asks) if ask.kept or likelihood]
    _score(method, base, asks, scored, rows)
    if method.routes and not generate:
        _route(method, asks, rows)
    blocks = method.blocks() if method.routes else {}
    for row, ask in zip(rows, asks, strict=True):
        if method.routes:
            row["routed"] = _routed(ask, row["route"], blocks)
    return rows


def _blank(ask: Ask, said: str | None) -> Observation:
    from ...edit import prompt_text

    row: Observation = {"set": ask.set, "item": ask.item, "k": ask.k, "prompt": prompt_text(ask.prompt)}
    row |= {"wanted": ask.answers[0] if ask.answers else said, "answer": None, "base": said, "right": None}
    row |= {"route": None, "routed": None, "distance": None, "threshold": None, "kl": None, "identical": None}
    return row | {"agreed": None, "nll": None, "tokens": None, "kind": ask.kind}


def _answer(row: Observation, ask: Ask, answer: MethodAnswer, method: Method) -> None:
    row["answer"] = answer.text
    if ask.answers:
        row["right"] = answered(answer.text, ask.answers)
    else:  # a method that cuts its answers to a line is held to the first line of the unedited model's
        row["wanted"] = method.finish(row["base"] or "", answer.route)
        row["right"] = answer.text == row["wanted"]
    if answer.route is not None:
        row |= {name: getattr(answer.route, own) for name, own in _ROUTE.items()}


_ROUTE = {"route": "edit", "distance": "distance", "threshold": "threshold"}


def _score(method: Method, base: Method, asks: Sequence[Ask], scored: Sequence[int], rows: list[Observation]) -> None:
    """Score references by likelihood: the target where there is one, else what the base model said."""
    backbone = base.backbone
    lengths: dict[int, int] = {}
    targets: dict[int, list[int]] = {}
    for i in scored:
        encoded, wanted = backbone.encode(asks[i].prompt), asks[i].answers
        said = rows[i]["base"] or ""
        targets[i] = target_ids(backbone, encoded, wanted[0]) if wanted else reference_ids(backbone, encoded, said)
        lengths[i] = len(encoded.ids) + len(targets[i])
    order = sorted(lengths, key=lambda i: (lengths[i], i))
    for start in range(0, len(order), AT_ONCE):
        part = order[start : start + AT_ONCE]
        prompts, wanted_ids = [asks[i].prompt for i in part], [targets[i] for i in part]
        own, plain = method.logits(prompts, wanted_ids), base.logits(prompts, wanted_ids)
        for i, edited, unedited in zip(part, own, plain, strict=True):
            rows[i] |= compared(edited, unedited, targets[i], asks[i].kept)


def compared(edited: Tensor, base: Tensor, target: Sequence[int], kept: bool) -> dict[str, Any]:
    """Return what logits (T, vocabulary) say of a target's T tokens, and how they differ from the base model's.

    ``agreed`` is the share of tokens whose argmax is the target's, or the base model's if that is to be kept; ``nll``
    the sum of the tokens' negative log-likelihoods in nats; ``kl`` the mean over tokens of KL(base || edited) in nats.
    """
    ids = torch.tensor(target, device=edited.device)
    told = edited.double().log_softmax(-1)
    result: dict[str, Any] = {"nll": -float(told.gather(-1, ids[:, None]).sum()), "tokens": len(target)}
    wanted = base.argmax(-1) if kept else ids
    result["agreed"] = float((edited.argmax(-1) == wanted).double().mean())
    if kept:
        result["identical"] = torch.equal(edited, base)
        plain = base.double().log_softmax(-1)
        # rounding can make a divergence of next to nothing negative
        result["kl"] = max(0.0, float((plain.exp() * (plain - told)).sum(-1).mean()))
    return result


def _route(method: Method, asks: Sequence[Ask], rows: list[Observation]) -> None:
    for row, route in zip(rows, method.route([ask.prompt for ask in asks]), strict=True):
        if route is not None:
            row |= {name: getattr(route, own) for name, own in _ROUTE.items()}


def _routed(ask: Ask, route: str | None, blocks: Mapping[str, Any]) -> str:
    """Return whether a prompt reached the block of its own edit, another one, or none."""
    if route is None:
        return "none"
    own = blocks.get(ask.edit) if ask.edit else None
    return "right" if own is not None and blocks.get(route) == own else "wrong"
