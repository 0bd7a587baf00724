"""The command ``vllm``: vLLM's server with the edits of a store."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ....errors import MeloEditError
from ...loading import lasting_name
from ...options import ModelName, StorePath
from ...terminal import note, put

_SHOWN = ("VLLM_PLUGINS", "VLLM_USE_V2_MODEL_RUNNER", "MELOEDIT_VLLM_CLASS")
"""The variables of the environment without which the command is another one."""


def vllm(
    store: StorePath,
    flags: Annotated[
        list[str] | None, typer.Argument(metavar="FLAGS", help="Flags of vLLM's server, behind a --.")
    ] = None,
    model: ModelName = None,
    editing: Annotated[
        bool, typer.Option("--editing", help="Make edits over HTTP, too, on a copy of the model in the server.")
    ] = False,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compiled",
            help="Let vLLM compile passes, capture CUDA graphs, and use several GPUs. Never run on a GPU yet.",
        ),
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the command and start nothing.")] = False,
) -> None:
    """Serve the edited model with vLLM, in step with its store.

    Needs vLLM 0.32 or 0.33, the extra vllm.

    Example: meloedit vllm facts.melo -- --port 8000 --dtype float32
    """
    from ....vllm.launch import MODULE, architecture_of, by_hand, environment, flags_for
    from ....vllm.start.checks import check_version

    if not show:
        check_version()
    chosen = flags_for(store, flags or [], None if model is None else lasting_name(model), editing, compiled)
    changed = environment(architecture=architecture_of(chosen[chosen.index("--model") + 1]) if compiled else None)
    if show:
        import shlex

        own = [f"{name}={changed[name]}" for name in _SHOWN if name in changed]
        put(" ".join(own) + " " + shlex.join([*by_hand(), *chosen]))
        return
    note(f"starting vLLM with the edits of {store}")
    try:
        os.execve(sys.executable, [sys.executable, "-m", MODULE, *chosen], changed)  # noqa: S606 -- no shell
    except OSError as error:
        raise MeloEditError(f"vLLM's server cannot be started ({error.strerror})") from None
