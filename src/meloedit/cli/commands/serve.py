"""The command ``serve``: the edited model over HTTP, and its edits over REST."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import MeloEditError
from ..loading import open_editor
from ..options import StoreOptions, with_options
from ..terminal import note, progress_display

if TYPE_CHECKING:
    from ...serve.tokens import Tokens

TOKENS = "MELOEDIT_TOKENS"
"""The environment variable that may hold the lines of a file of tokens."""


@with_options(StoreOptions)
def serve(
    options: StoreOptions,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0: any free one.")] = 8642,
    tokens: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"A line each: 'ask|edit NAME TOKEN'; or the variable {TOKENS}."),
    ] = None,
    keep_prompts: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Keep prompts that edits answered; default: none is kept.")
    ] = None,
    hide_edits: Annotated[bool, typer.Option("--hide-edits", help="Do not say which edit gave an answer.")] = False,
    console: Annotated[bool, typer.Option("--console/--no-console", help="Show the console at /.")] = True,
    max_batch: Annotated[int, typer.Option(metavar="N", min=1, help="Answers made at once.")] = 16,
    max_waiting: Annotated[int, typer.Option(metavar="N", min=1, help="Answers that wait; more get 429.")] = 128,
    max_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens of an answer.")] = 512,
    max_prompt: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens of a prompt.")] = 4096,
    max_body: Annotated[int, typer.Option(metavar="BYTES", min=1, help="Bytes of a request.")] = 4_000_000,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="For an answer, waiting included.")] = 120.0,
    origin: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A web page's server that may ask (CORS); repeatable.")
    ] = None,
    host_name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name by which clients call this server; repeatable.")
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append a line per change; default: to stderr.")
    ] = None,
) -> None:
    """Serve the edited model as OpenAI's API has it.

    Without tokens only this machine reaches it. Needs the extra serve.

    Example: meloedit serve facts.melo
    """
    from ...serve import need_packages

    need_packages()
    from ...serve.application import make_app
    from ...serve.server import bind, is_local, run
    from ...serve.settings import ServeSettings

    known = _tokens(tokens)
    if not is_local(host) and not len(known):
        raise MeloEditError(f"{host} is reached from elsewhere, so tokens are needed: give --tokens or {TOKENS}")
    names = tuple(host_name or ())
    if not len(known):
        names += ("localhost", "127.0.0.1", "::1", host)
    settings = ServeSettings(
        max_batch=max_batch,
        max_waiting=max_waiting,
        max_tokens=max_tokens,
        max_prompt=max_prompt,
        max_body=max_body,
        timeout=timeout,
        show_edits=not hide_edits,
        keep_prompts=keep_prompts,
        console=console,
        origins=tuple(origin or ()),
        hosts=names,
    )
    _open_logs(audit)
    with bind(host, port) as listening, ExitStack() as stack:
        with progress_display() as progress:  # its bars end before the first line of the server
            editor = stack.enter_context(open_editor(options, progress))
        app = make_app(editor, settings, known)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"
        note(f"serving {options.store} at {address} ({len(editor)} edits; stop with Ctrl-C)")
        run(app, settings, listening)


def _tokens(path: Path | None) -> Tokens:
    from ...serve.tokens import Tokens, read_tokens

    if path is not None:
        return read_tokens(path)
    text = os.environ.get(TOKENS, "")
    known = Tokens(text.splitlines(), TOKENS)
    if text.strip() and not len(known):
        raise MeloEditError(f"{TOKENS} has no tokens: a line is 'ask NAME TOKEN' or 'edit NAME TOKEN'")
    return known


def _open_logs(audit: Path | None) -> None:
    """Let what the server logs reach stderr, and the audit lines their file."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for name in ("uvicorn.error", "meloedit.serve"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    changes = logging.getLogger("meloedit.serve.audit")
    changes.setLevel(logging.INFO)
    if audit is not None:
        try:
            changes.addHandler(logging.FileHandler(audit, encoding="utf-8"))
        except OSError as error:
            raise MeloEditError(f"--audit {audit} cannot be written ({error.strerror})") from None
        changes.propagate = False
