"""The latest prevails in any words: pairs of edits that ask the same, and pairs that are neighbours.

    python -m benchmarks.oversight.prevailing --rows rows.jsonl.gz ... --pairs 200 --out prevailing.json

Of each row the edit is in the index by its keys, with all others; then comes a second edit with another target: of a
close rephrasing (it must replace the first, or be refused with one line, or else answer both wordings), or of a hard
near question (it must not replace the first without a word). Nothing is trained.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from meloedit import Edit, Editor

from ..shared import models
from ..shared.edits import read_jsonl
from ..shared.options import option_parser, positive, share, write


def outcome(editor: Editor, first: Edit, second: Edit) -> str:
    """Return what becomes of a stored edit when a second one comes."""
    (asking,) = editor.engine.mode.asking_same([second])
    same = [one for one in asking if one.id == first.id]
    if any(not one.sure for one in asking):
        return "refused"
    return "replaced" if same else "both"


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    models.add_options(parser)
    parser.add_argument("--rows", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--pairs", type=positive, default=200)
    parser.add_argument("--every", type=positive, default=1, help="take each so many-th row of a file, from its end")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model, tokenizer = models.load(given)
    rows = [row for path in given.rows for row in read_jsonl(path)[given.every - 1 :: given.every]]
    rows = [row for row in rows if isinstance(row["prompt"], str) and row["lang"] == "en"][: given.pairs]
    edits = [Edit(row["prompt"], row["target"], id=row["id"]) for row in rows]
    found: dict[str, Counter[str]] = {"same": Counter(), "near": Counter()}
    latest: list[bool] = []
    with Editor(model, tokenizer) as editor:
        editor.prepare()
        with editor.engine.mode.unmade(edits):
            for row, edit in zip(rows, edits, strict=True):
                second = Edit(row["rephrasings"][0], "something else", id="second")
                became = outcome(editor, edit, second)
                found["same"][became] += 1
                latest.append(became != "both" or _answers_both(editor, edit, second))
                near = Edit(row["near_same_subject"][0], "something else", id="second")
                found["near"][outcome(editor, edit, near)] += 1
    result: dict[str, Any] = {"task": "prevailing", "pairs": len(rows)}
    result |= {name: dict(counts) for name, counts in found.items()}
    result["the latest answers both, or the one line"] = share(latest)
    write(result, given.out, **models.described(given))


def _answers_both(editor: Editor, first: Edit, second: Edit) -> bool:
    with editor.engine.mode.unmade([second]):
        return all(route.edit == second.id for route in editor.route([first.prompt, second.prompt], "chat"))


if __name__ == "__main__":
    main()
