"""Attach: lets a store's edits answer through the ops that the model's class has, under either of vLLM's runners."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...errors import ModelError
from ...hooks.blocks import Factors
from ..edits.passes import Pass
from ..runners.wrapped import PROBE, Wrapped
from ..start.checks import is_second
from .seat import Seat
from .served import GraphServed
from .shards import Answer


class GraphHooks:
    """Puts a store's edits on the ops of a model, and takes them off: the ops stay, and add nothing.

    Args:
        runner: vLLM's runner.
        seat: what the model's class has made.
    """

    def __init__(self, runner: Any, seat: Seat) -> None:
        self._runner, self._seat = runner, seat
        self._wrapped = Wrapped()

    def attach(self, served: GraphServed) -> None:
        """Let ``served`` see every pass, and change it."""
        put, self._seat.served = self._wrapped.put, served
        if is_second(self._runner):  # its model state tells of passes
            put(self._runner, "finish_requests", partial(_finished, self._seat))
        else:
            put(self._runner, "_update_states", partial(_finished, self._seat))
            put(self._runner, "_model_forward", partial(_forward, self._seat))

    def detach(self) -> None:
        """Let the base model answer; a store that is opened later finds no block of this one."""
        self._wrapped.take_off()
        self._seat.served = None
        self._seat.wide.clear()

    def probe(self) -> None:
        """Run passes without requests, and look whether each op has run in them, on the chosen row alone.

        The ops count on the device, where compiled code and CUDA graphs count, too. (What the pass returns shows
        nothing: without requests some of vLLM's attentions leave their output as memory was.)

        Raises:
            ModelError: naming the op that did not run.
        """
        wide, taken = self._seat.wide, self._seat.taken
        served, self._seat.served = self._seat.served, None
        before = {name: int(table.acted) for name, table in wide.tables.items()}
        try:
            wide.seat(_NAME, self._block(), [])
            one = Pass([_NAME], np.array([0, 1]), np.array([0]), np.array([1]))
            wide.write(one, wide.rows, wide.places)
            self._runner._dummy_run(PROBE)
        finally:
            wide.clear()
            self._seat.served = served
        if self._seat.taken == taken:
            raise ModelError(
                f"vLLM ran a pass without the op behind {self._seat.key_layer!r}: its class, or a CUDA graph, has none"
            )
        for name, table in wide.tables.items():
            if int(table.acted) != before[name] + 1:
                raise ModelError(
                    f"vLLM ran a pass in which a block of {name!r} acted on {int(table.acted) - before[name]} tokens "
                    "instead of one: its class is not the one that meloedit made"
                )

    def _block(self) -> Answer:
        """Return a block that adds nothing."""
        factors = {}
        for module, linear in self._seat.linears.items():
            table = self._seat.wide.tables[module]
            a, b = table.a.new_zeros(1, int(linear.input_size)), table.b.new_zeros(int(linear.output_size), 1)
            factors[module] = Factors(a, b, a.new_zeros(1, 0))
        return Answer(0, 0, factors)


_NAME = "meloedit-probe"


def _forward(seat: Seat, inner: Any, *args: Any, **kwargs: Any) -> Any:
    seat.begin()
    return inner(*args, **kwargs)


def _finished(seat: Seat, inner: Any, scheduled: Any, *args: Any, **kwargs: Any) -> Any:
    seat.drop(set(scheduled.finished_req_ids))
    return inner(scheduled, *args, **kwargs)
