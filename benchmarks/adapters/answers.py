"""Whether exported adapters give the editor's answers: asked through PEFT, and written down for other engines.

    python -m benchmarks.adapters.answers --edits zsre_distinct.jsonl.gz --count 64 --folder build/adapters
    python -m benchmarks.adapters.answers --format alora --edits zsre_distinct.jsonl.gz --folder build/activated

Every wording of every edit is asked raw and in a chat, and twenty prompts that concern no edit, greedily, in float32;
activated LoRAs (``--format alora``) are asked in chats alone, where they are exact.
The folder has the adapters afterwards, and ``expected.json`` beside them: the tokens of each prompt, the adapter that
its route names, and the editor's answer. ``benchmarks/adapters/in_vllm.py`` asks vLLM the same.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from meloedit import Editor, MeloConfig
from meloedit.adapters import read_index
from meloedit.adapters.checking import Expected, compare_with_peft, expected

from ..shared.edits import numbered_edits
from ..shared.models import add_options, described, load
from ..shared.options import option_parser, positive, write

SETTINGS: dict[str, dict[str, Any]] = {
    "peft": {"reach": "all", "answer_positions": 0},
    "alora": {"reach": "answer", "answer_positions": 0},
}
"""What a store is made with whose edits become adapters of a kind."""


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    add_options(parser)
    parser.add_argument("--edits", metavar="FILE", help="JSONL with prompt and target; or --store")
    parser.add_argument("--store", metavar="STORE", help="a store that has the edits already, made for export")
    parser.add_argument("--format", choices=SETTINGS, default="peft", help="kind of adapters")
    parser.add_argument("--count", type=positive, default=64)
    parser.add_argument("--folder", metavar="DIR", required=True, help="where the adapters go")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model, tokenizer = load(given)
    if given.store:
        editor = Editor.from_pretrained(given.store, model, tokenizer)
    elif given.edits:
        editor = Editor(model, tokenizer, MeloConfig(**SETTINGS[given.format]))
        reports = editor.edit(numbered_edits(given.edits, given.count))
        print(sum(report.status == "stored" for report in reports), "of", len(reports), "edits hold", flush=True)
    else:
        raise SystemExit("give --edits FILE or --store STORE")
    folder = Path(given.folder)
    began = time.perf_counter()
    made = editor.export(folder, given.format)
    result: dict[str, Any] = {"task": "exported adapters beside the editor", "format": given.format}
    result["edits"] = len(made.adapters)
    result["seconds_to_export"] = round(time.perf_counter() - began, 3)
    forms = ("chat",) if given.format == "alora" else ("raw", "chat")
    wanted, backbone = expected(editor.engine, forms), editor.backbone
    editor.unload()
    keep(folder, wanted)
    result["peft"] = compare_with_peft(backbone, folder, wanted).to_dict()
    write(result, given.out, **described(given))


def keep(folder: Path, wanted: list[Expected]) -> None:
    """Write down what other engines are to answer."""
    names = {entry.edit.id: entry.adapter for entry in read_index(folder).entries}
    rows = [
        {
            "ids": list(one.encoded.ids),
            "form": one.encoded.form,
            "adapter": None if one.edit is None else names[one.edit],
            "text": one.text,
            "tokens": one.tokens,
        }
        for one in wanted
    ]
    (folder / "expected.json").write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
