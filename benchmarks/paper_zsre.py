"""The paper's zsRE task on an encoder-decoder: paper mode and default mode side by side, scored as edits pile up.

    python benchmarks/paper_zsre.py --model T5_FOLDER --edits zsre_mend_eval_portability_1037.jsonl.gz \
        --upstream nq_open_dev.jsonl.gz --out docs/results/paper-zsre.json

The edits are the questions that the model answers wrongly (greedy generation, exact match), toward their first true
answer, a hundred to a block. Hold-out: one rephrasing of each, never trained on. Locality: all upstream questions as
the model was trained on them, against the unedited model's answers and against the gold ones. Scored after every 200
edits, on all edits so far.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from common import peak_gigabytes, provenance, write
from rich.progress import Progress

from meloedit import Answer, Edit, Editor, MeloConfig
from meloedit.backbones.loading import load_model
from meloedit.evaluation.metrics.estimates import exact, f1, mean, released_f1, share
from meloedit.evaluation.tasks.data_files import open_data_file
from meloedit.evaluation.tasks.far import read_nq
from meloedit.evaluation.tasks.questions import read_zsre
from meloedit.settings import read_config

BATCH = 128


class Scorer:
    """Scores answers by the tokens of the model's own vocabulary."""

    def __init__(self, editor: Editor) -> None:
        self.tokenizer = editor.tokenizer

    def ids(self, text: str) -> list[int]:
        """Return a text's tokens without special ones."""
        return self.tokenizer(text.strip(), add_special_tokens=False)["input_ids"]

    def against(self, answers: list[Answer], wanted: list[str]) -> dict[str, Any]:
        """Score answers against texts: exact match and F1 over token multisets."""
        pairs = list(zip(answers, wanted, strict=True))
        return {
            "exact": share([exact(answer.text, text) for answer, text in pairs]).to_dict(),
            "f1": mean([f1(self.ids(answer.text), self.ids(text)) for answer, text in pairs]).to_dict(),
        }

    def released(self, answers: list[Answer], wanted: list[str], end: int, size: int) -> float:
        """Score as the released code does, batch by batch (reference quirks only)."""
        # What it compares begins with the start token and ends with the end token.
        made = [[0, *self.ids(answer.text), end] for answer in answers]
        gold = [[*self.ids(text), end] for text in wanted]
        parts = [released_f1(made[i : i + size], gold[i : i + size], end) for i in range(0, len(made), size)]
        return round(sum(parts) / len(parts), 4)


def routed(answers: list[Answer], wanted: list[str], target_of: dict[str, str]) -> dict[str, Any]:
    """Return the shares of prompts routed to an edit with the right answer, to another edit, and to none."""
    said = [target_of[answer.route.edit] if answer.route.edit else None for answer in answers]
    right = [text == target for text, target in zip(said, wanted, strict=True)]
    return {
        "right": share(right).to_dict(),
        "wrong": share([text is not None and not ok for text, ok in zip(said, right, strict=True)]).to_dict(),
        "none": share([text is None for text in said]).to_dict(),
    }


def run(editor: Editor, edits: list[Edit], holdout: list[str], upstream: Any, every: int, bar: Progress) -> Any:
    """Edit in parts of ``every`` edits, and score all so far after each part."""
    scorer, end = Scorer(editor), editor.backbone.stop_ids[0]
    questions = [question.prompt for question in upstream]
    gold = [question.answers[0] for question in upstream]
    with editor.disabled():
        base = editor.ask(questions, batch_size=BATCH)
    growth: list[dict[str, Any]] = []
    held, seconds = 0, 0.0
    task = bar.add_task("editing", total=len(edits))
    for start in range(0, len(edits), every):
        part = edits[start : start + every]
        began = time.process_time()
        for reports in editor.edit_in_parts(part):
            held += sum(report.held for report in reports)
            bar.advance(task, len(reports))
        seconds += time.process_time() - began
        done = edits[: start + len(part)]
        targets = [edit.target for edit in done]
        target_of = {edit.id: edit.target for edit in done}
        asked = editor.ask([str(edit.prompt) for edit in done], batch_size=BATCH)
        rephrased = editor.ask(holdout[: len(done)], batch_size=BATCH)
        local = editor.ask(questions, batch_size=BATCH)
        row: dict[str, Any] = {
            "edits": len(done),
            "held": held,
            "edit_success": scorer.against(asked, targets),
            "edit_routes": routed(asked, targets, target_of),
            "generality": scorer.against(rephrased, targets),
            "generality_routes": routed(rephrased, targets, target_of),
            "locality_against_base": scorer.against(local, [answer.text for answer in base]),
            "locality_against_gold": scorer.against(local, gold),
            "base_against_gold": scorer.against(base, gold),
            "activation": share([answer.route.edit is not None for answer in local]).to_dict(),
            "editing_processor_seconds": round(seconds, 1),
        }
        if editor.config.mode == "paper":
            row["index"] = editor.index.counts  # type: ignore[union-attr]
        if editor.config.reference_quirks:
            size = editor.config.edits_per_block
            row["released_f1"] = {
                "edits": scorer.released(asked, targets, end, size),
                "rephrasings": scorer.released(rephrased, targets, end, size),
                "upstream": scorer.released(local, gold, end, size),
            }
        growth.append(row)
        print(json.dumps({"mode": editor.config.mode} | row), flush=True)
    return growth


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--edits", required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--count", type=int, help="the first questions only")
    parser.add_argument("--modes", default="default,paper")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="NAME=VALUE, paper mode")
    parser.add_argument("--out")
    args = parser.parse_args()
    drafts = read_zsre([open_data_file(args.edits, "zsre")], paper=True).drafts[: args.count]
    items = [draft.item for draft in drafts]
    upstream = read_nq(open_data_file(args.upstream, "zsre"))
    result: dict[str, Any] = {"task": "zsre", "settings": {}, "growth": {}}
    with Progress() as bar:
        for mode in args.modes.split(","):
            config = read_config({}, args.settings, paper=True) if mode == "paper" else MeloConfig()
            with Editor(*load_model(args.model, dtype="float32"), config=config) as editor:
                said = editor.ask([item.edit.prompt for item in items], batch_size=BATCH)
                wrong = [item for item, a in zip(items, said, strict=True) if not exact(a.text, item.edit.target)]
                edits = [Edit(item.edit.prompt, item.edit.target, id=f"q{i}") for i, item in enumerate(wrong)]
                result |= {"questions": len(items), "answered_wrongly": len(wrong)}
                holdout = [item.rephrases[0] for item in wrong]
                result["settings"][mode] = editor.config.to_dict()
                result["growth"][mode] = run(editor, edits, holdout, upstream, args.every, bar)
                result["reference_quirks"] = editor.config.reference_quirks
    write(result | {"peak_gigabytes": peak_gigabytes(), "provenance": provenance()}, args.out and Path(args.out))


if __name__ == "__main__":
    main()
