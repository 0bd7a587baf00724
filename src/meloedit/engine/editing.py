"""From edits to stored blocks: what is new, what it replaces, training in parts, a report for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from ..edit import Edit
from ..hooks.blocks import block_to_tensors
from ..results import EditReport
from ..routing.index import SAME_KEY
from ..store.store import Record
from ..training.trainer import Trained
from ..types import Progress
from .planning import PreparedEdit

if TYPE_CHECKING:
    from torch import Tensor

    from .live import Live


def train_in_parts(
    live: Live, planned: Sequence[PreparedEdit], size: int, progress: Progress | None
) -> Iterator[list[EditReport]]:
    """Train ``size`` edits at a time, store them (those that hold, in default mode), and hand out their reports."""
    trainer = live.trainer
    done = 0
    fresh = [item for item in planned if item.rows]
    if skipped := [
        EditReport(item.edit.id, "skipped", True, reason=_silent(live, item.edit.id))
        for item in planned
        if not item.rows
    ]:
        done += len(skipped)
        yield skipped

    def held_so_far(before: int) -> Callable[[int], None] | None:
        return progress and (lambda held: progress("editing", before + held, len(planned)))

    for start in range(0, len(fresh), size):
        if progress:
            progress("editing", done, len(planned))
        part = fresh[start : start + size]
        began = time.perf_counter()
        trained = trainer.train([(item.edit.id, item.rows) for item in part], held_so_far(done))
        seconds = (time.perf_counter() - began) / len(part)
        yield _store(live, part, trained, seconds)
        done += len(part)
        if progress:
            progress("editing", done, len(planned))


def _store(live: Live, part: Sequence[PreparedEdit], trained: Sequence[Trained], seconds: float) -> list[EditReport]:
    keys = live.keys_of([item.edit for item in part], live.calibration)
    reports: dict[str, EditReport] = {}
    records: list[Record] = []
    removed: list[str] = []
    for item, result, own in zip(part, trained, keys, strict=True):
        reason = "" if live.keeps_all else _failure(item.edit, result, own)
        facts: dict[str, Any] = {
            "steps": result.steps,
            "rank": result.rank,
            "loss": round(result.loss, 6),
            "seconds": round(seconds, 4),
        }
        status: Literal["stored", "failed"] = "failed" if reason else "stored"
        reports[item.edit.id] = EditReport(
            item.edit.id,
            status,
            held=result.held and not reason,
            replaced=[] if reason else item.replaced,
            reason=reason or ("" if result.held else f"does not hold after {result.steps} iterations; stored as it is"),
            **facts,
        )
        if not reason:
            shared = bool(records) and result.block is trained[0].block
            block = {} if shared else block_to_tensors(result.block)  # the first record of the batch has it
            records.append(Record(item.edit, result.rank, live.config.reach, facts, block, own))
            removed += item.replaced
    find = live.store.find
    removed = [edit_id for edit_id in dict.fromkeys(removed) if edit_id not in reports and find(edit_id) is not None]
    if records:
        live.change(lambda: live.store.put(records, "edit", removed))
    return [_with_neighbours(live, report) for report in reports.values()]


def _silent(live: Live, edit_id: str) -> str:
    """Say so if a stored edit does not answer."""
    return "" if live.store.get(edit_id).enabled else "disabled: it does not answer until it is enabled"


def _failure(edit: Edit, result: Trained, keys: dict[str, Tensor]) -> str:
    if not result.held:
        return f"does not hold after {result.steps} steps, up to rank {result.rank} (loss {result.loss:.3f})"
    if len(keys["quiet"]) and float((keys["keys"][:, None] - keys["quiet"][None]).norm(dim=2).min()) < SAME_KEY:
        return "a quiet prompt has the same key as the edit's own prompt: the model cannot tell them apart"
    return ""


def _with_neighbours(live: Live, report: EditReport) -> EditReport:
    if report.status == "failed" or not report.held:
        return report
    nearest, distance, overlaps = live.neighbours(report.id)
    silent = _silent(live, report.id)
    return replace(report, nearest=nearest, nearest_distance=distance, overlaps=overlaps, reason=silent)
