"""The V2 runner: what its model state is told of its passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..edits.passes import Pass


class StateView:
    """Keeps what the model state was told; the runner's own tables are on the device, and are read there."""

    def __init__(self) -> None:
        self._prompts: dict[str, list[int]] = {}
        self._pass: Pass | None = None
        self._table: Tensor | None = None
        self.slots, self._block = 0, 1

    def differs(self, name: str, prompt: list[int]) -> bool:
        """Return whether a request is known with another prompt: a caller added to it, so that its route is no more."""
        return self._prompts.get(name, prompt) != prompt

    def add(self, name: str, prompt: list[int]) -> None:
        """Take a request up. A preempted one comes again with its prompt; what it has answered is no part of that."""
        self._prompts[name] = prompt

    def drop(self, names: set[str]) -> None:
        """Forget requests that have finished."""
        for name in names:
            self._prompts.pop(name, None)

    def resize(self, blocks: int, size: int) -> None:
        """Take the number of blocks of the KV cache, and the tokens of each."""
        self.slots, self._block = blocks * size, size

    def take(self, batch: Any, block_tables: Any) -> None:
        """Take a pass up that is about to run.

        Args:
            batch: vLLM's ``InputBatch``. Its counts of computed tokens are exact without speculative decoding.
            block_tables: per group of the KV cache the blocks of each request; there is one group.
        """
        count = int(batch.num_reqs)
        names = list(batch.req_ids[:count])
        self._table = block_tables[0]
        self._pass = Pass(
            names,
            np.array(batch.query_start_loc_np[: count + 1], dtype=np.int64),
            np.array(batch.num_computed_tokens_np[:count], dtype=np.int64),
            np.array([len(self._prompts[name]) for name in names], dtype=np.int64),
        )

    def current(self) -> Pass | None:
        """Return the pass that is about to run, once."""
        one, self._pass = self._pass, None
        return one

    def prompt(self, name: str) -> list[int]:
        """Return the tokens of a request's prompt."""
        return list(self._prompts[name])

    def slots_of(self, places: np.ndarray, positions: np.ndarray) -> Tensor:
        """Return the slots (T,) of tokens, given for each the place of its request in the pass, and its position."""
        assert self._table is not None
        place, position = (torch.from_numpy(each).to(self._table.device) for each in (places, positions))
        blocks = self._table[place, position // self._block].long()
        return blocks * self._block + position % self._block
