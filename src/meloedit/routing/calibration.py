"""Calibration: what makes keys of prompts, and the scope, set by prompts that no edit should answer."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from ..edit import prompt_key, prompt_text
from ..errors import EditError
from ..files import cache_folder
from ..hooks.state_reader import pooled_parts, pooled_states
from ..keys.encoder import Calibration
from ..keys.grammar import make_pairs, make_prompts
from ..keys.names import WordVectors
from ..keys.pooling import Pooling, token_weights
from ..keys.projection import Projection
from ..types import Progress, Prompt

if TYPE_CHECKING:
    from ..backbones.batch import Encoded
    from ..config import MeloConfig
    from ..hooks.router import Router

logger = logging.getLogger(__name__)

BUILT_IN = "built-in grammar"
FITTED = 3000
"""Prompts of the grammar that keys are fitted on, at most; further ones serve the scope alone."""
SCOPE_SETTINGS = ("false_activation", "min_similarity")
"""Settings that a calibration may state for itself, in its ``info``: they count in place of the store's."""
ASKED_SIZE = 64
"""Numbers of a key that come from what is asked."""
VERSION = 5
"""Counts changes of what a calibration is: kept ones of another version are made anew."""


def calibrate(
    router: Router, config: MeloConfig, prompts: Sequence[Prompt], source: str, progress: Progress | None = None
) -> Calibration:
    """Set the scope from ``prompts``, each in every form it may be asked in; documents are whitened on themselves too.

    Raises:
        EditError: if there are fewer prompts than the false-activation rate needs, or one cannot be tokenised.
    """
    _check_enough(prompts, config)
    backbone = router.backbone
    encoded = [form for prompt in prompts for form in backbone.forms(prompt)]
    if backbone.documents:
        states = pooled_states(router, encoded, progress, "calibrating")
        whitening = Projection.fit(states, min(config.key_size, states.shape[1]))
        return Calibration(whitening, whitening(states), _info(source, prompts, states))
    fitted = _fitted(router, config, () if source == BUILT_IN else prompts, progress)
    pooled = pooled_parts(router, encoded, progress, "calibrating", fitted.pooling(backbone.tokenizer))
    keys = fitted.keys(pooled.states, pooled.texts)
    return replace(fitted, prompts=keys, info=_info(source, prompts, keys), of=torch.tensor(pooled.rows))


def _info(source: str, prompts: Sequence[Prompt], keys: Tensor) -> dict[str, Any]:
    return {"source": source, "prompts": len(prompts), "keys": len(keys)}


def _fitted(router: Router, config: MeloConfig, prompts: Sequence[Prompt], progress: Progress | None) -> Calibration:
    """Fit keys on the grammar's pairs of wordings, after counting words and tokens in its and the given prompts."""
    count, backbone = min(config.calibration_prompts, FITTED), router.backbone
    built_in = make_prompts(count)
    counted = list({prompt_key(prompt): prompt for prompt in (*built_in, *prompts)}.values())
    words = WordVectors.fit([prompt_text(prompt) for prompt in counted])
    weights = token_weights(_own_tokens(backbone.encode(prompt)) for prompt in counted)
    first, second, asked = zip(*make_pairs(count), strict=True)
    wordings = [backbone.encode(text) for text in (*first, *second)]
    path = _kept_at(router, config, "keys", [*(one.ids for one in wordings), weights.tolist(), words.counts.tolist()])
    tensors = _read(path)
    if tensors is None:
        states = pooled_states(router, wordings, progress, "learning keys", Pooling(weights, words, backbone.tokenizer))
        of_said, of_asked = states.chunk(2, 1)
        size = min(config.key_size, of_said.shape[1])
        made = Projection.fit_pairs(of_said[: len(first)], of_said[len(first) :], size)
        asking = Projection.fit_classes(of_asked, torch.tensor(asked * 2), min(ASKED_SIZE, size))
        tensors = {"mean": made.mean, "components": made.components}
        tensors |= {"asking_mean": asking.mean, "asking_components": asking.components}
        _write(path, tensors)
    whitening = Projection(tensors["mean"], tensors["components"])
    asking = Projection(tensors["asking_mean"], tensors["asking_components"])
    return Calibration(whitening, torch.zeros(0, 0), {}, words, weights, None, asking)


def _own_tokens(encoded: Encoded) -> list[int]:
    return encoded.ids[encoded.words.start : encoded.words.stop]


def _kept_at(router: Router, config: MeloConfig, kind: str, what: Sequence[Any]) -> Path:
    """Return where a calibration of this model that depends on ``what`` is kept."""
    site = router.bank.sites[0]
    parts = [VERSION, router.backbone.fingerprint(), router.locations.key_layer, config.key_size, site.dtype, *what]
    name = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]
    return cache_folder() / "calibrations" / f"{name}.{kind}"


def _check_enough(prompts: Sequence[Prompt], config: MeloConfig) -> None:
    check_rate(len({prompt_key(prompt) for prompt in prompts}), config)


def check_rate(distinct: int, config: MeloConfig) -> None:
    """Refuse a false-activation rate that takes more prompts than so many different ones.

    Raises:
        EditError: saying how many it takes.
    """
    if distinct < (least := math.ceil(1 / config.false_activation)):
        raise EditError(
            f"{distinct} different prompts cannot calibrate a false-activation rate of {config.false_activation:g}: "
            f"give at least {least} that no edit asks (2,000 or more make it steady)"
        )


def built_in_calibration(router: Router, config: MeloConfig, progress: Progress | None = None) -> Calibration:
    """Calibrate on prompts of the package's grammar; the result is kept in the cache folder for the next store.

    The grammar's questions say nothing about documents: where prompts are documents, they serve the whitening alone,
    and only near-exact repeats of an edit's text are in its scope.
    """
    made = _grammar_calibration(router, config, progress)
    if router.backbone.documents:
        return replace(made, prompts=made.prompts[:0], info=made.info | {"scope": "near-exact"})
    return made


def _grammar_calibration(router: Router, config: MeloConfig, progress: Progress | None) -> Calibration:
    count = config.calibration_prompts
    prompts = make_prompts(min(count, FITTED) if router.backbone.documents else count)
    _check_enough(prompts, config)
    # A few prompts as tokens stand for tokenizer and chat template.
    forms = [form for prompt in prompts[:50] for form in router.backbone.forms(prompt)]
    path = _kept_at(router, config, "calibration", [*forms, *prompts])
    if (kept := _read(path)) is not None:
        return Calibration.from_tensors(kept, _info(BUILT_IN, prompts, kept["prompts"]))
    made = calibrate(router, config, prompts, BUILT_IN, progress)
    _write(path, made.to_tensors())
    return Calibration.from_tensors(made.to_tensors(), made.info)  # as the next call will read it


def _read(path: Path) -> dict[str, Tensor] | None:
    """Return the tensors of a file that ``_write`` made; ``None`` if it is not there or not whole."""
    try:
        check, blob = path.read_bytes()[:32], path.read_bytes()[32:]
    except OSError:
        return None
    return load(blob) if hashlib.sha256(blob).digest() == check else None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Keep tensors behind their checksum; a folder that cannot be written costs the next store some time, no more."""
    blob, scratch = save(tensors), path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(hashlib.sha256(blob).digest() + blob)
        scratch.replace(path)
    except OSError as error:
        logger.warning(
            "the calibration is not kept for the next store: %s cannot be written (%s)", path, error.strerror
        )
        scratch.unlink(missing_ok=True)
