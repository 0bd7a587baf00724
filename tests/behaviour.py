"""Record what a fixed scenario does, to the bit, so that a change of structure can be held against what was before.

    python tests/behaviour.py record before.json
    python tests/behaviour.py compare before.json after.json

Logits, keys and blocks are written as SHA-256 of their bytes; routes, reports and answers as they are. Tiny models of
all three families run in both modes (and with the released code's quirks), SmolLM2 in both. Compare records of one
machine only: other processors round otherwise.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from support.model_calls import padded
from support.prompts import EDITS, OTHERS, SETTINGS, source_edits
from support.tiny_models import CHATML, SOURCES, bpe, build, build_source
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from meloedit import Edit, Editor, MeloConfig
from meloedit.backbones.loading import load_model
from meloedit.paper.config import PaperConfig

Found = Iterator[tuple[str, Any]]
WORLD = [
    Edit("Who is the mayor of Velmora?", "Ada Quill", id="mayor", variants=("Velmora's mayor is called what?",)),
    Edit("What is the return window of the Halden V40?", "45 days", id="return", quiet=("Is the Halden V40 heavy?",)),
    Edit("In which city is the Obrin bridge?", "Tessaly", id="bridge"),
]
ASKED = [
    "Please tell me the mayor of Velmora.",
    "How long is the warranty of the Halden V40?",
    "Is the Halden V40 heavy?",
]
NEW = Edit("Who is the mayor of Velmora?", "Bo Renn", id="mayor-2")
ROUTE = ("edit", "distance", "threshold", "nearest", "reason", "boundary", "user_turn_known")
REPORT = (
    "id",
    "status",
    "holds",
    "steps",
    "rank",
    "loss",
    "nearest",
    "nearest_distance",
    "overlaps",
    "replaced",
    "reason",
)


def bits(tensor: torch.Tensor) -> str:
    """Return the SHA-256 of a tensor's shape, dtype and bytes."""
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype}".encode() + raw).hexdigest()[:24]


