"""Memory: what is free, and what a method would take, so that too large a job is refused before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MeloEditError
from ..text import format_size

if TYPE_CHECKING:
    import torch


def free_bytes(device: torch.device) -> int | None:
    """Return how many bytes are free on a device; ``None`` if the system does not say."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) * 1024 if kilobytes else None


def check_room(method: str, need: int, what: str, device: torch.device) -> None:
    """Raise a MeloEditError if there is less memory than a method needs.

    Args:
        method: the method's name.
        need: the bytes.
        what: what they are for, as the message says it.
        device: where they will be.
    """
    free = free_bytes(device)
    if free is not None and need > free:
        raise MeloEditError(
            f"method {method} needs about {format_size(need)} for {what}, and {format_size(free)} are free"
        )
