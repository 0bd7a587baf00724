"""Measure the judge alone, without an index: python -m judge.measure --dev FILE --pairs FILE --chats FILE...."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertForSequenceClassification

from meloedit.judging.judge import Judge
from meloedit.judging.pairs import PairTokenizer
from meloedit.routing.verifier import Candidate, Verifier, Wordings
from meloedit.types import Asked

from .mixture import Pair, asked, kept_back, read_rows

Score = Callable[[Sequence[Asked], Sequence[Asked]], Tensor]
"""Scores n prompts, each beside a wording: (n,) log-odds."""


def sets_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Pair]]:
    """Return pairs of helpdesk rows by what they test; the edit is the row's prompt."""
    sets: dict[str, list[Pair]] = {}

    def add(name: str, row: Mapping[str, Any], prompts: Sequence[Any], same: bool) -> None:
        sets.setdefault(name, []).extend(Pair(asked(prompt), asked(row["prompt"]), same) for prompt in prompts)

    for row in rows:
        add("close", row, row["rephrasings"][:2], True)
        add("far", row, row["rephrasings"][2:3], True)
        add("terse", row, row["rephrasings"][3:4], True)
        add("subject_hard", row, row["near_same_subject"][:2], False)
        add("subject_easy", row, row["near_same_subject"][2:4], False)
        add("relation", row, row["near_same_relation"], False)
        add("chat", row, [row["multi_turn"]] if row.get("multi_turn") else [], True)
        add("pronoun", row, [row["pronoun_turn"]] if row.get("pronoun_turn") else [], True)
    return sets


def coverage(same: Tensor, other: Tensor, share: float) -> float:
    """Return the share of ``same`` above the score that a ``share`` of ``other`` exceeds."""
    place = int(len(other) * (1 - share))
    return (same > other.sort().values[min(place, len(other) - 1)]).float().mean().item()


def auc(same: Tensor, other: Tensor) -> float:
    """Return the probability that a pair of ``same`` scores above one of ``other``."""
    return ((same[:, None] > other).float().mean() + 0.5 * (same[:, None] == other).float().mean()).item()


