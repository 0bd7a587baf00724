"""The settings of continual model refinement."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import MeloEditError
from ..settings import Settings

VARIANTS = ("er", "ewc", "l2")
"""What can be done against forgetting: experience replay, online EWC, online L2 regularisation."""
PLAIN = "ft"
"""The variant that does nothing against it: continual fine-tuning."""


@dataclass(frozen=True)
class CmrSettings(Settings):
    """Settings under the authors' names, with their values for question answering.

    Attributes:
        variant: ``er``, ``ewc`` or ``l2``, several joined by ``+``, or ``ft`` for none of them. The authors' rows are
            ``ft``, ``er``, ``ewc``, ``l2`` and, with a weight for both, ``er+l2``.
        depth: relative depth of the first trained layer in the last stack; 0: all weights, as the authors do.
        lr: AdamW's learning rate at the first step; it falls in a straight line to 0 at step ``total_steps``.
        total_steps: steps of the whole stream.
        epochs: passes over the edits of a call and what is replayed with them.
        batch_size: training examples per step.
        weight_decay: AdamW's, of matrices.
        max_grad_norm: greatest norm of a step's gradient.
        label_smoothing: share of the target's probability that is spread over all tokens.
        replay_size: examples that are replayed with a call.
        replay_frequency: calls after which there is a replay; the first call has none.
        upstream_sample_ratio: share of upstream examples among the replayed ones; the rest are earlier edits.
        upstream: file of upstream examples; empty: built-in questions with the unedited model's own answers.
        upstream_size: examples that are taken of it, from the first on.
        ewc_lambda: weight of the EWC penalty.
        ewc_gamma: what an earlier call's Fisher information is multiplied with at each call.
        diff_loss_weight: weight of the L2 penalty.
    """

    from_zero = ("weight_decay",)
    files = ("upstream",)
    shares = ("depth", "label_smoothing", "upstream_sample_ratio", "ewc_gamma")
    edits_per_call: int = 64
    variant: str = "er"
    depth: float = 0.0
    lr: float = 3e-5
    total_steps: int = 10000
    epochs: int = 10
    batch_size: int = 8
    weight_decay: float = 0.01
    max_grad_norm: float = 0.1
    label_smoothing: float = 0.1
    replay_size: int = 32
    replay_frequency: int = 1
    upstream_sample_ratio: float = 0.5
    upstream: str = ""
    upstream_size: int = 128
    ewc_lambda: float = 250.0
    ewc_gamma: float = 0.9
    diff_loss_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant != PLAIN and not set(self.variant.split("+")) <= set(VARIANTS):
            raise MeloEditError(f"variant must be {PLAIN}, or some of {'+'.join(VARIANTS)}, not {self.variant!r}")

    def has(self, part: str) -> bool:
        """Whether the variant has a part, such as ``ewc``."""
        return part in self.variant.split("+")
