"""Print what editing, asking and checking returned, in sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MeloEditError, StoreError
from ..messages import begun
from ..text import counted, join_names, plain, shorten
from .terminal import Column, one_line, put, put_json, put_table, quoted

if TYPE_CHECKING:
    from ..config import MeloConfig
    from ..edit import Edit
    from ..keys.similarity import Evidence
    from ..oversight.scanning import ScanReport
    from ..results import Answer, EditReport, Trial
    from .options import StoreOptions

MAX_OVERLAPS = 20
"""Overlaps that a check prints; JSON lists them all."""
MAX_SCANNED = 15
"""Edits that a scan lists; JSON and page list them all."""
MAX_PROMPT = 100
"""Characters of a prompt in a table: a whole document would push the other columns out."""


def show_reports(reports: Sequence[EditReport], edits: dict[str, Edit], revision: int, verbose: bool) -> None:
    """Print a table of the edits that need attention, and a summary of all.

    Args:
        reports: what became of each edit.
        edits: the edits by their ids.
        revision: the store's revision after editing.
        verbose: whether the table lists every edit.
    """
    shown = [report for report in reports if verbose or _remarks(report)]
    if shown:
        columns: list[Column] = [
            "id",
            ("prompt", {"ratio": 3}),
            "status",
            "steps",
            "rank",
            "confidence",
            ("remarks", {"ratio": 2}),
        ]
        prompts = {report.id: shorten(one_line(edits[report.id].prompt), MAX_PROMPT) for report in shown}
        rows = [
            (plain(r.id), prompts[r.id], r.status, r.steps, r.rank, _share(r.confidence), "; ".join(_remarks(r)))
            for r in shown
        ]
        put_table(columns, rows)
        put("")
    counts = {name: sum(report.status == name for report in reports) for name in ("stored", "skipped", "failed")}
    seconds = sum(report.seconds for report in reports)
    summary = ", ".join(f"{number} {name}" for name, number in counts.items() if number or name == "stored")
    if replaced := [other for report in reports for other in report.replaced]:
        summary += f" (replacing {join_names(replaced)})"
    speed = f" in {seconds:.1f} s" if counts["stored"] or counts["failed"] else ""
    put(f"{summary}{speed}; revision {revision}")


def _share(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.2f}"


def _remarks(report: EditReport) -> list[str]:
    remarks = [report.reason] if report.reason else []
    if report.replaced:
        remarks.append(f"replaces {join_names(report.replaced)}")
    if report.corrections:
        remarks.append(f"takes over {report.corrections} of its wordings and quiet prompts")
    if report.status == "stored" and report.trial is not None:
        remarks += [report.trial.sentence] if report.trial.warned else []
        if report.trial.silenced:
            remarks.append(f"kept quiet on {counted(len(report.trial.silenced), 'likely neighbour')}")
    if report.overlaps:
        remarks.append(f"overlaps {join_names(report.overlaps, 3)}")
    return remarks


def similarity(distance: float) -> float:
    """Return the cosine of two unit keys at a distance."""
    return 1 - distance**2 / 2


def explain_route(
    answer: Answer, edits: dict[str, Edit], key_tokens: str = "words", evidence: Evidence | None = None
) -> list[str]:
    """Return how a prompt was routed, as lines of text.

    Args:
        answer: the answer with its route.
        edits: the store's edits by their ids.
        key_tokens: the setting of that name; similarities mean something only for ``words``.
        evidence: what the prompt and the nearest edit have in common; ``None``: unknown.
    """
    route = answer.route
    nearest = f'{plain(route.nearest)} ("{one_line(edits[route.nearest].prompt)}")' if route.nearest else ""
    apart = f"distance {route.distance:.3f}, threshold {route.threshold:.3f}" if route.distance is not None else ""
    if route.distance is not None and key_tokens == "words":
        apart += f" (similarity {similarity(route.distance):.3f}, least {similarity(route.threshold):.3f})"
    if route.least_score is not None:
        apart += f"; judged {_score(route.score)}, least {_score(route.least_score)}"
    outcome = {
        "fired": f"fired: {nearest}; {apart}",
        "judged other": f"no edit fired; the judge takes it for another question than: {nearest}; {apart}",
        "outside scope": f"no edit fired; nearest: {nearest}; {apart}",
        "quiet": f"no edit fired; {nearest} is kept quiet by one of its quiet prompts; {apart}",
        "no edits": "no edit fired; the store has none that are enabled",
        "no prompt": "no edit fired; the prompt has no words",
        "tool result": f"no edit fired; a tool has answered, and {nearest} does not overrule tools; {apart}",
        "tool call": f"no edit fired; the answer begins with a tool call, which {nearest} leaves alone; {apart}",
        "answer given": f"no edit fired; the prompt says the answer of {nearest} already, and more; {apart}",
    }[route.reason]
    edit = edits.get(route.edit) if route.edit is not None else None
    wrong = edit is not None and not _says(answer, edit.target)
    whole = "the whole prompt, as the user's words cannot be told in it"
    words = "the user's words" if route.user_turn_known else whole
    lines = [f"the answer differs from the target: {one_line(edit.target)}"] if edit is not None and wrong else []
    lines += [f"key: {words}"] if route.nearest and key_tokens == "words" else []
    if evidence is not None and evidence.entity_overlap is not None:
        shared = [word for word, (_, in_prompt) in evidence.names.items() if in_prompt]
        missing = [word for word, (_, in_prompt) in evidence.names.items() if not in_prompt]
        words = ", ".join([*map(plain, shared), *(f"not {plain(word)}" for word in missing)])
        lines.append(
            f"evidence: {evidence.entity_overlap:.0%} of the edit's names ({words}), "
            f"what is asked {evidence.relation:.3f}, all that is said {evidence.content:.3f}"
        )
    if evidence is not None and evidence.candidates:
        lines += _judged(evidence)
    return [outcome, *lines]


def _says(answer: Answer, target: str) -> bool:
    """Return whether an answer is the target, or says it behind the beginning that the prompt gave it."""
    if isinstance(answer.prompt, str) or not begun(answer.prompt):
        return " ".join(answer.text.split()) == " ".join(target.split())
    whole = answer.prompt[-1]["content"] + answer.text
    return "".join(target.split()) in "".join(whole.split())


def _score(score: float | None) -> str:
    return "by nobody" if score is None else f"{score:.3f}"


def _judged(evidence: Evidence) -> list[str]:
    """Return what the judge read and how it scored each candidate, as lines of text."""
    turns = f", with up to {counted(evidence.turns_read, 'turn')} before it" if evidence.turns_read else ""
    cut = ", without its middle, since it is long" if evidence.cut else ""
    scores = [
        f"{plain(edit_id)} {_score(score)}"
        + ("" if quiet is None else f" (its quiet prompts {_score(quiet)})")
        + (f" (lowered: another {guard})" if guard else "")
        for edit_id, score, quiet, guard in evidence.candidates
    ]
    return [f"judge: read the prompt{turns}{cut}; {', '.join(scores)}"]


def show_trials(trials: Sequence[Trial], edits: dict[str, Edit]) -> None:
    """Print which likely neighbours would get the answer of each edit."""
    for trial in trials:
        put(f"{plain(trial.id)}  {one_line(edits[trial.id].prompt)}")
        none = f"{len(trial.neighbours)} likely neighbours asked, none would get its answer"
        put(f"  {trial.sentence or (none if trial.neighbours else 'not tried: no judge decides in this store')}")
        for one in trial.reached:
            put(f"  {one.score:.3f}  {shorten(one_line(one.prompt), MAX_PROMPT)} ({one.kind})")
        for prompt in trial.silenced:
            put(f"  kept quiet, once it is made: {shorten(one_line(prompt), MAX_PROMPT)}")
    warned = sum(trial.warned for trial in trials)
    put(f"{counted(len(trials), 'edit')} tried, {warned} to look at")


def show_scan(report: ScanReport, page: Path | None) -> None:
    """Print the outcome of a scan; ``page``: where its page is."""
    for title, hits in (("would be answered", report.edits), ("came near", report.near)):
        columns: list[Column] = [
            "id",
            (f"prompts that {title}", {"justify": "right"}),
            ("edit", {"ratio": 1}),
            ("the farthest" if hits is report.edits else "the nearest", {"ratio": 2}),
        ]
        rows = [
            (plain(one.id), one.count, one_line(one.prompt), shorten(one_line(one.listed[0].prompt), MAX_PROMPT))
            for one in hits[:MAX_SCANNED]
        ]
        if rows:
            put_table(columns, rows)
            put("")
        if (more := len(hits) - MAX_SCANNED) > 0:
            put(f"... and {more:,} more edits; --json lists them all")
    share = report.fired / report.prompts
    put(
        f"{report.fired:,} of {counted(report.prompts, 'prompt')} ({share:.2%}) would be answered by an edit; each is "
        f"in {report.record}" + (f", some in {page}" if page is not None else "")
    )


def show_check(result: dict[str, Any]) -> None:
    """Print the result of a check, as ``Check.to_dict`` returns it."""
    if result["broken"]:
        columns: list[Column] = [
            "id",
            "form",
            ("prompt", {"ratio": 2}),
            ("target", {"ratio": 1}),
            ("answer", {"ratio": 1}),
        ]
        rows = [
            (plain(b["id"]), b["form"], one_line(b["prompt"]), one_line(b["target"]), one_line(b["answer"]))
            for b in result["broken"]
        ]
        put_table(columns, rows)
        put("")
    for first, second in result["overlaps"][:MAX_OVERLAPS]:
        put(f"overlap: {plain(first)} and {plain(second)}; the nearest key decides")
    if (more := len(result["overlaps"]) - MAX_OVERLAPS) > 0:
        put(f"... and {more:,} more overlaps; --json lists them all")
    for problem in result["problems"]:
        put(f"damage: {one_line(problem)}")
    broken = len({item["id"] for item in result["broken"]})
    put(
        f"{counted(result['checked'], 'edit')} asked, {broken} broken, {counted(len(result['overlaps']), 'overlap')}, "
        f"{counted(len(result['problems']), 'problem')} in the file"
    )


def put_check(result: dict[str, Any], options: StoreOptions, first: str = "") -> None:
    """Print the result of a check, behind a ``first`` line where it is not JSON.

    Raises:
        StoreError: if the store is damaged.
        MeloEditError: if edits no longer hold.
    """
    if options.as_json:
        put_json(result)
    else:
        if first:
            put(first)
        show_check(result)
    check_sound(options.store, result["problems"])
    if result["broken"]:
        ids = list(dict.fromkeys(item["id"] for item in result["broken"]))
        raise MeloEditError(f"{len(ids)} of {counted(result['checked'], 'edit')} no longer hold: {join_names(ids)}")


def check_sound(store: Path, problems: Sequence[str]) -> None:
    """Check that nothing is wrong with a store's file.

    Raises:
        StoreError: saying how many problems there are, and the way on.
    """
    if problems:
        way_on = f"restore it from a copy, or save what can be: meloedit repair {quoted(store)} --to NEW"
        raise StoreError(f"{store} is damaged ({counted(len(problems), 'problem')}); {way_on}")


def show_new_store(store: Path, model: str, config: MeloConfig, calibration: Mapping[str, Any]) -> None:
    """Print what a new store is made of."""
    from ..settings import PaperConfig

    put(f"made {store} for {model}")
    put(f"edited modules: {', '.join(config.modules or ())}; keys from: {config.key_layer}")
    if isinstance(config, PaperConfig):
        put(f"paper mode: {config.edits_per_block} edits to a block of rank {config.rank}, radius {config.radius:g}")
    elif calibration.get("scope") == "near-exact":
        put(
            f"no documents to calibrate on: near-exact repeats of a text (similarity {config.document_similarity:g}) "
            "alone reach its edit; see: meloedit calibrate --prompts FILE"
        )
    else:
        put(f"calibrated on {counted(calibration['prompts'], 'prompt')} ({calibration['source']})")
    put(f'next: meloedit edit {quoted(store)} --prompt "..." --target "..."')
