"""Check that every stored edit still holds, and find edits whose scopes overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..results import Broken, Check
from ..types import Progress
from .answering import Answerer

if TYPE_CHECKING:
    from .engine import Engine


def check_store(engine: Engine, batch_size: int, progress: Progress | None, sample: int | None = None) -> Check:
    """Ask every enabled edit again, in every wording and form, and compare answer and target after strip.

    With a ``sample`` only so many of them, spread evenly over all.
    """
    backbone, store, policy = engine.backbone, engine.store, engine.policy
    enabled = [stored.edit for stored in store.edits() if stored.enabled]
    if sample is not None and sample < len(enabled):
        enabled = [enabled[place * len(enabled) // sample] for place in range(sample)]
    asked = [(edit, prompt, form) for edit in enabled for prompt in edit.prompts for form in policy.forms(prompt)]
    targets = [backbone.encode_target(edit.target, form) for edit, _, form in asked]
    longest = max(map(len, targets), default=1) + 1  # room to stop, or to go on where it should have stopped
    prompts, encoded = [prompt for _, prompt, _ in asked], [form for _, _, form in asked]
    answers = Answerer(engine, batch_size, progress).answer_encoded(prompts, encoded, {"max_new_tokens": longest})
    broken = [
        Broken(edit.id, prompt, edit.target, answer.text, answer.route, form.form)
        for (edit, prompt, form), answer, target in zip(asked, answers, targets, strict=True)
        if answer.text != backbone.text_of(target)
    ]
    pairs = {(edit.id, other) for edit in enabled for other in engine.neighbours(edit.id).overlaps}
    overlaps = sorted({(min(pair), max(pair)) for pair in pairs})
    return Check(len(enabled), broken, overlaps, store.verify())
