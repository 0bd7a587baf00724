"""States of training rows below the first edited layer: no edit changes them, so they are computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...backbones.batch import Example, of_like_length
from ...backbones.contexts import own_run, record_calls, skip_layers
from ..free_memory import check_room

if TYPE_CHECKING:
    from ...backbones import Backbone
    from ...types import Progress

ROWS = 16
"""Rows of a pass."""
Key = tuple[tuple[int, ...], tuple[int, ...]]


def _key(row: Example) -> Key:
    return tuple(row.prompt), tuple(row.target)


class LowerStates:
    """What the layers below the first edited one give for rows, in a model of one stack.

    Args:
        backbone: the unedited model.
        first: the number of the first edited layer.
        method: the method's name, for errors.
    """

    def __init__(self, backbone: Backbone, first: int, method: str) -> None:
        self.backbone, self.method = backbone, method
        self._skipped: list[nn.Module] = list(backbone.stacks[0][1][:first]) if len(backbone.stacks) == 1 else []
        self._states: dict[Key, Tensor] = {}

    def read(self, rows: Sequence[Example], progress: Progress | None = None) -> None:
        """Run the lower layers on rows, and keep what they give.

        Nothing is kept where a layer gives more than states, or where passes over kept states give other logits.

        Raises:
            MeloEditError: if there is less memory than all of them take.
        """
        rows = list({_key(row): row for row in rows}.values())
        for done, part in enumerate(of_like_length(rows, ROWS) if self._skipped else (), 1):
            batch = [rows[i] for i in part]
            with own_run(self.backbone.model), record_calls(self._skipped[-1:]) as calls:
                expected = torch.cat(self.backbone.target_logits(batch))
            output = calls[0].output if len(calls) == 1 else None
            if not isinstance(output, Tensor) or output.dim() != 3:
                self._states = {}
                return
            for row, states in zip(batch, output, strict=True):
                self._states[_key(row)] = states[: self._length(row)].clone()
            if done == 1:
                if not self._reproduces(batch, expected):
                    self._states = {}
                    return
                need = sum(map(self._length, rows)) * output.shape[-1] * output.element_size()
                what = f"what the lower layers give for {len(rows):,} rows of training edits"
                check_room(self.method, need, what, output.device)
            if progress:
                progress("reading the training edits", min(done * ROWS, len(rows)), len(rows))

    def _length(self, row: Example) -> int:
        """Return how many tokens of a row the model reads in its one stack."""
        return len(row.prompt) + (len(row.target) - 1 if self.backbone.answer_follows_prompt else 0)

    def _reproduces(self, rows: Sequence[Example], expected: Tensor) -> bool:
        with own_run(self.backbone.model), self.used(rows):
            again = torch.cat(self.backbone.target_logits(rows))
        return bool(torch.allclose(again, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())))

    def forget(self) -> None:
        """Keep nothing any more."""
        self._states = {}

    def used(self, rows: Sequence[Example]) -> AbstractContextManager[None]:
        """Return a context in which a pass over these rows skips the lower layers, if their states are kept."""
        states = [self._states.get(_key(row)) for row in rows]
        known = [one for one in states if one is not None]
        return self._skipping(known) if len(known) == len(rows) else nullcontext()

    @contextmanager
    def _skipping(self, states: Sequence[Tensor]) -> Iterator[None]:
        with skip_layers(self._skipped, nn.utils.rnn.pad_sequence(list(states), batch_first=True)):
            yield
