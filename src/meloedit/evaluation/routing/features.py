"""Hidden states of prompts, kept on disk: whoever tries another key or another scope pays for the model once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import cache_folder, make_folder, write_bytes
from ..run.folder import digest

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

VERSION = 1
"""Counts changes of how states are taken: those of another version are made anew."""


def kept(what: Sequence[Any], count: int, make: Callable[[], Tensor]) -> Tensor:
    """Return ``count`` rows of states that were made before of the same things, or make and keep them.

    Args:
        what: all that they depend on, JSON-ready.
        count: how many rows there are.
        make: makes them, (count, d) float32.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save

    path = features_folder() / f"{digest([VERSION, *what])}.safetensors"
    try:
        held = load_file(path)["states"]
        if len(held) == count:
            return held
    except FileNotFoundError:
        pass
    except (OSError, SafetensorError, KeyError):
        logger.warning("%s is damaged and is made anew", path)
    states = make().cpu().contiguous()
    make_folder(path.parent)
    write_bytes(path, save({"states": states}))
    return states


def features_folder() -> Path:
    """Return the folder of kept states; what is in it may be deleted at any time."""
    return cache_folder() / "features"
