r"""Perplexity of corrected biographies, of their accurate sentences and of web text, with and without edits.

    python -m benchmarks.paper.hallucination --edits wise_hallucination_edits.jsonl.gz \
        --biographies wiki_bio_gpt3_hallucination.jsonl.gz --web openwebtext-1000.jsonl.gz --count 200
    ... --mode paper --set radius=0.5 --set 'modules=["model.layers.28.mlp.down_proj"]'

Everything is scored after the last edit, teacher-forced: the exponential of the mean negative log-likelihood over all
target tokens of a set. The rows of all sets are shuffled into the same padded batches. With ``--as-edited`` the edits
keep the batches they were made in, and the other sets follow. The prompt alone decides the route: the target is in the
batch, since it is scored, but never part of a key.

An edit is trained to end its answer with the end token; the base model does not end a biography there. So each figure
of sentences is given twice, with the end token and without. A web text has no end token.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass
from typing import Any

import torch
from rich.progress import Progress

from meloedit import Edit, Editor, MeloConfig
from meloedit.backbones import loading as zoo
from meloedit.errors import MeloEditError
from meloedit.evaluation.metrics.estimates import perplexity_of_rows
from meloedit.evaluation.run.provenance import peak_gigabytes
from meloedit.evaluation.tasks.data_files import open_data_file
from meloedit.evaluation.tasks.datasets import Sentence, hallucinations
from meloedit.paper.config import PaperConfig

from ..shared.options import option_parser, positive, share, write

PAPER = {"edits_per_block": 4, "rank": 2, "lr": 1e-3}
WEB_PROMPT, WEB_TARGET = 32, 128


@dataclass(frozen=True)
class Row:
    """A prompt and the target that is scored after it.

    Attributes:
        name: the set that the row belongs to.
        prompt: token ids.
        target: token ids.
        ends: whether the target ends with the end token.
        edit: id of the edit that should answer; ``None`` for the base model.
    """

    name: str
    prompt: list[int]
    target: list[int]
    ends: bool
    edit: str | None = None


@dataclass
class Scored:
    """A row's negative log-likelihood per target token, by the base and the edited model, and the edit that fired."""

    row: Row
    base: list[float]
    edited: list[float]
    fired: str | None
    identical: bool


def sentence_row(editor: Editor, name: str, sentence: Sentence, edit: str | None = None) -> Row:
    """Tokenise a sentence like an edit: the target ends with the end token."""
    encoded = editor.backbone.encode(sentence.prompt)
    return Row(name, list(encoded.ids), list(editor.backbone.encode_target(sentence.target, encoded)), True, edit)


def web_rows(editor: Editor, texts: list[str]) -> list[Row]:
    """Cut each web text into a prompt and a target; texts that are no longer than the prompt are left out."""
    size = WEB_PROMPT + WEB_TARGET
    cut = [editor.tokenizer(text, truncation=True, max_length=size)["input_ids"] for text in texts]
    return [Row("web", ids[:WEB_PROMPT], ids[WEB_PROMPT:], False) for ids in cut if len(ids) > WEB_PROMPT]


def likelihoods(logits: torch.Tensor, row: Row) -> list[float]:
    """Return the negative log-likelihood of each target token, from the logits of its row."""
    first = len(row.prompt) - 1  # the last prompt token predicts the first target token
    scores = logits[first : first + len(row.target)].float().log_softmax(-1)
    return (-scores.gather(-1, torch.tensor(row.target, device=scores.device)[:, None])[:, 0]).tolist()


@torch.no_grad()
def score(editor: Editor, rows: list[Row], size: int, bar: Progress) -> list[Scored]:
    """Score rows with and without edits, in batches of ``size`` that are padded on the right."""
    task = bar.add_task("scoring", total=len(rows))
    pad, model, scored = editor.backbone.pad_id, editor.model, []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        whole = [row.prompt + row.target for row in part]
        width = max(map(len, whole))
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in whole], device=model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in whole], device=model.device)
        with editor.prompt_lengths([len(row.prompt) for row in part]):
            edited = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        routes = editor.last_routes
        with editor.base_model():
            base = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for i, row in enumerate(part):
            before, after = likelihoods(base[i], row), likelihoods(edited[i], row)
            real = slice(len(whole[i]))
            identical = torch.equal(base[i, real], edited[i, real])
            scored.append(Scored(row, before, after, routes[i].edit, identical))
        bar.advance(task, len(part))
    return scored


def perplexities(scored: list[Scored], which: str) -> dict[str, Any]:
    """Return the perplexity of rows without their end tokens, and with them where all rows have one.

    Args:
        scored: the rows.
        which: ``base`` or ``edited``.
    """
    result = {}
    for label, with_end in (("perplexity", False), ("perplexity_with_end", True)):
        if with_end and not all(item.row.ends for item in scored):
            continue
        cut = [len(item.row.target) - (item.row.ends and not with_end) for item in scored]
        sums = [sum(getattr(item, which)[:count]) for item, count in zip(scored, cut, strict=True)]
        result[label] = perplexity_of_rows(sums, cut).to_dict() | {"tokens": sum(cut)}
    return result


