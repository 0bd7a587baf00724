"""What an operator asks of an editor without training: which edits answer, and what, and what they would answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..callers.arguments import checked
from ..config import SCOPE_SETTINGS
from ..edit import Edit
from ..engine.checking import check_weights
from ..engine.planning import rows_of
from ..errors import EditError, StoreError
from ..readers import SourcedEdit, edit_list
from ..results import Answer
from .amending import Amender
from .near_misses import Decision, NearMiss, NearMisses
from .scanning import Scanner, ScanReport

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..results import Trial
    from ..store import Store
    from ..types import Form, Progress, Prompt


@checked
class OperatorView:
    """Changes the store of an engine, each time by a revision, which is returned; and tries its scope on traffic."""

    engine: Engine

    def _change(self, transaction: Callable[[Store], int]) -> int:
        return self.engine.change(lambda: transaction(self.engine.store))

    def prepare(self, progress: Progress | None = None) -> None:
        """Do what the first edit needs: calibrate on the package's own prompts."""
        if not self.engine.policy.ready:
            self._change(lambda store: self.engine.mode.prepare(store, progress))

    def calibrate(
        self,
        prompts: Sequence[Prompt] | None = None,
        origin: str = "given",
        progress: Progress | None = None,
        false_activation: float | None = None,
        min_similarity: float | None = None,
        false_neighbour: float | None = None,
        judge: str | Path | None = None,
    ) -> int:
        """Fit the key encoder, calibrate the threshold on built-in or given prompts, and recompute all keys.

        With a setting of the scope and no prompts, keys and calibration prompts stay, and the scope alone changes.

        Args:
            prompts: prompts that no edit should answer, 2,000 or more, like the traffic to come.
            origin: where they are from; recorded in the store.
            progress: told how many prompts are done.
            false_activation: stated share of such prompts that fires, from now on; ``None``: as it was.
            min_similarity: similarity below which nothing fires, from now on; ``None``: as it was.
            false_neighbour: stated share of near questions that fires, from now on; ``None``: as it was.
            judge: what decides from now on, see ``MeloConfig``; ``None``: as it was.

        Returns:
            The new revision.
        """
        check_weights(self.engine)
        given = (false_activation, false_neighbour, min_similarity, judge)
        scope = {name: value for name, value in zip(SCOPE_SETTINGS, given, strict=True) if value is not None}
        return self._change(lambda store: self.engine.mode.calibrate(store, prompts, origin, scope, progress))

    def remove(self, ids: str | Sequence[str]) -> int:
        """Remove edits; their prompts get the base model's answers again, bit for bit. Return the new revision."""
        return self._change(lambda store: store.remove(ids))

    def enable(self, ids: str | Sequence[str]) -> int:
        """Let disabled edits answer again. Return the new revision."""
        return self._change(lambda store: store.set_enabled(ids, True))

    def disable(self, ids: str | Sequence[str]) -> int:
        """Keep edits from answering without removing them. Return the new revision."""
        return self._change(lambda store: store.set_enabled(ids, False))

    def rollback(self, to: int) -> int:
        """Bring back the edits of revision ``to``; that is a new revision itself, which is returned."""
        store = self.engine.store
        if (then := store.model_at(to)) != store.model:
            raise StoreError(
                f"revision {to} has keys of {then['name']}, from which the store was moved: roll back with the command "
                "meloedit rollback, then open it on that model"
            )
        return self._change(lambda store: store.rollback(to))

    def quiet(self, edit_id: str, prompts: Prompt | Sequence[Prompt], reason: str = "") -> int:
        """Keep an edit from answering prompts, and what asks the same: a wrong hit put right. Nothing is trained.

        Args:
            edit_id: the edit.
            prompts: one prompt or many; those that it is quiet on already are left out.
            reason: why; it is kept in the history.

        Returns:
            The new revision, or the present one if there was nothing to do.

        Raises:
            EditError: if a prompt is the edit's own, or the model cannot tell it from that.
        """
        return Amender(self.engine).quiet(edit_id, prompts, reason)

    def allow(self, edit_id: str, prompts: Prompt | Sequence[Prompt], reason: str = "") -> int:
        """Let an edit answer prompts, and what asks the same: a miss put right. Nothing is trained.

        The edit's block was not trained on these wordings: ask them to see that the answer is right.

        Args:
            edit_id: the edit.
            prompts: one prompt or many; those that are wordings of it already are left out.
            reason: why; it is kept in the history.

        Returns:
            The new revision, or the present one if there was nothing to do.

        Raises:
            EditError: if another edit asks or answers such a prompt, with another target.
        """
        return Amender(self.engine).allow(edit_id, prompts, reason)

    def trial(self, edits: Edit | Mapping[str, Any] | Sequence[Edit | SourcedEdit | Mapping[str, Any]]) -> list[Trial]:
        """Ask edits their likely neighbours, without making them: questions that they should not answer.

        Neighbours are questions that people wrote beside a question like the edit's, and the edit's own words with one
        thing changed. Only the judge reads them; without a judge none are asked.

        Args:
            edits: one edit or many; they need not be stored.

        Returns:
            A trial per edit: what was asked, what would get its answer, the likeliest first.

        Raises:
            EditError: if an edit could not be made: the model has no room for one of its texts.
        """
        if not self.engine.policy.ready:
            raise EditError("this store has no calibration yet, so nothing can be tried: calibrate first, or edit once")
        made = edit_list(edits)
        for edit in made:  # the judge, which knows no model, would read any length
            rows_of(self.engine, edit)
        return self.engine.mode.trials(made)

    def scan(
        self,
        log: str | Path,
        edits: Edit | Mapping[str, Any] | Sequence[Edit | SourcedEdit | Mapping[str, Any]] = (),
        record: str | Path | None = None,
        form: Form | None = None,
        progress: Progress | None = None,
        note: bool = False,
    ) -> ScanReport:
        """Say which prompts of a log would be answered by which edit. Only the layers up to the key layer run.

        Args:
            log: a file with a prompt a line: ``.txt``, or JSONL of strings, objects with ``prompt`` or ``messages``, or
                lists of messages; ``.gz`` too. It is read a line at a time.
            edits: edits that are not made yet, to be scanned for by their keys beside the stored ones.
            record: where every hit is written as the scan goes; a scan that was stopped goes on from it. ``None``:
                beside the log, with ``.scan.jsonl`` at the end.
            form: how the prompts are asked; ``None``: as chat where the model has a template.
            progress: told how many lines are done.
            note: note near misses, see ``near_misses``.

        Raises:
            EditError: naming the line, if one is no prompt; the lines before it are done and stay so.
        """
        record = Path(f"{log}.scan.jsonl") if record is None else Path(record)
        notes = self._near_misses if note else None
        return Scanner(self.engine, form, progress, notes).scan(Path(log), record, edit_list(edits))

    # -- near misses

    def note(self, answers: Sequence[Answer]) -> int:
        """Note the prompts that came near an edit without firing it, or fired it with a low score; return how many."""
        return self._near_misses.note((answer.prompt, answer.route) for answer in answers)

    def near_misses(self) -> list[NearMiss]:
        """Return the noted prompts that nobody has decided about, those of stored edits, the most frequent first."""
        return [miss for miss in self._near_misses.pending() if self.engine.store.find(miss.edit) is not None]

    def settle(self, miss: NearMiss, decision: Decision, reason: str = "") -> int:
        """Decide about a near miss: ``allow`` or ``quiet`` change the edit, ``leave`` nothing. Return the revision.

        Raises:
            EditError: if the edit cannot be changed so; the near miss is then still pending.
        """
        revision = self.engine.store.revision
        if decision != "leave":
            revision = (self.allow if decision == "allow" else self.quiet)(miss.edit, [miss.prompt], reason)
        self._near_misses.decide(miss, decision)
        return revision

    @property
    def _near_misses(self) -> NearMisses:
        return NearMisses(self.engine.store.path)
