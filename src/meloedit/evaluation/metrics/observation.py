"""The observation: what a run notes of one prompt, one JSON line of ``observations/METHOD.jsonl``."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

LONGEST = 1_000_000
"""Bytes of an observation in a file, at most: a row is a prompt and an answer or two."""


class Observation(TypedDict):
    """What a run notes of one prompt and one method. Keys that were not measured are None, or absent.

    Always present:
        set: what the prompt is for (``edits``, ``rephrases``, ``chats``, ``near``, ``far``, ...).
        item: number of the item, or of the prompt in its set; the forms of one far question share it.
        k: number among the item's prompts of this set.
        prompt: the prompt's text.
        kind: where a far prompt comes from; of what kind a rephrasing, near prompt, chat or question that follows is.
        wanted: the answer that counts as right; where routes alone are measured, the id of the edit to reach.
        route: id of the edit that answered.
        routed: whether that is the block of the prompt's edit, another one, or none.
        distance: distance to the nearest edit's key.
        threshold: distance below which that edit answers.

    Where the file says it:
        lang: the language of the prompt.

    Of answers:
        answer: what the method answered.
        base: what the unedited model answers.
        right: whether the answer is the wanted one.
        kl: mean KL divergence (unedited, edited) in nats over the reference's tokens.
        identical: whether all logits are bit-identical to the unedited model's.
        agreed: share of the reference's tokens that argmax gives.
        nll: sum of the reference's negative log-likelihoods in nats.
        tokens: number of the reference's tokens.

    Of answers to questions that follow from an edit:
        contained: whether a right answer occurs in what the method answered.
        before: whether the unedited model's answer is the one that was right before the edit, if the file says which.
        contained_before: whether that one occurs in it.

    Where routes alone are measured:
        nearest: id of the nearest edit, whatever its distance.
    """

    set: str
    item: int
    k: int
    prompt: str
    kind: str | None
    wanted: str | None
    route: str | None
    routed: Literal["right", "wrong", "none"] | None
    distance: float | None
    threshold: float | None
    lang: NotRequired[str]
    answer: NotRequired[str | None]
    base: NotRequired[str | None]
    right: NotRequired[bool | None]
    kl: NotRequired[float | None]
    identical: NotRequired[bool | None]
    agreed: NotRequired[float | None]
    nll: NotRequired[float | None]
    tokens: NotRequired[int | None]
    contained: NotRequired[bool | None]
    before: NotRequired[bool | None]
    contained_before: NotRequired[bool | None]
    nearest: NotRequired[str | None]


def problem(row: Any) -> str | None:
    """Return what keeps a value that was read from a file from being an observation, in words; ``None`` if it is one.

    Figures may be NaN, or none at all: a method that diverged has such.
    """
    if not isinstance(row, dict) or not isinstance(row.get("set"), str):
        return "no observation, which is a JSON object with a set"
    for key in ("item", "k"):
        if not isinstance(row.get(key), (int, type(None))):
            return f"{key} is no whole number"
    return None
