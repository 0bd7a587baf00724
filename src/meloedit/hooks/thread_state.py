"""What one thread is doing with the edited model: calls of several threads never mix."""

from __future__ import annotations

import threading

from .blocks import RowBlocks
from .calls import EncoderCall, GenerateCall
from .prompt_batch import NO_ROUTES, Outcome, PromptBatch


class ForwardFrame:
    """One forward call of a routed batch: ``past`` columns are cached, ``columns`` are new."""

    def __init__(self, batch: PromptBatch, past: int, columns: int) -> None:
        self.batch = batch
        self.past = past
        self.columns = columns


class ThreadState(threading.local):
    """The state of one thread.

    Attributes:
        off: how many ``disabled()`` blocks it is in.
        call: the call of ``generate`` that is running.
        lengths: the prompt lengths stated for plain forward calls.
        frame: the forward call that is running.
        last: the routes of the prompts it asked last.
        fixed: blocks to use whatever the index says (training).
        keys_only: whether the forward pass stops at the key layer.
        in_model: whether a forward call of the whole model is running, not of its encoder alone.
    """

    def __init__(self) -> None:
        self.off = 0
        self.call: GenerateCall | EncoderCall | None = None
        self.lengths: list[int] | None = None
        self.frame: ForwardFrame | None = None
        self.last: Outcome = NO_ROUTES
        self.blocks_in_use: list[RowBlocks] | None = None
        self.keys_only = False
        self.in_model = False

    @property
    def active(self) -> ForwardFrame | None:
        """The routed forward call that is running; one that Ctrl-C interrupted may still be in ``frame``."""
        return None if self.off or self.blocks_in_use is not None else self.frame
