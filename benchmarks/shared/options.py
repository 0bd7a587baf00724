"""The command line of a benchmark and the file that it writes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meloedit.evaluation.metrics import estimates
from meloedit.evaluation.run.provenance import provenance


def option_parser(description: str | None, *required: str, out: bool = True) -> argparse.ArgumentParser:
    """Return a parser for a benchmark's options.

    Args:
        description: the module's docstring, which ``--help`` shows as it is written.
        required: options that must be given once, such as ``--edits``.
        out: whether the benchmark writes one file of figures, named by ``--out``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in required:
        parser.add_argument(name, required=True, metavar="FILE" if name != "--model" else "MODEL")
    if out:
        parser.add_argument("--out", metavar="FILE", help="file for the figures, as JSON")
    return parser


def positive(text: str) -> int:
    """Return the number of an option that counts something; argparse turns the error into one line."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return number


def names(text: str) -> list[str]:
    """Return the names of an option that lists them; argparse turns the error into one line."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError("give names, separated by commas")
    return found


def share(hits: Sequence[bool]) -> dict[str, Any]:
    """Return a share with its 95 % Wilson interval and its count, ready for JSON."""
    return estimates.share(hits).to_dict()


def write(result: dict[str, Any], path: str | Path | None, **setup: Any) -> None:
    """Print a result with versions, commit and machine, and write it to ``path`` if one is given.

    Args:
        result: the figures.
        path: file to write, in a folder that is made if it is missing.
        setup: more facts for the result's ``provenance``, such as the model.
    """
    text = json.dumps(result | {"provenance": provenance() | setup}, indent=2, ensure_ascii=False)
    print(text)
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text + "\n", encoding="utf-8")