def report(score: Score, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return figures for English rows, and for the others."""
    figures: dict[str, float] = {}
    for name in ("en", "other"):
        sets = sets_of([row for row in rows if (row["lang"] == "en") == (name == "en")])
        scores = {
            kind: score([pair.prompt for pair in pairs], [pair.wording for pair in pairs])
            for kind, pairs in sets.items()
            if pairs
        }
        same = torch.cat([scores[kind] for kind in ("close", "far", "terse")])
        subject = torch.cat([scores["subject_hard"], scores["subject_easy"]])
        figures |= {
            f"{name} auc subject": auc(same, subject),
            f"{name} auc relation": auc(same, scores["relation"]),
            f"{name} kept at 5% subject": coverage(same, subject, 0.05),
            f"{name} kept at 10% subject": coverage(same, subject, 0.1),
            f"{name} kept at 5% relation": coverage(same, scores["relation"], 0.05),
            **{f"{name} {kind} > 0": (values > 0).float().mean().item() for kind, values in scores.items()},
        }
    return {name: round(value, 3) for name, value in figures.items()}


def near_pairs(rows: Sequence[Mapping[str, Any]]) -> list[Pair]:
    """Return each near question of rows beside the row's prompt."""
    return [
        Pair(asked(near), asked(row["prompt"]), False)
        for row in rows
        for near in (*row["near_same_subject"], *row["near_same_relation"])
    ]


def scorer(model: BertForSequenceClassification, pairs: PairTokenizer) -> Score:
    """Return a function that scores prompts and wordings (n,) in batches of like length."""

    @torch.no_grad()
    def score(prompts: Sequence[Asked], wordings: Sequence[Asked]) -> Tensor:
        model.eval()
        sizes = [len(p.text) + sum(map(len, p.before)) + len(w.text) for p, w in zip(prompts, wordings, strict=True)]
        order = sorted(range(len(prompts)), key=sizes.__getitem__)
        scores = torch.zeros(len(prompts))
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            ids, types, mask = pairs.pad(pairs.encode([prompts[i] for i in part], [wordings[i] for i in part]))
            scores[part] = model(input_ids=ids, token_type_ids=types, attention_mask=mask).logits[:, 0]
        model.train()
        return scores

    return score


def traps(score: Score, rows: Sequence[Mapping[str, Any]], least: float) -> dict[str, float]:
    """Return for pairs ``{a, b, same, category}`` the AUC and the shares that would fire: of all and each category."""
    scores = score([asked(row["b"]) for row in rows], [asked(row["a"]) for row in rows])
    figures = {}
    for name in ("all", *dict.fromkeys(row["category"] for row in rows)):
        same, other = (
            scores[torch.tensor([row["same"] == kind and name in ("all", row["category"]) for row in rows])]
            for kind in (True, False)
        )
        parts = (("same fires", same), ("other fires", other))
        figures[f"traps {name} auc"] = round(auc(same, other), 3)
        figures |= {f"traps {name} {kind}": round((part > least).double().mean().item(), 3) for kind, part in parts}
    return figures


def ruled(judge: Judge) -> Score:
    """Return a function that scores prompts and wordings (n,) by the judge and the rules of ``Verifier``."""

    def score(prompts: Sequence[Asked], wordings: Sequence[Asked]) -> Tensor:
        verifier = Verifier(judge, lambda i: Wordings((wordings[i],)))
        scored = verifier.score(prompts, [[Candidate(i, 0.0)] for i in range(len(prompts))])
        return torch.tensor([one.score for (one,) in scored])

    return score


def fires(judge: Judge, pairs: Sequence[Pair], least: float) -> float:
    """Return the share of prompts that would fire their edit, by the rules for turns, languages and guards."""
    scores = ruled(judge)([pair.prompt for pair in pairs], [pair.wording for pair in pairs])
    return round((scores > least).double().mean().item(), 3)


def chats(judge: Judge, rows: Sequence[Mapping[str, Any]], least: float) -> dict[str, float]:
    """Return the shares of conversations that would fire, of those that ask their row's question, and of the others."""
    pairs = {
        name: [Pair(asked(chat), asked(row["prompt"]), name == "chat_same") for row in rows for chat in row[name]]
        for name in ("chat_same", "chat_other")
    }
    return {name: fires(judge, of_name, least) for name, of_name in pairs.items()}


def languages(judge: Judge, rows: Sequence[Mapping[str, Any]], least: float) -> dict[str, float]:
    """Return, for each language, the shares of rephrasings and of near questions that would fire."""
    figures = {}
    for name in dict.fromkeys(row["lang"] for row in rows):
        of_lang = [row for row in rows if row["lang"] == name]
        same = [Pair(asked(text), asked(row["prompt"]), True) for row in of_lang for text in row["rephrasings"]]
        figures |= {
            f"{name} reach": fires(judge, same, least),
            f"{name} near": fires(judge, near_pairs(of_lang), least),
        }
    return figures


def main() -> None:
    """Print the figures of the judge that ships, or of another file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--chats", type=Path, nargs="+", required=True, help="files of which every 14th row is taken")
    parser.add_argument("--languages", type=Path, nargs="*", default=[], help="the same, of other languages")
    args = parser.parse_args()
    judge = Judge.open(args.judge)
    least = judge.least_score(0.14)
    figures = report(judge.scores, read_rows([args.dev])) | traps(judge.scores, pairs := read_rows([args.pairs]), least)
    figures |= {f"with rules: {name}": value for name, value in traps(ruled(judge), pairs, least).items()}
    for path in args.chats:
        figures |= {f"{path.name}: {k}": v for k, v in chats(judge, kept_back(path, True), least).items()}
    figures |= languages(judge, [row for path in args.languages for row in kept_back(path, True)], least)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
