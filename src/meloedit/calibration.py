"""Calibration: what makes keys of prompts, and the scope, set by prompts that no edit should answer."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from .batch import Row
from .chat import Words
from .edit import Prompt, prompt_key, prompt_text
from .errors import EditError
from .grammar import make_pairs, make_prompts
from .keys import Pooled, Whitening
from .words import SIZE, WordVectors, token_weights
from .zoo import cache_folder

if TYPE_CHECKING:
    from .backbone import Backbone, Encoded
    from .config import MeloConfig
    from .routing import Router

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""

KEYS_AT_ONCE = 64
WORDS = 0.25
"""Share of the words in the cosine of two keys: with more, edits of one subject are taken for each other."""
BUILT_IN = "built-in grammar"
FITTED = 3000
"""Prompts of the grammar that keys are fitted on, at most; further ones serve the scope alone."""
SCOPE_SETTINGS = ("false_activation", "min_similarity")
"""Settings that a calibration may state for itself, in its ``info``: they count in place of the store's."""
VERSION = 4
"""Counts changes of what a calibration is: kept ones of another version are made anew."""


@dataclass(frozen=True)
class Calibration:
    """What turns a prompt's pooled state and words into a key, and the keys of the prompts that set the scope.

    A key is [sqrt(1 - WORDS) u, sqrt(WORDS) v] at unit length, of u from the state and v from the words, so that the
    cosine of two keys is a weighted mean of both cosines. Where no words count (documents, stores made before they
    did), it is u alone.

    Attributes:
        whitening: pooled state -> u.
        prompts: (n, k) keys of the calibration prompts, in every form they may be asked in, and of their segments.
        info: where the prompts came from.
        words: words -> v; ``None``: keys are u alone, and prompts are not looked at by segments.
        token_weights: (V + 1,) how much each token's state weighs in a pooled one; ``None``: all the same.
        of: (n,) the number of the prompt that each key is of; ``None``: one key each.
    """

    whitening: Whitening
    prompts: Tensor
    info: dict[str, Any]
    words: WordVectors | None = None
    token_weights: Tensor | None = None
    of: Tensor | None = None

    @property
    def size(self) -> int:
        """How many numbers a key has."""
        return len(self.whitening.components) + (SIZE if self.words is not None else 0)

    def keys(self, states: Tensor, texts: Sequence[str]) -> Tensor:
        """Return the keys (n, k) of prompts from their pooled states (n, d) and their words."""
        return _joined(self.whitening, self.words, states, texts)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store; the prompts' keys in float16, which moves the threshold by less than 1e-3."""
        whitening = self.whitening
        tensors = {"mean": whitening.mean, "components": whitening.components, "prompts": self.prompts.half()}
        if self.words is not None:
            tensors["words"] = self.words.counts
        more = {"token_weights": self.token_weights, "of": self.of}
        return tensors | {name: tensor for name, tensor in more.items() if tensor is not None}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], info: dict[str, Any]) -> Calibration:
        """Make a calibration from stored tensors."""
        words = WordVectors(tensors["words"]) if "words" in tensors else None
        whitening = Whitening(tensors["mean"], tensors["components"])
        weights, of = tensors.get("token_weights"), tensors.get("of")
        return cls(whitening, tensors["prompts"].float(), info, words, weights, of)


def _joined(whitening: Whitening, words: WordVectors | None, states: Tensor, texts: Sequence[str]) -> Tensor:
    keys = whitening(states)
    if words is None:
        return keys
    parts = [math.sqrt(1 - WORDS) * keys, math.sqrt(WORDS) * words(texts).to(keys)]
    return torch.nn.functional.normalize(torch.cat(parts, dim=-1), dim=-1)


