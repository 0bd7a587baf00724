"""Passes: whose tokens a forward pass of vLLM has, and the key layer's states of all tokens that ever ran.

A pass mixes requests: some begin or go on with their prompt, others have one new token each. Their tokens stand one
after another, and the block table says in which slot of the KV cache each one's keys and values are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass
class Pass:
    """One forward pass.

    Attributes:
        names: the requests, in the order of their tokens.
        begin: (n + 1,) where the tokens of each begin, and where the last ones end.
        past: (n,) how many tokens of each ran before.
        prompts: (n,) how many tokens the prompt of each has.
    """

    names: list[str]
    begin: np.ndarray
    past: np.ndarray
    prompts: np.ndarray

    @property
    def tokens(self) -> int:
        """How many tokens the pass has, padding left out."""
        return int(self.begin[-1])

    @property
    def ends(self) -> np.ndarray:
        """How many tokens of each request have run after the pass."""
        return self.past + np.diff(self.begin)

    def completing(self) -> list[int]:
        """Return the places of the requests whose prompt ends in this pass or has ended before."""
        return np.nonzero(self.ends >= self.prompts)[0].tolist()


def spell(logits: Tensor, ran: Pass | None, must: Callable[[str], tuple[int, Sequence[int]] | None]) -> None:
    """Let tokens come that an answer needs which a caller has begun in a way that no block was trained for.

    Args:
        logits: (n, V) of the requests of a pass, written in place.
        ran: the pass; ``None`` if it had no requests.
        must: returns, for a request, the position behind which tokens must come, and these; ``None`` if none must.
    """
    if ran is None or len(logits) != len(ran.names):
        return
    for place, (name, end) in enumerate(zip(ran.names, ran.ends.tolist(), strict=True)):
        if (found := must(name)) is None:
            continue
        last, tokens = found
        if 0 <= (at := end - 1 - last) < len(tokens):
            logits[place] = -torch.inf
            logits[place, tokens[at]] = 0.0


class View(Protocol):
    """What is read of one of vLLM's model runners."""

    def current(self) -> Pass | None:
        """Return the pass that is about to run; ``None`` if it has no requests: vLLM warms up, or measures."""

    def prompt(self, name: str) -> list[int]:
        """Return the tokens of a request's prompt."""

    @property
    def slots(self) -> int:
        """How many slots the KV cache has."""

    def slots_of(self, places: np.ndarray, positions: np.ndarray) -> Tensor:
        """Return the slots (T,) of tokens, given for each the place of its request in the pass, and its position."""


class SlotStates:
    """The key layer's states by the slots of the KV cache.

    A prompt may come in chunks, or begin with blocks that the prefix cache has: then its states come from other passes.
    Every token that ever ran wrote its state where its keys and values are, and so they are there as long as these.

    Args:
        view: the runner.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._table: Tensor | None = None

    @property
    def bytes(self) -> int:
        """How much memory the table takes, once all of it was written."""
        return 0 if self._table is None else self._table.numel() * self._table.element_size()

    def reserve(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        """Make the table for states of so many numbers."""
        with torch.inference_mode(False):
            self._table = torch.zeros(self._view.slots, size, dtype=dtype, device=device)

    def write(self, of: Pass, states: Tensor) -> None:
        """Keep the states (T, d) of all tokens of a pass."""
        assert self._table is not None
        counts = np.diff(of.begin)
        places = np.repeat(np.arange(len(of.names)), counts)
        positions = np.arange(of.tokens) + np.repeat(of.past - of.begin[:-1], counts)
        slots = self._view.slots_of(places, positions)
        self._table[slots.to(self._table.device)] = states.to(self._table.dtype)

    def read(self, of: Pass, place: int) -> Tensor:
        """Return the states (L, d) of the prompt of a request in a pass."""
        assert self._table is not None
        positions = np.arange(int(of.prompts[place]))
        slots = self._view.slots_of(np.full_like(positions, place), positions)
        return self._table[slots.to(self._table.device)]
