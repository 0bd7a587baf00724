"""MeloConfig: the settings of an editor in the default mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from .callers.arguments import shown
from .errors import ModelError
from .types import KeyTokens, Reach

MIN_FALSE_ACTIVATION = 1e-9
"""Least false activation that may be stated: it takes one prompt per share to calibrate it."""
CANDIDATE_SIMILARITY = 0.25
"""Similarity from which the index proposes an edit to the judge."""
SCOPE_SETTINGS = ("false_activation", "false_neighbour", "min_similarity", "judge")
"""Settings that a calibration may state, in its ``info``: they override the store's."""
NAMED_JUDGES = ("built-in", "none")
"""What ``judge`` may be besides a file."""
MAX_ANSWER_POSITIONS = 1024
"""Most answer positions with an input of their own: each is a column of a block's P."""

Rule = tuple[str, str, Callable[[Any], bool]]
"""A setting, what it must be in words, and the test of it."""


@dataclass(frozen=True)
class MeloConfig:
    """Settings of an editor; a store records the ones it was made with.

    Attributes:
        modules: the edited linear modules, by full name (one that ends in ``?`` is used where it exists); ``None``:
            the feed-forward outputs of the last ``layers`` layers.
        layers: how many layers are edited where ``modules`` is not given.
        key_layer: the module whose output gives the keys; ``None``: the layer at ``key_depth`` of the model.
        key_depth: depth of the key layer as a share of all layers.
        key_size: numbers of a key's content vector.
        rank: rank of a new block; doubled, up to ``max_rank``, for an edit that does not hold.
        max_rank: the largest rank tried before an edit is reported as failed.
        reach: ``answer``: a block acts from the last prompt token on; ``all``: on every token.
        steps: optimiser steps per rank; an edit leaves as soon as it holds.
        lr: Adam's learning rate (scale of a block is 1: alpha = rank).
        min_target_probability: least probability of every target token before an edit leaves the optimiser; ``None``:
            0.98, for encoder-decoders 0.9999.
        min_answer_probability: least probability of the whole target, the product over its tokens, before an edit
            leaves the optimiser. It decides alone where a target is so long that tokens of ``min_target_probability``
            would give it less; then it would be sampled wrongly though each token is likely.
        rewordings: how many rewordings of its prompt, made without a model, an edit is tried in before it leaves the
            optimiser; it is trained on those that fail. A target of few tokens gets a quarter of them. Unless it is 0,
            a chat whose answer is begun is tried, too. ``None``: 4, for encoder-decoders and classifiers 0.
        min_tried_probability: least probability of every target token behind such a rewording.
        answer_positions: how many of the first positions of an answer get an input of their own in a block, at least;
            ``None``: 8, for encoder-decoders and classifiers 0.
        max_answer_positions: how many at most: a target of more tokens than ``answer_positions`` gets one for each of
            its tokens up to here, rounded up to a power of two.
        position_lr_scale: factor on the learning rate of those inputs; blocks of rank 1 on few modules do best with 3.
        train_with_lead_in: train a block on its edit's prompt behind an unrelated sentence too (decoders alone), for
            half as much training time again.
        train_batch_size: edits that train at once, and are stored in one transaction.
        prefix_cache: compute the layers below the first edited one once, not at every step.
        false_activation: stated share of unrelated prompts that reach an edit; sets the scope's threshold.
        min_similarity: similarity below which nothing fires, whatever the calibration says (matters while edits are
            few; where a judge decides, six tenths of it suffice for a short prompt); ``None``: 0.25 where a judge
            decides, else 0.55, for encoder-decoders and classifiers 0.5.
        judge: what decides whether a prompt and an edit that the index proposes ask the same: ``built-in``: the pair
            judge that ships with the package; ``none``: nothing, the nearest edit in scope answers; or a judge's file;
            ``None``: ``built-in``, for classifiers ``none``.
        false_neighbour: stated share of near questions (same subject or same relation) that reach an edit.
        calibration_prompts: how many prompts of the built-in grammar the first calibration uses.
        document_tokens: a classifier's texts are cut to this many tokens; ``None``: to what the model takes.
        document_similarity: similarity that a classifier's text must exceed where no documents were given to calibrate
            on: near-exact repeats alone fire.
        seed: seeds the initial blocks, together with each edit's id.
    """

    mode: ClassVar[str] = "default"
    """The name of the mode that these settings are for."""

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
    min_answer_probability: float = 0.9
    rewordings: int | None = None
    min_tried_probability: float = 0.9
    answer_positions: int | None = None
    max_answer_positions: int = 256
    position_lr_scale: float = 1.0
    train_with_lead_in: bool = False
    train_batch_size: int = 64
    prefix_cache: bool = True
    false_activation: float = 0.01
    min_similarity: float | None = None
    judge: str | None = None
    false_neighbour: float = 0.14
    calibration_prompts: int = 3000
    document_tokens: int | None = None
    document_similarity: float = 0.97
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.modules, list):
            object.__setattr__(self, "modules", tuple(self.modules))
        if isinstance(self.judge, Path) or (is_text(self.judge) and self.judge not in NAMED_JUDGES):
            # a store is opened in other folders, too
            object.__setattr__(self, "judge", str(Path(str(self.judge)).expanduser().absolute()))
        problems = [
            f"{name} must be {words}, not {shown(getattr(self, name))}"
            for name, words, rule in self._rules()
            if not _passes(rule, getattr(self, name))
        ]
        if problems:
            raise ModelError("; ".join(problems))

    def _rules(self) -> list[Rule]:
        positive = ("layers", "key_size", "rank", "steps", "train_batch_size")
        return [
            *((name, "a positive integer", is_positive) for name in positive),
            ("modules", "None or a non-empty list of module names, each once", lambda v: v is None or _are_names(v)),
            ("prefix_cache", "true or false", is_flag),
            (
                "answer_positions",
                f"None or between 0 and {MAX_ANSWER_POSITIONS:,}",
                lambda v: v is None or (is_whole(v) and 0 <= v <= MAX_ANSWER_POSITIONS),
            ),
            (
                "max_answer_positions",
                f"between 0 and {MAX_ANSWER_POSITIONS:,}",
                lambda v: is_whole(v) and 0 <= v <= MAX_ANSWER_POSITIONS,
            ),
            ("position_lr_scale", "positive and at most 1000", lambda v: is_number(v) and 0 < v <= 1000),
            ("train_with_lead_in", "true or false", is_flag),
            ("seed", "an integer", is_whole),
            ("key_depth", "between 0 and 1", lambda v: is_number(v) and 0 < v < 1),
            ("max_rank", "at least rank", lambda v: is_whole(v) and v >= self.rank),
            ("reach", "'answer' or 'all'", lambda v: v in ("answer", "all")),
            ("lr", "positive and finite", lambda v: is_number(v) and 0 < v <= 1e30),
            ("key_layer", "None or a module's name", lambda v: v is None or isinstance(v, str)),
            (
                "min_target_probability",
                "None or at least 0 and below 1",
                lambda v: v is None or (is_number(v) and 0 <= v < 1),
            ),
            ("min_answer_probability", "at least 0 and below 1", lambda v: is_number(v) and 0 <= v < 1),
            ("min_tried_probability", "at least 0 and below 1", lambda v: is_number(v) and 0 <= v < 1),
            ("rewordings", "None or between 0 and 16", lambda v: v is None or (is_whole(v) and 0 <= v <= 16)),
            (
                "false_activation",
                f"at least {MIN_FALSE_ACTIVATION:g} and below 1",
                lambda v: is_number(v) and MIN_FALSE_ACTIVATION <= v < 1,
            ),
            ("judge", "None, 'built-in', 'none' or the path of a judge's file", lambda v: v is None or is_text(v)),
            ("false_neighbour", "above 0 and below 1", lambda v: is_number(v) and 0 < v < 1),
            ("min_similarity", "None or between -1 and 1", lambda v: v is None or (is_number(v) and -1 <= v <= 1)),
            ("calibration_prompts", "between 200 and 50,000", lambda v: is_whole(v) and 200 <= v <= 50_000),
            ("document_tokens", "None or at least 8", lambda v: v is None or (is_whole(v) and v >= 8)),
            ("document_similarity", "between -1 and 1", lambda v: is_number(v) and -1 <= v <= 1),
        ]

    @property
    def key_tokens(self) -> KeyTokens:
        """Which of a prompt's tokens its key is taken of."""
        return "words"

    def for_family(self, defaults: Mapping[str, Any], family: str) -> Self:
        """Return the settings with what they leave to the model family filled in.

        Args:
            defaults: the family's values.
            family: the model's class, for messages.

        Raises:
            ModelError: if the family has no answer positions and the settings ask for some.
        """
        if self.answer_positions and not defaults["answer_positions"]:
            raise ModelError(f"answer_positions must be 0 for {family}: its answers are not told apart by place")
        filled = replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})
        if self.min_similarity is None and filled.judge != "none":
            return replace(filled, min_similarity=CANDIDATE_SIMILARITY)  # the judge decides among what it lets through
        return filled

    def to_dict(self) -> dict[str, Any]:
        """Return mode and settings as JSON-ready values."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {"mode": self.mode, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a configuration from ``to_dict``'s values.

        Raises:
            ModelError: if a name is not a setting, or a value does not fit.
        """
        if not isinstance(values, Mapping):
            raise ModelError(f"settings must be names and values, not a {type(values).__name__}")
        if (mode := values.get("mode", cls.mode)) != cls.mode:
            raise ModelError(f"{cls.__name__} has the settings of {cls.mode!r} mode, not those of {mode!r} mode")
        known = [item.name for item in fields(cls)]
        if unknown := sorted(set(values) - {*known, "mode"}, key=str):
            raise ModelError(f"unknown setting {unknown[0]!r}; the settings are: {', '.join(known)}")
        return cls(**{name: value for name, value in values.items() if name != "mode"})


def raise_max_rank(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which ``max_rank`` is at least ``rank``: who asks for a large rank wants it raised too."""
    rank = values.get("rank")
    if not isinstance(rank, int) or "max_rank" in values:
        return dict(values)
    return {**values, "max_rank": max(rank, MeloConfig.max_rank)}


def is_text(value: object) -> bool:
    """Return whether a value is a text with something in it."""
    return isinstance(value, str) and bool(value.strip())


def is_whole(value: object) -> bool:
    """Return whether a value is an integer and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_positive(value: Any) -> bool:
    """Return whether a value is a positive integer."""
    return is_whole(value) and value > 0


def is_number(value: object) -> bool:
    """Return whether a value is a number and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_flag(value: object) -> bool:
    """Return whether a value is true or false."""
    return isinstance(value, bool)


def _are_names(value: object) -> bool:
    if not (isinstance(value, tuple) and value and all(isinstance(name, str) for name in value)):
        return False
    return len(set(value)) == len(value)


def _passes(rule: Callable[[Any], bool], value: object) -> bool:
    try:
        return bool(rule(value))
    except Exception:  # not even of a kind that can be compared
        return False
