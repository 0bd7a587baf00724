"""What became of edits, answers and checks, in words and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..text import plain, some
from .terminal import Column, count, line, put, table

if TYPE_CHECKING:
    from ..edit import Edit
    from ..keys.similarity import Evidence
    from ..results import Answer, EditReport

OVERLAPS_SHOWN = 20


def show_reports(reports: Sequence[EditReport], edits: dict[str, Edit], revision: int, verbose: bool) -> None:
    """Print what became of edits: the remarkable ones, or all, and a summary."""
    shown = [report for report in reports if verbose or _remarks(report)]
    if shown:
        columns: list[Column] = [
            "id",
            ("prompt", {"ratio": 3}),
            "status",
            "steps",
            "rank",
            ("remarks", {"ratio": 2}),
        ]
        rows = [
            (plain(r.id), _cut(line(edits[r.id].prompt)), r.status, r.steps, r.rank, "; ".join(_remarks(r)))
            for r in shown
        ]
        table(columns, rows)
        put("")
    counts = {name: sum(report.status == name for report in reports) for name in ("stored", "skipped", "failed")}
    seconds = sum(report.seconds for report in reports)
    said = ", ".join(f"{number} {name}" for name, number in counts.items() if number or name == "stored")
    if replaced := [other for report in reports for other in report.replaced]:
        said += f" (replacing {some(replaced)})"
    speed = f" in {seconds:.1f} s" if counts["stored"] or counts["failed"] else ""
    put(f"{said}{speed}; revision {revision}")


def _cut(text: str, width: int = 100) -> str:
    """Shorten a document: a column of its own would push out all others."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _remarks(report: EditReport) -> list[str]:
    remarks = [report.reason] if report.reason else []
    if report.replaced:
        remarks.append(f"replaces {some(report.replaced)}")
    if report.overlaps:
        remarks.append(f"overlaps {some(report.overlaps, 3)}")
    return remarks


def similarity(distance: float) -> float:
    """Return the similarity of two keys so far apart."""
    return 1 - distance**2 / 2


def explained(
    answer: Answer, edits: dict[str, Edit], key_tokens: str = "words", evidence: Evidence | None = None
) -> list[str]:
    """Return in words how a prompt was routed."""
    route = answer.route
    nearest = f'{plain(route.nearest)} ("{line(edits[route.nearest].prompt)}")' if route.nearest else ""
    apart = f"distance {route.distance:.3f}, threshold {route.threshold:.3f}" if route.distance is not None else ""
    if route.distance is not None and key_tokens == "words":
        apart += f" (similarity {similarity(route.distance):.3f}, least {similarity(route.threshold):.3f})"
    lines = {
        "fired": f"fired: {nearest}; {apart}",
        "outside scope": f"no edit fired; nearest: {nearest}; {apart}",
        "quiet": f"no edit fired; {nearest} is kept quiet by one of its quiet prompts; {apart}",
        "no edits": "no edit fired; the store has none that are enabled",
        "no prompt": "no edit fired; the prompt has no words",
    }[route.reason]
    words = "the user's words" if route.words_known else "the whole prompt, as the user's words cannot be told in it"
    more = [f"key: {words}"] if route.nearest and key_tokens == "words" else []
    if evidence is not None and evidence.named is not None:
        heard = [word for word, (_, heard) in evidence.names.items() if heard]
        missed = [word for word, (_, heard) in evidence.names.items() if not heard]
        words = ", ".join([*map(plain, heard), *(f"not {plain(word)}" for word in missed)])
        more.append(
            f"evidence: {evidence.named:.0%} of the edit's names ({words}), what is asked {evidence.asked:.3f}, "
            f"all that is said {evidence.said:.3f}"
        )
    return [lines, *more]


def show_check(found: dict[str, Any]) -> None:
    """Print what a check found."""
    if found["broken"]:
        columns: list[Column] = [
            "id",
            "form",
            ("prompt", {"ratio": 2}),
            ("target", {"ratio": 1}),
            ("answer", {"ratio": 1}),
        ]
        rows = [
            (plain(b["id"]), b["form"], line(b["prompt"]), line(b["target"]), line(b["answer"]))
            for b in found["broken"]
        ]
        table(columns, rows)
        put("")
    for first, second in found["overlaps"][:OVERLAPS_SHOWN]:
        put(f"overlap: {plain(first)} and {plain(second)}; the nearest key decides")
    if (more := len(found["overlaps"]) - OVERLAPS_SHOWN) > 0:
        put(f"... and {more:,} more overlaps; --json lists them all")
    for problem in found["problems"]:
        put(f"damage: {line(problem)}")
    broken = len({item["id"] for item in found["broken"]})
    put(
        f"{count(found['checked'], 'edit')} asked, {broken} broken, {count(len(found['overlaps']), 'overlap')}, "
        f"{count(len(found['problems']), 'problem')} in the file"
    )
