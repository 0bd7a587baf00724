"""Still answered: removed edits whose prompts a neighbour with the same target may answer from now on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..edit import Edit
    from ..store import Store


def still_answered(store: Store, removed: Sequence[Edit]) -> list[tuple[str, str]]:
    """Return pairs of ids: a removed edit, and an enabled one with its target that the judge takes for the same.

    The judge reads their texts; the model is not needed, and without a neighbour of the same target neither is torch.
    """
    live = [stored.edit for stored in store.edits() if stored.enabled]
    by_target: dict[str, list[Edit]] = {}
    for edit in live:
        by_target.setdefault(_folded(edit.target), []).append(edit)
    near = [(edit, other) for edit in removed for other in by_target.get(_folded(edit.target), [])]
    settings = {**store.config, **store.calibration_info()}
    if not near or settings.get("judge") in (None, "none") or settings.get("mode") == "paper":
        return []
    import torch

    from ..routing.verifier import Candidate, JudgeInUse, Wordings, asked

    judging = JudgeInUse(torch.device("cpu"), lambda number: Wordings.of(near[number][1]))
    judging.take(settings["judge"])
    verifier = judging.verifier
    assert verifier is not None
    scored = verifier.score([asked(edit.prompt) for edit, _ in near], [[Candidate(i, 0.0)] for i in range(len(near))])
    least = verifier.judge.least_score(settings["false_neighbour"])
    return [
        (edit.id, other.id)
        for (edit, other), (one,) in zip(near, scored, strict=True)
        if one.score > least and not one.silenced
    ]


def _folded(target: str) -> str:
    return " ".join(target.casefold().split())
