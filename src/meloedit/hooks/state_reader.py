"""The pooled states of prompts that no call of the model brings: those of edits, and of calibration prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..backbones.batch import Example
from ..backbones.chat import Span
from ..errors import EditError
from ..keys.pooling import PooledStates, Pooling
from ..types import Progress

if TYPE_CHECKING:
    from ..backbones import Backbone
    from ..backbones.batch import Encoded
    from .router import Router


KEYS_AT_ONCE = 64


def pooled_states(
    router: Router,
    encoded: Sequence[Encoded],
    progress: Progress | None = None,
    what: str = "",
    pooling: Pooling | None = None,
) -> Tensor:
    """Return the pooled key-layer states (n, p d) of prompts, on the CPU, in their order."""
    rows = [Example.of(one, (), pooling) for one in encoded]
    states: Tensor | None = None
    done = 0
    for members, batch in router.backbone.pack(rows, KEYS_AT_ONCE):
        pooled = router.pooled(batch).cpu()
        states = torch.zeros(len(encoded), pooled.shape[1]) if states is None else states
        states[members] = pooled
        done += len(members)
        if progress:
            progress(what, done, len(encoded))
    if states is None:
        raise EditError("no prompts to take keys of")
    return states


def texts_of(backbone: Backbone, encoded: Sequence[Encoded]) -> list[str]:
    """Return the words that prompts' keys are of."""
    return [backbone.said(one.ids, (one.words.start, one.words.stop)) for one in encoded]


def with_segments(backbone: Backbone, encoded: Sequence[Encoded]) -> tuple[list[Encoded], list[int]]:
    """Return prompts, each followed by itself with the words of each of its segments, and the number of each."""
    parts, rows = [], []
    for i, one in enumerate(encoded):
        spans = backbone.segments(one.ids, (one.words.start, one.words.stop))
        parts += [one, *(replace(one, words=Span(*span, one.words.known)) for span in spans)]
        rows += [i] * (1 + len(spans))
    return parts, rows


def pooled_parts(
    router: Router,
    encoded: Sequence[Encoded],
    progress: Progress | None = None,
    what: str = "",
    pooling: Pooling | None = None,
) -> PooledStates:
    """Return what the keys of prompts and of their segments are made of, as the model's own forward pass gives it."""
    parts, rows = with_segments(router.backbone, encoded)
    states = pooled_states(router, parts, progress, what, pooling)
    return PooledStates(states, texts_of(router.backbone, parts), rows, len(encoded))
