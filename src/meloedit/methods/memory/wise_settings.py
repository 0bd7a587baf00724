"""The settings of WISE."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import MeloEditError
from ..settings import Settings


@dataclass(frozen=True)
class WiseSettings(Settings):
    """Settings under EasyEdit's names and with its values for LLaMA-2-7B, with the layer at its relative depth.

    Attributes:
        depth: relative depth of the layer, from 0 to 1.
        edit_lr: learning rate of plain gradient descent.
        n_iter: most steps of an edit.
        mask_ratio: share of the copy's numbers that may change, drawn anew every ``save_freq`` edits.
        norm_constraint: how far each of them may move from the original.
        alpha: most score of other text.
        beta: least score of an edit.
        gamma: least difference of the two.
        act_ratio: share of the least score of its edits from which a copy answers.
        save_freq: edits after which a copy is kept and a new one begun.
        merge_freq: edits after which the kept copies are merged, by TIES.
        densities: share of a copy's changes that merging keeps.
        weights: what merged changes are weighted with, together.
        contexts: texts that the model writes, behind each of which the prompt is learned too.
        hold: decide once for a prompt, not anew for each token of the answer.
    """

    fixed = ("edits_per_call",)  # WISE makes one edit at a time
    shares = ("depth", "mask_ratio", "densities")
    depth: float = 0.85
    edit_lr: float = 1.0
    n_iter: int = 70
    mask_ratio: float = 0.2
    norm_constraint: float = 1.0
    alpha: float = 5.0
    beta: float = 20.0
    gamma: float = 10.0
    act_ratio: float = 0.88
    save_freq: int = 500
    merge_freq: int = 1000
    densities: float = 0.53
    weights: float = 1.0
    contexts: int = 10
    hold: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.merge_freq % self.save_freq:
            raise MeloEditError(f"merge_freq must be a multiple of save_freq ({self.save_freq}), not {self.merge_freq}")
