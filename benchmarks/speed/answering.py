"""How much slower edits make answering: the edited model's forward and generate against the plain base model's.

    python -m benchmarks.speed.answering --edits 10000

Both models run in one process, in turns. ``silent``: prompts of the package's grammar for which the index proposes no
edit. ``judged``: each row comes near another edit, and the judge reads both. ``in_scope``, without a judge: each row
reaches another edit, with a made-up block.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from meloedit import Editor, MeloConfig
from meloedit.keys.grammar import make_prompts
from meloedit.results import Route

from ..shared.made_up import store_with_edits
from ..shared.models import add_options, described, load
from ..shared.options import option_parser, positive, write
from ..shared.timing import compare

Inputs = dict[str, torch.Tensor]


def batches(editor: Editor, rows: int, columns: int, skip: int) -> Inputs:
    """Return ids and mask (rows, columns) of the grammar's prompts, which are joined and cut to one length.

    Args:
        editor: whose model and tokenizer to use.
        rows: prompts of the batch.
        columns: tokens of each.
        skip: leave out so many prompts of the grammar.
    """
    tokens: list[int] = []
    prompts = iter(make_prompts(9000)[6000 + skip :])
    while len(tokens) < rows * columns:
        tokens += editor.backbone.encode(next(prompts), "raw").ids
    ids = torch.tensor(tokens[: rows * columns]).view(rows, columns)
    ids = ids.to(editor.model.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def routes(editor: Editor, batch: Inputs) -> list[Route]:
    """Return the routes of a batch's rows."""
    with torch.no_grad():
        editor.model(**batch)
    return editor.last_routes


def silent(editor: Editor, rows: int, columns: int) -> Inputs:
    """Return a batch of rows for which the index proposes no edit, or, without a judge, of rows that reach none."""
    batch = batches(editor, 20 * rows, columns, 0)
    quiet = [i for i, route in enumerate(routes(editor, batch)) if route.edit is None and route.score is None]
    if len(quiet) < rows:
        raise SystemExit(f"only {len(quiet)} of {20 * rows} rows come near no edit")
    return {name: tensor[quiet[:rows]] for name, tensor in batch.items()}


def near(editor: Editor, rows: int, columns: int) -> Inputs:
    """Return a batch whose rows each come near another edit: the first edits get the keys of these prompts.

    The judge reads each row beside its candidates; the edits' own words are others, so that none fires unread.
    """
    batch = batches(editor, rows, columns, 1500)
    texts = [editor.tokenizer.decode(row) for row in batch["input_ids"]]
    numbers = [stored.record for stored in editor.edits()[:rows]]
    for number, text in zip(numbers, texts, strict=True):
        editor.index.add(number, editor.keys(text))  # type: ignore[arg-type, call-arg]
    judged = editor.least_score is not None
    if (reached := sum((r.score if judged else r.edit) is not None for r in routes(editor, batch))) < rows:
        raise SystemExit(f"only {reached} of {rows} rows come near an edit")
    return batch


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    add_options(parser)
    parser.add_argument("--edits", type=positive, default=10_000)
    parser.add_argument("--columns", type=positive, default=32)
    parser.add_argument("--tokens", type=positive, default=32, help="tokens to generate")
    parser.add_argument("--rounds", type=positive, default=30)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the figures only these: judged_generate_32")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    base, _ = load(given)
    base.eval()
    result: dict[str, Any] = {"task": "time of the edited model against the plain base model's", "edits": given.edits}

    def sides(editor: Editor, batch: Inputs, tokens: int) -> dict[str, Any]:
        def run(model: Any) -> Any:
            with torch.no_grad():
                if not tokens:
                    return model(**batch)
                return model.generate(
                    **batch, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0
                )

        rounds = given.rounds if not tokens else max(6, given.rounds // 3)
        return compare(lambda: run(editor.model), lambda: run(base), rounds)

    def wanted(name: str, rows: int) -> dict[str, int]:
        figures = {f"{name}_forward_{rows}": 0, f"{name}_generate_{rows}": given.tokens}
        return {figure: tokens for figure, tokens in figures.items() if figure in (given.only or figures)}

    with tempfile.TemporaryDirectory() as folder:
        for judge, cases in (("built-in", ("silent", "judged")), ("none", ("in_scope",))):
            if not any(wanted(name, rows) for name in cases for rows in (1, 32)):
                continue
            path = Path(folder) / f"{judge}.melo"
            editor = store_with_edits(path, load(given), given.edits, MeloConfig(judge=judge))
            editor.model.eval()
            for name, rows in [(name, rows) for name in cases for rows in (1, 32) if wanted(name, rows)]:
                batch = (silent if name == "silent" else near)(editor, rows, given.columns)
                for figure, tokens in wanted(name, rows).items():
                    result[figure] = compared = sides(editor, batch, tokens)
                    print(figure, compared, flush=True)
            editor.unload()
    write(result, given.out, **described(given))


if __name__ == "__main__":
    main()
