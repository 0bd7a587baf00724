"""The demo: teach a small model the facts of ``demo_facts.jsonl``, show what changed, and take one back."""

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
from ..text import format_size
from .loading import check_new, load
from .terminal import Column, console, make_table, note, one_line, put, quoted

if TYPE_CHECKING:
    from rich.table import Table

    from ..editor import Editor
    from ..results import Answer
    from ..types import Progress

Kind = Literal["edit", "rephrasing", "near", "far"]

MADE_BY = {"made_by": "meloedit demo"}
"""Metadata of every edit of the demo. A later demo replaces a store only if all its edits have it."""

FAR = (
    "What is the capital of France?",
    "What is the boiling point of water?",
    "Explain photosynthesis in one sentence.",
    "Write a short poem about the sea.",
)
# Not solved yet, and shown as such: a question one word away from an edit's prompt.
NEAR_MISS = "Who won the Nobel Prize in Literature in 1954?"
ANSWER_TOKENS = 24


@dataclass(frozen=True)
class Line:
    """A question with its answers before and after editing, and whether the second is right."""

    kind: Kind
    question: str
    before: str
    after: str
    right: bool


@dataclass(frozen=True)
class Removal:
    """An edit that was removed again, the answers to its prompt, and the last revision that has the edit."""

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
        store: the path of the store it made.
        lines: the rows of the table.
        near_miss: a question so near to an edit's that the edit may fire.
        removal: the edit that was taken back.
        edits: number of edits stored.
        seconds: duration of the editing.
        bytes_per_edit: growth of the store's file, in bytes.
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
    """Return the facts: each an edit with rephrasings, and near questions that the edit must not change."""
    text = (files(__package__) / "demo_facts.jsonl").read_text("utf-8")
    return [json.loads(row) for row in text.splitlines()]


def run_demo(path: Path, progress: Progress, count: int | None = None) -> Demo:
    """Edit the demo model and save the store.

    Args:
        path: where; the store of an earlier demo is replaced.
        progress: called as each step goes on.
        count: how many of the facts to teach, the first ones; all by default.

    Raises:
        StoreError: if something other than the store of an earlier demo is at ``path``.
    """
    earlier = _earlier_demo(path)
    facts = read_facts()[:count]
    edits = [Edit.from_dict(fact | {"metadata": MADE_BY}) for fact in facts]
    questions: list[tuple[Kind, str, str | None]] = [("edit", fact["prompt"], fact["target"]) for fact in facts]
    questions += [("rephrasing", other, fact["target"]) for fact in facts for other in fact["rephrases"]]
    questions += [("near", other, None) for fact in facts for other in fact.get("near", [])]
    questions += [("far", other, None) for other in FAR]
    prompts = [question for _, question, _ in questions] + [NEAR_MISS]

    model, tokenizer = load(DEMO_MODEL, None, None, progress)
    from ..editor import Editor

    with Editor(model, tokenizer, name=DEMO_MODEL) as editor:
        editor.calibrate(progress=progress)
        before = _answers(editor, prompts, progress, "asking, before")
        size_before, start = _file_size(editor), time.perf_counter()
        reports = editor.edit(edits, progress=progress)
        seconds, growth = time.perf_counter() - start, _file_size(editor) - size_before
        after = _answers(editor, prompts, progress, "asking, after")
        lines = [
            Line(kind, question, old.text, new.text, new.text == (old.text if target is None else target))
            for (kind, question, target), old, new in zip(questions, before, after, strict=False)
        ]
        old, new = before[-1].text, after[-1].text
        near_miss = Line("near", NEAR_MISS, old, new, old == new)
        # Remove the edit farthest from all others: on the prompt of any other, the nearest remaining edit might fire.
        lone = max(reports, key=lambda report: report.nearest_distance or 0.0).id
        removal = _remove(editor, lone, lines, progress)
        if earlier:
            note(f"replacing {path}, the store of an earlier demo")
            with earlier.writing():
                path.unlink()
        editor.save(path)
    stored = sum(report.holds for report in reports)
    return Demo(str(path), lines, near_miss, removal, stored, seconds, growth / max(1, stored))


def _earlier_demo(path: Path) -> Store | None:
    """Return the store at ``path`` if every edit in its history is a demo's; ``None`` if nothing is there."""
    if not os.path.lexists(path):
        check_new(path)
        return None
    store = Store.open(path)
    edits = [stored.edit for revision in range(1, store.revision + 1) for stored in store.edits(revision)]
    if not edits or any(dict(edit.metadata) != MADE_BY for edit in edits):
        raise StoreError(f"{path} holds more than a demo's edits and is left: delete it, or name another with --store")
    return store


def _file_size(editor: Editor) -> int:
    return editor.store.path.stat().st_size


