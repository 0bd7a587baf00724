"""How well near prompts can be separated from rephrasings if the subject is given: an upper bound for any index.

    python -m benchmarks.routing.near_bound --zsre zsre_distinct.jsonl.gz --counterfact counterfact_distinct.jsonl.gz

The subject of each edit is given, and replaced by "X" in edits, rephrasings and zsRE's near prompts. The sentences
before the one with the subject are cut off. A sentence encoder (MiniLM) then compares what is asked about X.
CounterFact's near prompts ask about other subjects, so the subject alone separates them.

The figures are the shares of rephrasings that are nearer to their edit than all but a given share of zsRE's near
prompts are. They come twice: over all near prompts, and without those that ask the question of the edit itself (each
of their words, the subject aside, is in the edit or in a rephrasing).

``--observed`` gives the same figures for the distances in zsRE observations of ``meloedit eval --routing``. This has
come to leave prompts of the second kind out, so that both figures are alike for newer observations.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meloedit.backbones.loading import ENCODER
from meloedit.edit import prompt_text
from meloedit.evaluation.tasks.registry import load_task
from meloedit.evaluation.tasks.scope.own_question import asks_own_question, question_about
from meloedit.evaluation.tasks.task import Item
from meloedit.methods.in_context.text_encoder import TextEncoder

from ..shared.options import option_parser, positive, write

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3)
"""Shares of near prompts that are let through."""


def unit_vectors(texts: list[str]) -> dict[str, Tensor]:
    """Return the unit vector (d,) of each text by MiniLM."""
    ordered = sorted(set(texts), key=len)  # texts of like length go together: less padding
    return dict(zip(ordered, TextEncoder(ENCODER, "cpu").embed(ordered), strict=True))


def question_pairs(item: Item, texts: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return pairs of the edit's question and a text's question, for the texts that name the edit's subject."""
    subject = item.subject or ""
    named = [text for text in texts if subject and subject.casefold() in text.casefold()]
    return [(question_about(prompt_text(item.edit.prompt), subject), question_about(text, subject)) for text in named]


def observed(path: str, asks_same: dict[str, bool]) -> dict[str, Any]:
    """Return the shares of rephrasings that an evaluated method lets through.

    Args:
        path: observations of zsRE by ``meloedit eval --routing``.
        asks_same: near prompts, and whether each asks the question of its edit.

    Returns:
        The shares, by the set of near prompts and the share of these that is let through.
    """
    with Path(path).open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    near = [(row["distance"], asks_same.get(row["prompt"], False)) for row in rows if row["set"] == "near"]
    rephrases = [row for row in rows if row["set"] == "rephrases"]
    of = {"first": [row for row in rephrases if row["k"] == 0], "others": [row for row in rephrases if row["k"] > 0]}
    figures: dict[str, Any] = {}
    for name, pairs in (("all_near", near), ("without_own_question", [pair for pair in near if not pair[1]])):
        distances = torch.tensor([distance for distance, _ in pairs])
        figures[name] = {}
        for share in SHARES:
            least = float(distances.quantile(share))
            hits = {k: [r["nearest"] == r["wanted"] and r["distance"] < least for r in v] for k, v in of.items()}
            figures[name][f"{share:g}"] = {f"zsre_{k}": round(sum(v) / len(v), 3) for k, v in hits.items()}
    return figures


def main() -> None:
    """Measure, and write the figures."""
    parser = option_parser(__doc__)
    parser.add_argument("--zsre", required=True, metavar="FILE")
    parser.add_argument("--counterfact", required=True, metavar="FILE")
    parser.add_argument("--count", type=positive, default=1000)
    parser.add_argument("--observed", metavar="FILE", help="observations of zsRE by meloedit eval --routing")
    given = parser.parse_args()
    zsre = load_task("zsre", [given.zsre], 0, "routing", own_question=True).items[: given.count]
    counterfact = load_task("counterfact", [given.counterfact], 0, "routing").items[: given.count]
    first = [pair for item in zsre for pair in question_pairs(item, item.rephrases[:1])]
    others = [pair for item in zsre for pair in question_pairs(item, item.rephrases[1:])]
    sentences = [pair for item in counterfact for pair in question_pairs(item, item.rephrases)]
    near: list[tuple[str, str]] = []
    same: list[bool] = []
    asks_same: dict[str, bool] = {}
    for item in zsre:
        of_item = question_pairs(item, item.near)
        near += of_item
        named = [text for text in item.near if item.subject and item.subject.casefold() in text.casefold()]
        same += [asks_own_question(item, text) for text in named]
        asks_same |= {text: asks_own_question(item, text) for text in item.near}
    vectors = unit_vectors([text for pair in first + others + sentences + near for text in pair])

    def cosines(of: list[tuple[str, str]]) -> Tensor:
        return torch.stack([vectors[a] @ vectors[b] for a, b in of])

    positives = {"zsre_first": cosines(first), "zsre_others": cosines(others), "counterfact": cosines(sentences)}
    negatives = cosines(near)
    result: dict[str, Any] = {"task": "rephrasings against zsRE's near prompts, the subject given", "near": len(near)}
    result["near_that_ask_the_edits_own_question"] = sum(same)
    for name, values_near in (("all_near", negatives), ("without_own_question", negatives[~torch.tensor(same)])):
        result[name] = {
            f"{share:g}": {
                kind: round(float((values > values_near.quantile(1 - share)).float().mean()), 3)
                for kind, values in positives.items()
            }
            for share in SHARES
        }
    if given.observed:
        result["observed"] = observed(given.observed, asks_same)
    write(result, given.out)


if __name__ == "__main__":
    main()
