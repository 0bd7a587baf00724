"""From edits to stored blocks: what is new, what it replaces, training in parts, a report for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ..backbones.batch import Row
from ..edit import Edit, contradiction
from ..errors import EditError
from ..keys.grammar import make_lead
from ..routing.index import SAME_KEY
from ..store.store import Record
from ..training.trainer import Trained
from ..types import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from .live import Live


@dataclass(frozen=True)
class EditReport:
    """What became of one edit.

    Attributes:
        id: the edit's id.
        status: ``stored``; ``skipped`` (there already); ``failed`` (does not hold, not stored).
        held: whether greedy decoding with the stored block gives the target and stops, in every wording and form.
        steps: optimiser steps taken.
        rank: rank of the block.
        loss: mean cross-entropy of the target, nats per token.
        seconds: its share of the training time.
        nearest: id of the nearest other edit, and ``nearest_distance`` to it.
        overlaps: ids of edits whose scope holds one of its keys or the reverse: the nearest key decides between them.
        replaced: ids of edits that it took the place of.
        reason: why it failed, or that it is disabled.
    """

    id: str
    status: Literal["stored", "skipped", "failed"]
    held: bool
    steps: int = 0
    rank: int = 0
    loss: float | None = None
    seconds: float = 0.0
    nearest: str | None = None
    nearest_distance: float | None = None
    overlaps: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Planned:
    """An edit to be made: its training rows (none if it is there already) and the other edits that it replaces."""

    edit: Edit
    rows: list[Row]
    replaced: list[str]


def plan(live: Live, edits: Sequence[Edit], replacing: bool) -> list[Planned]:
    """Decide what each edit means for the store, and tokenise it: every error that can be known is raised here.

    Raises:
        EditError: if two edits contradict each other, an id is taken by other content, or a text does not fit the
            model.
    """
    edits = [_named(live, edit) for edit in edits]
    if clash := contradiction(edits):
        first, second = clash
        raise EditError(
            f"edit {second + 1} contradicts edit {first + 1}: same prompt or id, other target; keep one of them"
        )
    present = {edit.id: stored.edit for edit in edits if (stored := live.store.find(edit.id)) is not None}
    # An edit that this call gives another prompt no longer asks its old one.
    moving = {edit.id for edit in edits if edit.id in present and present[edit.id].content != edit.content}
    planned: dict[str, Planned] = {}
    for edit in edits:
        old = present.get(edit.id)
        if old is not None and old.content != edit.content and not replacing:
            raise EditError(
                f"edit {edit.id!r} is in the store with other content: use replace (--replace) to change it, or "
                "another id"
            )
        if edit.id in planned:
            continue  # the same edit twice in one call
        if old is not None and old.content == edit.content and not (replacing and old.metadata != edit.metadata):
            planned[edit.id] = Planned(edit, [], [])
            continue
        passed = {edit.id, *moving}
        asked = [other.id for other in live.wordings.asking(edit.prompt) if other.id not in passed]
        for other in (other for prompt in edit.prompts for other in live.wordings.sharing(prompt)):
            if other.id not in passed.union(asked) and other.target != edit.target:
                raise EditError(
                    f"edit {edit.id!r} and edit {other.id!r} in the store share a wording and want different answers: "
                    "take it out of one of them"
                )
        planned[edit.id] = Planned(edit, _rows(live, edit), asked)
    return list(planned.values())


def _named(live: Live, edit: Edit) -> Edit:
    try:
        return live.backbone.named(edit)
    except EditError as error:
        raise EditError(f"edit {edit.id!r}: {error}") from None


def _rows(live: Live, edit: Edit) -> list[Row]:
    try:
        live.check_edit(edit)
        encoded = [form for prompt in edit.prompts for form in live.backbone.forms(prompt)]
        if live.config.lead_in:
            encoded += live.backbone.behind(make_lead(f"{live.config.seed}/{edit.id}"), edit.prompt)
        for prompt in edit.quiet:
            live.backbone.forms(prompt)
        return [Row.of(form, live.backbone.encode_target(edit.target, form)) for form in encoded]
    except EditError as error:
        raise EditError(f"edit {edit.id!r}: {error}") from None


def train_in_parts(
    live: Live, planned: Sequence[Planned], size: int, progress: Progress | None
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


def _store(live: Live, part: Sequence[Planned], trained: Sequence[Trained], seconds: float) -> list[EditReport]:
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
            block = {
                f"{name}.{factor}": t
                for name, pair in result.block.items()
                for factor, t in zip("AB", pair, strict=True)
                if not shared  # the first record of the batch has it
            }
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