def _answers(editor: Editor, questions: Sequence[str], progress: Progress, step: str) -> list[Answer]:
    return editor.ask(
        questions, "chat", progress=lambda _, done, total: progress(step, done, total), max_new_tokens=ANSWER_TOKENS
    )


def _remove(editor: Editor, edit_id: str, lines: Sequence[Line], progress: Progress) -> Removal:
    revision = editor.store.revision
    prompt = editor.store.get(edit_id).edit.prompt
    line = next(item for item in lines if item.question == prompt)
    editor.remove(edit_id)
    (answer,) = _answers(editor, [line.question], progress, "asking, removed")
    return Removal(edit_id, line.question, line.before, line.after, answer.text, revision)


# -- printing

HEADINGS: dict[Kind, str] = {
    "edit": "What it was taught",
    "rephrasing": "Other wordings, never seen",
    "near": "Near questions: must not change",
    "far": "Unrelated ones: must not change",
}
QUESTION, BEFORE, AFTER = 36, 37, 17
"""Widths of the table's columns; with the space between them, the table is 100 characters wide."""


def show_demo(demo: Demo) -> None:
    """Print the table, the removal, the cost and what to try next."""
    screen = console()
    put("")
    screen.print(_lines_table(demo.lines))
    put("")
    right = {kind: [item.right for item in demo.lines if item.kind == kind] for kind in HEADINGS}
    taught, reworded, near, far = (f"{sum(marks)} of {len(marks)}" for marks in right.values())
    put(f"{taught} edits and {reworded} unseen wordings give the new answer;")
    put(f"{near} near and {far} unrelated questions keep the old one.")
    if not demo.near_miss.right:
        put(f'Not solved yet: "{demo.near_miss.question}" is now answered "{one_line(demo.near_miss.after)}".')
    removal = demo.removal
    back = "its old answer is back" if removal.after == removal.before else "but its old answer is NOT back"
    put(f"\nThen edit {removal.id!r} was removed, and {back}:\n")
    put(f"  {removal.question}")
    for when, answer in (("before", removal.before), ("edited", removal.edited), ("removed", removal.after)):
        put(f"  {when:<8} {one_line(answer)}")
    put(
        f"\nCost: {demo.edits} edits in {demo.seconds:.1f} s on {os.cpu_count()} cores, "
        f"{demo.seconds / max(1, demo.edits):.1f} s and {format_size(demo.bytes_per_edit)} each."
    )
    put("The model's weights were not written.\n\nTry next:\n")
    for command in next_commands(demo):
        put(f"  {command}")
    put("")


def next_commands(demo: Demo) -> list[str]:
    """Return commands that work on the demo's store."""
    store = quoted(Path(demo.store))
    return [
        *_exports(),
        f"meloedit ls {store}",
        f'meloedit ask {store} "Which state entered NATO in April 2023?" --explain',
        f'meloedit ask {store} "{NEAR_MISS}" --explain',
        f"meloedit history {store}",
        f"meloedit rollback {store} {demo.removal.revision}   # brings {demo.removal.id!r} back",
        f'cp {store} mine.melo && meloedit edit mine.melo --prompt "Who is the mayor of Ohm?" --target "Ada Volt"',
        f"meloedit check {store}",
    ]


def _exports() -> list[str]:
    """Return the exports that the user's shell needs first, because ``make demo`` set them for this process alone."""
    program = Path(sys.argv[0]).absolute()
    values = {}
    if program.name == "meloedit" and not shutil.which("meloedit"):
        values["PATH"] = f'{quoted(program.parent)}:"$PATH"'
    if folder := os.environ.get("MELOEDIT_CACHE"):
        values["MELOEDIT_CACHE"] = quoted(Path(folder).absolute())
    return [f"export {' '.join(f'{name}={value}' for name, value in values.items())}"] if values else []


def _lines_table(lines: Sequence[Line]) -> Table:
    from rich.text import Text

    widths = {"question": QUESTION, "before": BEFORE, "after": AFTER}
    columns: list[Column] = [(name, {"width": width}) for name, width in widths.items()]
    result = make_table([*columns, ("", {"min_width": 1})], [])
    for kind, heading in HEADINGS.items():
        result.add_row(Text(heading, "bold cyan"))
        for item in lines:
            if item.kind == kind:
                same = kind in ("near", "far") and item.right
                result.add_row(
                    Text(item.question),
                    Text(_two_lines(item.before, BEFORE), "dim"),
                    Text("the same", "dim") if same else Text(one_line(item.after), "" if item.right else "red"),
                    Text("✓", "green") if item.right else Text("✗", "bold red"),
                )
        result.add_section()
    return result


def _two_lines(text: str, width: int) -> str:
    """Return as much of a text as fits into two lines of ``width`` characters."""
    return "\n".join(textwrap.wrap(one_line(text), width, max_lines=2, placeholder="…"))
