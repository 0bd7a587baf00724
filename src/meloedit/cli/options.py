"""Arguments and options that several commands share, and the decorator that gives a command a group of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from ..workers.executors import Executor


class Dtype(StrEnum):
    """Number formats of a model."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Reach(StrEnum):
    """Where a block acts: from the last prompt token on, or on every token."""

    answer = "answer"
    all = "all"


class ExecutorName(StrEnum):
    """Who does the work: this process, processes of this machine, or actors of a Ray cluster."""

    local = "local"
    spawn = "spawn"
    ray = "ray"


StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="The store's file.")]
EditIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of edits, as `ls` shows them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="A folder or hub name, if the model is not where the store says."
    ),
]
NewModelName = Annotated[
    str, typer.Option("--model", "-m", metavar="MODEL", help="A folder, a hub name, or smollm2 (the demo's model).")
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="Where the model runs: cpu, cuda, cuda:1, mps, auto.")
]
ExecutorChoice = Annotated[
    ExecutorName,
    typer.Option(
        "--executor", help="Who does the work: this process, processes of this machine, or a Ray cluster (extra ray)."
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", min=1, help="With spawn or ray: how many workers; default: 2.")
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="HOST:PORT", help="With ray: the cluster; default: $RAY_ADDRESS, or the one running here."
    ),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Let an edit take the place of one with its id, or that may ask the same.")
]
KeepBoth = Annotated[bool, typer.Option("--keep-both", help="Keep stored edits that ask the same in other words.")]
DtypeName = Annotated[Dtype | None, typer.Option("--dtype", help="Load the model in this number format.")]


@dataclass(frozen=True)
class StoreOptions:
    """A store, the model to open it on, and how to print."""

    store: StorePath
    model: ModelName = None
    device: Device = None
    dtype: DtypeName = None
    as_json: Json = False


@dataclass(frozen=True)
class WorkedOptions(StoreOptions):
    """A store whose work may be done by workers."""

    executor: ExecutorChoice = ExecutorName.local
    workers: Workers = None
    address: Address = None

    def chosen(self) -> Executor | None:
        """Return who does the work; ``None``: this process."""
        from ..workers.executors import executor_of

        return executor_of(self.executor.value, self.workers, self.address)


TOKENS = "MELOEDIT_TOKENS"
"""The environment variable that may hold the lines of a file of tokens."""


@dataclass(frozen=True)
class ServerOptions(StoreOptions):
    """A store that is served: where, to whom, and how much of it."""

    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0: any free one.")] = 8642
    tokens: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"A line each: 'ask|edit NAME TOKEN'; or the variable {TOKENS}."),
    ] = None
    keep_prompts: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Keep prompts that edits answered; default: none is kept.")
    ] = None
    hide_edits: Annotated[bool, typer.Option("--hide-edits", help="Do not say which edit gave an answer.")] = False
    console: Annotated[bool, typer.Option("--console/--no-console", help="Show the console at /.")] = True
    max_batch: Annotated[int, typer.Option(metavar="N", min=1, help="Answers made at once.")] = 16
    max_waiting: Annotated[int, typer.Option(metavar="N", min=1, help="Answers that wait; more get 429.")] = 128
    max_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens of an answer.")] = 512
    max_prompt: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens of a prompt.")] = 4096
    max_body: Annotated[int, typer.Option(metavar="BYTES", min=1, help="Bytes of a request.")] = 4_000_000
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="For an answer, waiting included.")] = 120.0
    origin: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A web page's server that may ask (CORS); repeatable.")
    ] = None
    host_name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name by which clients call this server; repeatable.")
    ] = None
    audit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append a line per change; default: to stderr.")
    ] = None


Group = TypeVar("Group")
Rest = ParamSpec("Rest")


def with_options(
    group: type[Group],
) -> Callable[[Callable[Concatenate[Group, Rest], None]], Callable[..., None]]:
    """Return a decorator: the command takes the fields of a dataclass as options, and gets them as its first argument.

    ``--help`` lists the required options of the group first, then those of the command, then the rest of the group.

    Args:
        group: the dataclass; its annotations are typer's.
    """

    def decorate(command: Callable[Concatenate[Group, Rest], None]) -> Callable[..., None]:
        shared = inspect.signature(group, eval_str=True).parameters
        _, *others = inspect.signature(command, eval_str=True).parameters.values()
        required = [item for item in shared.values() if item.default is item.empty]
        optional = [item for item in shared.values() if item.default is not item.empty]

        @wraps(command)
        def run(**values: Any) -> None:
            options: Any = group(**{name: values.pop(name) for name in shared})
            command(options, **values)  # type: ignore[call-arg]

        parameters = [item.replace(kind=item.KEYWORD_ONLY) for item in (*required, *others, *optional)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {item.name: item.annotation for item in parameters}
        return run

    return decorate


def split_names(text: str) -> list[str]:
    """Return the names in a list separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
