"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Dtype(StrEnum):
    """Number formats of a model."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Reach(StrEnum):
    """From where on a block acts."""

    answer = "answer"
    all = "all"


StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="The store's file.")]
EditIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of edits, as `ls` shows them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="A folder or hub name, if the model is not where the store says."
    ),
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="Where the model runs: cpu, cuda, cuda:1, mps, auto.")
]
DtypeName = Annotated[Dtype | None, typer.Option("--dtype", help="Load the model in this number format.")]
