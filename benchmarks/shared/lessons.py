"""Training edits for methods that learn beforehand, of each of the paper's tasks: none of them is scored."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from meloedit.errors import MeloEditError
from meloedit.evaluation.tasks.datasets import hallucinations, scotus_cases, split
from meloedit.evaluation.tasks.records import read_records

FIRST_PART = 1500
"""Characters of an opinion after which the text of another wording begins: about as many as a classifier reads."""


def of_scotus(cases: Path) -> list[dict[str, Any]]:
    """Return edits of the cases after 2009, which are never scored; a case of the training years must stay as it is."""
    parts = split(scotus_cases(cases))
    rows = []
    for case, kept in zip(parts.later, parts.train, strict=False):
        rest = [case.text[FIRST_PART:]] if len(case.text) > 2 * FIRST_PART else []
        rows.append({"prompt": case.text, "target": case.topic, "variants": rest, "quiet": [kept.text]})
    return rows


def of_zsre(questions: Path) -> list[dict[str, Any]]:
    """Return MEND's training questions with their true answers; a question of NQ must stay as it is."""
    rows = []
    for record in read_records(questions):
        loc = record.text("loc").removeprefix("nq question: ").rstrip("?") + "?"
        answers = record.nonempty_texts("answers")
        rows.append(
            {"prompt": record.text("src"), "target": answers[0], "variants": [record.text("rephrase")], "quiet": [loc]}
        )
    return rows


def of_hallucination(edits: Path, biographies: Path, scored: Iterable[str]) -> list[dict[str, Any]]:
    """Return the edits of biographies that are not scored; an accurate sentence's prompt must stay as it is.

    Args:
        edits: WISE's edits.
        biographies: GPT-3's biographies.
        scored: the numbers of biographies with a scored edit.
    """
    taken = set(scored)
    sentences, accurate = hallucinations(edits, biographies)
    kept = [one.prompt for one in accurate if str(one.bio) not in taken]
    left = [one for one in sentences if str(one.bio) not in taken]
    return [
        {"prompt": one.prompt, "target": one.target, "variants": [], "quiet": [kept[i % len(kept)]]}
        for i, one in enumerate(left)
    ]


def write_lessons(rows: list[dict[str, Any]], path: Path) -> Path:
    """Write training edits as JSON lines; a repeated prompt is left out.

    Raises:
        MeloEditError: if there are none.
    """
    once = {row["prompt"]: row for row in rows}
    if not once:
        raise MeloEditError(f"{path.name}: no training edit is left beside those that are scored")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in once.values()), encoding="utf-8")
    return path