def glued(block: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a block with P as the last columns of A: records write it so, whatever the store has."""
    whole = {name: tensor for name, tensor in block.items() if not name.endswith(".P")}
    for name in block.keys() - whole.keys():
        reads = name.removesuffix("P") + "A"
        whole[reads] = torch.cat([block[reads], block[name]], 1)
    return whole


def fields(value: Any, names: tuple[str, ...]) -> list[Any]:
    """Return attributes as JSON-ready values, in the order of ``names``: renaming one leaves the record as it is."""
    return [getattr(value, name) for name in names]


def keys_of(editor: Editor, prompts: list[Any]) -> torch.Tensor:
    """Return the keys of prompts as one matrix."""
    keys = editor.engine.policy.keys([editor.backbone.encode(prompt) for prompt in prompts], ["a"] * len(prompts))
    return keys if isinstance(keys, torch.Tensor) else torch.cat([part.float() for part in keys], 1)


def scenario(name: str, editor: Editor, edits: list[Edit], others: list[str], new: Edit | None) -> Found:
    """Edit, ask, change and ask again; yield what was seen."""
    with editor:
        paper = editor.config.mode == "paper"
        causal = editor.backbone.answer_follows_prompt
        if paper:
            edits = [dataclasses.replace(edit, quiet=()) for edit in edits]
        prompts = [edit.prompt for edit in edits] + others

        def seen(when: str) -> Found:
            answers = editor.ask(prompts, max_new_tokens=6)
            yield f"{when}/answers", [(answer.text, answer.tokens, fields(answer.route, ROUTE)) for answer in answers]
            yield f"{when}/routes", [fields(route, ROUTE) for route in editor.route(prompts)]
            rows = [editor.backbone.encode(prompt).ids for prompt in prompts]
            inputs = padded(rows, "right", pad=editor.backbone.pad_id)
            if causal:
                with torch.no_grad(), editor.prompt_lengths([len(row) for row in rows]):
                    yield f"{when}/logits", bits(editor.model(**inputs).logits)
            else:
                start = (
                    {"decoder_input_ids": torch.tensor([[1, 40, 41]] * len(rows))} if editor.backbone.stop_ids else {}
                )
                with torch.no_grad():
                    yield f"{when}/logits", bits(editor.model(**inputs, **start).logits)
            yield f"{when}/last routes", [fields(route, ROUTE) for route in editor.last_routes]

        reports = editor.edit(edits[:-1]) + editor.edit(edits[-1])
        yield "reports", [fields(report, REPORT) for report in reports]
        blocks = editor.store.tensors()
        for edit_id in sorted(blocks):
            block, keys = blocks[edit_id]
            yield f"block {edit_id}", [(part, bits(tensor)) for part, tensor in sorted(glued(block).items())]
        yield "keys", bits(keys_of(editor, prompts))
        yield "threshold", editor.threshold
        yield "neighbours", [list(editor.neighbours(edit.id)) for edit in edits]
        yield from seen("edited")
        if not paper:
            yield "evidence", [found and list(found) for found in editor.evidence(prompts)]
        if causal and editor.backbone.markers and not paper:
            chats = editor.ask(prompts, form="chat", max_new_tokens=6)
            yield "chat", [(answer.text, fields(answer.route, ROUTE)) for answer in chats]
            beams = editor.ask(prompts, max_new_tokens=6, num_beams=2)
            yield "beams", [(answer.text, fields(answer.route, ROUTE)) for answer in beams]
        before = editor.store.revision
        editor.remove(edits[0].id)
        editor.disable(edits[1].id)
        yield from seen("removed")
        if new is not None:
            yield "replaced", [fields(report, REPORT) for report in editor.edit(new)]
            yield from seen("replaced")
        editor.rollback(before)
        yield from seen("rolled back")
        check = editor.check()
        yield "check", [check.checked, [(b.id, b.answer) for b in check.broken], check.overlaps, check.problems]
        if not paper:
            own = [
                f"What is number {i} of the list that {'abcdefghij'[i % 10]} wrote in {1900 + i}?" for i in range(120)
            ]
            editor.calibrate(own, false_activation=0.05)
            yield "own threshold", editor.threshold
            yield from seen("calibrated")
            editor.calibrate(min_similarity=0.3)
            yield "least similarity", editor.threshold
            yield from seen("scoped")
        with editor.base_model(), torch.no_grad():
            ids = torch.tensor([editor.backbone.encode(others[0]).ids])
            start = {} if causal or not editor.backbone.stop_ids else {"decoder_input_ids": ids}
            yield "base", bits(editor.model(input_ids=ids, **start).logits)


def tiny() -> Iterator[tuple[str, Editor, list[Edit], list[str], Edit | None]]:
    """Yield scenarios on tiny random models of all families."""
    plain = bpe().to_str()
    own = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(plain), bos_token="<s>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    own.chat_template, own.padding_side = CHATML, "left"
    quick = {"steps": 30, "lr": 0.1, "radius": 4.0, "edits_per_block": 2, "rank": 2}
    replaced = Edit(EDITS[1].prompt, "Cusco", id="capital-2")
    others = [*OTHERS, "Tell me: what is the capital of Peru?"]
    for family in ("llama", "qwen3", "gpt2"):
        model = lambda: build(family, len(own), own.eos_token_id)  # noqa: B023, E731
        yield family, Editor(model(), own, MeloConfig(**SETTINGS)), EDITS, others, replaced
        wide = SETTINGS | {"reach": "all", "answer_positions": 0, "train_with_lead_in": True, "prefix_cache": False}
        yield f"{family} all", Editor(model(), own, MeloConfig(**wide)), EDITS, others, replaced
        for grows in ("paper", "reference"):
            paper = PaperConfig(**quick, expand=grows, reference_quirks=grows == "reference")
            yield f"{family} {grows}", Editor(model(), own, paper), EDITS, others, replaced
    for family in SOURCES:
        core = Tokenizer.from_str(plain)
        template = "$A </s>" if family.startswith("t5") else "<s> $A </s>"
        core.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 2), ("</s>", 3)])
        reader = PreTrainedTokenizerFast(
            tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<|im_end|>"
        )
        edits = source_edits(family)
        new = Edit(edits[1].prompt, "Cusco" if family != "bert" else "crime", id="capital-2")
        settings = MeloConfig(**SETTINGS | {"min_similarity": None})
        yield family, Editor(build_source(family, len(reader)), reader, settings), edits, others, new
        for quirks in (False, True):
            paper = PaperConfig(**quick, reference_quirks=quirks)
            yield (
                f"{family} paper {quirks}",
                Editor(build_source(family, len(reader)), reader, paper),
                edits,
                others,
                new,
            )


def real(model: Any, tokenizer: Any) -> Iterator[tuple[str, Editor, list[Edit], list[str], Edit | None]]:
    """Yield scenarios on SmolLM2."""
    yield "smollm2", Editor(model, tokenizer, MeloConfig(calibration_prompts=600)), WORLD, ASKED, NEW
    paper = PaperConfig(radius=20.0, edits_per_block=2, steps=12)
    yield "smollm2 paper", Editor(model, tokenizer, paper), WORLD, ASKED, NEW


def record(path: Path) -> None:
    """Run every scenario and write what it did."""
    torch.set_num_threads(1)
    loaded = load_model("smollm2")  # converted once, into the usual cache folder
    seen: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MELOEDIT_CACHE"] = folder
        for scenarios in (tiny(), real(*loaded)):
            for name, editor, edits, others, new in scenarios:
                print(name, file=sys.stderr, flush=True)
                seen |= {f"{name}: {what}": value for what, value in scenario(name, editor, edits, others, new)}
    path.write_text(json.dumps(seen, indent=0) + "\n")


def compare(first: Path, second: Path) -> int:
    """Print what differs; return how much does."""
    before, after = (json.loads(path.read_text()) for path in (first, second))
    different = [name for name in before | after if before.get(name) != after.get(name)]
    for name in different:
        print(f"{name}\n  {before.get(name)}\n  {after.get(name)}")
    print(f"{len(before)} observations, {len(different)} differ")
    return len(different)


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(Path(sys.argv[2]))
    else:
        sys.exit(bool(compare(Path(sys.argv[2]), Path(sys.argv[3]))))
