"""The V1 runner: whose tokens its passes have, and in which slots of the KV cache they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..edits.passes import Pass


class RunnerView:
    """Reads the V1 runner.

    Args:
        runner: it.
    """

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def current(self) -> Pass | None:
        """Return the pass that is about to run; ``None`` if it has no requests: vLLM warms up, or measures."""
        batch = self._runner.input_batch
        count = batch.num_reqs
        if not count:
            return None
        return Pass(
            list(batch.req_ids[:count]),
            self._runner.query_start_loc.np[: count + 1].copy(),
            batch.num_computed_tokens_cpu[:count].copy(),
            batch.num_prompt_tokens[:count].copy(),
        )

    def prompt(self, name: str) -> list[int]:
        """Return the tokens of a request's prompt."""
        return list(self._runner.requests[name].prompt_token_ids or ())

    @property
    def slots(self) -> int:
        """How many slots the KV cache has."""
        return int(self._runner.kv_cache_config.num_blocks) * int(self._runner.cache_config.block_size)

    def slots_of(self, places: np.ndarray, positions: np.ndarray) -> Tensor:
        """Return the slots (T,) of tokens, given for each the place of its request in the pass, and its position."""
        table = self._runner.input_batch.block_table.block_tables[0]
        size = int(table.block_size)
        blocks = table.block_table.np[places, positions // size].astype(np.int64)
        return torch.from_numpy(blocks * size + positions % size)
