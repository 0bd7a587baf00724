"""The ablations of keys alone: clusters by initial radius, and the map of keys (Figure 3). No block is trained."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ...errors import MeloEditError
from ...keys.principal import principal
from ...paper.clusters import ClusterIndex
from .bench import KEYS_AT_ONCE, prompt_keys

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import Tensor

    from ...paper.config import PaperConfig
    from ...types import Progress, Prompt
    from .bench import Bench

QUANTILES = (0.001, 0.005, 0.02, 0.1, 0.5)
"""Quantiles of the distance from a key to the nearest key of another fact; they are the radii of ``auto``."""


def radius(bench: Bench, radii: Sequence[float] | None, phrasings: int) -> dict[str, Any]:
    """Insert every phrasing of every fact into an index, for each initial radius (Figures 3a, 3b and 3d).

    Args:
        bench: model, facts and finished runs.
        radii: the initial radii; ``None``: those at ``QUANTILES``.
        phrasings: how many phrasings of a fact are edits, its prompt first.

    Returns:
        The ablation's data, JSON-ready.
    """
    base = bench.configure()
    rows = [
        (i, prompt, fact.edit.target)
        for i, fact in enumerate(bench.facts.items)
        for prompt in fact.phrasings[:phrasings]
    ]
    random.Random(base.seed).shuffle(rows)
    owners, prompts, targets = zip(*rows, strict=True)
    keys = prompt_keys(bench, base, prompts, targets)
    labels = _labels(bench, base, prompts, targets)
    nearest = None
    if radii is None:
        radii = at_quantiles(keys, owners)
        nearest = {"quantiles": list(QUANTILES), "of": "the distance from a key to the nearest key of another fact"}
    runs = []
    for value in radii:
        config, progress = bench.configure(radius=value), bench.progress_of(f"radius {value:g}")
        settings = {"config": config.to_dict(), "wordings": phrasings}
        run = bench.runs.run("radius", settings, partial(insert, keys, labels, config, progress))
        runs.append({"radius": value} | run)
    results = {"wordings": phrasings, "edits": len(rows), "seed": base.seed, "radii_from": nearest, "runs": runs}
    return bench.data("radius", base, **results)


def insert(keys: Tensor, labels: Sequence[Hashable], config: PaperConfig, progress: Progress) -> dict[str, Any]:
    """Insert keys (n, d) batch by batch; return the index's counts (clusters, conflicts, ...) after each batch."""
    index = ClusterIndex(keys.shape[1], config.radius, config.expand, quirks=config.reference_quirks)
    curve, total, size = [], len(keys), config.edits_per_block
    for block, start in enumerate(range(0, total, size)):
        owners = range(start, min(start + size, total))
        batch = slice(owners.start, owners.stop)
        index.add_batch(owners, [block] * len(owners), keys[batch], labels[batch])
        # The list has all forgotten keys, also those that the released code does not count.
        curve.append({"edits": owners.stop} | index.counts | {"forgotten": len(index.forgotten)})
        progress("inserting keys", owners.stop, total)
    return {"curve": curve}


def at_quantiles(keys: Tensor, facts: Sequence[int]) -> list[float]:
    """Return the ``QUANTILES`` of the distance from a key (n, d) to the nearest key of another fact, to four digits.

    Args:
        keys: the keys.
        facts: the number of each key's fact.

    Raises:
        MeloEditError: if there is only one fact, or almost all keys are the same.
    """
    fact = torch.tensor(facts)
    if len(fact.unique()) < 2:
        raise MeloEditError("--radii auto needs two facts or more: their keys' distances give the radii")
    wide, nearest = keys.double(), []
    for start in range(0, len(keys), KEYS_AT_ONCE):
        part = slice(start, start + KEYS_AT_ONCE)
        distance = torch.cdist(wide[part], wide).masked_fill(fact[part, None] == fact, math.inf)
        nearest.append(distance.amin(1))
    at = torch.cat(nearest).quantile(torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
    radii = sorted({float(f"{value:.4g}") for value in at if value > 0})
    if not radii:
        raise MeloEditError("--radii auto finds no radius: almost all keys are the same; give radii")
    return radii


def key_map(bench: Bench, targets: int, phrasings: int) -> dict[str, Any]:
    """Project the keys of the most frequent targets' facts onto two principal components (Figure 3c).

    Args:
        bench: model, facts and finished runs.
        targets: how many targets: the most frequent, and of equally frequent ones the first.
        phrasings: how many phrasings of a fact are taken, its prompt first.

    Returns:
        The ablation's data, JSON-ready.

    Raises:
        MeloEditError: if there are fewer than two keys.
    """
    config = bench.configure()
    counts = Counter(fact.edit.target.strip() for fact in bench.facts.items)
    frequent = [target for target, _ in counts.most_common(targets)]
    rows: list[dict[str, Any]] = [
        {"fact": fact.edit.id, "wording": number, "target": target, "prompt": prompt}
        for target in frequent
        for fact in bench.facts.items
        if fact.edit.target.strip() == target
        for number, prompt in enumerate(fact.phrasings[:phrasings])
    ]
    if len(rows) < 2:
        raise MeloEditError("a map of keys needs two or more: give more facts or wordings")
    keys = prompt_keys(bench, config, [row["prompt"] for row in rows], [row["target"] for row in rows])
    places, share = principal(keys)
    points = [row | {"x": x, "y": y} for row, (x, y) in zip(rows, places.tolist(), strict=True)]
    return bench.data("keys", config, wordings=phrasings, targets=frequent, share_of_variance=share, points=points)


def _labels(bench: Bench, config: PaperConfig, prompts: Sequence[Prompt], targets: Sequence[str]) -> list[Hashable]:
    """Return the labels by which clusters are compared: targets, or as in the released code sums of token ids."""
    if not config.reference_quirks:
        return [target.strip() for target in targets]
    from ...backbones import open_backbone

    backbone = open_backbone(bench.model, bench.tokenizer, config.document_tokens)  # type: ignore[arg-type]
    pairs = zip(prompts, targets, strict=True)
    return [sum(backbone.encode_target(target, backbone.encode(prompt))) for prompt, target in pairs]
