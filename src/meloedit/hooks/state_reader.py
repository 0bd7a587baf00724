"""Pooled states of prompts outside any call of the user's: of edits, and of calibration prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..backbones.batch import EncoderBatch, Example
from ..errors import EditError
from ..keys.pooling import PooledStates, Pooling
from ..types import Progress

if TYPE_CHECKING:
    from ..backbones.batch import Encoded
    from .router import Router

PROMPTS_AT_ONCE = 64


def pooled_states(
    router: Router,
    encoded: Sequence[Encoded],
    progress: Progress | None = None,
    what: str = "",
    pooling: Pooling | None = None,
) -> Tensor:
    """Return the pooled key-layer states (n, p d) of prompts' spans, on the CPU, in their order.

    Raises:
        EditError: if there are no prompts.
    """
    reader = router.reader
    rows = []
    for prompt in map(reader.locate, encoded):
        ids, length = prompt.ids, len(prompt.ids)
        rows.append(Example.of(prompt, (), reader.weights(ids, prompt.span, range(length), length, pooling)))
    states: Tensor | None = None
    done = 0
    for members, batch in router.backbone.pack(rows, PROMPTS_AT_ONCE):
        hidden = router.key_states(batch)
        # the released code's key: whatever stands in the last column
        last_column = reader.key_tokens == "position" and isinstance(batch, EncoderBatch)
        pooled = (hidden[:, -1].float() if last_column else batch.key_means(hidden)).cpu()
        states = torch.zeros(len(encoded), pooled.shape[1]) if states is None else states
        states[members] = pooled
        done += len(members)
        if progress:
            progress(what, done, len(encoded))
    if states is None:
        raise EditError("no prompts to take keys of")
    return states


def pooled_prompts(
    router: Router,
    encoded: Sequence[Encoded],
    progress: Progress | None = None,
    what: str = "",
    pooling: Pooling | None = None,
) -> PooledStates:
    """Return the pooled states of prompts and of their segments, the same as the model's own forward pass gives."""
    parts, rows = router.reader.with_segments(encoded)
    states = pooled_states(router, parts, progress, what, pooling)
    return PooledStates(states, router.reader.all_asked(parts, rows), rows, len(encoded))
