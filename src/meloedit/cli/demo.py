"""The demo: a small model learns facts of its own file, and forgets one again."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..backbones.loading import DEMO_MODEL
from ..edit import Edit
from ..errors import StoreError
from ..store import Store
from ..text import size
from .loading import check_new, load
from .terminal import Column, console, line, make_table, note, put, shell

if TYPE_CHECKING:
    from rich.table import Table

    from ..editor import Editor
    from ..results import Answer
    from ..types import Progress

Kind = Literal["edit", "rephrasing", "near", "far"]

MADE_BY = {"made_by": "meloedit demo"}
"""Metadata of every edit of the demo: by them a later demo knows that it may replace the store."""

FAR = (
    "What is the capital of France?",
    "What is the boiling point of water?",
    "Explain photosynthesis in one sentence.",
    "Write a short poem about the sea.",
)
# What routing does not solve yet, said openly: one word away from an edit's prompt.
NEAR_MISS = "Who won the Nobel Prize in Literature in 1954?"
ANSWER_TOKENS = 24


@dataclass(frozen=True)
class Line:
    """A question with its answers before and after editing, and whether the second is what it should be."""

    kind: Kind
    question: str
    before: str
    after: str
    right: bool


@dataclass(frozen=True)
class Removal:
    """An edit that was removed again, and the answers to its prompt; ``revision`` still has it."""

    id: str
    question: str
    before: str
    edited: str
    after: str
    revision: int


@dataclass(frozen=True)
class Demo:
    """What the demo did and what it cost.

    Attributes:
        store: the store that it left.
        lines: the table.
        near_miss: a question so near to an edit's that the edit may fire.
        removal: the edit that was taken back.
        edits: how many were stored.
        seconds: time taken by editing.
        bytes_per_edit: growth of the store's file.
    """

    store: str
    lines: list[Line]
    near_miss: Line
    removal: Removal
    edits: int
    seconds: float
    bytes_per_edit: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return asdict(self)


def read_facts() -> list[dict[str, Any]]:
    """Return the facts: edits with rephrasings and near questions that are no part of them."""
    text = (files(__package__) / "demo_facts.jsonl").read_text("utf-8")
    return [json.loads(row) for row in text.splitlines()]


def run_demo(path: Path, tell: Progress) -> Demo:
    """Edit the demo model and leave the store at ``path``.

    Raises:
        StoreError: if something is at ``path`` that is not the store of an earlier demo.
    """
    earlier = _earlier_demo(path)
    facts = read_facts()
    edits = [Edit.from_dict(fact | {"metadata": MADE_BY}) for fact in facts]
    questions: list[tuple[Kind, str, str | None]] = [("edit", fact["prompt"], fact["target"]) for fact in facts]
    questions += [("rephrasing", other, fact["target"]) for fact in facts for other in fact["rephrases"]]
    questions += [("near", other, None) for fact in facts for other in fact.get("near", [])]
    questions += [("far", other, None) for other in FAR]
    asked = [question for _, question, _ in questions] + [NEAR_MISS]

    model, tokenizer = load(DEMO_MODEL, None, None, tell)
    from ..editor import Editor

    with Editor(model, tokenizer, name=DEMO_MODEL) as editor:
        editor.calibrate(progress=tell)
        before = _answers(editor, asked, tell, "asking, before")
        empty, began = _file_size(editor), time.perf_counter()
        reports = editor.edit(edits, progress=tell)
        seconds, grown = time.perf_counter() - began, _file_size(editor) - empty
        after = _answers(editor, asked, tell, "asking, after")
        lines = [
            Line(kind, question, old.text, new.text, new.text == (old.text if target is None else target))
            for (kind, question, target), old, new in zip(questions, before, after, strict=False)
        ]
        old, new = before[-1].text, after[-1].text
        near_miss = Line("near", NEAR_MISS, old, new, old == new)
        # The edit that stands most alone: on the prompt of another one, the nearest that is left might fire.
        lone = max(reports, key=lambda report: report.nearest_distance or 0.0).id
        removal = _remove(editor, lone, lines, tell)
        if earlier:
            note(f"replacing {path}, the store of an earlier demo")
            with earlier.writing():
                path.unlink()
        editor.save(path)
    stored = sum(report.held for report in reports)
    return Demo(str(path), lines, near_miss, removal, stored, seconds, grown / max(1, stored))


def _earlier_demo(path: Path) -> Store | None:
    """Return the store at ``path`` if a demo made it and nobody else ever edited it."""
    if not os.path.lexists(path):
        check_new(path)
        return None
    store = Store.open(path)
    ever = [stored.edit for revision in range(1, store.revision + 1) for stored in store.edits(revision)]
    if not ever or any(dict(edit.metadata) != MADE_BY for edit in ever):
        raise StoreError(f"{path} holds more than a demo's edits and is left: delete it, or name another with --store")
    return store


def _file_size(editor: Editor) -> int:
    return editor.store.path.stat().st_size


def _answers(editor: Editor, questions: Sequence[str], tell: Progress, what: str) -> list[Answer]:
    return editor.ask(
        questions, "chat", progress=lambda _, done, total: tell(what, done, total), max_new_tokens=ANSWER_TOKENS
    )


def _remove(editor: Editor, edit_id: str, lines: Sequence[Line], tell: Progress) -> Removal:
    revision = editor.store.revision
    prompt = editor.store.get(edit_id).edit.prompt
    shown = next(item for item in lines if item.question == prompt)
    editor.remove(edit_id)
    (answer,) = _answers(editor, [shown.question], tell, "asking, removed")
    return Removal(edit_id, shown.question, shown.before, shown.after, answer.text, revision)


# -- showing it

HEADINGS: dict[Kind, str] = {
    "edit": "What it was taught",
    "rephrasing": "Other wordings, never seen",
    "near": "Near questions: must not change",
    "far": "Unrelated ones: must not change",
}
QUESTION, BEFORE, AFTER = 36, 37, 17
"""Widths of the table's columns: 100 with what stands between them."""


