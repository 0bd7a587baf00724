"""Trials foretell wrong hits: of which edits does a written near question fire, and which were warned of?

    python -m benchmarks.oversight.trials --desk dev.jsonl --out trials.json

Every edit is alone with its near questions: the judge and the guards decide, as in a trial. Nothing is trained, but for
the time: some edits are made with a trial and without one, in turn.
"""

from __future__ import annotations

from typing import Any

import torch

from meloedit import Edit, Editor

from ..shared import models
from ..shared.edits import read_jsonl
from ..shared.options import option_parser, positive, share, write
from ..shared.timing import compare


def foretold(editor: Editor, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many edits of which a near question fires were warned of, and how many were in vain."""
    edits = [Edit(row["prompt"], row["target"], id=row["id"]) for row in rows]
    warned = {trial.id: trial.warned for trial in editor.trial(edits)}
    firing: dict[str, bool] = {}
    for edit, row in zip(edits, rows, strict=True):
        with editor.engine.mode.unmade([edit]):
            firing[edit.id] = any(route.edit == edit.id for route in editor.route(row["near_same_subject"], "chat"))
    return {
        "edits": len(rows),
        "of which a near question fires": sum(firing.values()),
        "warned": sum(warned.values()),
        "foretold": share([warned[name] for name in firing if firing[name]]),
        "warned in vain": share([warned[name] and not firing[name] for name in firing]),
    }


def cost(editor: Editor, rows: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Time making an edit with its trial, against without."""
    some = [Edit(row["prompt"], row["target"], id=row["id"]) for row in rows[:8]]

    def make(trial: bool) -> None:
        editor.edit(some, keep_both=True, trial=trial)
        editor.remove([edit.id for edit in some])

    return compare(lambda: make(True), lambda: make(False), rounds, warm=1)


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__, "--desk")
    models.add_options(parser)
    parser.add_argument("--rounds", type=positive, default=6)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model, tokenizer = models.load(given)
    rows = [row for row in read_jsonl(given.desk) if isinstance(row["prompt"], str)]
    with Editor(model, tokenizer) as editor:
        editor.prepare()
        result = {"task": "trials", "all": foretold(editor, rows)}
        result["english"] = foretold(editor, [row for row in rows if row["lang"] == "en"])
        result["time"] = cost(editor, rows, given.rounds)
    write(result, given.out, **models.described(given))


if __name__ == "__main__":
    main()
