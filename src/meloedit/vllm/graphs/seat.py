"""Seat: where the ops of a model, vLLM's runner and the edits of a store meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...errors import ModelError
from ..runners.v2 import StateView
from .shards import Crew
from .wide import WideBlocks

if TYPE_CHECKING:
    from ...config import MeloConfig
    from .served import GraphServed

SEAT = "meloedit.seat"
"""Its name in vLLM's forward context."""


class Seat:
    """What ``take_states`` finds in the forward context. Until a store is open the base model answers.

    Attributes:
        wide: the tables of the ops.
        linears: the edited modules by name, as vLLM has them.
        key_layer: the name of the layer whose states make keys.
        view: what the V2 runner's model state sees; ``None`` under the V1 runner.
        served: what happens in a pass; ``None`` before a store is open.
        taken: how often the op ran.
    """

    def __init__(self, wide: WideBlocks, linears: Mapping[str, Any], key_layer: str) -> None:
        self.wide, self.linears, self.key_layer = wide, dict(linears), key_layer
        self.view: StateView | None = None
        self.served: GraphServed | None = None
        self.taken = 0

    def check(self, settings: MeloConfig) -> None:
        """Refuse a store that edits at other places than those that the model was made with.

        Raises:
            ModelError: saying so.
        """
        if settings.key_layer != self.key_layer or set(settings.modules or ()) != set(self.linears):
            raise ModelError("this store edits other modules than the one that vLLM was started with: start it anew")

    @property
    def limits(self) -> tuple[int, int]:
        """The greatest rank, and the greatest number of places, of a block that can be seated."""
        return self.wide.rank, self.wide.places_at_most

    def crew(self, group: Any) -> Crew:
        """Return the ranks that run the model, given their group of torch.distributed; ``None``: one alone."""
        sites = {name: (int(one.input_size), int(one.output_size)) for name, one in self.linears.items()}
        return Crew(sites, self.wide.states.dtype, group)

    def begin(self) -> None:
        """Take a pass up that is about to run."""
        if self.served is not None:
            self.served.begin()

    def drop(self, names: set[str]) -> None:
        """Forget requests that have finished."""
        if self.view is not None:
            self.view.drop(names)
        if self.served is not None:
            self.served.drop(names)

    def decide(self, states: Tensor, rows: Tensor, places: Tensor) -> None:
        """Decide the routes of the prompts that end in the pass; ``ops.Decider``."""
        self.taken += 1
        if self.served is not None:
            self.served.decide(states, rows, places)
