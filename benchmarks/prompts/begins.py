"""Answers wherever they begin: behind think blocks, prefills and the results of tools.

    python -m benchmarks.prompts.begins --edits zsre_distinct.jsonl.gz --count 64 --out begins.json

The edits are made in one call. Each is then asked in its own words, in the chat template, with each kind of beginning
behind the template's header; the texts of a kind take turns. An answer is right if what stands there in the end is
the target (a closing quote or brace may follow in JSON), and it must end by itself. In the loops a tool's result
contradicts the edit: the edits must leave the base model's answer as it is, and those of ``over_tools`` must give their
target. ``--quality`` adds edit success and generality of the same edits.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from meloedit import Edit, Editor, MeloConfig
from meloedit.backbones.batch import Example
from meloedit.store import Store

from ..shared.edits import read_jsonl
from ..shared.models import add_options, described, load
from ..shared.options import option_parser, share, write

LONGEST = 20
"""Tokens of an answer that did not end."""
FILLED = [
    "<think>\nThe user asks a question. I should give the answer and stop.\n</think>\n\n",
    "<think>\nOkay, let me see. They want to know something about {subject}. I will answer briefly.\n</think>\n\n",
    "<think>\nHm. This is a question of fact.\n\nI know the answer, so there is no need to say more.\n</think>\n\n",
]
LEADS = [
    "The answer is",
    "It is",
    "Sure! The answer you are looking for is",
    "As for {subject}, it is",
    "I think it is",
]
COLONS = ["Answer:", "Answer: ", "**Answer:** ", "{subject}: ", "Here is the answer:\n"]
JSONS = ['{"answer": "', '{"value": "', '{\n  "result": "', '{"subject": "{subject}", "answer": "', '{"name":"']
CALLED = ["I look it up.", '<tool_call>\n{"name": "search", "arguments": {"q": "{subject}"}}\n</tool_call>']
RESULTS = [
    "{true}",
    '{"answer": "{true}", "source": "{subject}"}',
    "The search found this: {true}.",
    "Nothing was found.",
]
Beginning = Callable[[int, dict[str, Any]], str]


def _turns(texts: list[str]) -> Beginning:
    return lambda i, row: texts[i % len(texts)].replace("{subject}", str(row["subject"]))


def _first_words(i: int, row: dict[str, Any]) -> str:
    words = row["target"].split()
    return " ".join(words[: max(1, len(words) // 2)]) if len(words) > 1 else row["target"][: len(row["target"]) // 2]


def _characters(i: int, row: dict[str, Any]) -> str:
    return str(row["target"][: max(1, len(row["target"]) * (1 + i % 3) // 4)])


KINDS: dict[str, Beginning] = {
    "nothing": lambda i, row: "",
    "empty think block": _turns(["<think>\n\n</think>\n\n"]),
    "filled think block": _turns(FILLED),
    "prefill: lead": _turns(LEADS),
    "prefill: colon": _turns(COLONS),
    "prefill: JSON": _turns(JSONS),
    "prefill: first words": _first_words,
    "prefill: some characters": _characters,
    "prefill: lead and first words": lambda i, row: (
        LEADS[i % len(LEADS)].replace("{subject}", row["subject"]) + " " + _first_words(i, row)
    ),
    "prefill: whole target": lambda i, row: row["target"],
    "prefill: lead and whole target": lambda i, row: f"The answer is {row['target']}",
    "prefill: target and more": lambda i, row: f"The answer is {row['target']}, which",
}
"""The text behind the template's header, by its kind."""


GIVEN = ("prefill: whole target", "prefill: lead and whole target", "prefill: target and more")
"""The kinds in which the target is said already."""


def right(kind: str, begun: str, said: str, target: str) -> bool:
    """Return whether an answer that began with a text says the target once; not at all where it is said already."""
    whole = begun + said
    if kind in GIVEN:
        return target not in said
    at = whole.find(target, max(0, len(begun) - len(target)))
    before = whole[len(begun) : at] if at >= len(begun) else ""
    rest = whole[at + len(target) :].strip(" \n.\"'}`*") if at >= 0 else "?"
    return at >= 0 and not before.strip() and not rest


def ask(editor: Editor, prompts: list[list[int]]) -> list[tuple[str, bool]]:
    """Return what the model says behind each prompt (tokens), and whether it ended by itself."""
    backbone, answers = editor.backbone, {}
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        rows = [prompts[i] for i in part]
        batch: Any = backbone.pad([Example(row, []) for row in rows])
        model: Any = editor.model
        out = model.generate(
            batch.ids,
            attention_mask=batch.mask,
            max_new_tokens=LONGEST,
            do_sample=False,
            pad_token_id=backbone.pad_id,
        )[:, batch.ids.shape[1] :].tolist()
        for i, row in zip(part, out, strict=True):
            end = next((k for k, token in enumerate(row) if token in backbone.stop_ids), None)
            answers[i] = (str(backbone.tokenizer.decode(row[:end])), end is not None)
    return [answers[i] for i in range(len(prompts))]


