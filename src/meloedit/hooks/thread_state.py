"""The state that the router keeps for each thread, so that calls of several threads never mix."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from .blocks import RowBlocks
from .calls import EncoderCall, GenerateCall
from .prompt_batch import NO_ROUTES, Outcome, PromptBatch

Lock = AbstractContextManager[Any]
"""Guards what several threads use."""


class ForwardFrame:
    """One forward call of a routed batch.

    Args:
        batch: the prompts and their routes.
        past: number of columns in the cache.
        columns: number of new columns.
        tokens: (B, columns) their tokens; ``None``: embeddings.
    """

    def __init__(self, batch: PromptBatch, past: int, columns: int, tokens: Tensor | None = None) -> None:
        self.batch = batch
        self.past = past
        self.columns = columns
        self.tokens = tokens


class KeyLayerRan(Exception):
    """Stops a forward pass once the key layer has run.

    Args:
        hidden: (R, L, d) the key layer's states.
    """

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


class ThreadState(threading.local):
    """The state of one thread.

    Attributes:
        off: how many ``disabled()`` contexts the thread is in; above 0 it sees the base model.
        call: the call of ``generate`` that is running.
        lengths: the prompt lengths set for plain forward calls.
        frame: the forward call that is running.
        last: the routes of the prompts in the latest call.
        blocks_in_use: the blocks of ``use_blocks()``, which replace routing during training; ``None`` outside it.
        keys_only: whether the forward pass stops at the key layer.
        in_model: whether a forward call of the whole model is running; false for one of its encoder alone.
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
        """The forward call to route. Ctrl-C may leave an old ``frame``, so it is ``None`` while routing is off."""
        return None if self.off or self.blocks_in_use is not None else self.frame
