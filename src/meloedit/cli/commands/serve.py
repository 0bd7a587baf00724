"""The command ``serve``: the edited model over HTTP, and its edits over REST."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import MeloEditError
from ..loading import open_editor
from ..options import TOKENS, ServerOptions, with_options
from ..terminal import note, progress_display

if TYPE_CHECKING:
    from socket import socket

    from ...serve.settings import ServeSettings
    from ...serve.tokens import Tokens


@with_options(ServerOptions)
def serve(options: ServerOptions) -> None:
    """Serve the edited model as OpenAI's API has it.

    Without tokens only this machine reaches it. Needs the extra serve.

    Example: meloedit serve facts.melo
    """
    from ...serve import need_packages

    need_packages()
    from ...serve.application import make_app
    from ...serve.server import run

    known, settings = serving_settings(options)
    with listen_for(options) as (listening, address), ExitStack() as stack:
        with progress_display() as progress:  # its bars end before the first line of the server
            editor = stack.enter_context(open_editor(options, progress))
        app = make_app(editor, settings, known)
        note(f"serving {options.store} at {address} ({len(editor)} edits; stop with Ctrl-C)")
        run(app, settings, listening)


def serving_settings(options: ServerOptions) -> tuple[Tokens, ServeSettings]:
    """Return the tokens and the limits of a server.

    Raises:
        MeloEditError: if others could reach it without a token.
    """
    from ...serve.server import is_local
    from ...serve.settings import ServeSettings

    known = _tokens(options.tokens)
    if not is_local(options.host) and not len(known):
        raise MeloEditError(
            f"{options.host} is reached from elsewhere, so tokens are needed: give --tokens or {TOKENS}"
        )
    names = tuple(options.host_name or ())
    if not len(known):
        names += ("localhost", "127.0.0.1", "::1", options.host)
    settings = ServeSettings(
        max_batch=options.max_batch,
        max_waiting=options.max_waiting,
        max_tokens=options.max_tokens,
        max_prompt=options.max_prompt,
        max_body=options.max_body,
        timeout=options.timeout,
        show_edits=not options.hide_edits,
        keep_prompts=options.keep_prompts,
        console=options.console,
        origins=tuple(options.origin or ()),
        hosts=names,
    )
    return known, settings


@contextmanager
def listen_for(options: ServerOptions) -> Iterator[tuple[socket, str]]:
    """Open the logs and the address of a server; give the socket and how the address is written."""
    from ...serve.server import bind

    _open_logs(options.audit)
    with bind(options.host, options.port) as listening:
        shown = f"[{options.host}]" if ":" in options.host else options.host
        yield listening, f"http://{shown}:{listening.getsockname()[1]}"


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
