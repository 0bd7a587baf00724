"""What the commands print: answers and tables on stdout, messages and progress on stderr; or JSON on stdout alone.

rich is imported where it is used: loading it takes longer than most commands run.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..text import count as count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..types import Progress, Prompt

PIPE_WIDTH = 100
"""Columns of a table that does not go to a terminal, where nothing else says how wide it may be."""


SAY_AGAIN = 30.0
"""Seconds after which it is said again how far a step is, where stderr is no terminal."""

Column = str | tuple[str, dict[str, Any]]
"""A column's heading; it may come with options for ``rich.table.Table.add_column``."""


def put(text: str) -> None:
    """Print a line on stdout."""
    typer.echo(text)


def note(text: str) -> None:
    """Print a message on stderr."""
    typer.echo(text, err=True)


def put_json(value: Any) -> None:
    """Print a value on stdout as JSON; in ASCII, which every terminal, pipe and parser takes."""
    typer.echo(json.dumps(value, indent=2))


def line(prompt: Prompt) -> str:
    """Return the user's words of a prompt in one line, control characters replaced."""
    from ..edit import prompt_text

    words = " ".join(prompt_text(prompt).split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in words)


def shell(path: Path) -> str:
    """Return a path as it is typed in a shell."""
    return shlex.quote(str(path))


def console(stderr: bool = False) -> Console:
    """Return a console that is as wide as the terminal, or as ``COLUMNS`` or ``PIPE_WIDTH`` say."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headings."""
    console().print(make_table(columns, rows))


def figure_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the figures of methods; headings go over several lines where they must, and what has no room is named."""
    room, between = console().width, 3
    cells = [max((len(row[at]) for row in rows), default=0) for at in range(len(names) + 1)]

    def width(headings: Sequence[str]) -> int:
        longest = [max(map(len, text.split("\n"))) for text in headings]
        return sum(max(pair) + between for pair in zip(cells, longest, strict=False)) - between

    headings = ["method", *names]
    if width(headings) > room:
        headings = [heading.replace(" ", "\n") for heading in headings]
    shown = next((at for at in range(len(headings), 1, -1) if width(headings[:at]) <= room), 2)
    numbers: list[Column] = [(heading, {"justify": "right", "no_wrap": True}) for heading in headings[1:shown]]
    table([("method", {"no_wrap": True}), *numbers], [row[:shown] for row in rows])
    if left := names[shown - 1 :]:
        put(f"no room for: {', '.join(left)}")


def make_table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table; its cells are plain text, whatever characters they hold."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        name, options = (column, {}) if isinstance(column, str) else column
        made.add_column(name, **options)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text("" if cell is None else str(cell)) for cell in row))
    return made


@contextmanager
def progress() -> Iterator[Progress]:
    """Show on stderr how far a long step is: a bar with the time left, or a line where stderr is no terminal."""
    stderr = console(stderr=True)
    if not stderr.is_terminal:
        said: dict[str, float] = {}

        def tell(what: str, done: int, total: int) -> None:
            now = time.monotonic()
            if what not in said and total > 1:
                note(f"{what}: {total:,} ...")
                said[what] = now
            elif total > 1 and 0 < done < total and now - said[what] >= SAY_AGAIN:
                note(f"{what}: {done:,} of {total:,} ...")
                said[what] = now

        yield tell
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(30),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TextColumn("left:"),
        bars.TimeRemainingColumn(elapsed_when_finished=False),
    )
    # Twice a second: drawing takes time from a model that runs on the same cores.
    with bars.Progress(*columns, console=stderr, transient=True, refresh_per_second=2) as shown:
        tasks: dict[str, bars.TaskID] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done, total=total)

        yield update


@contextmanager
def saying(done: Callable[[], str]) -> Iterator[None]:
    """Say after Ctrl-C, or where output cannot be written, what the command had done by then."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(done()) from None
    except OSError as error:
        if error.errno == errno.EPIPE:  # its reader wants no more: not an error to speak of
            raise
        raise OSError(f"{done()}; then: {error}") from None


def open_streams() -> None:
    """Put an empty stream in place of each standard one that is closed (``>&-``), or a store would get its number."""
    sys.stdin = sys.stdin or open(os.devnull)
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")


class _Messages(logging.Handler):
    """Prints the library's warnings as messages."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"{record.levelname.lower()}: {record.getMessage()}")


def show_warnings() -> None:
    """Let the library's warnings appear on stderr, and characters that a terminal cannot show not end a command."""
    logger = logging.getLogger("meloedit")
    if not any(isinstance(handler, _Messages) for handler in logger.handlers):
        logger.addHandler(_Messages())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
