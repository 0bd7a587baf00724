"""The program ``meloedit``: its commands, and how errors and interruptions end them."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import MeloEditError
from ..text import plain, visible
from .commands.ablate import ablate
from .commands.answer import ask, check, demo
from .commands.care import repair, verify
from .commands.engines.adapters import export, import_
from .commands.engines.proxy import route_proxy
from .commands.engines.vllm import vllm
from .commands.evaluate import evaluate
from .commands.harness import harness
from .commands.model import calibrate, edit, init
from .commands.report import report
from .commands.review import review
from .commands.scope import allow, quiet, scan, trial
from .commands.serve import serve
from .commands.store import disable, enable, history, ls, rm, rollback, show
from .terminal import note, open_streams, put, show_warnings


class Commands(TyperGroup):
    """Ends a command with exit code 0, 1 after an error, or 130 after Ctrl-C; typer itself uses 2 for wrong usage."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the arguments; what an error quotes of them has its control characters spelled out."""
        try:
            return super().make_context(*args, **kwargs)
        except Exception as error:
            raise spelled_out(error) from None

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error of the library is one line on stderr."""
        try:
            return self._invoke(ctx)
        except MeloEditError as error:
            note(f"error: {plain(str(error))}")
            raise typer.Exit(1) from None
        except KeyboardInterrupt as stop:
            note(f"interrupted: {stop.args[0] if stop.args else 'nothing was changed'}")
            raise typer.Exit(130) from None

    def _invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (MeloEditError, OSError):
            raise
        except Exception as error:
            raise spelled_out(error) from error.__cause__


def spelled_out(error: Exception) -> Exception:
    """Return an error of typer about the arguments, whose message quotes them, with control characters spelled out."""
    if callable(told := getattr(error, "format_message", None)):
        message = visible(str(told()))
        error.format_message = lambda: message  # type: ignore[attr-defined]
    return error


app = typer.Typer(
    cls=Commands,
    help="Correct what a language model says, without touching its weights.",
    epilog="Start with: meloedit demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # with rich, --help would take three times as long
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        put(f"meloedit {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    show_warnings()


for _command in (
    demo,
    init,
    edit,
    ask,
    quiet,
    allow,
    trial,
    scan,
    review,
    ls,
    show,
    rm,
    enable,
    disable,
    history,
    rollback,
    check,
    verify,
    repair,
    calibrate,
    report,
    harness,
    serve,
    vllm,
    export,
):
    app.command()(_command)
app.command("import")(import_)
app.command("route-proxy")(route_proxy)
app.command("eval")(evaluate)
app.add_typer(ablate, name="ablate")


def main() -> None:
    """Run the command line."""
    try:
        open_streams()
        app(prog_name="meloedit")
    except KeyboardInterrupt:  # before the command began, or after it ended
        note("interrupted")
        sys.exit(130)
    except OSError as error:  # a full disk under stdout, say
        with suppress(OSError):  # under stderr as well
            note(f"error: {plain(str(error))}")
        # otherwise the interpreter would try again to flush the rest
        sys.stdout, sys.stderr = open(os.devnull, "w"), open(os.devnull, "w")
        sys.exit(1)
