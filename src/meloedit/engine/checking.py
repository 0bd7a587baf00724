"""Check that every stored edit still holds, and find edits whose scopes overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ModelError
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
    problems = store.verify()
    try:
        check_weights(engine)
    except ModelError as error:
        problems = [*problems, str(error)]
    return Check(len(enabled), broken, overlaps, problems)


def check_weights(engine: Engine) -> None:
    """Look whether the base model is still the one that the store was made for; it takes milliseconds.

    Nothing else notices if its weights change, or an adapter is put into it, while an editor is on it. Weights that are
    offloaded are not looked at: to read them takes long.

    Raises:
        ModelError: if it is not.
    """
    if any(weight.is_meta for weight in engine.backbone.model.parameters()):
        return
    if (now := engine.backbone.fingerprint()) != (made := engine.store.model["fingerprint"]):
        raise ModelError(
            f"the model's weights have changed under the editor (fingerprint {made}, now {now}): put them back as they "
            "were, or unload the editor and make a store for the new ones"
        )
