r"""What a prompt contains is not what it asks: which prompts behind passages, and which tasks, reach an edit.

    python -m benchmarks.prompts.passages --zsre zsre_distinct.jsonl.gz --counterfact counterfact_distinct.jsonl.gz \
        --texts openwebtext-1000.jsonl.gz --rows benchmarks/prompts/inside.jsonl.gz --out passages.json

Nothing is trained: the edits are in the index alone. The passages made from the data sets are a paragraph of a text
with the edited fact in its middle, half of them as a question with its answer, half as a statement. A prompt is such a
passage and a question, in one of ten forms. ``--rows`` names files of edits with passages, mails and tasks written by
hand (the form of ``benchmarks/prompts/inside.jsonl.gz``); ``--wrong FILE`` writes the prompts that went wrong.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from meloedit import Edit, Editor
from meloedit.types import Prompt

from ..shared import models
from ..shared.edits import read_jsonl
from ..shared.options import option_parser, share, write

FORMS = (
    "Context: {p}\nQuestion: {q}",
    "{p}\n\n{q}",
    "{q}\n\nUse the text below.\n\n{p}",
    "Answer the question by the passage.\n\nPassage: {p}\n\nQuestion: {q}\nAnswer:",
    "Use the following pieces of context to answer the question at the end. If you don't know the answer, say so.\n\n"
    "{p}\n\nQuestion: {q}\nHelpful answer:",
    "<context>\n{p}\n</context>\n\n{q}",
    "Documents:\n[1] {p}\n\nUser question: {q}",
    "### Instruction\nAnswer from the document.\n### Document\n{p}\n### Question\n{q}",
    '"""{p}"""\n\nGiven the text above: {q}',
    "Question: {q}\n\nSources:\n- {p}",
)
"""How retrieved passages ``{p}`` and questions ``{q}`` stand in a prompt."""


Wrong = list[dict[str, Any]]
"""Prompts that went wrong, with what was decided."""
WISHES = {
    "a sentence": "{q} Answer in one sentence.",
    "JSON": '{q} Reply as JSON with the key "answer".',
    "another language": "{q} Please answer in French.",
}
"""Questions that wish for an answer of a form."""


class Asking(NamedTuple):
    """A prompt, the id of the edit that it asks (``None``: of none), and its kind."""

    prompt: Prompt
    edit: str | None
    kind: str


def made(given: Any, count: int, rng: random.Random) -> tuple[list[Edit], list[Asking]]:
    """Return edits of zsRE and CounterFact, with questions of their own and of other subjects behind passages."""
    texts = [row["text"] for row in read_jsonl(given.texts)]
    paragraphs = [p for text in texts for p in text.split("\n") if 300 <= len(p) <= 900]
    rng.shuffle(paragraphs)
    zsre, counterfact = read_jsonl(given.zsre, 2 * count), read_jsonl(given.counterfact, 2 * count)
    rng.shuffle(zsre)
    rng.shuffle(counterfact)
    half = count // 2
    edited = [*zsre[:half], *counterfact[: count - half]]
    others = [*zsre[half : 2 * half], *zsre[2 * half : 3 * half]]
    edits, askings = [], []
    for i, row in enumerate(edited):
        edits.append(Edit(row["prompt"], row["target"], id=row["id"]))
        statement = f"{row['prompt']} {row['target']}."
        fact = statement if i >= half or i % 2 else f"Q: {row['prompt']} A: {row['target']}."
        passage = _with(fact, paragraphs[i], rng)
        own = rng.choice(row["rephrases"][:3]) if i < half else row["prompt"]
        askings.append(Asking(_filled(i, passage, others[i]["prompt"]), None, "made: another subject's question"))
        askings.append(Asking(_filled(i + 3, passage, own), row["id"], "made: the edit's question"))
        askings.append(Asking(others[i]["prompt"], None, "made: another subject's question, alone"))
        askings.append(Asking(own, row["id"], "made: the edit's question, alone"))
    return edits, askings


def _with(fact: str, paragraph: str, rng: random.Random) -> str:
    """Return a paragraph with a fact between two of its sentences."""
    sentences = paragraph.strip().split(". ")
    at = rng.randint(0, len(sentences) - 1)
    return ". ".join(sentences[:at]) + (". " if at else "") + f"{fact} " + ". ".join(sentences[at:])


def _filled(i: int, passage: str, question: str) -> str:
    return FORMS[i % len(FORMS)].replace("{p}", passage).replace("{q}", question)


def written(rows: Sequence[dict[str, Any]]) -> Iterator[Asking]:
    """Yield the prompts of rows written by hand."""
    for i, row in enumerate(rows):
        named, passage = row["id"], row.get("passage")
        for kind, right in (("contains", None), ("tasks", None), ("asks_inside", named), ("asks", named)):
            for prompt in row.get(kind, []):
                yield Asking(prompt, right, f"by hand: {kind}")
        if not passage:
            continue
        yield Asking(row["mail"], None, "by hand: mail")
        yield from (Asking(one, named, "by hand: rewording alone") for one in row["own"])
        for form, wish in WISHES.items():
            yield Asking(wish.replace("{q}", row["own"][0]), named, f"by hand: rewording that wishes for {form}")
        for kind, right in (("own", named), ("own_short", named), ("others", None), ("others_same", None)):
            questions = [row[kind]] if isinstance(row[kind], str) else row[kind]
            for k, question in enumerate(questions):
                yield Asking(_filled(5 * i + 3 * k, passage, question), right, f"by hand: {kind} behind the passage")
        if row["own_short"]:
            chat = [{"role": "system", "content": f"Answer from this document:\n{passage}"}]
            yield Asking(
                [*chat, {"role": "user", "content": row["own"][0]}], named, "by hand: passage as system prompt"
            )
            yield Asking(
                [*chat, {"role": "user", "content": row["others"][0]}], None, "by hand: other, passage as system prompt"
            )


def measure(editor: Editor, edits: Sequence[Edit], askings: Sequence[Asking]) -> tuple[dict[str, Any], Wrong]:
    """Return, per kind, the share of prompts that reach their edit, or any edit where none is asked; and the others."""
    with editor.engine.mode.unmade(list(edits)):
        routes = [route for start in range(0, len(askings), 32) for route in editor.route(
            [asking.prompt for asking in askings[start : start + 32]], "chat")]  # fmt: skip
    result: dict[str, Any] = {}
    misses: Wrong = []
    for kind in dict.fromkeys(asking.kind for asking in askings):
        pairs = [(a, r) for a, r in zip(askings, routes, strict=True) if a.kind == kind]
        asks = pairs[0][0].edit is not None
        hits = [r.edit == a.edit if asks else r.edit is not None for a, r in pairs]
        result[kind] = {"reaches" if asks else "fires": share(hits)}
        misses += [
            {
                "kind": kind,
                "prompt": a.prompt,
                "edit": r.edit,
                "nearest": r.nearest,
                "reason": r.reason,
                "score": r.score,
            }
            for (a, r), hit in zip(pairs, hits, strict=True)
            if hit != asks
        ]
    return {"kinds": result}, misses


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    models.add_options(parser)
    for name in ("--zsre", "--counterfact", "--texts"):
        parser.add_argument(name, metavar="FILE")
    parser.add_argument("--rows", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--every", type=int, default=1, help="take every so many of the rows, from the last of each")
    parser.add_argument("--count", type=int, default=300, help="edits of the data sets")
    parser.add_argument("--wrong", metavar="FILE", help="file for the prompts that went wrong, as JSON lines")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model, tokenizer = models.load(given)
    result: dict[str, Any] = {"task": "passages"}
    wrong: Wrong = []
    with Editor(model, tokenizer) as editor:
        editor.prepare()
        if given.zsre:
            result["made"], wrong = measure(editor, *made(given, given.count, random.Random(0)))
        for path in given.rows:
            rows = [row for row in read_jsonl(path) if isinstance(row["prompt"], str)][given.every - 1 :: given.every]
            edits = [Edit(row["prompt"], row["target"], id=row["id"]) for row in rows]
            result[path.rpartition("/")[2]], missed = measure(editor, edits, list(written(rows)))
            wrong += missed
    if given.wrong:
        Path(given.wrong).write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in wrong), "utf-8")
    write(result, given.out, **models.described(given))


if __name__ == "__main__":
    main()
