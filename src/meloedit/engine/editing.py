"""EditRun: train prepared edits in parts, store each part in one transaction, report what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import EditError
from ..hooks.blocks import block_to_tensors
from ..results import EditReport, Trial
from ..store import GIVEN, Record
from ..training.parts import InTurn
from ..training.penalties import Penalties
from ..training.trainer import Trained
from ..types import Progress
from .planning import PreparedEdit

if TYPE_CHECKING:
    from ..edit import Edit
    from ..routing.policy import KeyTensors
    from ..training.parts import PartTrainer
    from .engine import Engine


class EditRun:
    """Makes some edits. Leaving off in between keeps the parts that were stored.

    Args:
        engine: the model and its store.
        prepared: the edits.
        batch_size: edits that train at once and are stored in one transaction.
        progress: told how many edits are done.
        trying: ask each edit its likely neighbours before it is stored; it is kept quiet on those that would reach it,
            of which one word was changed.
        strict: do not store an edit that its trial warns of.
        trainer: trains the parts; ``None``: this process, one after the other. All else is done here, in their order:
            what a trial silences, for one, depends on the edits that are stored by then.
    """

    def __init__(
        self,
        engine: Engine,
        prepared: Sequence[PreparedEdit],
        batch_size: int,
        progress: Progress | None,
        trying: bool = True,
        strict: bool = False,
        trainer: PartTrainer | None = None,
    ) -> None:
        if strict and not trying:
            raise EditError("strict needs the trial: leave out trial=False (--no-trial)")
        self._trying, self._strict = trying, strict
        self._engine, self._mode, self._store = engine, engine.mode, engine.store
        self._prepared, self._batch_size, self._progress = prepared, batch_size, progress
        self._trainer = trainer or InTurn(self._mode.trainer)
        self._penalties = Penalties(engine.backbone)

    def parts(self) -> Iterator[list[EditReport]]:
        """Train and store the edits part by part; yield the reports of each part."""
        new = [item for item in self._prepared if item.rows]
        done = len(self._prepared) - len(new)
        if done:
            yield [self._skipped(item.edit.id) for item in self._prepared if not item.rows]
        parts = [new[start : start + self._batch_size] for start in range(0, len(new), self._batch_size)]
        rows = [[(item.edit.id, item.rows) for item in part] for part in parts]
        told = done
        if new:
            self._tell(told)
        with closing(self._trainer.train(rows, self._holding(lambda: told))) as results:
            for part, result in zip(parts, results, strict=True):
                seconds = result.seconds / len(part)
                if result.failure:
                    yield [_report_of_failure(item, result.failure, seconds) for item in part]
                else:
                    yield self._store_part(part, result.trained, seconds)
                told += len(part)
                self._tell(told)

    def _tell(self, done: int) -> None:
        if self._progress:
            self._progress("editing", done, len(self._prepared))

    def _holding(self, done: Callable[[], int]) -> Callable[[int], None] | None:
        """Return what the trainer tells how many edits hold of those that are not done."""
        return (lambda holding: self._tell(done() + holding)) if self._progress else None

    def _skipped(self, edit_id: str) -> EditReport:
        return EditReport(edit_id, "skipped", True, reason=self._silent(edit_id))

    def _store_part(self, part: Sequence[PreparedEdit], trained: Sequence[Trained], seconds: float) -> list[EditReport]:
        """Store the edits that hold (in paper mode, all) in one transaction."""
        trials = self._mode.trials([item.edit for item in part]) if self._trying else [Trial(i.edit.id) for i in part]
        edits = [_silenced(item.edit, trial) for item, trial in zip(part, trials, strict=True)]
        all_keys = self._engine.policy.keys_of(edits)
        reports: dict[str, EditReport] = {}
        records: list[Record] = []
        replaced: list[str] = []
        for item, edit, trial, result, keys in zip(part, edits, trials, trained, all_keys, strict=True):
            failure = "" if self._mode.stores_all else self._failure(result, keys, trial)
            report = _report(item, result, seconds, failure, trial, self._penalties.forbids(item.rows))
            reports[item.edit.id] = report
            if failure:
                continue
            shared = bool(records) and result.block is trained[0].block  # the first record of the batch has it
            block = {} if shared else block_to_tensors(result.block)
            facts = {name: getattr(report, name) for name in ("steps", "rank", "loss", "confidence", "seconds")}
            facts["positions"] = next(iter(result.block.values())).p.shape[-1]
            facts["places"] = list(self._engine.backbone.first_places(edit.target))
            facts |= {GIVEN: item.given.to_dict()} if edit is not item.given else {}
            records.append(Record(edit, result.rank, self._engine.config.reach, facts, block, keys))
            replaced += item.replaced
        removed = [edit_id for edit_id in dict.fromkeys(replaced) if edit_id not in reports]
        removed = [edit_id for edit_id in removed if self._store.find(edit_id) is not None]
        if records:
            self._engine.change(lambda: self._store.put(records, "edit", removed))
        return [self._with_neighbours(report) for report in reports.values()]

    def _failure(self, result: Trained, keys: KeyTensors, trial: Trial) -> str:
        """Return why an edit is not stored; empty if it is."""
        if not result.holds:
            return f"does not hold after {result.steps} steps, up to rank {result.rank} (loss {result.loss:.3f})"
        if self._engine.policy.clash(keys):
            return "a quiet prompt has the same key as the edit's own prompt: the model cannot tell them apart"
        if self._strict and trial.warned:
            return f"not stored, as --strict says: {trial.sentence}"
        return ""

    def _with_neighbours(self, report: EditReport) -> EditReport:
        if report.status == "failed" or not report.holds:
            return report
        nearest, distance, overlaps = self._engine.neighbours(report.id)
        reason = "; ".join(filter(None, (report.reason, self._silent(report.id))))
        return replace(report, nearest=nearest, nearest_distance=distance, overlaps=overlaps, reason=reason)

    def _silent(self, edit_id: str) -> str:
        """Return a remark if a stored edit does not answer."""
        return "" if self._store.get(edit_id).enabled else "disabled: it does not answer until it is enabled"


def _silenced(edit: Edit, trial: Trial) -> Edit:
    """Return an edit that is quiet on the neighbours that its trial silences."""
    return replace(edit, quiet=(*edit.quiet, *trial.silenced)) if trial.silenced else edit


def _report_of_failure(item: PreparedEdit, failure: str, seconds: float) -> EditReport:
    return EditReport(item.edit.id, "failed", holds=False, reason=failure, seconds=round(seconds, 4))


def _report(
    item: PreparedEdit, result: Trained, seconds: float, failure: str, trial: Trial, forbidden: str
) -> EditReport:
    facts: dict[str, Any] = {
        "trial": trial,
        "steps": result.steps,
        "rank": result.rank,
        "loss": round(result.loss, 6),
        "confidence": round(result.confidence, 6),
        "seconds": round(seconds, 4),
    }
    if failure:
        return EditReport(item.edit.id, "failed", holds=False, reason=failure, **facts)
    reason = forbidden if result.holds else f"does not hold after {result.steps} iterations; stored as it is"
    facts |= {"replaced": item.replaced, "corrections": item.corrections}
    return EditReport(item.edit.id, "stored", result.holds, reason=reason, **facts)
