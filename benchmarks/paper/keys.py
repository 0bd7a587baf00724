r"""What the paper's index can reach on an encoder-decoder: key modules, initial radii and expand rules; no training.

    python -m benchmarks.paper.keys --model T5_FOLDER --edits zsre_mend_eval_portability_1037.jsonl.gz \
        --upstream nq_open_dev.jsonl.gz --out docs/results/paper/keys.json

Every question is an edit toward its first true answer; edits enter the index in batches of a hundred. Figures of each
key module: the share of unseen rephrasings whose nearest key has the right answer, whatever the radius; and the share
that is nearer to a key of the right answer than half the distance from that key to the nearest key of another answer,
which is as far as a cluster can reach after a conflict. Figures of each radius and rule: the shares of edits and of
rephrasings that are routed to the right answer, and the share of upstream questions that are routed to any edit.

``--wordings FILE`` (KnowEdit's rows with their rephrasings) restricts the questions to those in the file, and makes
edits of ``--wordings-count`` other wordings of each, as in the published experiments. The held-out rephrasing is never
among them.
"""

from __future__ import annotations

from typing import Any

import torch
from rich.progress import track

from meloedit import Editor
from meloedit.backbones.loading import load_model
from meloedit.evaluation.tasks.data_files import open_data_file
from meloedit.evaluation.tasks.far import read_nq
from meloedit.evaluation.tasks.questions import read_zsre
from meloedit.paper.clusters import ClusterIndex
from meloedit.paper.config import PaperConfig

from ..shared.edits import read_jsonl
from ..shared.options import option_parser, positive, write

QUANTILES = (0.03, 0.08, 0.15, 0.3, 0.6)
"""Initial radii: half of these quantiles of the distance from a key to the nearest key of another answer."""
PARTS = (
    "",
    ".layer.0",
    ".layer.1.layer_norm",
    ".layer.1.DenseReluDense.wi_0",
    ".layer.1.DenseReluDense.wo",
)
"""Modules of each encoder block that are tried as key module."""


def reach(index: ClusterIndex, keys: torch.Tensor, wanted: list[str], answers: list[str]) -> float:
    """Return the share of keys routed to an edit with the right answer."""
    hits = index.search(keys)
    pairs = zip(hits.block.tolist(), hits.owner.tolist(), wanted, strict=True)
    return round(sum(block >= 0 and answers[edit] == answer for block, edit, answer in pairs) / len(wanted), 4)


def measure(keys: Any, answers: list[str], rephrased: Any, wanted: list[str], upstream: Any) -> dict[str, Any]:
    """Measure one key module.

    Args:
        keys: (n, d) keys of the edits.
        answers: answer of each edit.
        rephrased: (m, d) keys of unseen rephrasings.
        wanted: right answer of each rephrasing.
        upstream: (k, d) keys of upstream questions.
    """
    number = {answer: i for i, answer in enumerate(dict.fromkeys(answers))}
    label, right = (torch.tensor([number[answer] for answer in part]) for part in (answers, wanted))
    other = torch.cdist(keys, keys).masked_fill(label[:, None] == label, torch.inf).min(1).values
    distance = torch.cdist(rephrased, keys)
    to_right = distance.masked_fill(right[:, None] != label, torch.inf)
    result: dict[str, Any] = {
        "nearest_right": round(float((label[distance.argmin(1)] == right).float().mean()), 4),
        "nearer_than_half_way": round(float((to_right < other / 2).any(1).float().mean()), 4),
        "runs": [],
    }
    for quantile in QUANTILES:
        for expand in ("paper", "reference"):
            index = ClusterIndex(keys.shape[1], float(other.quantile(quantile)) / 2, expand)
            for start in range(0, len(answers), 100):
                part = list(range(start, min(start + 100, len(answers))))
                index.add_batch(part, part, keys[part], [answers[i] for i in part])
            activated = float((index.search(upstream).block >= 0).float().mean())
            result["runs"].append(
                {
                    "radius": round(float(other.quantile(quantile)) / 2, 3),
                    "expand": expand,
                    "edits_right": reach(index, keys, answers, answers),
                    "rephrasings_right": reach(index, rephrased, wanted, answers),
                    "upstream_activated": round(activated, 4),
                }
                | index.counts
            )
    return result


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__, "--model", "--edits", "--upstream")
    parser.add_argument("--wordings", help="file of KnowEdit's rows with their rephrasings")
    parser.add_argument("--wordings-count", type=positive, default=5)
    parser.add_argument(
        "--module", action="append", help="key module; repeatable; default: those of PARTS in each encoder block"
    )
    args = parser.parse_args()
    items = [draft.item for draft in read_zsre([open_data_file(args.edits, "zsre")], paper=True).drafts]
    others: dict[str, list[str]] = {}
    if args.wordings:
        others = {row["prompt"]: row["generate_prompt"][: args.wordings_count] for row in read_jsonl(args.wordings)}
        known = ((item, others.get(str(item.edit.prompt))) for item in items)
        items = [item for item, wordings in known if wordings is not None and item.rephrases[0] not in wordings]
    prompts = {item.edit.id: (str(item.edit.prompt), *others.get(str(item.edit.prompt), ())) for item in items}
    edits = [(text, item.edit.target) for item in items for text in prompts[item.edit.id]]
    answers, wanted = [answer for _, answer in edits], [item.edit.target for item in items]
    upstream = [question.prompt for question in read_nq(open_data_file(args.upstream, "zsre"))][:1000]
    model, tokenizer = load_model(args.model, dtype="float32")
    last = f"decoder.block.{model.config.num_decoder_layers - 1}.layer.2.DenseReluDense.wo"
    names = args.module or [f"encoder.block.{i}{part}" for i in range(model.config.num_layers) for part in PARTS]
    modules = {}
    for name in track(names):
        config = PaperConfig(radius=1.0, key_layer=name, modules=(last,))
        with Editor(model, tokenizer, config) as editor:
            texts = ([text for text, _ in edits], [item.rephrases[0] for item in items], upstream)
            keys, rephrased, far = (editor.keys(part) for part in texts)
            modules[name] = measure(keys, answers, rephrased, wanted, far)
    best = max((run["rephrasings_right"], name) for name, module in modules.items() for run in module["runs"])
    write(
        {
            "questions": len(items),
            "edits": len(edits),
            "best": best,
            "modules": modules,
        },
        args.out,
    )


if __name__ == "__main__":
    main()
