"""Ticket: one answer that somebody waits for, and what is told about it while it is made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .choosing import Chosen, Sampling

if TYPE_CHECKING:
    from ...backbones.batch import Encoded
    from ...results import Route
    from ...types import Prompt

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Started:
    """The prompt was read.

    Attributes:
        route: its route.
        revision: the revision of the store that decided it.
        reason: why an edit answers, or why none does; ``unedited`` where none was to answer.
    """

    route: Route
    revision: int
    reason: str


@dataclass(frozen=True)
class Piece:
    """A token came: the text that is new, which may be empty, and the token where log probabilities are wanted."""

    text: str
    chosen: Chosen


@dataclass(frozen=True)
class Done:
    """The answer is whole.

    Attributes:
        reason: why it ended: the model stopped or a stop text came, or the limit was reached.
        rest: text that was held back until now.
        tokens: how many tokens it has, the end token not counted.
    """

    reason: FinishReason
    rest: str
    tokens: int


@dataclass(frozen=True)
class Failed:
    """The answer cannot be made."""

    error: BaseException


Event = Started | Piece | Done | Failed
"""What the model's thread tells about an answer."""


@dataclass
class Ticket:
    """One answer to be made.

    Attributes:
        prompt: what is asked.
        encoded: the same as tokens.
        sampling: how the answer is made.
        tell: called in the model's thread with each event; it must not block.
        unedited: whether the base model answers.
        deadline: when the answer is no longer wanted, by ``time.monotonic``.
        cancelled: set by anybody: the answer is no longer wanted.
    """

    prompt: Prompt
    encoded: Encoded
    sampling: Sampling
    tell: Callable[[Event], None]
    unedited: bool = False
    deadline: float = float("inf")
    cancelled: bool = False

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for it any longer."""
        return self.cancelled or time.monotonic() > self.deadline
