"""What an editor is besides a tool for editing: a collection of stored edits, and an edited model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

from ..callers.arguments import checked
from ..edit import prompt_list
from ..hooks.router import release
from ..keys.keys import Keys
from ..keys.similarity import Evidence
from ..results import Answer, Check, Neighbours, Route
from ..text import join_names
from ..types import Form, Progress, Prompt
from .answering import Answerer, arguments_of_generate
from .checking import check_store

if TYPE_CHECKING:
    from torch import Tensor

    from ..store import Revision, StoredEdit
    from .engine import Engine

logger = logging.getLogger(__name__)


@checked
class StoreView:
    """Reads the store of an engine: ``len``, ``in``, ``[id]``, iteration, history."""

    engine: Engine

    def __len__(self) -> int:
        """Return how many edits are stored."""
        return len(self.edits())

    def __bool__(self) -> bool:
        """Return true, also without edits."""
        return True

    def __contains__(self, edit_id: object) -> bool:
        """Return whether an edit of this id is stored."""
        return isinstance(edit_id, str) and self.engine.store.find(edit_id) is not None

    def __getitem__(self, edit_id: str) -> StoredEdit:
        """Return a stored edit; the error for an unknown id names ids like it."""
        return self.engine.store.get(edit_id)

    def __iter__(self) -> Iterator[StoredEdit]:
        """Yield the stored edits, oldest first."""
        return iter(self.edits())

    def edits(self) -> list[StoredEdit]:
        """Return the stored edits, oldest first."""
        return self.engine.store.edits()

    def history(self, edit_id: str | None = None, limit: int | None = None) -> list[Revision]:
        """Return the revisions, oldest first: all, the last ones, or those of one edit."""
        return self.engine.store.history(edit_id, limit)


@checked
class ModelView:
    """Asks the edited model of an engine: answers, routes, keys."""

    engine: Engine

    def ask(
        self,
        prompts: Prompt | Sequence[Prompt],
        form: Form | None = None,
        batch_size: int = 32,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[Answer]:
        """Answer prompts, greedily unless ``kwargs`` for ``generate`` say otherwise, and say how each was routed.

        Args:
            prompts: one or many; a list of chat messages is one prompt.
            form: ``chat`` puts strings into the chat template, ``raw`` does not; ``None``: raw.
            batch_size: prompts per call of ``generate``.
            progress: told how many prompts are done.
            kwargs: passed to ``generate``.
        """
        return Answerer(self.engine, batch_size, progress).answer(prompt_list(prompts), form, kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Call ``generate`` on the edited model.

        Raises:
            EditError: if it cannot run with these arguments; ``editor.model.generate`` raises what transformers does.
        """
        with arguments_of_generate([*(f"argument {i}" for i in range(1, len(args) + 1)), *kwargs]):
            return self.engine.router.generate(*args, **kwargs)

    def route(
        self, prompts: Prompt | Sequence[Prompt], form: Form | None = None, progress: Progress | None = None
    ) -> list[Route]:
        """Say which edit each prompt would reach, running only the layers up to the key layer."""
        return self.engine.route(
            [self.engine.backbone.encode(prompt, form) for prompt in prompt_list(prompts)], progress
        )

    def evidence(self, prompts: Prompt | Sequence[Prompt], form: Form | None = None) -> list[Evidence | None]:
        """Return the terms of each prompt's similarity to its nearest edit; ``None`` without edits or in paper mode."""
        return self.engine.evidence([self.engine.backbone.encode(prompt, form) for prompt in prompt_list(prompts)])

    def keys(self, prompts: Prompt | Sequence[Prompt]) -> Keys | Tensor:
        """Return the keys (n,) of prompts as the index compares them; in paper mode raw states (n, d)."""
        return self.engine.policy.keys([self.engine.backbone.encode(prompt) for prompt in prompt_list(prompts)])

    def check(self, batch_size: int = 32, progress: Progress | None = None, sample: int | None = None) -> Check:
        """Ask every edit again, in every wording and form, and look for edits whose scopes overlap.

        With a ``sample`` only so many edits are asked, spread evenly over all.
        """
        return check_store(self.engine, batch_size, progress, sample)

    def refresh(self) -> int:
        """Answer with what other processes stored since, and return the revision that answers now.

        An editor loads the store once. Another process may change the store afterwards: this follows. While nothing
        changed, the call reads one row of the file.
        """
        return self.engine.refresh()

    def warn_of_broken(self) -> Self:
        """Check every edit, and name in a warning those that do not hold."""
        if broken := list(dict.fromkeys(one.id for one in self.check().broken)):
            logger.warning(
                "%d of %d edits do not hold on this model: %s",
                len(broken),
                self.engine.policy.counts["edits"],
                join_names(broken),
            )
        return self

    def neighbours(self, edit_id: str) -> Neighbours:
        """Return the nearest other edit, and the edits whose scopes overlap this one's; nothing if it is disabled."""
        return self.engine.neighbours(edit_id)

    @staticmethod
    def release(model: object) -> None:
        """Take the hooks of a lost editor off a model: of one that was dropped without ``unload``, which stays edited.

        Where the editor is at hand, ``unload`` is the way: it closes the store, too.
        """
        release(model)

    @property
    def threshold(self) -> float:
        """The distance below which a prompt comes into an edit's reach; in paper mode a cluster's initial radius."""
        return self.engine.policy.threshold

    @property
    def least_score(self) -> float | None:
        """The judge's score, a probability, that a prompt must exceed to reach an edit; ``None`` without a judge."""
        return self.engine.policy.least_score

    @property
    def last_routes(self) -> list[Route]:
        """How the prompts that this thread asked last were routed."""
        return self.engine.router.last_routes

    def prompt_lengths(self, lengths: Sequence[int]) -> AbstractContextManager[None]:
        """State how many real tokens of each row are prompt, for this thread's plain ``model(...)`` calls."""
        return self.engine.router.prompt_lengths(lengths)

    def base_model(self) -> AbstractContextManager[None]:
        """Let this thread's calls in the block see the base model."""
        return self.engine.router.disabled()
