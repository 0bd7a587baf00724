"""Attach: lets a store's edits answer through the ops that the model's class has, under either of vLLM's runners."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ...errors import ModelError
from ...hooks.blocks import Factors
from ..edits.passes import Pass
from ..start.checks import is_second
from .seat import Seat
from .served import GraphServed
from .shards import Answer

PROBE = 8
"""Tokens of the passes that prove the ops."""


class GraphHooks:
    """Puts a store's edits on the ops of a model, and takes them off: the ops stay, and add nothing.

    Args:
        runner: vLLM's runner.
        seat: what the model's class has made.
    """

    def __init__(self, runner: Any, seat: Seat) -> None:
        self._runner, self._seat = runner, seat
        self._undo: list[Callable[[], object]] = []

    def attach(self, served: GraphServed) -> None:
        """Let ``served`` see every pass, and change it."""
        self._seat.served = served
        if is_second(self._runner):  # its model state tells of passes
            self._wrap("finish_requests", partial(_finished, self._seat))
        else:
            self._wrap("_update_states", partial(_finished, self._seat))
            self._wrap("_model_forward", partial(_forward, self._seat))

    def detach(self) -> None:
        """Let the base model answer."""
        while self._undo:
            self._undo.pop()()
        self._seat.served = None
        self._seat.wide.rows.zero_()

    def _wrap(self, name: str, around: Callable[..., Any]) -> None:
        """Put a function around a method of the runner."""
        own = name in vars(self._runner)
        inner = getattr(self._runner, name)
        setattr(self._runner, name, partial(around, inner))
        self._undo.append(partial(setattr, self._runner, name, inner) if own else partial(delattr, self._runner, name))

    def probe(self) -> None:
        """Run passes without requests, and look whether each op has run in them, and on the chosen row alone.

        A block whose A is not a number makes the row that it acts on not a number, and leaves the others: that shows an
        op in compiled code, too, which can neither be counted nor be told from outside.

        Raises:
            ModelError: naming the op that did not run, or one that changed other rows.
        """
        wide, taken = self._seat.wide, self._seat.taken
        served, self._seat.served = self._seat.served, None
        try:
            for name in wide.tables:
                self._probe(name)
        finally:
            wide.free([_NAME])
            wide.rows.zero_()
            for table in wide.tables.values():
                table.a.nan_to_num_()
            self._seat.served = served
        if self._seat.taken == taken:
            raise ModelError(
                f"vLLM ran a pass without the op behind {self._seat.key_layer!r}: its class, or a CUDA graph, has none"
            )

    def _probe(self, name: str) -> None:
        wide = self._seat.wide
        wide.seat(_NAME, self._block(name), [])
        one = Pass([_NAME], *(torch.tensor(each).numpy() for each in ([0, 1], [0], [1])))
        wide.write(one, wide.rows, wide.places)
        found = self._runner._dummy_run(PROBE)
        hidden = found[0] if isinstance(found, tuple) else found
        broken = hidden[:PROBE].isnan().any(-1).tolist()
        if broken != [True] + [False] * (len(broken) - 1):
            raise ModelError(
                f"vLLM ran a pass in which the blocks of {name!r} did not act on one token alone (rows "
                f"{[row for row, bad in enumerate(broken) if bad]}): its class is not the one that meloedit made"
            )

    def _block(self, name: str) -> Answer:
        """Return a block that acts at one module."""
        factors = {}
        for module, linear in self._seat.linears.items():
            table = self._seat.wide.tables[module]
            a = table.a.new_full((1, int(linear.input_size)), torch.nan if module == name else 0.0)
            factors[module] = Factors(a, table.b.new_ones(int(linear.output_size), 1), a.new_zeros(1, 0))
        return Answer(0, 0, factors)


_NAME = "meloedit-probe"


def _forward(seat: Seat, inner: Any, *args: Any, **kwargs: Any) -> Any:
    seat.begin()
    return inner(*args, **kwargs)


def _finished(seat: Seat, inner: Any, scheduled: Any, *args: Any, **kwargs: Any) -> Any:
    seat.drop(set(scheduled.finished_req_ids))
    return inner(scheduled, *args, **kwargs)
