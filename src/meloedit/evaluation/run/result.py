"""The result of a run as ``result.json`` has it, with its provenance: versions, git state, machine, configuration."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..tasks.task import Task
    from .plan import RunPlan


def make_result(
    plan: RunPlan,
    task: Task,
    fingerprint: str,
    tables: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str],
    finished: bool,
    **counts: int,
) -> dict[str, Any]:
    """Return a run's result.

    Args:
        plan: the plan.
        task: the task after selection: the edits that were made, the prompts that were scored.
        fingerprint: the unedited model's.
        tables: ``methods`` and further fields with an entry for each method.
        notes: sentences for the reader.
        finished: whether all methods are done.
        counts: further numbers, which stand behind the number of edits.
    """
    settings = {name: dict(given) for name, given in plan.methods.items()}
    origin = {"fingerprint": fingerprint, "cleaning": dict(task.cleaning)}
    return {
        "protocol": plan.protocol,
        "task": task.name,
        "model": plan.model,
        "data": [dict(item) for item in task.files],
        "edits": len(task.items),
        **counts,
        "provenance": provenance() | origin | {"configuration": {"settings": settings, **plan.configuration()}},
        **tables,
        "notes": list(notes),
        "finished": finished,
    }


def provenance() -> dict[str, Any]:
    """Return versions, git state and machine."""
    import torch
    import transformers

    from ... import __version__

    here = Path(__file__).parent
    git = subprocess.run(["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True)
    # git may describe a repository around an installed package, which is another project's
    is_checkout = (here.parents[3] / "pyproject.toml").is_file()
    return {
        "meloedit": __version__,
        "commit": git.stdout.strip() or None if is_checkout else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
