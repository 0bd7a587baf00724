"""Compute in a stated precision, whatever a caller's settings of torch say: that of the tensors, float32 in full.

A caller may stand inside ``torch.autocast``, which rounds the inputs of a matmul to 16 bits, or may have allowed torch
to round float32 matmuls (``torch.set_float32_matmul_precision``). The base model follows such settings when it answers.
Keys, scores and blocks must not: they are compared with numbers that were made without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from .fork_lock import ForkLock

FULL = "highest"
"""The setting of torch under which float32 matmuls are not rounded."""


class _FullMatmul:
    """Switches the rounding of float32 matmuls off while anybody needs it off.

    The setting is one of the whole process, and threads come and go: the first one that enters writes down what it was,
    the last one that leaves restores it.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._restore = ForkLock(), 0, _nothing

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._restore = _stop_rounding()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._restore()

    @property
    def needed(self) -> bool:
        """Whether the setting must be changed, or is changed now and must stay so."""
        return bool(self._inside) or _setting() != FULL


def _nothing() -> None:
    """Restore nothing."""


def _setting() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set for each backend alone
        return None


def _stop_rounding() -> Callable[[], None]:
    """Let float32 matmuls be exact from now on; return what restores the setting."""
    if (before := _setting()) is not None:
        torch.set_float32_matmul_precision(FULL)
        return lambda: torch.set_float32_matmul_precision(before)
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]
    of_each = [(backend, backend.fp32_precision) for backend in backends]
    torch.set_float32_matmul_precision(FULL)

    def restore() -> None:
        for backend, value in of_each:
            backend.fp32_precision = value

    return restore


_full_matmul = _FullMatmul()


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Keep a caller's autocast on this kind of device out, for the length of a ``with`` block."""
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Compute on a device in the tensors' own number format, float32 in full, for the length of a ``with`` block."""
    with without_autocast(device), _full_matmul() if _full_matmul.needed else nullcontext():
        yield
