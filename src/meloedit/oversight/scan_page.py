"""The page of a scan: one HTML file that needs nothing else."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import write_bytes
from ..text import printable, shorten

if TYPE_CHECKING:
    from ..types import Prompt
    from .scanning import ScanReport

MAX_TURN = 300
"""Characters of a turn on the page; the record has all."""


def write_page(report: ScanReport, path: Path) -> None:
    """Write the page.

    Raises:
        MeloEditError: if it cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    template = resources.files(__package__).joinpath("scan_page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template).render(report=report, words=_words)
    write_bytes(path, page.encode("utf-8", "backslashreplace"))


def _words(prompt: Prompt) -> str:
    """Return a prompt as one line, turns with their roles."""
    if isinstance(prompt, str):
        return printable(shorten(prompt, MAX_TURN))
    return " / ".join(f"{turn['role']}: {printable(shorten(turn['content'], MAX_TURN))}" for turn in prompt)
