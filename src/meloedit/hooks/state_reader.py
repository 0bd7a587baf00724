"""Pooled states of prompts outside any call of the user's: of edits, and of calibration prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..backbones.batch import EncoderBatch, Example
from ..backbones.chat import Span
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
    located = map(router.reader.locate, encoded)
    return _pooled(router, [(prompt, [prompt.span]) for prompt in located], progress, what, pooling)


def pooled_prompts(
    router: Router,
    encoded: Sequence[Encoded],
    progress: Progress | None = None,
    what: str = "",
    pooling: Pooling | None = None,
) -> PooledStates:
    """Return the pooled states of prompts and of their segments, the same as the model's own forward pass gives."""
    parts, rows = router.reader.with_segments(encoded)
    spans: list[tuple[Encoded, list[Span]]] = []
    for i, part in enumerate(parts):
        if i == 0 or rows[i] != rows[i - 1]:
            spans.append((part, []))
        spans[-1][1].append(part.span)
    states = _pooled(router, spans, progress, what, pooling)
    reader = router.reader
    after_tools = frozenset(i for i, prompt in enumerate(encoded) if reader.after_tools(prompt.ids))
    begun = {i: found for i, prompt in enumerate(encoded) if (found := reader.begun(prompt.ids)) is not None}
    return PooledStates(states, reader.all_asked(parts, rows), rows, len(encoded), after_tools, begun)


def _pooled(
    router: Router,
    prompts: Sequence[tuple[Encoded, Sequence[Span]]],
    progress: Progress | None,
    what: str,
    pooling: Pooling | None,
) -> Tensor:
    """Return the pooled states (m, p d) of all spans of prompts, each of which is run once."""
    reader = router.reader
    most = max((len(spans) for _, spans in prompts), default=0)
    rows = []
    for prompt, spans in prompts:
        ids, length = prompt.ids, len(prompt.ids)
        weights = torch.cat([reader.weights(ids, span, range(length), length, pooling) for span in spans])
        missing = (most - len(spans)) * (len(weights) // len(spans))
        rows.append(Example.of(prompt, (), torch.cat([weights, torch.zeros(missing, length, dtype=torch.float32)])))
    found: dict[int, Tensor] = {}
    for members, batch in router.backbone.pack(rows, PROMPTS_AT_ONCE):
        hidden = router.key_states(batch)
        # the released code's key: whatever stands in the last column
        last_column = reader.key_tokens == "position" and isinstance(batch, EncoderBatch)
        pooled = (hidden[:, -1].float() if last_column else batch.key_means(hidden)).cpu()
        of_spans = pooled.unflatten(1, (most, -1))
        found |= {i: of_prompt[: len(prompts[i][1])].clone() for i, of_prompt in zip(members, of_spans, strict=True)}
        if progress:
            progress(what, len(found), len(prompts))
    if not found:
        raise EditError("no prompts to take keys of")
    return torch.cat([found[i] for i in range(len(prompts))])