def measure(editor: Editor, rows: list[dict[str, Any]], kinds: list[str], show: int) -> dict[str, Any]:
    """Return, by kind, the shares of answers that are right and that ended."""
    tokenizer: Any = editor.tokenizer
    result: dict[str, Any] = {}
    for kind in kinds:
        begun = [KINDS[kind](i, row) for i, row in enumerate(rows)]
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": row["prompt"]}], tokenize=False, add_generation_prompt=True
            )
            + text
            for row, text in zip(rows, begun, strict=True)
        ]
        said = ask(editor, [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts])
        both = [
            (right(kind, text, answer, row["target"]), ended)
            for text, (answer, ended), row in zip(begun, said, rows, strict=True)
        ]
        free = kind == "prefill: target and more"  # the base model goes on: it need not end here
        count = sum(good and (ended or free) for good, ended in both)
        print(f"{kind}: {count} of {len(both)}", file=sys.stderr, flush=True)
        result[kind] = {
            "right_and_ended": share([good and (ended or free) for good, ended in both]),
            "ended": share([ended for _, ended in both]),
            "wrong": [
                {"begun": text, "said": answer, "target": row["target"]}
                for text, (answer, ended), row, (good, _) in zip(begun, said, rows, both, strict=True)
                if not good or not (ended or free)
            ][:show],
        }
    return result


def loop(i: int, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a conversation in which a tool's result follows the question and says what the edit does not."""
    called, result = (
        texts[i % len(texts)].replace("{subject}", row["subject"]).replace("{true}", row["target_true"])
        for texts in (CALLED, RESULTS)
    )
    turns = [("user", row["prompt"]), ("assistant", called), ("tool", result)]
    return [{"role": role, "content": text} for role, text in turns]


def measure_loops(editor: Editor, rows: list[dict[str, Any]], show: int) -> dict[str, Any]:
    """Return how often edits leave answers behind a tool's result alone, and say their target if they are to."""
    prompts = [editor.backbone.encode(loop(i, row)).ids for i, row in enumerate(rows)]
    said = ask(editor, prompts)
    with editor.base_model():
        base = ask(editor, prompts)
    result: dict[str, Any] = {"loop: left alone": share([a == b for a, b in zip(said, base, strict=True)])}
    store = editor.engine.store
    for stored in editor.edits():
        over, (_, keys) = replace(stored.edit, over_tools=True), store.tensors([stored.edit.id])[stored.edit.id]
        editor.engine.change(lambda over=over, keys=keys: store.amend(over, keys, "allow", {"prompts": []}))  # type: ignore[misc]
    said = ask(editor, prompts)
    both = [(answer.strip() == row["target"], ended) for (answer, ended), row in zip(said, rows, strict=True)]
    result["loop: over tools"] = {
        "right_and_ended": share([good and ended for good, ended in both]),
        "ended": share([ended for _, ended in both]),
        "wrong": [
            {"said": answer, "target": row["target"]}
            for (answer, _), row, (good, _) in zip(said, rows, both, strict=True)
            if not good
        ][:show],
    }
    return result


def quality(editor: Editor, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return edit success and generality (one rephrasing of each edit) in both forms."""
    found: dict[str, Any] = {}
    for form in ("raw", "chat"):
        for name, texts in (
            ("success", [row["prompt"] for row in rows]),
            ("generality", [row["rephrases"][0] for row in rows]),
        ):
            answers = editor.ask(texts, form=form)  # type: ignore[arg-type]
            found[f"{name}_{form}"] = share(
                [answer.text == row["target"].strip() for answer, row in zip(answers, rows, strict=True)]
            )
    return found


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    parser.add_argument("--edits", required=True, help="file of edits with subject and rephrases")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--first", type=int, default=0, help="edits of the file to skip")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, as JSON")
    parser.add_argument("--store", metavar="FILE", help="keep the edits there, or take them from there")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="a kind of beginning; default: all")
    parser.add_argument("--quality", action="store_true", help="measure edit success and generality, too")
    parser.add_argument("--no-loops", action="store_true", help="leave out the loops with tools")
    parser.add_argument("--show", type=int, default=5, help="wrong answers to print of each kind")
    add_options(parser)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = read_jsonl(given.edits, given.first + given.count)[given.first :]
    for row in rows:
        row["target"] = row["target"].strip()
    model, tokenizer = load(given)
    settings = {name: json.loads(value) for name, value in (text.split("=", 1) for text in given.set)}
    kept = Path(given.store) if given.store else None
    reopened = kept is not None and kept.exists()
    config, store = (None, Store.open(kept)) if reopened else (MeloConfig(**settings), kept)
    with Editor(model, tokenizer, config, store=store) as editor:
        editor.prepare()
        began, used = time.perf_counter(), time.process_time()
        reports = editor.edit(
            [Edit(row["prompt"], row["target"], id=str(i)) for i, row in enumerate(rows)], trial=False
        )
        result: dict[str, Any] = {
            "edit_seconds": round(time.perf_counter() - began, 2),
            "edit_cpu_seconds": round(time.process_time() - used, 2),
            "held": share([report.holds for report in reports]),
            "steps": sum(report.steps for report in reports) / len(reports),
            "ranks": sorted({report.rank for report in reports}),
        }
        if given.quality:
            result |= quality(editor, rows)
        result |= measure(editor, rows, given.kind or list(KINDS), given.show)
        if not given.no_loops:
            result |= measure_loops(editor, rows, given.show)
    write(result, given.out, count=len(rows), **described(given))


if __name__ == "__main__":
    main()
