"""The settings that all methods have that learn beforehand."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import Settings

PLACES = ("train", "learned")
"""Settings that say where files are, and nothing of what is learned."""


@dataclass(frozen=True)
class LearnedSettings(Settings):
    """Settings of learning under the names of the released code, where that has them.

    Attributes:
        train: a file of training edits, which ``meloedit eval`` reads.
        examples: most training edits.
        steps: most steps of the optimiser.
        batch_size: training edits of a step (the released code's ``accumulate_bs``, or its ``batch_size``).
        lr: Adam's learning rate.
        cedit: weight of the loss of edits.
        cloc: weight of the loss of what an edit must leave alone.
        grad_clip: most length of a step's gradient.
        val_examples: training edits that are held out, a fifth of all at most; what does best on them is kept.
        val_interval: steps from one look at them to the next; so often the state is written, too.
        early_stop_patience: steps without a better look after which learning ends.
        learned: folder where what was learned is kept; empty: the usual cache.
    """

    from_zero = ("val_examples",)
    train: str = ""
    examples: int = 10_000
    steps: int = 1000
    batch_size: int = 10
    lr: float = 1e-5
    cedit: float = 0.1
    cloc: float = 1.0
    grad_clip: float = 100.0
    val_examples: int = 50
    val_interval: int = 100
    early_stop_patience: int = 2000
    learned: str = ""