def show_demo(demo: Demo) -> None:
    """Print the table, the removal, the cost and what to try next."""
    screen = console()
    put("")
    screen.print(_lines_table(demo.lines))
    put("")
    right = {kind: [item.right for item in demo.lines if item.kind == kind] for kind in HEADINGS}
    taught, reworded, near, far = (f"{sum(found)} of {len(found)}" for found in right.values())
    put(f"{taught} edits and {reworded} unseen wordings give the new answer;")
    put(f"{near} near and {far} unrelated questions keep the old one.")
    if not demo.near_miss.right:
        put(f'Not solved yet: "{demo.near_miss.question}" is now answered "{line(demo.near_miss.after)}".')
    removal = demo.removal
    back = "its old answer is back" if removal.after == removal.before else "but its old answer is NOT back"
    put(f"\nThen edit {removal.id!r} was removed, and {back}:\n")
    put(f"  {removal.question}")
    for when, answer in (("before", removal.before), ("edited", removal.edited), ("removed", removal.after)):
        put(f"  {when:<8} {line(answer)}")
    put(
        f"\nCost: {demo.edits} edits in {demo.seconds:.1f} s on {os.cpu_count()} cores, "
        f"{demo.seconds / max(1, demo.edits):.1f} s and {size(demo.bytes_per_edit)} each."
    )
    put("The model's weights were not written.\n\nTry next:\n")
    for command in next_commands(demo):
        put(f"  {command}")
    put("")


def next_commands(demo: Demo) -> list[str]:
    """Return commands that work on the demo's store."""
    store = shell(Path(demo.store))
    return [
        *_exports(),
        f"meloedit ls {store}",
        f'meloedit ask {store} "Which land joined NATO in the spring of 2023?" --explain',
        f'meloedit ask {store} "{NEAR_MISS}" --explain',
        f"meloedit history {store}",
        f"meloedit rollback {store} {demo.removal.revision}   # brings {demo.removal.id!r} back",
        f'cp {store} mine.melo && meloedit edit mine.melo --prompt "Who is the mayor of Ohm?" --target "Ada Volt"',
        f"meloedit check {store}",
    ]


def _exports() -> list[str]:
    """Return what a shell must be told first, where ``make demo`` told it to this process alone."""
    program = Path(sys.argv[0]).absolute()
    values = {}
    if program.name == "meloedit" and not shutil.which("meloedit"):
        values["PATH"] = f'{shell(program.parent)}:"$PATH"'
    if folder := os.environ.get("MELOEDIT_CACHE"):
        values["MELOEDIT_CACHE"] = shell(Path(folder).absolute())
    return [f"export {' '.join(f'{name}={value}' for name, value in values.items())}"] if values else []


def _lines_table(lines: Sequence[Line]) -> Table:
    from rich.text import Text

    widths = {"question": QUESTION, "before": BEFORE, "after": AFTER}
    columns: list[Column] = [(name, {"width": width}) for name, width in widths.items()]
    made = make_table([*columns, ("", {"min_width": 1})], [])
    for kind, heading in HEADINGS.items():
        made.add_row(Text(heading, "bold cyan"))
        for item in lines:
            if item.kind == kind:
                same = kind in ("near", "far") and item.right
                made.add_row(
                    Text(item.question),
                    Text(_cut(line(item.before), BEFORE), "dim"),
                    Text("the same", "dim") if same else Text(line(item.after), "" if item.right else "red"),
                    Text("✓", "green") if item.right else Text("✗", "bold red"),
                )
        made.add_section()
    return made


def _cut(text: str, width: int) -> str:
    """Return as much of a text as fits into two lines."""
    first, *rest = textwrap.wrap(text, width) or [""]
    if len(rest) < 2:
        return text
    return f"{first} {rest[0] if len(rest[0]) < width else rest[0][:-1]}…"
