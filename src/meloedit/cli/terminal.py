"""Print: answers and tables on stdout, messages and progress on stderr; with ``--json``, JSON alone on stdout.

rich is imported where it is used: importing it takes longer than most commands run.
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

from ..text import plain, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..types import Progress, Prompt

PIPE_WIDTH = 100
"""Width of a table that does not go to a terminal, in characters, unless ``COLUMNS`` is set."""

REPEAT_SECONDS = 30.0
"""Seconds between two lines about the progress of one step, where stderr is no terminal."""

Column = str | tuple[str, dict[str, Any]]
"""A column's heading, alone or with options for ``rich.table.Table.add_column``."""


def put(text: str) -> None:
    """Print a line or more on stdout, control characters spelled out: texts of a store or a model may have any."""
    typer.echo(visible(text))


def put_answer(text: str, as_is: bool) -> None:
    """Print what a model answered: as it is if wanted, or where no terminal would obey its control characters."""
    typer.echo(text if as_is or not sys.stdout.isatty() else visible(text))


def note(text: str) -> None:
    """Print a message on stderr, control characters spelled out."""
    typer.echo(visible(text), err=True)


def put_json(value: Any) -> None:
    """Print a value on stdout as JSON, in ASCII: every terminal, pipe and parser takes it."""
    typer.echo(json.dumps(value, indent=2))


def one_line(prompt: Prompt) -> str:
    """Return the user's words of a prompt in one line, control characters spelled out."""
    from ..edit import prompt_text

    return plain(" ".join(prompt_text(prompt).split()))


def quoted(path: Path) -> str:
    """Return a path as one types it in a shell."""
    return shlex.quote(str(path))


def console(stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, else as ``COLUMNS``, else ``PIPE_WIDTH``."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def put_table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headings."""
    console().print(make_table(columns, rows))


def put_figures(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the figures of methods as a table.

    Headings are broken into several lines where the table would be too wide. Columns that still have no room are left
    out and named below.

    Args:
        names: the headings of the figures.
        rows: per method its name and figures.
    """
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
    put_table([("method", {"no_wrap": True}), *numbers], [row[:shown] for row in rows])
    if left := names[shown - 1 :]:
        put(f"no room for: {', '.join(left)}")


def make_table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table. Cells are plain text: rich does not interpret markup in them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    result = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        name, options = (column, {}) if isinstance(column, str) else column
        result.add_column(name, **options)
    for row in rows:
        texts = (cell if isinstance(cell, Text) else visible("" if cell is None else str(cell)) for cell in row)
        result.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in texts))
    return result


@contextmanager
def progress_display() -> Iterator[Progress]:
    """Show the progress of long steps on stderr: bars with the time left, or lines where stderr is no terminal.

    Yields:
        The callback that the library calls with a step's name, how much of it is done, and how much there is.
    """
    stderr = console(stderr=True)
    if not stderr.is_terminal:
        yield _progress_lines()
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(30),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TextColumn("left:"),
        bars.TimeRemainingColumn(elapsed_when_finished=False),
    )
    # Twice a second: drawing takes time from a model that runs on the same cores.
    with bars.Progress(*columns, console=stderr, transient=True, refresh_per_second=2) as display:
        tasks: dict[str, bars.TaskID] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = display.add_task(plain(step), total=total)
            display.update(tasks[step], completed=done, total=total)

        yield progress


def _progress_lines() -> Progress:
    """Return a callback that prints a line when a step begins, and again every ``REPEAT_SECONDS``."""
    last: dict[str, float] = {}

    def progress(step: str, done: int, total: int) -> None:
        now = time.monotonic()
        if step not in last and total > 1:
            note(f"{step}: {total:,} ...")
            last[step] = now
        elif total > 1 and 0 < done < total and now - last[step] >= REPEAT_SECONDS:
            note(f"{step}: {done:,} of {total:,} ...")
            last[step] = now

    return progress


@contextmanager
def report_if_stopped(summary: Callable[[], str]) -> Iterator[None]:
    """Add to Ctrl-C, or to output that cannot be written, what the command had done by then.

    Args:
        summary: returns that in words; called only if the command is stopped.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(summary()) from None
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever reads the output stopped reading, as `head` does: no error
            raise
        raise OSError(f"{summary()}; then: {error}") from None


def open_streams() -> None:
    """Replace each standard stream that is closed (``>&-``) by an empty one.

    Otherwise the store's file could get descriptor 0, 1 or 2, and output would be written into it.
    """
    sys.stdin = sys.stdin or open(os.devnull)
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")


class _Messages(logging.Handler):
    """Prints the library's log records as messages."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"{record.levelname.lower()}: {plain(record.getMessage())}")


def show_warnings() -> None:
    """Print the library's warnings on stderr, and escape characters that a terminal cannot show instead of failing."""
    logger = logging.getLogger("meloedit")
    if not any(isinstance(handler, _Messages) for handler in logger.handlers):
        logger.addHandler(_Messages())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
