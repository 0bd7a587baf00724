"""Observing a method: its answers, likelihoods and routes, beside the unedited model's, one observation a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import torch
from torch import Tensor

from ...methods.base import MethodAnswer
from ..metrics.estimates import exact
from ..metrics.portability import contains
from .prompts import EvalPrompt, reference_ids, target_ids

if TYPE_CHECKING:
    from ...methods.base import Method
    from ...results import Route
    from ..metrics.observation import Observation

LOGITS_AT_ONCE = 8
"""Prompts whose logits are in memory at once: each has a row of the vocabulary's size for every token."""


class Comparison(TypedDict, total=False):
    """Keys of an observation that logits give; see ``Observation``."""

    nll: float
    tokens: int
    agreed: float
    identical: bool
    kl: float


def is_right(text: str, answers: Sequence[str]) -> bool:
    """Return whether a text is the one answer, or, but for case, any of several; white space at ends is ignored."""
    if len(answers) == 1:
        return exact(text, answers[0])
    return text.strip().casefold() in {answer.strip().casefold() for answer in answers}


def observe(
    method: Method,
    base: Method,
    prompts: Sequence[EvalPrompt],
    base_answers: Mapping[int, str],
    max_tokens: int,
    generate: bool = True,
    likelihood: bool = False,
) -> list[Observation]:
    """Let a method answer prompts, and compare it with the unedited model.

    Args:
        method: the method, with its edits.
        base: the unedited model.
        prompts: the prompts.
        base_answers: the unedited model's answers by number of the prompt, for prompts without answers that no edit
            concerns.
        max_tokens: most tokens of an answer.
        generate: whether answers are generated.
        likelihood: whether targets of all prompts are scored by their logits. Prompts that no edit concerns always are.
    """
    rows = [_blank(prompt, base_answers.get(i)) for i, prompt in enumerate(prompts)]
    if generate:
        answers = _answers(method, prompts, base_answers, max_tokens)
        for row, prompt, answer in zip(rows, prompts, answers, strict=True):
            note_answer(row, prompt, answer, method)
    scored = [i for i, prompt in enumerate(prompts) if prompt.unedited or likelihood]
    _score(method, base, prompts, scored, rows)
    if not method.routes:
        return rows
    if not generate:
        for row, route in zip(rows, method.route([prompt.prompt for prompt in prompts]), strict=True):
            _note_route(row, route)
    blocks = method.blocks()
    for row, prompt in zip(rows, prompts, strict=True):
        row["routed"] = _routed(prompt, row["route"], blocks)
    return rows


def _answers(
    method: Method, prompts: Sequence[EvalPrompt], base_answers: Mapping[int, str], max_tokens: int
) -> list[MethodAnswer]:
    """Return a method's answers; the unedited model is not asked again what it was asked already."""
    known = [text for i in range(len(prompts)) if (text := base_answers.get(i)) is not None]
    if method.name == "none" and len(known) == len(prompts):
        return [MethodAnswer(text) for text in known]
    return method.answer([prompt.prompt for prompt in prompts], max_tokens)


def _blank(prompt: EvalPrompt, base_answer: str | None) -> Observation:
    wanted = prompt.answers[0] if prompt.answers else base_answer
    unmeasured = dict.fromkeys(("answer", "right", "kl", "identical", "agreed", "nll", "tokens"))
    return prompt.observation(wanted, base=base_answer, **unmeasured)


def note_answer(row: Observation, prompt: EvalPrompt, answer: MethodAnswer, method: Method) -> None:
    """Write an answer and its route into an observation, and whether the answer is right.

    A method may cut its answers (``finish``); the unedited model's answer is cut alike before it is compared.
    """
    row["answer"] = answer.text
    if prompt.answers:
        row["right"] = is_right(answer.text, prompt.answers)
    else:
        row["wanted"] = method.finish(row["base"] or "", answer.route)
        row["right"] = answer.text == row["wanted"]
    if prompt.set == "portability":
        row["contained"] = contains(answer.text, prompt.answers)
        if prompt.before and (base := row["base"]) is not None:
            row["before"], row["contained_before"] = is_right(base, prompt.before), contains(base, prompt.before)
    _note_route(row, answer.route)


def _note_route(row: Observation, route: Route | None) -> None:
    if route is not None:
        row["route"], row["distance"], row["threshold"] = route.edit, route.distance, route.threshold


def _score(
    method: Method, base: Method, prompts: Sequence[EvalPrompt], scored: Sequence[int], rows: list[Observation]
) -> None:
    """Score references by likelihood: the target where there is one, else the base model's answer."""
    backbone = base.backbone
    lengths: dict[int, int] = {}
    references: dict[int, list[int]] = {}
    for i in scored:
        encoded, answers = backbone.encode(prompts[i].prompt), prompts[i].answers
        base_answer = rows[i]["base"] or ""
        references[i] = (
            target_ids(backbone, encoded, answers[0]) if answers else reference_ids(backbone, encoded, base_answer)
        )
        lengths[i] = len(encoded.ids) + len(references[i])
    order = sorted(lengths, key=lambda i: (lengths[i], i))
    for start in range(0, len(order), LOGITS_AT_ONCE):
        part = order[start : start + LOGITS_AT_ONCE]
        texts, ids = [prompts[i].prompt for i in part], [references[i] for i in part]
        edited, unedited = method.logits(texts, ids), base.logits(texts, ids)
        for i, of_method, of_base in zip(part, edited, unedited, strict=True):
            rows[i].update(compare_logits(of_method, of_base, references[i], prompts[i].unedited))  # type: ignore[typeddict-item]


def compare_logits(edited: Tensor, base: Tensor, reference: Sequence[int], unedited: bool) -> Comparison:
    """Score a reference of T tokens by logits, and compare them with the base model's.

    Args:
        edited: the method's logits (T, vocabulary).
        base: the base model's logits (T, vocabulary).
        reference: token ids (T).
        unedited: whether the base model's behaviour is right. Then ``agreed`` is the share of tokens with the base
            model's argmax (otherwise with the reference as argmax), and ``identical`` and ``kl`` are measured.

    Returns:
        Keys of ``Observation``.
    """
    ids = torch.tensor(reference, device=edited.device)
    log_probs = edited.double().log_softmax(-1)
    result: Comparison = {"nll": -float(log_probs.gather(-1, ids[:, None]).sum()), "tokens": len(reference)}
    wanted = base.argmax(-1) if unedited else ids
    result["agreed"] = float((edited.argmax(-1) == wanted).double().mean())
    if unedited:
        result["identical"] = torch.equal(edited, base)
        base_log_probs = base.double().log_softmax(-1)
        # rounding can make a tiny divergence negative
        result["kl"] = max(0.0, float((base_log_probs.exp() * (base_log_probs - log_probs)).sum(-1).mean()))
    return result


def _routed(prompt: EvalPrompt, route: str | None, blocks: Mapping[str, Any]) -> Literal["right", "wrong", "none"]:
    """Return whether a prompt reached the block of its edit, another one, or none."""
    if route is None:
        return "none"
    block = blocks.get(prompt.edit) if prompt.edit else None
    return "right" if block is not None and blocks.get(route) == block else "wrong"
