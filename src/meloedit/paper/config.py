"""PaperConfig: the settings of an editor in paper mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..callers.arguments import shown
from ..config import MeloConfig, Rule, is_flag, is_number, is_positive, is_whole
from ..errors import ModelError
from ..types import KeyTokens, Reach
from .presets import PRESETS


@dataclass(frozen=True)
class PaperConfig(MeloConfig):
    """Settings of the method as published: shared blocks, clusters of raw keys, a fixed number of iterations.

    Without a preset it fits any model: the paper's training, and your ``radius``. Settings of the default mode's scope
    and calibration have no effect. ``max_rank`` neither: a block's rank does not grow.

    Attributes:
        preset: the published experiment that these values are from, see ``from_preset``.
        edits_per_block: edits that share a block, and train together.
        radius: the initial radius of a cluster, R_init.
        expand: how a cluster grows: ``paper`` or ``reference``, see ``ClusterIndex``.
        lr_step: iterations after which the learning rate is multiplied by ``lr_decay``.
        lr_decay: see ``lr_step``.
        declared_blocks: the declared number of blocks; it scales training under ``reference_quirks`` only.
        reference_quirks: do as the released code does where it departs from the paper (docs/paper-mode.md).
    """

    mode: ClassVar[str] = "paper"

    reach: Reach = "all"
    steps: int = 50
    answer_positions: int | None = 0
    rewordings: int | None = 0
    preset: str | None = None
    edits_per_block: int = 100
    radius: float = 1.0
    expand: Literal["paper", "reference"] = "paper"
    lr_step: int = 20
    lr_decay: float = 0.5
    declared_blocks: int = 20
    reference_quirks: bool = False

    @classmethod
    def from_preset(cls, preset: str, **settings: Any) -> PaperConfig:
        """Make the settings of a published experiment (``presets.PRESETS``), with ``settings`` that differ.

        Raises:
            ModelError: if there is no such preset, or a value does not fit.
        """
        _check_preset(preset)
        return cls.from_dict({"preset": preset, **PRESETS[preset].settings, **settings})

    def __post_init__(self) -> None:
        if self.preset is not None:
            _check_preset(self.preset)
        if is_whole(self.rank) and is_whole(self.max_rank):
            object.__setattr__(self, "max_rank", max(self.rank, self.max_rank))
        super().__post_init__()

    def _rules(self) -> list[Rule]:
        return [
            *super()._rules(),
            *((name, "a positive integer", is_positive) for name in ("edits_per_block", "lr_step", "declared_blocks")),
            ("answer_positions", "None or 0 in paper mode", lambda v: not v),
            ("rewordings", "None or 0 in paper mode", lambda v: not v),
            ("position_lr_scale", "1 in paper mode", lambda v: v == 1),
            ("train_with_lead_in", "false in paper mode", lambda v: v is not True),
            # 1e-30 and 1e30: what float32 can hold and compare
            ("radius", "positive and finite", lambda v: is_number(v) and 1e-30 <= v <= 1e30),
            ("expand", "'paper' or 'reference'", lambda v: v in ("paper", "reference")),
            ("lr_decay", "above 0 and at most 1", lambda v: is_number(v) and 0 < v <= 1),
            ("reference_quirks", "true or false", is_flag),
            ("reach", "'all' in paper mode", lambda v: v == "all"),
        ]

    @property
    def key_tokens(self) -> KeyTokens:
        """Which of a prompt's tokens its key is taken of."""
        return "position" if self.reference_quirks else "last"


def _check_preset(name: object) -> None:
    if not (isinstance(name, str) and name in PRESETS):
        raise ModelError(f"no preset {shown(name)}; there are: {', '.join(PRESETS)}")


def config_from_dict(values: Mapping[str, Any]) -> MeloConfig:
    """Make the configuration of either mode from ``to_dict``'s values, as a store has them.

    Raises:
        ModelError: if a name is not a setting of the mode, or a value does not fit.
    """
    return (PaperConfig if values.get("mode") == PaperConfig.mode else MeloConfig).from_dict(values)
