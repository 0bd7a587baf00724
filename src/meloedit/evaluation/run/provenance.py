"""The provenance of a result: versions, git state and machine; and the peak memory of this process."""

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


def reset_peak_memory() -> None:
    """Restart the measurement of peak memory, if the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not permitted: the peak is then that of the whole process
        pass


def peak_gigabytes() -> float | None:
    """Return this process's peak memory in GB; ``None`` if the system does not report it."""
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
