"""Policy: what decides which stored edit answers a prompt. Each mode has one; this is what the engine asks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from ..keys.pooling import PooledStates, Pooling
from ..keys.similarity import Evidence
from ..results import Neighbours, Route

if TYPE_CHECKING:
    import torch

    from ..backbones.batch import Encoded
    from ..backbones.prompts import PromptReader
    from ..edit import Edit
    from ..hooks.bank import BlockBank
    from ..hooks.key_reader import KeyReader
    from ..store import Store, StoredEdit
    from ..types import Prompt

KeyTensors = dict[str, Tensor]
"""An edit's keys as tensors by name, as the store holds them."""


@dataclass(frozen=True)
class Changes:
    """What changed in a store since it was followed last.

    Attributes:
        ids: ids of the edits that came, went, or changed; of all edits where the calibration changed.
        active: those of them that are stored and enabled, in the order of their records.
    """

    ids: frozenset[str]
    active: Mapping[str, StoredEdit]


class Host(Protocol):
    """What a policy works over: whatever runs a model's layers, and lets the blocks of a bank act in them."""

    @property
    def backbone(self) -> PromptReader:
        """How the model's family reads prompts."""

    @property
    def reader(self) -> KeyReader:
        """Knows which tokens of a prompt make its key."""

    @property
    def bank(self) -> BlockBank:
        """The blocks."""

    @property
    def key_device(self) -> torch.device:
        """Where the key layer's states are, and with them keys and judge."""

    @property
    def key_size(self) -> int:
        """How many numbers a state has."""


class Policy(Protocol):
    """Decides which stored edit answers a prompt. Calls must hold the engine's lock, ``keys`` and ``keys_of`` aside."""

    @property
    def ready(self) -> bool:
        """Whether keys can be computed."""

    @property
    def pooling(self) -> Pooling | None:
        """The weights of tokens in the means that keys are made of; ``None``: all weigh the same."""

    @property
    def threshold(self) -> float:
        """The distance below which a prompt reaches an edit."""

    @property
    def least_score(self) -> float | None:
        """The judge's score, a probability, that a prompt must exceed; ``None`` where no judge decides."""

    @property
    def no_route(self) -> Route:
        """The route of a prompt while there are no edits."""

    @property
    def counts(self) -> dict[str, int]:
        """How many edits, and whatever else, the index holds."""

    def check_edit(self, edit: Edit) -> None:
        """Raise an EditError for an edit that this policy cannot serve."""

    def forms(self, prompt: Prompt) -> list[Encoded]:
        """Return a prompt in every form that an edit of it is trained and keyed in."""

    def keys(self, encoded: Sequence[Encoded], targets: Sequence[str] | None = None) -> Any:
        """Return the keys (n,) of prompts as the index compares them; ``targets`` are the edits' where known."""

    def keys_of(self, edits: Sequence[Edit]) -> list[KeyTensors]:
        """Return the keys of edits, as the store holds them."""

    def clash(self, keys: KeyTensors) -> bool:
        """Return whether a quiet prompt of an edit has the same key as one of its own prompts."""

    def follow(self, store: Store, changes: Changes) -> None:
        """Make the index hold the store's enabled edits."""

    def decide(self, pooled: PooledStates) -> tuple[list[int], list[Route]]:
        """Return for each of B prompts the record of the edit that answers (-1: none), and its route."""

    def evidence(self, pooled: PooledStates) -> list[Evidence | None]:
        """Return the terms of each of B prompts' similarity to its nearest edit; ``None`` where there are none."""

    def neighbours(self, edit_id: str) -> Neighbours:
        """Return the nearest other edit, and the edits whose scopes overlap this one's; nothing if it is disabled."""