def pooled_states(
    router: Router,
    encoded: Sequence[Encoded],
    progress: Progress | None = None,
    what: str = "",
    weights: Tensor | None = None,
) -> Tensor:
    """Return the pooled key-layer states (n, d) of prompts, on the CPU, in their order; ``weights`` are of tokens."""
    rows = [Row.of(one, (), weights) for one in encoded]
    states: Tensor | None = None
    done = 0
    for members, batch in router.backbone.pack(rows, KEYS_AT_ONCE):
        pooled = router.pooled(batch).cpu()
        states = torch.zeros(len(encoded), pooled.shape[1]) if states is None else states
        states[members] = pooled
        done += len(members)
        if progress:
            progress(what, done, len(encoded))
    if states is None:
        raise EditError("no prompts to take keys of")
    return states


def texts_of(backbone: Backbone, encoded: Sequence[Encoded]) -> list[str]:
    """Return the words that prompts' keys are of."""
    return [backbone.said(one.ids, (one.words.start, one.words.stop)) for one in encoded]


def with_segments(backbone: Backbone, encoded: Sequence[Encoded]) -> tuple[list[Encoded], list[int]]:
    """Return prompts, each followed by itself with the words of each of its segments, and the number of each."""
    parts, rows = [], []
    for i, one in enumerate(encoded):
        spans = backbone.segments(one.ids, (one.words.start, one.words.stop))
        parts += [one, *(replace(one, words=Words(*span, one.words.known)) for span in spans)]
        rows += [i] * (1 + len(spans))
    return parts, rows


def pooled_parts(
    router: Router,
    encoded: Sequence[Encoded],
    progress: Progress | None = None,
    what: str = "",
    weights: Tensor | None = None,
) -> Pooled:
    """Return what the keys of prompts and of their segments are made of, as the model's own forward pass gives it."""
    parts, rows = with_segments(router.backbone, encoded)
    states = pooled_states(router, parts, progress, what, weights)
    return Pooled(states, texts_of(router.backbone, parts), rows, len(encoded))


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
        whitening = Whitening.fit(states, min(config.key_size, states.shape[1]))
        return Calibration(whitening, whitening(states), _info(source, prompts, states))
    whitening, words, weights = _fitted(router, config, () if source == BUILT_IN else prompts, progress)
    pooled = pooled_parts(router, encoded, progress, "calibrating", weights)
    keys = _joined(whitening, words, pooled.states, pooled.texts)
    return Calibration(whitening, keys, _info(source, prompts, keys), words, weights, torch.tensor(pooled.rows))


def _info(source: str, prompts: Sequence[Prompt], keys: Tensor) -> dict[str, Any]:
    return {"source": source, "prompts": len(prompts), "keys": len(keys)}


def _fitted(
    router: Router, config: MeloConfig, prompts: Sequence[Prompt], progress: Progress | None
) -> tuple[Whitening, WordVectors, Tensor]:
    """Fit keys on the grammar's pairs of wordings, after counting words and tokens in its and the given prompts."""
    count = min(config.calibration_prompts, FITTED)
    built_in = make_prompts(count)
    counted = list({prompt_key(prompt): prompt for prompt in (*built_in, *prompts)}.values())
    words = WordVectors.fit([prompt_text(prompt) for prompt in counted])
    weights = token_weights(_own_tokens(router.backbone.encode(prompt)) for prompt in counted)
    pairs = make_pairs(count // 2)
    wordings = [router.backbone.encode(text) for text in (*(one for one, _ in pairs), *(other for _, other in pairs))]
    path = _kept_at(router, config, "keys", [*(one.ids for one in wordings), weights.tolist()])
    tensors = _read(path)
    if tensors is None:
        states = pooled_states(router, wordings, progress, "learning keys", weights)
        size = min(config.key_size, states.shape[1])
        made = Whitening.fit_pairs(states[: len(pairs)], states[len(pairs) :], size)
        tensors = {"mean": made.mean, "components": made.components}
        _write(path, tensors)
    return Whitening(tensors["mean"], tensors["components"]), words, weights


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
