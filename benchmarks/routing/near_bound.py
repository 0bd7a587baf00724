"""How far near prompts can be told from rephrasings by somebody who is told the subject.

    python -m benchmarks.routing.near_bound --zsre zsre_distinct.jsonl.gz --counterfact counterfact_distinct.jsonl.gz

The subject of each edit is given and replaced by "X" wherever it stands, in edits, rephrasings and zsRE's near prompts;
what stands before a rephrasing's own sentence is cut off; a sentence encoder (MiniLM) then compares what is asked of X.
CounterFact's near prompts ask of other subjects, which who knows the subject tells apart. What is reported is the share
of rephrasings that lie nearer to their edit than all but a share of zsRE's near prompts do: all of these, and without
those that ask the edit's own question (every word that is not the subject occurs in the edit or a rephrasing).

With ``--observed`` the same is reported of the distances in zsRE observations of ``meloedit eval --routing``.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from common import provenance, write
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from meloedit.backbones.loading import encoder_folder
from meloedit.edit import prompt_text
from meloedit.evaluation.tasks.registry import load_task
from meloedit.evaluation.tasks.task import Item
from meloedit.keys.names import words_of

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3)
AT_ONCE = 128
X = "X"


def asked(text: str, subject: str) -> str:
    """Return what a text asks of its subject: its last sentence from before the subject on, the subject as X."""
    masked = re.sub(re.escape(subject), X, text, flags=re.IGNORECASE)
    head, found, rest = masked.partition(X)
    start = max(head.rfind(end) for end in (". ", "? ", "\n"))
    return head[start + 1 :].lstrip() + found + rest


@torch.no_grad()
def embedded(texts: list[str]) -> dict[str, Tensor]:
    """Return unit vectors of texts: the mean of the encoder's last states."""
    folder = str(encoder_folder())
    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    made: dict[str, Tensor] = {}
    ordered = sorted(set(texts), key=len)
    for start in range(0, len(ordered), AT_ONCE):
        part = ordered[start : start + AT_ONCE]
        inputs = tokenizer(part, return_tensors="pt", padding=True, truncation=True)
        mask = inputs["attention_mask"][..., None]
        means = (encoder(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)
        made |= zip(part, torch.nn.functional.normalize(means, dim=-1), strict=True)
    return made


def pairs(item: Item, texts: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return what an edit asks beside what each text asks, of those that name its subject."""
    subject = item.subject or ""
    named = [text for text in texts if subject and subject.casefold() in text.casefold()]
    return [(asked(prompt_text(item.edit.prompt), subject), asked(text, subject)) for text in named]


def observed(path: str, own: dict[str, bool]) -> dict[str, Any]:
    """Return the shares of rephrasings that an observed method keeps, by near prompts and share of them let through."""
    with Path(path).open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    near = [(row["distance"], own.get(row["prompt"], False)) for row in rows if row["set"] == "near"]
    asked = [row for row in rows if row["set"] == "rephrases"]
    of = {"first": [row for row in asked if row["k"] == 0], "others": [row for row in asked if row["k"] > 0]}
    made: dict[str, Any] = {}
    for name, some in (("all_near", near), ("without_own_question", [pair for pair in near if not pair[1]])):
        distances = torch.tensor([distance for distance, _ in some])
        made[name] = {}
        for share in SHARES:
            least = float(distances.quantile(share))
            hits = {k: [r["nearest"] == r["wanted"] and r["distance"] < least for r in v] for k, v in of.items()}
            made[name][f"{share:g}"] = {f"zsre_{k}": round(sum(v) / len(v), 3) for k, v in hits.items()}
    return made


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zsre", required=True, metavar="FILE")
    parser.add_argument("--counterfact", required=True, metavar="FILE")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--observed", metavar="FILE", help="observations of zsRE by eval --routing")
    parser.add_argument("--out", metavar="FILE")
    given = parser.parse_args()
    zsre = load_task("zsre", [given.zsre], 0, "routing").items[: given.count]
    counterfact = load_task("counterfact", [given.counterfact], 0, "routing").items[: given.count]
    first = [pair for item in zsre for pair in pairs(item, item.rephrases[:1])]
    others = [pair for item in zsre for pair in pairs(item, item.rephrases[1:])]
    sentences = [pair for item in counterfact for pair in pairs(item, item.rephrases)]
    near: list[tuple[str, str]] = []
    own: list[bool] = []
    asks_own: dict[str, bool] = {}
    for item in zsre:
        words = set().union(*(words_of(prompt_text(item.edit.prompt)), *map(words_of, item.rephrases)))
        found = pairs(item, item.near)
        near += found
        own += [words_of(text.replace(X, "")) <= words for _, text in found]
        asks_own |= {text: words_of(asked(text, item.subject or X).replace(X, "")) <= words for text in item.near}
    vectors = embedded([text for pair in first + others + sentences + near for text in pair])

    def cosines(of: list[tuple[str, str]]) -> Tensor:
        return torch.stack([vectors[a] @ vectors[b] for a, b in of])

    positives = {"zsre_first": cosines(first), "zsre_others": cosines(others), "counterfact": cosines(sentences)}
    negatives = cosines(near)
    result: dict[str, Any] = {"task": "rephrasings against zsRE's near prompts, the subject given", "near": len(near)}
    result["near_that_ask_the_edits_own_question"] = sum(own)
    for name, kept in (("all_near", negatives), ("without_own_question", negatives[~torch.tensor(own)])):
        result[name] = {
            f"{share:g}": {
                kind: round(float((values > kept.quantile(1 - share)).float().mean()), 3)
                for kind, values in positives.items()
            }
            for share in SHARES
        }
    if given.observed:
        result["observed"] = observed(given.observed, asks_own)
    write(result | {"provenance": provenance()}, given.out)


if __name__ == "__main__":
    main()
