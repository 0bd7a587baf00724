"""Where a result is from: versions, git state, machine; and how much memory was held."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def provenance() -> dict[str, Any]:
    """Return versions, git state and machine."""
    import torch
    import transformers

    from ... import __version__

    here = Path(__file__).parent
    git = subprocess.run(["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True)
    own = here.parents[3] / "pyproject.toml"  # a package that was installed stands in somebody else's repository
    return {
        "meloedit": __version__,
        "commit": git.stdout.strip() or None if own.is_file() else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def forget_peak() -> None:
    """Start to measure the peak of memory anew, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak is then that of the whole process
        pass


def peak_gigabytes() -> float | None:
    """Return the most memory that this process has held, in GB; ``None`` where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        try:
            import resource
        except ImportError:
            return None
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3)
    kilobytes = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return round(int(kilobytes[0]) * 1024 / 1e9, 3) if kilobytes else None
