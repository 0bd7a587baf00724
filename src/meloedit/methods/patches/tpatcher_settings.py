"""The settings of Transformer-Patcher."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import MeloEditError
from ..settings import Settings


@dataclass(frozen=True)
class TPatcherSettings(Settings):
    """Settings under the authors' names, with their defaults for zsRE on BART.

    Attributes:
        lr: Adam's learning rate.
        weight_decay: Adam's L2 penalty.
        lr_scheduler_factor: what the rate is multiplied by when the edit's loss falls by less than 5 %.
        lr_scheduler_patience: looks without such a fall that are let pass.
        amplify_con: first value of what multiplies a patch's value.
        max_add_neuron_num: most neurons of a wording; one is added for each wrong token.
        max_edit_step: most steps of an edit.
        start_val_epoch: steps before which an edit does not end.
        check_val_every_n_epoch: steps between looks.
        early_patience: looks without a smaller memory loss that are let pass, of those at which the edit is right.
        alc: weight of the activation loss.
        mlc: weight of the memory loss.
        act_margin_val: what a neuron should exceed at its own query.
        margin_val1: by how much it should exceed there what it has in the memory.
        margin_val2: what it should not exceed in the memory.
        top_act: greatest parts of the activation loss that count.
        top_memory: greatest parts of either part of the memory loss that count.
        eps: share of a label that goes to all other tokens.
        example_repeat: how often an edit is in its batch.
        memory_size: tokens that are remembered for training.
        val_memory_size: tokens that are remembered to see when an edit may end.
        text: file of texts to remember; empty: built-in questions.
        activation: activation function of the patches, by its name in transformers; empty: the feed-forward's own.
    """

    fixed = ("edits_per_call",)  # each edit is a patch of its own
    any_sign = ("seed", "act_margin_val", "margin_val1", "margin_val2")
    from_zero = ("weight_decay", "alc", "mlc", "eps", "start_val_epoch")
    files = ("text",)
    lr: float = 1e-2
    weight_decay: float = 1e-2
    lr_scheduler_factor: float = 0.5
    lr_scheduler_patience: int = 1
    amplify_con: float = 10.0
    max_add_neuron_num: int = 5
    max_edit_step: int = 2000
    start_val_epoch: int = 100
    check_val_every_n_epoch: int = 25
    early_patience: int = 1
    alc: float = 1.0
    mlc: float = 10.0
    act_margin_val: float = 0.0
    margin_val1: float = 3.0
    margin_val2: float = -3.0
    top_act: int = 5
    top_memory: int = 1000
    eps: float = 0.1
    example_repeat: int = 8
    memory_size: int = 20000
    val_memory_size: int = 5000
    text: str = ""
    activation: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eps >= 1:
            raise MeloEditError(f"eps must be below 1, not {self.eps:g}")
        if self.lr_scheduler_factor >= 1:
            raise MeloEditError(f"lr_scheduler_factor must be below 1, not {self.lr_scheduler_factor:g}")
