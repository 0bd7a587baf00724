"""What the benchmarks share: data, intervals, the machine, results on disk."""

from __future__ import annotations

import gzip
import json
import platform
import resource
import subprocess
from pathlib import Path
from typing import Any

import torch
import transformers
from scipy.stats import binomtest

import meloedit


def read_jsonl(path: str | Path, count: int | None = None) -> list[dict[str, Any]]:
    """Read the first ``count`` objects of a JSONL file, gzipped or not."""
    opener: Any = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream if line.strip()]
    return rows[:count]


def share(hits: list[bool]) -> dict[str, Any]:
    """Return a share with its 95 % Wilson interval and its count."""
    interval = binomtest(sum(hits), len(hits)).proportion_ci(0.95, method="wilson")
    ci = [round(float(interval.low), 4), round(float(interval.high), 4)]
    return {"value": round(sum(hits) / len(hits), 4), "ci": ci, "n": len(hits)}


def peak_gigabytes() -> float:
    """Return the most memory this process has held, in GB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


def provenance() -> dict[str, Any]:
    """Return versions, git state and machine."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    versions = {"meloedit": meloedit.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    machine = {"processor": platform.machine(), "threads": torch.get_num_threads(), "python": platform.python_version()}
    return {"commit": commit, **versions, **machine}


def write(result: dict[str, Any], path: str | Path | None) -> None:
    """Print a result, and write it to ``path`` if there is one."""
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text + "\n", encoding="utf-8")
