r"""The paper's zsRE task on an encoder-decoder, in paper mode and default mode, scored as edits pile up.

    python -m benchmarks.paper.zsre --model T5_FOLDER --edits zsre_mend_eval_portability_1037.jsonl.gz \
        --upstream nq_open_dev.jsonl.gz --out docs/results/paper/zsre.json

The edits are the questions that the model answers wrongly (greedy generation, exact match); their target is the first
true answer, and a hundred of them share a block. Generality: one rephrasing of each, never trained on. Locality: all
upstream questions, worded as in the model's training, against the unedited model's answers and against the true ones.
All edits so far are scored after every 200.
"""

from __future__ import annotations

import json
import time
from typing import Any

from rich.progress import Progress

from meloedit import Answer, Edit, Editor, MeloConfig
from meloedit.backbones.loading import load_model
from meloedit.evaluation.metrics.estimates import exact, f1, mean, released_f1
from meloedit.evaluation.run.provenance import peak_gigabytes
from meloedit.evaluation.tasks.data_files import open_data_file
from meloedit.evaluation.tasks.far import read_nq
from meloedit.evaluation.tasks.questions import read_zsre
from meloedit.paper.config import PaperConfig
from meloedit.settings import read_config

from ..shared.options import option_parser, positive, share, write

BATCH = 128


class Scorer:
    """Scores answers by the tokens of the model's vocabulary."""

    def __init__(self, editor: Editor) -> None:
        self.tokenizer = editor.tokenizer

    def ids(self, text: str) -> list[int]:
        """Return a text's tokens without special ones."""
        return self.tokenizer(text.strip(), add_special_tokens=False)["input_ids"]

    def against(self, answers: list[Answer], wanted: list[str]) -> dict[str, Any]:
        """Score answers against texts: exact match and F1 over token multisets."""
        pairs = list(zip(answers, wanted, strict=True))
        return {
            "exact": share([exact(answer.text, text) for answer, text in pairs]),
            "f1": mean([f1(self.ids(answer.text), self.ids(text)) for answer, text in pairs]).to_dict(),
        }

    def released(self, answers: list[Answer], wanted: list[str], end: int, size: int) -> float:
        """Score as the released code does, batch by batch (reference quirks only)."""
        # The released code compares whole sequences, from the start token to the end token.
        predicted = [[0, *self.ids(answer.text), end] for answer in answers]
        gold = [[*self.ids(text), end] for text in wanted]
        parts = [released_f1(predicted[i : i + size], gold[i : i + size], end) for i in range(0, len(predicted), size)]
        return round(sum(parts) / len(parts), 4)


def routed(answers: list[Answer], wanted: list[str], target_of: dict[str, str]) -> dict[str, Any]:
    """Return the shares of prompts routed to an edit with the right answer, to another edit, and to none."""
    routed_to = [target_of[answer.route.edit] if answer.route.edit else None for answer in answers]
    right = [text == target for text, target in zip(routed_to, wanted, strict=True)]
    return {
        "right": share(right),
        "wrong": share([text is not None and not ok for text, ok in zip(routed_to, right, strict=True)]),
        "none": share([text is None for text in routed_to]),
    }


def quirks_batch_size(config: MeloConfig) -> int | None:
    """Return how many edits the released code scores at once; ``None`` without ``reference_quirks``."""
    return config.edits_per_block if isinstance(config, PaperConfig) and config.reference_quirks else None


def run(editor: Editor, edits: list[Edit], holdout: list[str], upstream: Any, every: int, bar: Progress) -> Any:
    """Make ``every`` edits at a time, and score all edits so far after each part."""
    scorer, end = Scorer(editor), editor.backbone.stop_ids[0]
    quirks_size = quirks_batch_size(editor.config)
    questions = [question.prompt for question in upstream]
    gold = [question.answers[0] for question in upstream]
    with editor.base_model():
        base = editor.ask(questions, batch_size=BATCH)
    growth: list[dict[str, Any]] = []
    holding, seconds = 0, 0.0
    task = bar.add_task("editing", total=len(edits))
    for start in range(0, len(edits), every):
        part = edits[start : start + every]
        began = time.process_time()
        for reports in editor.edit_in_parts(part):
            holding += sum(report.holds for report in reports)
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
            "held": holding,
            "edit_success": scorer.against(asked, targets),
            "edit_routes": routed(asked, targets, target_of),
            "generality": scorer.against(rephrased, targets),
            "generality_routes": routed(rephrased, targets, target_of),
            "locality_against_base": scorer.against(local, [answer.text for answer in base]),
            "locality_against_gold": scorer.against(local, gold),
            "base_against_gold": scorer.against(base, gold),
            "activation": share([answer.route.edit is not None for answer in local]),
            "editing_processor_seconds": round(seconds, 1),
        }
        if editor.config.mode == "paper":
            row["index"] = editor.index.counts  # type: ignore[union-attr]
        if quirks_size:
            row["released_f1"] = {
                "edits": scorer.released(asked, targets, end, quirks_size),
                "rephrasings": scorer.released(rephrased, targets, end, quirks_size),
                "upstream": scorer.released(local, gold, end, quirks_size),
            }
        growth.append(row)
        print(json.dumps({"mode": editor.config.mode} | row), flush=True)
    return growth


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__, "--model", "--edits", "--upstream")
    parser.add_argument("--every", type=positive, default=200)
    parser.add_argument("--count", type=positive, help="the first questions only")
    parser.add_argument("--modes", default="default,paper")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="NAME=VALUE, paper mode")
    args = parser.parse_args()
    drafts = read_zsre([open_data_file(args.edits, "zsre")], paper=True).drafts[: args.count]
    items = [draft.item for draft in drafts]
    upstream = read_nq(open_data_file(args.upstream, "zsre"))
    result: dict[str, Any] = {"task": "zsre", "settings": {}, "growth": {}}
    with Progress() as bar:
        for mode in args.modes.split(","):
            config = read_config({}, args.settings, paper=True) if mode == "paper" else MeloConfig()
            with Editor(*load_model(args.model, dtype="float32"), config=config) as editor:
                answers = editor.ask([item.edit.prompt for item in items], batch_size=BATCH)
                wrong = [item for item, a in zip(items, answers, strict=True) if not exact(a.text, item.edit.target)]
                edits = [Edit(item.edit.prompt, item.edit.target, id=f"q{i}") for i, item in enumerate(wrong)]
                result |= {"questions": len(items), "answered_wrongly": len(wrong)}
                holdout = [item.rephrases[0] for item in wrong]
                result["settings"][mode] = editor.config.to_dict()
                result["growth"][mode] = run(editor, edits, holdout, upstream, args.every, bar)
                result["reference_quirks"] = quirks_batch_size(editor.config) is not None
    write(result | {"peak_gigabytes": peak_gigabytes()}, args.out)


if __name__ == "__main__":
    main()
