"""Amender: an operator's word on the scope of a stored edit. Nothing is trained: wordings and quiet prompts change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..edit import Edit, prompt_key, prompt_list, quoted
from ..engine.checking import check_weights
from ..errors import EditError

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..routing.policy import KeyTensors
    from ..types import Prompt


class Amender:
    """Amends edits.

    Args:
        engine: the model and its store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def quiet(self, edit_id: str, prompts: Prompt | Sequence[Prompt], reason: str = "") -> int:
        """Keep an edit from answering prompts, and what asks the same; return the revision.

        Raises:
            EditError: if a prompt is the edit's own, or the model cannot tell it from that.
        """
        with self._engine.store.writing():
            edit, new = self._new(edit_id, prompts, "quiet")
            given = {prompt_key(prompt) for prompt in self._engine.store.get(edit_id).given.prompts}
            if own := [prompt for prompt in new if prompt_key(prompt) in given]:
                raise EditError(
                    f"{quoted(own[0])} is what edit {edit_id!r} was made for, so it cannot be quiet on it: disable or "
                    "remove the edit, or give it another prompt"
                )
            leaving = {prompt_key(prompt) for prompt in new}
            variants = tuple(prompt for prompt in edit.variants if prompt_key(prompt) not in leaving)
            return self._store(edit, replace(edit, variants=variants, quiet=(*edit.quiet, *new)), "quiet", new, reason)

    def allow(self, edit_id: str, prompts: Prompt | Sequence[Prompt], reason: str = "") -> int:
        """Let an edit answer prompts, and what asks the same; return the revision.

        Raises:
            EditError: if another edit asks or answers such a prompt, with another target.
        """
        with self._engine.store.writing():
            edit, new = self._new(edit_id, prompts, "allow")
            for prompt in new:
                if (other := self._other(edit, prompt)) is not None:
                    own = prompt_key(prompt) in {prompt_key(given) for given in other.prompts}
                    way_on = f"keep that one quiet on it first (meloedit quiet STORE {other.id} ...), or remove it"
                    raise EditError(
                        f"{quoted(prompt)} is answered by edit {other.id!r} with {quoted(other.target)}: "
                        + ("it is a wording of that one, so remove or replace it first" if own else way_on)
                    )
            leaving = {prompt_key(prompt) for prompt in new}
            quiet = tuple(prompt for prompt in edit.quiet if prompt_key(prompt) not in leaving)
            return self._store(edit, replace(edit, variants=(*edit.variants, *new), quiet=quiet), "allow", new, reason)

    def _new(self, edit_id: str, prompts: Prompt | Sequence[Prompt], action: str) -> tuple[Edit, list[Prompt]]:
        """Return the stored edit, and those of the prompts that it does not have yet, each once."""
        check_weights(self._engine)
        edit = self._engine.store.get(edit_id).edit
        if self._engine.config.mode == "paper":
            raise EditError(f"paper mode has clusters and no {action}: make the store in the default mode")
        given = prompt_list(prompts)
        if not given:
            raise EditError(f"no prompts to {action}: give one or more")
        known = {prompt_key(prompt) for prompt in (edit.quiet if action == "quiet" else edit.prompts)}
        for prompt in given:
            self._engine.policy.forms(prompt)  # raises what is wrong with one
        return edit, [p for key, p in {prompt_key(p): p for p in given}.items() if key not in known]

    def _other(self, edit: Edit, prompt: Prompt) -> Edit | None:
        """Return an edit with another target that asks this prompt, or answers it."""
        engine = self._engine
        routes = engine.route(engine.policy.forms(prompt))
        answering = [engine.store.get(route.edit).edit for route in routes if route.edit is not None]
        others = [other for other in (*engine.prompts.sharing(prompt), *answering) if other.id != edit.id]
        return next((other for other in others if other.target != edit.target), None)

    def _store(self, old: Edit, edit: Edit, action: str, new: Sequence[Prompt], reason: str) -> int:
        if not new:
            return self._engine.store.revision
        keys = self._keys(old, edit)
        if self._engine.policy.clash(keys):
            raise EditError(
                f"the model cannot tell {quoted(new[0])} from a wording of edit {edit.id!r} (their keys are the same)"
            )
        detail = {"prompts": list(new)} | ({"reason": reason} if reason else {})
        store = self._engine.store
        return self._engine.change(lambda: store.amend(edit, keys, action, detail))

    def _keys(self, old: Edit, edit: Edit) -> KeyTensors:
        """Return the keys of an amended edit; only what is new goes through the model."""
        policy = self._engine.policy
        had = {repr(prompt) for prompt in (*old.prompts, *old.quiet)}
        new = [prompt for prompt in (*edit.prompts, *edit.quiet) if repr(prompt) not in had]
        _, before = self._engine.store.tensors([edit.id])[edit.id]
        rows = dict(self._rows([*old.prompts, *old.quiet], before))
        if new:
            (added,) = policy.keys_of([Edit(new[0], edit.target, "new", tuple(new[1:]))])
            rows |= self._rows(new, added)
        wanted = [rows[repr(prompt)] for prompt in (*edit.prompts, *edit.quiet)]
        keys = {name: torch.cat([row[name] for row in wanted]) for name in wanted[0]}
        own = sum(len(row["quiet"]) for row in wanted[: len(edit.prompts)])
        return keys | {"quiet": torch.arange(len(keys["quiet"])) >= own}

    def _rows(self, prompts: Sequence[Prompt], keys: KeyTensors) -> dict[str, KeyTensors]:
        """Return the keys of each prompt, in every form, by the prompt as it is written."""
        sizes = [len(self._engine.policy.forms(prompt)) for prompt in prompts]
        parts = {name: tensor.split(sizes) for name, tensor in keys.items()}
        return {repr(p): {name: part[i] for name, part in parts.items()} for i, p in enumerate(prompts)}
