"""What one command puts right, and what it spoils: quiet on wrong hits, allow on misses.

    python -m benchmarks.oversight.corrections --desk dev.jsonl --out corrections.json

The edits of the file are made in one store. Each near prompt that fires is silenced, each rephrasing that misses is
allowed: one at a time, and a rollback follows. Counted are that prompt and five variants of it (case, punctuation,
politeness) that do as told, and the edit's own rephrasings that still reach it, of those that did before. At the end
one edit gets 1,000 quiet prompts, and a search is timed with and without them.
"""

from __future__ import annotations

from typing import Any

import torch

from meloedit import Edit, Editor
from meloedit.keys.keys import Keys

from ..shared import models
from ..shared.edits import read_jsonl
from ..shared.options import option_parser, positive, share, write
from ..shared.timing import compare

POLITE = ("Could you tell me: {}", "{} Thanks!")


def variants(prompt: str) -> list[str]:
    """Return a prompt and five that differ from it in case, punctuation and politeness."""
    bare = prompt.rstrip("?.! ")
    return [prompt, prompt.upper(), prompt.lower(), f"{bare} ?!", *(form.format(prompt) for form in POLITE)]


def fired(editor: Editor, prompts: list[str]) -> list[str | None]:
    """Return the edit that answers each prompt."""
    return [route.edit for route in editor.route(prompts, "chat")] if prompts else []


def corrected(editor: Editor, rows: list[dict[str, Any]], action: str) -> dict[str, Any]:
    """Put right what is wrong, one prompt at a time; return the shares that do as told and that are kept."""
    told: list[bool] = []
    kept: list[bool] = []
    for row in rows:
        name, own = row["id"], [prompt for prompt in row["rephrasings"] if isinstance(prompt, str)]
        near = [*row["near_same_subject"], *row["near_same_relation"]]
        asked = near if action == "quiet" else own
        wrong = [
            p for p, edit in zip(asked, fired(editor, asked), strict=True) if (edit == name) == (action == "quiet")
        ]
        reached = [prompt for prompt, edit in zip(own, fired(editor, own), strict=True) if edit == name]
        for prompt in wrong:
            before = editor.store.revision
            (editor.quiet if action == "quiet" else editor.allow)(name, prompt)
            told += [(edit == name) == (action == "allow") for edit in fired(editor, variants(prompt))]
            kept += [edit == name for edit in fired(editor, reached)]
            editor.rollback(before)
    return {"commands": len(told) // 6, "told": share(told), "own rephrasings kept": share(kept)}


def searching(editor: Editor, name: str, rounds: int) -> dict[str, Any]:
    """Time a search with 1,000 quiet prompts in the index, against one without."""
    policy, query = editor.engine.policy, editor.keys([f"What does plan {name} cost?"])
    assert isinstance(query, Keys)
    quiet = [f"Which colour has the door of house {i} in street {i * 7}?" for i in range(1000)]
    search = lambda: policy.index.search(query, 4)  # type: ignore[union-attr]  # noqa: E731
    before = editor.store.revision
    alone = policy.index  # type: ignore[union-attr]
    editor.quiet(name, quiet)
    with_quiet = len(alone._table)
    del alone
    result = {"keys with": with_quiet}
    loud = compare(search, search, rounds)
    editor.rollback(before)
    plain = compare(search, search, rounds)
    return result | {
        "seconds with": loud["seconds"],
        "seconds without": plain["seconds"],
        "same side twice": plain["ci"],
    }


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__, "--desk")
    models.add_options(parser)
    parser.add_argument("--limit", type=positive, help="so many rows of the file")
    parser.add_argument("--rounds", type=positive, default=40)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model, tokenizer = models.load(given)
    rows = [row for row in read_jsonl(given.desk, given.limit) if isinstance(row["prompt"], str)]
    with Editor(model, tokenizer) as editor:
        edits = [Edit(row["prompt"], row["target"], id=row["id"]) for row in rows]
        held = {report.id for report in editor.edit(edits, keep_both=True, trial=False) if report.holds}
        rows = [row for row in rows if row["id"] in held]
        result: dict[str, Any] = {"task": "corrections", "edits": len(rows)}
        result |= {action: corrected(editor, rows, action) for action in ("quiet", "allow")}
        result["search"] = searching(editor, rows[0]["id"], given.rounds)
    write(result, given.out, **models.described(given))


if __name__ == "__main__":
    main()