def summary(scored: list[Scored]) -> dict[str, Any]:
    """Return the figures of one set."""
    quiet = [item.identical for item in scored if item.fired is None]
    result = {
        "rows": len(scored),
        "base": perplexities(scored, "base"),
        "edited": perplexities(scored, "edited"),
        "activated": share([item.fired is not None for item in scored]),
        "bit_identical_when_not_routed": share(quiet) if quiet else None,
    }
    if scored[0].row.edit is not None:
        result["routed_right"] = share([item.fired == item.row.edit for item in scored])
    return result


def settings_of(parser: argparse.ArgumentParser, texts: list[str]) -> dict[str, Any]:
    """Parse ``name=value`` settings. A value must be JSON, so that no misspelt number passes as a text."""
    settings = {}
    for item in texts:
        name, equals, text = item.partition("=")
        try:
            settings[name] = json.loads(text)
        except ValueError:
            parser.error(f"--set {item}: give name=value with the value as JSON, as in radius=0.5 or key_layer='\"x\"'")
        if not name or not equals:
            parser.error(f"--set {item}: give name=value")
    return settings


def config_of(parser: argparse.ArgumentParser, mode: str, settings: dict[str, Any]) -> MeloConfig:
    """Return the configuration of a mode."""
    try:
        if mode == "paper":
            return PaperConfig.from_dict(PAPER | settings)
        return MeloConfig.from_dict(settings)
    except (MeloEditError, TypeError) as error:  # TypeError: no such setting
        parser.error(str(error))


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    parser.add_argument("--edits", required=True, help="file of WISE's hallucination edits")
    parser.add_argument("--biographies", required=True, help="file of GPT-3's biographies with sentence labels")
    parser.add_argument("--web", required=True, help="file of web texts")
    parser.add_argument("--count", type=positive, default=200, help="edits made: the first of the file")
    parser.add_argument("--web-count", type=positive, help="web texts scored: the first of the file (default: all)")
    parser.add_argument("--model", default=zoo.DEMO_MODEL)
    parser.add_argument("--mode", choices=["default", "paper"], default="default")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, its value as JSON")
    parser.add_argument("--batch", type=positive, default=8, help="rows scored at once")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order in which sets are mixed")
    parser.add_argument(
        "--as-edited",
        action="store_true",
        help="score edits in the batches they were made in, as the released code does",
    )
    given = parser.parse_args()
    config = config_of(parser, given.mode, settings_of(parser, given.set))
    corrections, accurate = hallucinations(given.edits, given.biographies)
    corrections = corrections[: given.count]
    touched = {sentence.bio for sentence in corrections}
    accurate = [sentence for sentence in accurate if sentence.bio in touched]
    web = open_data_file(given.web, "hallucination").rows[: given.web_count]
    texts = [record.text("text") for record in web]
    edits = [Edit(sentence.prompt, sentence.target) for sentence in corrections]
    with Progress() as bar, Editor(*zoo.load_model(given.model), config, name=given.model) as editor:
        editor.model.eval()
        task = bar.add_task("editing", total=len(edits))
        began, spent = time.perf_counter(), time.process_time()
        parts = editor.edit_in_parts(edits, progress=lambda what, done, of: bar.update(task, completed=done, total=of))
        reports = [report for part in parts for report in part]
        seconds, spent = time.perf_counter() - began, time.process_time() - spent
        rows = [
            sentence_row(editor, "edits", sentence, edit.id) for sentence, edit in zip(corrections, edits, strict=True)
        ]
        rows += [sentence_row(editor, "accurate", sentence) for sentence in accurate]
        rows += web_rows(editor, texts)
        if not given.as_edited:
            random.Random(given.seed).shuffle(rows)
        size = config.edits_per_block if given.as_edited and isinstance(config, PaperConfig) else given.batch
        scored = score(editor, rows, size, bar)
        sets = {name: [item for item in scored if item.row.name == name] for name in ("edits", "accurate", "web")}
        result = {
            "task": "perplexity of targets after edits: corrected sentences, accurate ones, web text",
            "model": given.model,
            "mode": given.mode,
            "scored_as_edited": given.as_edited,
            "config": editor.config.to_dict(),
            "count": len(edits),
            "biographies": len(touched),
            "held": share([report.holds for report in reports]),
            "seconds_editing": round(seconds, 1),
            "cpu_seconds_editing": round(spent, 1),
            "steps_mean": round(sum(report.steps for report in reports) / len(reports), 1),
            "not_held": sorted({report.reason for report in reports if not report.holds}),
            **{name: summary(items) if items else None for name, items in sets.items()},
            "peak_gigabytes": peak_gigabytes(),
        }
    write(result, given.out)


if __name__ == "__main__":
    main()
