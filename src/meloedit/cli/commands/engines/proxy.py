"""The command ``route-proxy``: the router in front of a server that has the adapters."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ...loading import open_editor
from ...options import ServerOptions, with_options
from ...terminal import note, progress_display
from ..serve import listen_for, serving_settings

TOKEN = "MELOEDIT_UPSTREAM_TOKEN"
"""The environment variable that may hold what the upstream server wants as a token."""


@with_options(ServerOptions)
def route_proxy(
    options: ServerOptions,
    upstream: Annotated[
        str, typer.Option(metavar="URL", help=f"The server that has the adapters; its token: the variable {TOKEN}.")
    ],
    upstream_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="What it calls the base model; default: its first model.")
    ] = None,
    adapters: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write adapters of new edits there, and let the upstream server load them."),
    ] = None,
) -> None:
    """Route prompts to the adapters of another server.

    It is vLLM, or any other that has OpenAI's API and several LoRAs. The store's edits were exported (meloedit export),
    and that server has loaded the adapters under their names. This one decides which edit answers, puts the adapter's
    name into the request, and streams the answer through. Needs the extra proxy.

    Example: meloedit route-proxy facts.melo --upstream http://127.0.0.1:8000
    """
    from ....serve.proxy import need_proxy

    need_proxy()
    from ....serve.proxy import app
    from ....serve.proxy.upstream import Upstream
    from ....serve.server import run

    tokens, settings = serving_settings(options)
    behind = Upstream(upstream, upstream_model, os.environ.get(TOKEN) or None, settings.timeout)
    with listen_for(options) as (listening, address), ExitStack() as stack:
        behind.look()  # before the model is loaded, which takes long
        with progress_display() as progress:
            editor = stack.enter_context(open_editor(options, progress))
        made = app(editor, behind, tokens, None if adapters is None else str(adapters), **vars(settings))
        if adapters is None and (missing := made.state.meloedit_service.say_missing()):
            note(f"warning: {missing}")
        note(f"routing {options.store} at {address} to {behind.url} ({len(editor)} edits; stop with Ctrl-C)")
        run(made, settings, listening)
