"""The paper's SCOTUS task on a classifier, in paper mode and default mode.

    python -m benchmarks.paper.scotus_classifier --data scotus_cases.jsonl.gz --out CLASSIFIER
    python -m benchmarks.paper.scotus --model CLASSIFIER --data scotus_cases.jsonl.gz

The edits are the cases of 1991 to 2009 whose topic the classifier gets wrong from their first 256 tokens. Upstream are
the cases of the training years that were held out of its training. Generality is asked with the next 256 tokens of the
same cases, where the text is long enough. The default mode is calibrated on the classifier's training cases.
"""

from __future__ import annotations

import json
import time
from typing import Any

from rich.progress import Progress

from meloedit import Edit, Editor
from meloedit.backbones.loading import load_model
from meloedit.evaluation.run.provenance import peak_gigabytes
from meloedit.evaluation.tasks.datasets import Case, scotus_cases, split
from meloedit.settings import read_config

from ..shared.options import option_parser, positive, share, write

BATCH = 32


def next_tokens(editor: Editor, cases: list[Case], count: int) -> list[tuple[Case, str]]:
    """Return the cases that are long enough, each with its text after the first ``count`` tokens."""
    tokenizer, longer = editor.tokenizer, []
    for case in cases:
        offsets = tokenizer(case.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        first = count - tokenizer.num_special_tokens_to_add()
        if len(offsets) >= first + count // 2:
            longer.append((case, case.text[offsets[first][0] :]))
    return longer


def ask(editor: Editor, texts: list[str], wanted: list[str], edit_of: list[str | None]) -> dict[str, Any]:
    """Classify texts; return the accuracy, the share routed to any edit, and the share routed to the right one."""
    answers = editor.ask(texts, batch_size=BATCH)
    fired = [answer.route.edit for answer in answers]
    return {
        "accuracy": share([a.text == topic for a, topic in zip(answers, wanted, strict=True)]),
        "activation": share([edit is not None for edit in fired]),
        "routed_to_own_edit": share([e is not None and e == right for e, right in zip(fired, edit_of, strict=True)]),
    }


def run(editor: Editor, parts: Any, documents: list[str], bar: Progress) -> dict[str, Any]:
    """Find the classifier's errors, edit them, and score all sets before and after."""
    limit = editor.config.document_tokens or 256
    with editor.base_model():
        answers = editor.ask([case.text for case in parts.edits], batch_size=BATCH)
    wrong = [case for case, answer in zip(parts.edits, answers, strict=True) if answer.text != case.topic]
    upstream, topics = [case.text for case in parts.held_out], [case.topic for case in parts.held_out]
    longer = next_tokens(editor, wrong, limit)
    later, later_topics = [text for _, text in longer], [case.topic for case, _ in longer]
    result: dict[str, Any] = {"cases": len(parts.edits), "edits": len(wrong), "settings": editor.config.to_dict()}
    with editor.base_model():
        result["base"] = {
            "upstream": ask(editor, upstream, topics, [None] * len(upstream)),
            "next_tokens": ask(editor, later, later_topics, [None] * len(later)),
        }
    if editor.config.mode == "default":
        editor.calibrate(documents, "training cases")
    began, holding = time.process_time(), 0
    task = bar.add_task(f"editing, {editor.config.mode} mode", total=len(wrong))
    for reports in editor.edit_in_parts([Edit(case.text, case.topic, id=case.id) for case in wrong]):
        holding += sum(report.holds for report in reports)
        bar.advance(task, len(reports))
    result |= {"held": holding, "editing_processor_seconds": round(time.process_time() - began, 1)}
    ids: list[str | None] = [case.id for case in wrong]
    result["edited"] = {
        "edits": ask(editor, [case.text for case in wrong], [case.topic for case in wrong], ids),
        "upstream": ask(editor, upstream, topics, [None] * len(upstream)),
        "next_tokens": ask(editor, later, later_topics, [case.id for case, _ in longer]),
    }
    if editor.config.mode == "paper":
        result["index"] = editor.index.counts  # type: ignore[union-attr]
    print(json.dumps({key: value for key, value in result.items() if key != "settings"}), flush=True)
    return result


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__, "--model", "--data")
    parser.add_argument("--tokens", type=positive, default=256)
    parser.add_argument("--modes", default="default,paper")
    parser.add_argument("--count", type=positive, help="the first cases of 1991 to 2009 only")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="NAME=VALUE, paper mode")
    parser.add_argument(
        "--set-default", dest="default_settings", action="append", default=[], help="NAME=VALUE, default mode"
    )
    args = parser.parse_args()
    parts = split(scotus_cases(args.data))
    if args.count:
        parts = type(parts)(parts.train, parts.held_out, parts.edits[: args.count], parts.later)
    result: dict[str, Any] = {"task": "scotus"}
    with Progress() as bar:
        for mode in args.modes.split(","):
            settings = args.settings if mode == "paper" else args.default_settings
            config = read_config({}, [*settings, f"document_tokens={args.tokens}"], paper=mode == "paper")
            with Editor(*load_model(args.model, dtype="float32"), config=config) as editor:
                result[mode] = run(editor, parts, [case.text for case in parts.train], bar)
    write(result | {"peak_gigabytes": peak_gigabytes()}, args.out)


if __name__ == "__main__":
    main()
