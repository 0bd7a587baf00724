"""What every ablation works with; and those on keys alone: the radius, and the map of keys (Figure 3)."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ...backbones.layers import fingerprint
from ...errors import MeloEditError
from ...paper.clusters import ClusterIndex
from ...types import Prompt
from .facts import Fact, Facts, Runs

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import Tensor

    from ...config import MeloConfig
    from ...editor import Editor
    from ...types import Progress

QUANTILES = (0.001, 0.005, 0.02, 0.1, 0.5)
"""Quantiles of the distance from a key to the nearest key of another fact: the radii of ``auto``."""
KEYS_AT_ONCE = 256
_NOT_OF_KEYS = "radius expand rank max_rank steps lr lr_step lr_decay blocks seed edits_per_block".split()


@dataclass
class Bench:
    """What every ablation works with.

    Attributes:
        model: the model to edit.
        tokenizer: its tokenizer.
        facts: the edits and their rephrasings.
        runs: where finished runs are kept.
        configure: makes a configuration of paper mode from the settings that differ from the user's.
        open_editor: makes an editor of a configuration, detached at the end of its ``with`` block.
        tell: told how far a step is.
    """

    model: torch.nn.Module
    tokenizer: Any
    facts: Facts
    runs: Runs
    configure: Callable[..., MeloConfig]
    open_editor: Callable[[MeloConfig], AbstractContextManager[Editor]]
    tell: Progress

    def telling(self, run: str) -> Progress:
        """Return what is told how far a step of one of several runs is."""
        return lambda what, done, total: self.tell(f"{run}: {what}", done, total)

    def data(self, ablation: str, config: MeloConfig, **found: Any) -> dict[str, Any]:
        """Return what was found, after what it was found with."""
        with_what = {"facts_file": self.facts.name, "facts_sha256": self.facts.sha256, "facts": len(self.facts.items)}
        quirks = {"reference_quirks": config.reference_quirks, "config": config.to_dict()}
        return {"ablation": ablation, **with_what, **quirks, **found}


def identity(model: torch.nn.Module) -> dict[str, str]:
    """Return what tells a model's runs from another's: a digest of its weights, their format, where it runs."""
    some = next(model.parameters())
    return {"weights": fingerprint(model), "dtype": str(some.dtype), "device": some.device.type}


def take_keys(bench: Bench, config: MeloConfig, prompts: Sequence[Prompt], targets: Sequence[str]) -> Tensor:
    """Return the keys (n, d) of prompts as the index sees them; taken once, and then kept.

    The released code's key depends on the answer behind the prompt and on the batch's padding, so there the batches
    are those in which the edits are made.
    """
    quirks = config.reference_quirks
    most = config.edits_per_block if quirks else KEYS_AT_ONCE
    asked = hashlib.sha256(json.dumps([list(prompts), list(targets)]).encode()).hexdigest()
    settings = {name: value for name, value in config.to_dict().items() if name not in _NOT_OF_KEYS}

    def make() -> Tensor:
        taken = []
        with bench.open_editor(config) as editor:
            for start in range(0, len(prompts), most):
                piece = slice(start, start + most)
                taken.append(editor.keys(list(prompts[piece]), list(targets[piece]) if quirks else None).float().cpu())
                bench.tell("taking keys", min(start + most, len(prompts)), len(prompts))
        return torch.cat(taken)

    return bench.runs.keys({"config": settings, "batch": most if quirks else None, "prompts": asked}, make)


def radius(bench: Bench, radii: Sequence[float] | None, wordings: int) -> dict[str, Any]:
    """Insert every wording of every fact into an index, for each initial radius (Figures 3a, 3b and 3d).

    Args:
        bench: what to work with.
        radii: the initial radii; ``None``: those at ``QUANTILES``.
        wordings: how many wordings of a fact are edits, its prompt first.
    """
    base = bench.configure()
    rows = [
        (i, prompt, fact.edit.target) for i, fact in enumerate(bench.facts.items) for prompt in _first(fact, wordings)
    ]
    random.Random(base.seed).shuffle(rows)
    owners, prompts, targets = zip(*rows, strict=True)
    keys = take_keys(bench, base, prompts, targets)
    labels = _labels(bench, base, prompts, targets)
    nearest = None
    if radii is None:
        radii = at_quantiles(keys, owners)
        nearest = {"quantiles": list(QUANTILES), "of": "the distance from a key to the nearest key of another fact"}
    runs = []
    for value in radii:
        config, tell = bench.configure(radius=value), bench.telling(f"radius {value:g}")
        settings = {"config": config.to_dict(), "wordings": wordings}
        made = bench.runs.run("radius", settings, partial(insert, keys, labels, config, tell))
        runs.append({"radius": value} | made)
    found = {"wordings": wordings, "edits": len(rows), "seed": base.seed, "radii_from": nearest, "runs": runs}
    return bench.data("radius", base, **found)


def insert(keys: Tensor, labels: Sequence[Hashable], config: MeloConfig, tell: Progress) -> dict[str, Any]:
    """Insert keys (n, d) batch by batch; return how many clusters, conflicts and so on there are after each."""
    index = ClusterIndex(keys.shape[1], config.radius, config.expand, quirks=config.reference_quirks)
    curve, total, size = [], len(keys), config.edits_per_block
    for block, start in enumerate(range(0, total, size)):
        owners = range(start, min(start + size, total))
        batch = slice(owners.start, owners.stop)
        index.add_batch(owners, [block] * len(owners), keys[batch], labels[batch])
        # The list of forgotten keys is whole also where the released code counts one too few.
        curve.append({"edits": owners.stop} | index.counts | {"forgotten": len(index.forgotten)})
        tell("inserting keys", owners.stop, total)
    return {"curve": curve}


def at_quantiles(keys: Tensor, facts: Sequence[int]) -> list[float]:
    """Return the distances at ``QUANTILES`` from a key (n, d) to the nearest key of another fact, in four digits.

    Raises:
        MeloEditError: if there is but one fact, or all keys are the same.
    """
    own = torch.tensor(facts)
    if len(own.unique()) < 2:
        raise MeloEditError("--radii auto needs two facts or more: their keys' distances give the radii")
    wide, nearest = keys.double(), []
    for start in range(0, len(keys), KEYS_AT_ONCE):
        piece = slice(start, start + KEYS_AT_ONCE)
        distance = torch.cdist(wide[piece], wide).masked_fill(own[piece, None] == own, math.inf)
        nearest.append(distance.amin(1))
    at = torch.cat(nearest).quantile(torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
    radii = sorted({float(f"{value:.4g}") for value in at if value > 0})
    if not radii:
        raise MeloEditError("--radii auto finds no radius: almost all keys are the same; give radii")
    return radii


def key_map(bench: Bench, targets: int, wordings: int) -> dict[str, Any]:
    """Project the keys of the most frequent targets' facts onto two principal components (Figure 3c).

    Args:
        bench: what to work with.
        targets: how many targets: the most frequent, and of equally frequent ones the first.
        wordings: how many wordings of a fact are taken, its prompt first.

    Raises:
        MeloEditError: if there are fewer than two keys.
    """
    config = bench.configure()
    counts = Counter(fact.edit.target.strip() for fact in bench.facts.items)
    chosen = [target for target, _ in counts.most_common(targets)]
    rows: list[dict[str, Any]] = [
        {"fact": fact.edit.id, "wording": number, "target": target, "prompt": prompt}
        for target in chosen
        for fact in bench.facts.items
        if fact.edit.target.strip() == target
        for number, prompt in enumerate(_first(fact, wordings))
    ]
    if len(rows) < 2:
        raise MeloEditError("a map of keys needs two or more: give more facts or wordings")
    keys = take_keys(bench, config, [row["prompt"] for row in rows], [row["target"] for row in rows])
    places, share = principal(keys)
    points = [row | {"x": x, "y": y} for row, (x, y) in zip(rows, places.tolist(), strict=True)]
    return bench.data("keys", config, wordings=wordings, targets=chosen, share_of_variance=share, points=points)


def principal(keys: Tensor) -> tuple[Tensor, list[float]]:
    """Return the first two principal components (n, 2) of keys (n, d), and each one's share of the variance.

    A component's sign is chosen so that its largest coordinate is positive: an algorithm's own choice may differ.
    """
    centred = keys.double() - keys.double().mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    places = torch.nn.functional.pad(left * values, (0, 2))[:, :2]
    places *= places.gather(0, places.abs().argmax(0, keepdim=True)).sign() + 0.0
    total = values.square().sum()
    shares = torch.nn.functional.pad(values.square() / total, (0, 2))[:2] if total > 0 else torch.zeros(2)
    return places, shares.tolist()


def _first(fact: Fact, wordings: int) -> tuple[Prompt, ...]:
    return fact.wordings[:wordings]


def _labels(bench: Bench, config: MeloConfig, prompts: Sequence[Prompt], targets: Sequence[str]) -> list[Hashable]:
    """Return what clusters' labels are compared by: the targets, or as in the released code sums of token ids."""
    if not config.reference_quirks:
        return [target.strip() for target in targets]
    from ...backbones import open_backbone

    backbone = open_backbone(bench.model, bench.tokenizer)  # type: ignore[arg-type]
    backbone.configure(config)
    pairs = zip(prompts, targets, strict=True)
    return [sum(backbone.encode_target(target, backbone.encode(prompt))) for prompt, target in pairs]
