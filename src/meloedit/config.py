"""Settings of an editor, and the automatic choice of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from .errors import ModelError
from .paper.presets import PRESETS
from .types import KeyTokens, Reach

Mode = Literal["default", "paper"]

LEAST_SHARE = 1e-9
"""Least false activation that may be stated: it takes one prompt per share to calibrate it."""
MAX_ANSWER_POSITIONS = 1024
"""Most places of an answer that a block can tell apart: each is a column of its A."""


@dataclass(frozen=True)
class MeloConfig:
    """Settings of an editor; a store keeps the ones it was made with.

    ``MeloConfig()`` is the default mode, ``MeloConfig.paper(...)`` the method as published (arXiv 2312.11795).

    Attributes:
        modules: the edited linear modules, by full name (one that ends in ``?`` is taken where it exists); ``None``:
            the feed-forward outputs of the last ``layers`` layers.
        layers: how many layers are edited where ``modules`` is not given.
        key_layer: the module whose output gives the keys; ``None``: the layer at ``key_depth`` of the model.
        key_depth: depth of the key layer as a share of all layers.
        key_size: numbers of a key that come from states.
        rank: rank of a new block; doubled, up to ``max_rank``, for an edit that does not hold.
        max_rank: the largest rank tried before an edit is reported as failed.
        reach: ``answer``: a block acts from the last prompt token on; ``all``: on every token.
        steps: optimiser steps per rank; an edit leaves as soon as it holds.
        lr: Adam's learning rate (scale of a block is 1: alpha = rank).
        min_target_probability: least probability of every target token before an edit leaves the optimiser; ``None``:
            0.98, for encoder-decoders 0.9999.
        answer_positions: how many of the first positions of an answer get an input of their own in a block; ``None``:
            8, for encoder-decoders, classifiers and in paper mode 0.
        position_lr_scale: factor on the learning rate of those inputs; blocks of rank 1 on few modules do best with 3.
        train_with_lead_in: train a block on its edit's prompt behind an unrelated sentence too (decoders alone), for
            half as much training time again.
        train_batch_size: edits that train at once.
        prefix_cache: compute the layers below the first edited one once, not at every step.
        false_activation: stated share of unrelated prompts that reach an edit; sets the scope's threshold.
        min_similarity: similarity below which nothing fires, whatever the calibration says (matters while edits are
            few); ``None``: 0.55, for encoder-decoders and classifiers 0.5.
        calibration_prompts: how many prompts of the built-in grammar the first calibration uses.
        document_tokens: a classifier's texts are cut to this many tokens; ``None``: to what the model takes.
        document_similarity: similarity that a classifier's text must exceed where no documents were given to calibrate
            on: near-exact repeats alone fire.
        seed: seeds the initial blocks, together with each edit's id.
        mode: ``default`` or ``paper``.
        preset: paper mode: the published setting these values are from.
        edits_per_block: paper mode: edits that share a block, and train together.
        radius: paper mode: the initial radius of a cluster, R_init.
        expand: paper mode: how a cluster grows: ``paper`` or ``reference``, see ``ClusterIndex``.
        lr_step: paper mode: steps after which the learning rate is multiplied by ``lr_decay``.
        lr_decay: paper mode: see ``lr_step``.
        declared_blocks: paper mode: the declared number of blocks; it scales training under ``reference_quirks`` only.
        reference_quirks: paper mode: do as the released code does where it departs from the paper
            (docs/paper-mode.md).
    """

    modules: tuple[str, ...] | None = None
    layers: int = 3
    key_layer: str | None = None
    key_depth: float = 0.2
    key_size: int = 256
    rank: int = 2
    max_rank: int = 8
    reach: Reach = "answer"
    steps: int = 60
    lr: float = 1e-2
    min_target_probability: float | None = None
    answer_positions: int | None = None
    position_lr_scale: float = 1.0
    train_with_lead_in: bool = False
    train_batch_size: int = 64
    prefix_cache: bool = True
    false_activation: float = 0.01
    min_similarity: float | None = None
    calibration_prompts: int = 6000
    document_tokens: int | None = None
    document_similarity: float = 0.97
    seed: int = 0
    mode: Mode = "default"
    preset: str | None = None
    edits_per_block: int = 1
    radius: float = 1.0
    expand: Literal["paper", "reference"] = "paper"
    lr_step: int = 20
    lr_decay: float = 0.5
    declared_blocks: int = 20
    reference_quirks: bool = False

    @classmethod
    def paper(cls, preset: str | None = None, **settings: Any) -> MeloConfig:
        """Return the method as published: shared blocks, clusters of raw keys, a fixed number of iterations.

        Args:
            preset: one of the published settings (``presets.PRESETS``); ``None``: fit to any model, with the paper's
                training and your ``radius``.
            settings: values that differ.

        Raises:
            ModelError: if there is no such preset, or a value does not fit.
        """
        if preset is not None and not (isinstance(preset, str) and preset in PRESETS):
            raise ModelError(f"no preset {preset!r}; there are: {', '.join(PRESETS)}")
        if settings.get("mode", "paper") != "paper":
            raise ModelError("paper mode is a mode already: leave the setting 'mode' out")
        published = dict(PRESETS[preset].settings) if preset else {}
        common = {"mode": "paper", "preset": preset, "reach": "all", "steps": 50, "edits_per_block": 100}
        values = common | published | settings
        rank = values.get("rank", cls.rank)
        return cls.from_dict({"max_rank": max(rank, cls.max_rank) if _whole(rank) else cls.max_rank} | values)

    def __post_init__(self) -> None:
        if isinstance(self.modules, list):
            object.__setattr__(self, "modules", tuple(self.modules))
        problems = [
            f"{name} must be {words}, not {getattr(self, name)!r}"
            for name, words, rule in self._rules()
            if not _holds(rule, getattr(self, name))
        ]
        if problems:
            raise ModelError("; ".join(problems))

    def _rules(self) -> list[tuple[str, str, Callable[[Any], bool]]]:
        positive = (
            "layers",
            "key_size",
            "rank",
            "steps",
            "train_batch_size",
            "edits_per_block",
            "lr_step",
            "declared_blocks",
        )
        paper = self.mode == "paper"
        return [(name, "a positive integer", lambda value: _whole(value) and value > 0) for name in positive] + [
            (
                "modules",
                "None or a non-empty list of module names, each once",
                lambda value: value is None or _names(value),
            ),
            ("prefix_cache", "true or false", lambda value: isinstance(value, bool)),
            ("answer_positions", f"None or between 0 and {MAX_ANSWER_POSITIONS:,}", _is_places),
            ("answer_positions", "None or 0 in paper mode", lambda value: not paper or not value),
            ("position_lr_scale", "positive and at most 1000", lambda value: _number(value) and 0 < value <= 1000),
            ("position_lr_scale", "1 in paper mode", lambda value: not paper or value == 1),
            ("train_with_lead_in", "true or false", lambda value: isinstance(value, bool)),
            ("train_with_lead_in", "false in paper mode", lambda value: not paper or value is not True),
            ("seed", "an integer", _whole),
            ("key_depth", "between 0 and 1", lambda value: _number(value) and 0 < value < 1),
            ("max_rank", "at least rank", lambda value: _whole(value) and value >= self.rank),
            ("reach", "'answer' or 'all'", lambda value: value in ("answer", "all")),
            ("lr", "positive and finite", lambda value: _number(value) and 0 < value <= 1e30),
            ("key_layer", "None or a module's name", lambda value: value is None or isinstance(value, str)),
            (
                "min_target_probability",
                "None or at least 0 and below 1",
                lambda value: value is None or (_number(value) and 0 <= value < 1),
            ),
            (
                "false_activation",
                f"at least {LEAST_SHARE:g} and below 1",
                lambda value: _number(value) and LEAST_SHARE <= value < 1,
            ),
            (
                "min_similarity",
                "None or between -1 and 1",
                lambda value: value is None or (_number(value) and -1 <= value <= 1),
            ),
            ("calibration_prompts", "between 200 and 50,000", lambda value: _whole(value) and 200 <= value <= 50_000),
            ("document_tokens", "None or at least 8", lambda value: value is None or (_whole(value) and value >= 8)),
            ("document_similarity", "between -1 and 1", lambda value: _number(value) and -1 <= value <= 1),
            ("mode", "'default' or 'paper'", lambda value: value in ("default", "paper")),
            # 1e-30 and 1e30: what float32 can hold and compare
            ("radius", "positive and finite", lambda value: _number(value) and 1e-30 <= value <= 1e30),
            ("expand", "'paper' or 'reference'", lambda value: value in ("paper", "reference")),
            ("lr_decay", "above 0 and at most 1", lambda value: _number(value) and 0 < value <= 1),
            ("preset", "None outside paper mode (MeloConfig.paper, --preset)", lambda value: paper or value is None),
            ("reference_quirks", "true or false", lambda value: isinstance(value, bool)),
            ("reference_quirks", "false outside paper mode", lambda value: paper or value is not True),
            ("edits_per_block", "1 outside paper mode", lambda value: paper or value == 1),
            ("reach", "'all' in paper mode", lambda value: not paper or value == "all"),
        ]

    @property
    def key_tokens(self) -> KeyTokens:
        """What a key is taken of."""
        return "words" if self.mode == "default" else "position" if self.reference_quirks else "last"

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MeloConfig:
        """Make a configuration from ``to_dict``'s values.

        Raises:
            ModelError: if a name is not a setting, or a value does not fit.
        """
        known = [item.name for item in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ModelError(f"unknown setting {unknown[0]!r}; the settings are: {', '.join(known)}")
        return cls(**values)


def _is_places(value: Any) -> bool:
    return value is None or (_whole(value) and 0 <= value <= MAX_ANSWER_POSITIONS)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _names(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and bool(value)
        and all(isinstance(name, str) for name in value)
        and len(set(value)) == len(value)
    )


def _holds(rule: Callable[[Any], bool], value: object) -> bool:
    try:
        return rule(value)
    except (TypeError, ValueError):  # not even of a kind that can be compared
        return False
