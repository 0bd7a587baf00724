"""How often unrelated prompts reach an edit, against the stated rate, as edits grow in number.

python -m benchmarks.routing.activation --edits A.jsonl.gz --edits B.jsonl.gz --nq nq_open_dev.jsonl.gz --text wikitext.txt.gz

The scope is calibrated on the package's own prompts, then on some of the traffic itself; nothing is trained. What is
counted are other prompts: later ones of the same grammar, NQ questions as they are and dressed, sentences of text.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import provenance, share, write

from meloedit import Edit, Editor, MeloConfig
from meloedit.evaluation.tasks.registry import load_task, task_of
from meloedit.hooks.state_reader import pooled_parts, pooled_states, texts_of
from meloedit.keys.encoder import Calibration
from meloedit.keys.grammar import make_prompts
from meloedit.keys.pooling import PooledStates
from meloedit.routing.calibration import built_in_calibration, calibrate
from meloedit.routing.index import NeuronIndex

COUNTS = (100, 300, 1000, 3000, 10_000)


def read_edits(paths: Sequence[str]) -> list[Edit]:
    """Return the edits of evaluation files, one for each prompt."""
    tasks = [load_task(task_of(path), [path], 0, "routing") for path in paths]
    edits = {item.edit.prompt: item.edit for task in tasks for item in task.items}
    return [replace(edit, id=str(i)) for i, edit in enumerate(edits.values())]


def best(index: NeuronIndex, calibration: Calibration, pooled: PooledStates) -> list[float]:
    """Return the distance of each prompt to its nearest edit."""
    hits = index.search(calibration.keys(pooled.states, pooled.texts))
    rows = torch.tensor(pooled.rows)
    return torch.full((pooled.count,), torch.inf).scatter_reduce(0, rows, hits.distance, "amin").tolist()


def grow(
    editor: Editor, calibration: Calibration, edits: Sequence[Edit], sets: dict[str, list[str]], stated: float
) -> list[dict[str, Any]]:
    """Return the shares of each set that fire, at each number of edits."""
    router, backbone = editor.router, editor.backbone
    pooling = calibration.pooling(backbone.tokenizer)
    forms = [backbone.forms(edit.prompt) for edit in edits]
    flat = [form for own in forms for form in own]
    keys = calibration.keys(pooled_states(router, flat, pooling=pooling), texts_of(backbone, flat))
    of_edit = keys.split([len(own) for own in forms])
    asked = {  # in every form, as the calibration has them
        name: pooled_parts(router, [form for text in texts for form in backbone.forms(text)], pooling=pooling)
        for name, texts in sets.items()
    }
    # The floor of the settings keeps fewer from firing than stated while edits are few: without it, the calibration
    # alone decides.
    scopes = {"": editor.config.min_similarity or 0.0, "_no_floor": -1.0}
    indexes = {name: NeuronIndex(calibration.similarity) for name in scopes}
    for name, least in scopes.items():
        indexes[name].calibrate(calibration.prompts, stated, least, calibration.of)
    rows = []
    for number, own in enumerate(of_edit, 1):
        for index in indexes.values():
            index.add(number, own)
        if number in COUNTS or number == len(of_edit):
            row: dict[str, Any] = {"edits": number}
            for scope, index in indexes.items():
                row[f"similarity{scope}"] = round(index.similarity, 4)
                for name, pooled in asked.items():
                    fired = share([distance < index.threshold for distance in best(index, calibration, pooled)])
                    ratio = {"ratio": round(fired["value"] / stated, 3)}
                    row[name + scope] = fired | ratio | {"ratio_ci": [round(v / stated, 3) for v in fired["ci"]]}
            rows.append(row)
            print({name: value["ratio_ci"] if isinstance(value, dict) else value for name, value in row.items()})
    return rows


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--edits", action="append", required=True, metavar="FILE")
    parser.add_argument("--nq", required=True, metavar="FILE")
    parser.add_argument("--text", required=True, metavar="FILE")
    parser.add_argument("--count", type=int, default=2000, help="prompts of each kind that are counted")
    parser.add_argument("--kinds", default="built_in,nq,nq_dressed,text", help="what calibrates, in turn")
    parser.add_argument("--in-order", action="store_true", help="calibrate on the first of each kind, count the next")
    parser.add_argument("--out", metavar="FILE")
    given = parser.parse_args()
    editor = Editor.from_pretrained(given.model, MeloConfig())
    config, count = editor.config, given.count
    stated = config.false_activation
    edits = read_edits(given.edits)[: COUNTS[-1]]
    first = given.edits[0]
    far = load_task(task_of(first), [first, given.nq, given.text], 0, "routing").far
    kinds = {"nq": "nq", "nq_dressed": "nq dressed", "text": "web"}
    shifted = {name: [one.prompt for one in far if one.kind == kind] for name, kind in kinds.items()}
    for texts in shifted.values() if not given.in_order else ():
        random.Random(0).shuffle(texts)  # neighbours in a text are alike: what calibrates and what counts, too, then
    own = make_prompts(config.calibration_prompts + 2 * count)[config.calibration_prompts :]
    print({name: len(texts) for name, texts in shifted.items()}, len(edits), "edits")
    result: dict[str, Any] = {"stated": stated, "edits": [Path(path).name for path in given.edits]}
    later = {name: texts[2000:][:count] for name, texts in shifted.items()}
    wanted = given.kinds.split(",")
    if "built_in" in wanted:
        made = built_in_calibration(editor.router, config)
        result["built_in"] = grow(editor, made, edits, {"grammar": own} | later, stated)
    for name in (name for name in shifted if name in wanted):
        texts = shifted[name]
        made = calibrate(editor.router, config, texts[:2000], name)
        result[f"calibrated_{name}"] = grow(editor, made, edits, {name: later[name]}, stated)
    write(result | {"provenance": provenance()}, given.out)


if __name__ == "__main__":
    main()
