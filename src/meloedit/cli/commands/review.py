"""The command that goes through near misses, one by one, with the keyboard."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from ...edit import quoted
from ...errors import EditError
from ...oversight.near_misses import Decision, NearMiss, NearMisses
from ...text import counted, plain
from ..loading import open_editor, open_store
from ..options import StoreOptions, with_options
from ..terminal import note, one_line, progress_display, put, put_json, report_if_stopped

if TYPE_CHECKING:
    from ...editor import Editor
    from ...store import Store

KEYS: dict[str, Decision] = {"a": "allow", "s": "quiet", "l": "leave"}
"""The keys that decide; any other key asks again."""
WORDS: dict[Decision, str] = {"allow": "allowed", "quiet": "silenced", "leave": "left"}
STOP = ("x", "\x1b", "\x04", "")
"""The keys that end the review: x, Escape, the end of the input."""
HELP = "a: allow (the edit answers it)   s: silence (it does not)   l: leave as it is   n: next, decide later   x: end"


@with_options(StoreOptions)
def review(
    options: StoreOptions,
    listing: Annotated[bool, typer.Option("--list", help="List the near misses and decide nothing.")] = False,
) -> None:
    """Go through prompts near the threshold: allow or silence.

    They are noted by `ask --note` and `scan --note`. Every decision is stored at once; the model is loaded for the
    first one that changes an edit.

    Example: meloedit review facts.melo
    """
    store = open_store(options.store)
    noted = NearMisses(options.store)
    pending = [miss for miss in noted.pending() if store.find(miss.edit) is not None]
    if options.as_json:
        put_json([miss.to_dict() for miss in pending])
        return
    if not pending:
        put("nothing to review: note near misses with ask --note or scan --note")
        return
    decided: dict[Decision, int] = {"allow": 0, "quiet": 0, "leave": 0}
    with report_if_stopped(lambda: _summary(decided, len(pending))), ExitStack() as opened:
        editor: Editor | None = None
        for number, miss in enumerate(pending, 1):
            _show(store, miss, f"{number}/{len(pending)}")
            if listing:
                continue
            key = _key()
            if key in STOP:
                break
            if key not in KEYS:
                continue
            decision = KEYS[key]
            try:
                if decision == "leave":
                    noted.decide(miss, decision)
                else:
                    editor = editor or _open(options, opened)
                    editor.settle(miss, decision, "review")
                decided[decision] += 1
                put(f"  {WORDS[decision]}")
            except EditError as error:
                note(f"not changed: {plain(str(error))}")
    if not listing:
        put(_summary(decided, len(pending)))


def _open(options: StoreOptions, opened: ExitStack) -> Editor:
    with progress_display() as progress:
        return opened.enter_context(open_editor(options, progress, writing=True))


def _show(store: Store, miss: NearMiss, place: str) -> None:
    edit = store.get(miss.edit).edit
    score = "" if miss.score is None else f", score {miss.score:.3f}"
    what = "was answered by" if miss.fired else "came near"
    put(f"\n[{place}] {one_line(miss.prompt)}")
    put(f"  {what} edit {plain(edit.id)}{score}, {counted(miss.count, 'time')}")
    put(f"  {quoted(edit.prompt)} -> {quoted(edit.target)}")


def _key() -> str:
    """Return the key that was pressed, after asking for one that means something; the empty string at the end."""
    note(f"  {HELP}")
    while True:
        try:
            key = (typer.getchar() if sys.stdin.isatty() else sys.stdin.read(1)).lower()
        except EOFError:
            return ""
        if key in KEYS or key in STOP or key == "n":
            return key


def _summary(decided: dict[Decision, int], pending: int) -> str:
    parts = ", ".join(f"{number} {WORDS[name]}" for name, number in decided.items())
    return f"{parts}; {counted(pending - sum(decided.values()), 'prompt')} still to review"
