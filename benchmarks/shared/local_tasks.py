"""Tasks for EleutherAI's lm-evaluation-harness whose data are files at hand: nothing is fetched."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from meloedit.evaluation.tasks.records import read_records
from meloedit.rows import open_utf8

WORDS = 60
"""Words of a web text before the one that is asked."""
PARAGRAPH = 200
"""Fewest characters of a paragraph."""
CHOICES = 4
METRICS = {"last_word": "acc", "wiki": "word_perplexity", "nq": "acc"}
"""The figure that is told of each task; a perplexity should be small."""


def last_words(web: Path, count: int) -> list[dict[str, Any]]:
    """Return web texts cut before a word of letters, which the model should say next."""
    rows = []
    for record in read_records(web):
        words = record.text("text").split()
        if len(words) > WORDS and re.fullmatch(r"[A-Za-z]{3,}[.,]?", words[WORDS]):
            rows.append({"context": " ".join(words[:WORDS]), "word": words[WORDS].rstrip(".,")})
    return rows[:count]


def paragraphs(wiki: Path, count: int) -> list[dict[str, Any]]:
    """Return paragraphs of Wikipedia, which are scored as a whole."""
    with open_utf8(wiki, str(wiki)) as lines:
        texts = [line.strip() for line in lines]
    return [{"text": text} for text in texts if len(text) >= PARAGRAPH and not text.startswith("=")][:count]


def choices(questions: Path, count: int) -> list[dict[str, Any]]:
    """Return questions, each with its answer among those of three others."""
    draw, rows = random.Random(0), []
    pairs = [(one.text("question"), one.nonempty_texts("answer")[0]) for one in read_records(questions)]
    for question, answer in pairs[:count]:
        others = draw.sample([other for _, other in pairs if other != answer], CHOICES - 1)
        at = draw.randrange(CHOICES)
        rows.append({"question": question, "choices": [*others[:at], answer, *others[at:]], "answer": at})
    return rows


def write_tasks(folder: Path, web: Path, wiki: Path, questions: Path, count: int) -> list[str]:
    """Write the tasks and their rows; return the tasks' names."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(
        folder,
        "last_word",
        last_words(web, count),
        {"output_type": "loglikelihood", "doc_to_text": "{{context}}", "doc_to_target": " {{word}}"},
    )
    _write(
        folder,
        "wiki",
        paragraphs(wiki, count),
        {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"},
    )
    _write(
        folder,
        "nq",
        choices(questions, count),
        {
            "output_type": "multiple_choice",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
        },
    )
    return list(METRICS)


def _write(folder: Path, name: str, rows: Iterable[dict[str, Any]], form: dict[str, Any]) -> None:
    path = (folder / f"{name}.jsonl").resolve()
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        **form,
        "metric_list": [{"metric": METRICS[name]}],
    }
    (folder / f"{name}.yaml").write_text(json.dumps(task, indent=1), encoding="utf-8")  # JSON is YAML
