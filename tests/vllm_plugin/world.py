"""Makes what the tests of the plugin compare with: stores on SmolLM2, and the answers and routes in one process.

    python tests/vllm_plugin/world.py FOLDER [DTYPE]

It runs by itself, so that vLLM's process holds no second model. A folder that has everything stays as it is. With a
DTYPE the same store is opened on the model in that one, too, and its answers go to ``reference-DTYPE.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from meloedit import Edit, Editor, MeloConfig
from meloedit.backbones.loading import load_model
from meloedit.cli.demo import read_facts
from meloedit.keys.grammar import make_prompts

TOKENS = 24
STORE, ONE_LAYER, REFERENCE = "facts.melo", "one-layer.melo", "reference.json"
LONG = (
    "The ferry left at nine, and everybody on board had brought something to read. It rained until noon. "
    "Nobody spoke about the harbour any more, and the captain wrote a letter to her sister about the weather. "
)


def edits() -> list[Edit]:
    """Return the demo's facts as edits."""
    return [Edit(fact["prompt"], fact["target"]) for fact in read_facts()]


def asked() -> list[dict[str, str]]:
    """Return 200 prompts: of the facts in their words and in others, near, unrelated, behind a long text."""
    found: list[tuple[str, str]] = []
    for fact in read_facts():
        found.append(("own", fact["prompt"]))
        found += [("reworded", text) for text in fact["rephrases"]]
        found += [("near", text) for text in fact.get("near", ())]
    rows = [{"kind": kind, "text": text, "form": form} for kind, text in found for form in ("raw", "chat")]
    long = [{"kind": "long", "text": LONG * 3 + fact["prompt"], "form": "chat"} for fact in read_facts()[:8]]
    rows = rows[: 200 - len(long) - 24] + long
    rest = [text for text in make_prompts(200 - len(rows), seed=11) if isinstance(text, str)]
    return rows + [{"kind": "far", "text": text, "form": ("raw", "chat")[i % 2]} for i, text in enumerate(rest)]


def make(folder: Path) -> None:
    """Make the stores and the reference."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / REFERENCE).exists():
        return
    one = Editor.create("smollm2", config=MeloConfig(layers=1), store=folder / ONE_LAYER)
    assert all(report.holds for report in one.edit(edits()[:6]))
    one.unload()
    editor = Editor.create("smollm2", store=folder / STORE)
    assert all(report.holds for report in editor.edit(edits()))
    (folder / REFERENCE).write_text(json.dumps(answered(editor)))
    editor.unload()


def answered(editor: Editor) -> list[dict[str, Any]]:
    """Return the prompts with their tokens, and the answer and the route that an editor gives each."""
    rows: list[dict[str, Any]] = list(asked())
    for form in ("raw", "chat"):
        own = [row for row in rows if row["form"] == form]
        for row, answer in zip(own, editor.ask([r["text"] for r in own], form, 8, max_new_tokens=TOKENS), strict=True):
            encoded = editor.backbone.encode(row["text"], form)
            row |= {"ids": encoded.ids, "answer": answer.text, "edit": answer.route.edit, "reason": answer.route.reason}
            row |= {"distance": answer.route.distance, "score": answer.route.score}
    return rows


def make_in(dtype: str, folder: Path) -> None:
    """Write the answers of the store on the model in another dtype."""
    model, tokenizer = load_model("smollm2", dtype=dtype)
    editor = Editor.from_pretrained(folder / STORE, model, tokenizer)
    (folder / f"reference-{dtype}.json").write_text(json.dumps(answered(editor)))
    editor.unload()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
    for dtype in sys.argv[2:]:
        make_in(dtype, Path(sys.argv[1]))
