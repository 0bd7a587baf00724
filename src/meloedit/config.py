"""Settings of an editor, and the automatic choice of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from .errors import ModelError

Reach = Literal["answer", "all"]


@dataclass(frozen=True)
class MeloConfig:
    """Settings of the default mode; a store keeps the ones it was made with.

    Attributes:
        modules: the edited linear modules, by full name; ``None``: the feed-forward outputs of the last ``layers``
            layers.
        layers: how many layers are edited where ``modules`` is not given.
        key_layer: the module whose output gives the keys; ``None``: the layer at ``key_depth`` of the model.
        key_depth: depth of the key layer as a share of all layers.
        key_size: components that the whitening keeps.
        rank: rank of a new block; doubled, up to ``max_rank``, for an edit that does not hold.
        max_rank: the largest rank tried before an edit is reported as failed.
        reach: ``answer``: a block acts from the last prompt token on; ``all``: on every token.
        steps: optimiser steps per rank; an edit leaves as soon as it holds.
        lr: Adam's learning rate (scale of a block is 1: alpha = rank).
        confidence: least probability of every target token before an edit counts as held.
        together: edits that train at once.
        prefix_cache: compute the layers below the first edited one once, not at every step.
        false_activation: stated share of unrelated prompts that reach an edit; sets the scope's threshold.
        min_similarity: cosine below which nothing fires, whatever the calibration says (matters while edits are few).
        calibration_prompts: how many prompts of the built-in grammar the first calibration uses.
        seed: seeds the initial blocks, together with each edit's id.
    """

    modules: tuple[str, ...] | None = None
    layers: int = 3
    key_layer: str | None = None
    key_depth: float = 0.27
    key_size: int = 256
    rank: int = 2
    max_rank: int = 8
    reach: Reach = "answer"
    steps: int = 60
    lr: float = 1e-2
    confidence: float = 0.98
    together: int = 64
    prefix_cache: bool = True
    false_activation: float = 0.005
    min_similarity: float = 0.6
    calibration_prompts: int = 3000
    seed: int = 0

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
        positive = ("layers", "key_size", "rank", "steps", "together")
        return [(name, "a positive integer", lambda value: _whole(value) and value > 0) for name in positive] + [
            (
                "modules",
                "None or a non-empty list of module names, each once",
                lambda value: value is None or _names(value),
            ),
            ("prefix_cache", "true or false", lambda value: isinstance(value, bool)),
            ("seed", "an integer", _whole),
            ("key_depth", "between 0 and 1", lambda value: 0 < value < 1),
            ("max_rank", "at least rank", lambda value: _whole(value) and value >= self.rank),
            ("reach", "'answer' or 'all'", lambda value: value in ("answer", "all")),
            ("lr", "positive and finite", lambda value: 0 < value < float("inf")),
            ("confidence", "at least 0 and below 1", lambda value: 0 <= value < 1),
            ("false_activation", "above 0 and below 1", lambda value: 0 < value < 1),
            ("min_similarity", "between -1 and 1", lambda value: -1 <= value <= 1),
            ("calibration_prompts", "at least 200", lambda value: _whole(value) and value >= 200),
        ]

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


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
    except TypeError:  # not even of a kind that can be compared
        return False


def last_layers(total: int, count: int) -> list[int]:
    """Return the indices of the last ``count`` of ``total`` layers, of all of them where there are fewer."""
    return list(range(max(0, total - count), total))


def key_layer_index(total: int, depth: float, first_edited: int) -> int:
    """Return the index of the key layer: ``depth`` of the way up, and below the first edited layer."""
    index = min(round(depth * total), first_edited - 1)
    if index < 0:
        raise ModelError(
            f"the first edited layer is layer {first_edited}: edit later layers, keys are taken below them"
        )
    return index
