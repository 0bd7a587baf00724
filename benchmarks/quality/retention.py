"""Edit success, generality and locality of many edits made in one call, scored after the last one.

    python -m benchmarks.quality.retention --edits zsre_distinct.jsonl.gz --negatives nq_open_dev.jsonl.gz --count 256

Answers are generated greedily with a natural stop (at most 32 new tokens) and compared as texts, but for white space at
their ends. Negatives are asked as they are, and again with a capital and a question mark. A prompt that no edit answers
must get the base model's logits, bit for bit.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from meloedit import Answer, Edit, Editor, MeloConfig
from meloedit.evaluation.run.provenance import peak_gigabytes

from ..shared.edits import read_jsonl
from ..shared.options import option_parser, positive, share, write


def dressed(question: str) -> str:
    """Return a search-engine question as a person would write it."""
    return question[0].upper() + question[1:] + "?"


def scores(answers: list[Answer], ids: list[str], targets: list[str]) -> dict[str, Any]:
    """Return the shares answered right, routed right, routed to another edit, and answered right where routed right."""
    right = [answer.text == target.strip() for answer, target in zip(answers, targets, strict=True)]
    routed = [answer.route.edit == edit_id for answer, edit_id in zip(answers, ids, strict=True)]
    wrong = [answer.route.edit not in (edit_id, None) for answer, edit_id in zip(answers, ids, strict=True)]
    return {
        "right": share(right),
        "routed_right": share(routed),
        "routed_wrong": share(wrong),
        "right_when_routed_right": share([r for r, to in zip(right, routed, strict=True) if to]),
    }


@torch.no_grad()
def compare_logits(editor: Editor, prompts: list[str], size: int, bar: Progress) -> dict[str, Any]:
    """Run padded batches of prompts with and without edits; compare the logits of prompts that no edit answers."""
    encoded = sorted((editor.backbone.encode(prompt).ids for prompt in prompts), key=len)
    task = bar.add_task("comparing logits", total=len(encoded))
    fired: list[bool] = []
    identical: list[bool] = []
    for start in range(0, len(encoded), size):
        part = encoded[start : start + size]
        width = max(map(len, part))
        pad = editor.backbone.pad_id
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in part])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part])
        model: Any = editor.model
        with editor.prompt_lengths([len(row) for row in part]):
            edited = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        routes = editor.last_routes
        with editor.base_model():
            base = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for row, route in enumerate(routes):
            fired.append(route.edit is not None)
            if route.edit is None:
                identical.append(torch.equal(edited[row], base[row]))
        bar.advance(task, len(part))
    return {"activation": share(fired), "bit_identical_when_not_routed": share(identical)}


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    parser.add_argument("--edits", required=True, help="file of edits with rephrases")
    parser.add_argument("--negatives", help="file of unrelated questions (NQ-open)")
    parser.add_argument("--count", type=positive, default=256)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--reach", choices=["answer", "all"], default=MeloConfig.reach)
    parser.add_argument("--form", choices=["raw", "chat"], default="raw", help="how questions are asked")
    args = parser.parse_args()
    rows = read_jsonl(args.edits, args.count)
    edits = [Edit(row["prompt"], row["target"]) for row in rows]
    ids, targets = [edit.id for edit in edits], [edit.target for edit in edits]
    with tempfile.TemporaryDirectory() as folder, Progress() as bar:
        store = Path(folder) / "edits.melo"
        editor = Editor.create(args.model, config=MeloConfig(reach=args.reach), store=store)
        editor.calibrate()
        empty = store.stat().st_size
        task = bar.add_task("editing", total=len(edits))
        began, spent = time.perf_counter(), time.process_time()
        reports = editor.edit(edits, progress=lambda what, done, of: bar.update(task, completed=done, total=of))
        seconds, spent = time.perf_counter() - began, time.process_time() - spent
        result: dict[str, Any] = {
            "task": "edits, rephrasings and unrelated questions, scored after all edits",
            "model": args.model,
            "config": editor.config.to_dict(),
            "form": args.form,
            "count": len(edits),
            "held": share([report.holds for report in reports]),
            "seconds_editing": round(seconds, 1),
            "cpu_seconds_editing": round(spent, 1),
            "steps_mean": round(sum(report.steps for report in reports) / len(reports), 1),
            "ranks": {str(rank): sum(report.rank == rank for report in reports) for rank in (2, 4, 8)},
            "bytes_per_edit": round((store.stat().st_size - empty) / len(edits)),
            "threshold": editor.threshold,
        }
        asked = {"edits": [row["prompt"] for row in rows]}
        asked |= {f"rephrases[{k}]": [row["rephrases"][k] for row in rows] for k in (0, 1)}
        for name, prompts in asked.items():
            task = bar.add_task(f"asking {name}", total=len(prompts))
            answers = editor.ask(
                prompts, args.form, progress=lambda what, done, of, t=task: bar.update(t, completed=done)
            )
            result[name] = scores(answers, ids, targets)
        near = [prompt for row in rows for prompt in row.get("near", [])]
        if near:  # same subject or same relation: only the scope can keep the edits from answering
            fired = [route.edit is not None for route in editor.route(near, args.form)]
            result["near"] = {"activation": share(fired)}
        if args.negatives:
            questions = [row["question"] for row in read_jsonl(args.negatives)]
            result["negatives_raw"] = compare_logits(editor, questions, 64, bar)
            result["negatives_dressed"] = compare_logits(editor, [dressed(q) for q in questions], 64, bar)
        result["peak_gigabytes"] = peak_gigabytes()
        editor.unload()
    write(result, args.out)


if __name__ == "__main__":
    main()
