"""Ask every stored edit again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..results import Broken, Check
from ..types import Progress

if TYPE_CHECKING:
    from .live import Live
from .answering import answer_encoded


def check_edits(live: Live, batch_size: int, progress: Progress | None) -> Check:
    """Ask every enabled edit again, in every wording and form, and compare answer and target after strip."""
    enabled = [stored.edit for stored in live.store.edits() if stored.enabled]
    asked = [
        (edit, prompt, form) for edit in enabled for prompt in edit.prompts for form in live.backbone.forms(prompt)
    ]
    targets = [live.backbone.encode_target(edit.target, form) for edit, _, form in asked]
    longest = max(map(len, targets), default=1) + 1  # room to stop, or to go on where it should have stopped
    prompts, encoded = [prompt for _, prompt, _ in asked], [form for _, _, form in asked]
    answers = answer_encoded(live, prompts, encoded, batch_size, progress, {"max_new_tokens": longest})
    broken = [
        Broken(edit.id, prompt, edit.target, answer.text, answer.route, form.form)
        for (edit, prompt, form), answer, target in zip(asked, answers, targets, strict=True)
        if answer.text != live.backbone.text_of(target)
    ]
    pairs = {tuple(sorted((edit.id, other))) for edit in enabled for other in live.neighbours(edit.id)[2]}
    return Check(len(enabled), broken, sorted(pairs), live.store.verify())  # type: ignore[arg-type]
