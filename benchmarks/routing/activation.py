r"""How often unrelated prompts reach an edit, compared with the stated rate, as the number of edits grows.

    python -m benchmarks.routing.activation --edits A.jsonl.gz --edits B.jsonl.gz --nq nq_open_dev.jsonl.gz \
        --text wikitext.txt.gz

The scope is calibrated on the package's built-in prompts, then on a part of the traffic itself; no block is trained.
The counted prompts are others: later ones of the same grammar, NQ questions as they are and with a capital and a
question mark, and sentences of web text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from meloedit import Edit, Editor
from meloedit.evaluation.tasks.registry import load_task, task_of
from meloedit.hooks.state_reader import pooled_prompts, pooled_states
from meloedit.keys.grammar import make_prompts
from meloedit.keys.pooling import PooledStates
from meloedit.routing.calibration import Calibration, built_in_calibration, calibrate
from meloedit.routing.index import NeuronIndex

from ..shared.edits import distinct_edits
from ..shared.options import option_parser, positive, share, write

COUNTS = (100, 300, 1000, 3000, 10_000)
"""Numbers of edits at which prompts are counted."""


def best(index: NeuronIndex, calibration: Calibration, pooled: PooledStates) -> list[float]:
    """Return the distance of each prompt to its nearest edit (the least over the prompt's segments)."""
    hits = index.search(calibration.encoder.keys(pooled.states, pooled.texts))
    rows = torch.tensor(pooled.rows)
    return torch.full((pooled.count,), torch.inf).scatter_reduce(0, rows, hits.distance[:, 0], "amin").tolist()


def grow(
    editor: Editor, calibration: Calibration, edits: Sequence[Edit], sets: dict[str, list[str]], stated: float
) -> list[dict[str, Any]]:
    """Add edits one by one, and count at each of ``COUNTS`` how many prompts of each set fire.

    Args:
        editor: an editor without edits.
        calibration: how keys are computed, and the prompts that set the scope.
        edits: the edits.
        sets: prompts that no edit should answer, by name.
        stated: the share of them that may fire.

    Returns:
        A row per count, with the share of each set and its ratio to the stated one.
    """
    router, backbone = editor.engine.router, editor.backbone
    pooling = calibration.encoder.pooling(backbone.tokenizer)
    forms = [backbone.forms(edit.prompt) for edit in edits]
    flat = [form for of_edit in forms for form in of_edit]
    keys = calibration.encoder.keys(pooled_states(router, flat, pooling=pooling), router.reader.texts(flat))
    edit_keys = keys.split([len(of_edit) for of_edit in forms])
    states = {  # of every form, since the calibration uses every form
        name: pooled_prompts(router, [form for text in texts for form in backbone.forms(text)], pooling=pooling)
        for name, texts in sets.items()
    }
    # While edits are few, the settings' least similarity lets fewer prompts fire than stated. Without it the
    # calibration alone decides.
    scopes = {"": editor.config.min_similarity or 0.0, "_no_floor": -1.0}
    indexes = {name: NeuronIndex(calibration.encoder.shape) for name in scopes}
    for name, least in scopes.items():
        indexes[name].set_scope(calibration.prompts, stated, least, calibration.prompt_of)
    rows = []
    for number, of_edit in enumerate(edit_keys, 1):
        for index in indexes.values():
            index.add(number, of_edit)
        if number in COUNTS or number == len(edit_keys):
            row: dict[str, Any] = {"edits": number}
            for scope, index in indexes.items():
                row[f"similarity{scope}"] = round(index.similarity, 4)
                for name, pooled in states.items():
                    fired = share([distance < index.threshold for distance in best(index, calibration, pooled)])
                    ratio = {"ratio": round(fired["value"] / stated, 3)}
                    row[name + scope] = fired | ratio | {"ratio_ci": [round(v / stated, 3) for v in fired["ci"]]}
            rows.append(row)
            print({name: value["ratio_ci"] if isinstance(value, dict) else value for name, value in row.items()})
    return rows


def main() -> None:
    """Measure, and write the figures."""
    parser = option_parser(__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--edits", action="append", required=True, metavar="FILE")
    parser.add_argument("--nq", required=True, metavar="FILE")
    parser.add_argument("--text", required=True, metavar="FILE")
    parser.add_argument("--count", type=positive, default=2000, help="prompts counted of each kind")
    parser.add_argument("--kinds", default="built_in,nq,nq_dressed,text", help="sets to calibrate on, in turn")
    parser.add_argument(
        "--in-order",
        action="store_true",
        help="calibrate on the first of each kind, count the next",
    )
    given = parser.parse_args()
    editor = Editor.create(given.model)
    config, count = editor.config, given.count
    stated = config.false_activation
    edits = distinct_edits(given.edits)[: COUNTS[-1]]
    first = given.edits[0]
    far = load_task(task_of(first), [first, given.nq, given.text], 0, "routing").far
    kinds = {"nq": "nq", "nq_dressed": "nq dressed", "text": "web"}
    shifted = {name: [item.prompt for item in far if item.kind == kind] for name, kind in kinds.items()}
    for texts in shifted.values() if not given.in_order else ():
        # Neighbouring sentences are alike. After shuffling, the whole text both calibrates and is counted.
        random.Random(0).shuffle(texts)
    grammar = make_prompts(config.calibration_prompts + 2 * count)[config.calibration_prompts :]
    print({name: len(texts) for name, texts in shifted.items()}, len(edits), "edits")
    result: dict[str, Any] = {"stated": stated, "edits": [Path(path).name for path in given.edits]}
    later = {name: texts[2000:][:count] for name, texts in shifted.items()}
    wanted = given.kinds.split(",")
    if "built_in" in wanted:
        calibration = built_in_calibration(editor.engine.router, config)
        result["built_in"] = grow(editor, calibration, edits, {"grammar": grammar} | later, stated)
    for name in (name for name in shifted if name in wanted):
        texts = shifted[name]
        calibration = calibrate(editor.engine.router, config, texts[:2000], name)
        result[f"calibrated_{name}"] = grow(editor, calibration, edits, {name: later[name]}, stated)
    write(result, given.out)


if __name__ == "__main__":
    main()
