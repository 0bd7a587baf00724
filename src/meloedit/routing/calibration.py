"""Calibration: fit what makes keys, and find the keys of prompts that no edit should answer, which set the scope."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..edit import prompt_key, prompt_text
from ..errors import EditError
from ..files import cache_folder, load_tensors, save_tensors
from ..hooks.state_reader import pooled_prompts, pooled_states
from ..keys.encoder import KeyEncoder
from ..keys.grammar import make_pairs, make_prompts
from ..keys.keys import Keys
from ..keys.names import WordCounts
from ..keys.pooling import Pooling, token_weights
from ..keys.projection import Projection
from ..types import Asked, Progress, Prompt

if TYPE_CHECKING:
    from ..config import MeloConfig
    from ..hooks.router import Router

BUILT_IN = "built-in grammar"
FITTED = 3000
"""Prompts, and pairs of wordings, of the grammar that the key encoder is fitted on, at most; further prompts serve
the scope alone."""
JUDGE_NAME = "judge_name"
"""Where ``info`` has the name of the judge that the store was calibrated with."""
RELATION_SIZE = 64
"""Numbers of a key's relation vector."""
SHIPPED = Path(__file__).with_name("shipped")
"""Calibrations that come with the package: of the demo model, by the names that the cache would give them."""
MAX_TEXTS = 256_000_000
"""Bytes that the texts of a calibration's prompts may have: what a file brings packed may be far larger than it."""
VERSION = 8
"""Counts changes of what a calibration holds: cached ones of another version are made again."""


@dataclass(frozen=True)
class Calibration:
    """What makes keys, and the keys of the prompts that set the scope; a row of the store.

    Attributes:
        encoder: makes keys of pooled states and texts.
        prompts: (n,) keys of the calibration prompts, in every form they may be asked in, and of their segments.
        prompt_of: (n,) the number of the prompt that each key belongs to; ``None``: one key each.
        info: where the prompts came from, how many there are, and settings of the scope.
        asked: (n) what each prompt asks, in every form, in words: the judge reads it.
    """

    encoder: KeyEncoder
    prompts: Keys
    prompt_of: Tensor | None
    info: Mapping[str, Any]
    asked: Sequence[Asked] = ()

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store; vectors in float16, which moves the threshold by less than 1e-3."""
        tensors = self.encoder.to_tensors()
        for name, part in self.prompts.to_tensors().items():
            tensors[f"prompts.{name}"] = part.half() if name in ("content", "relation") else part.contiguous()
        if self.prompt_of is not None:
            tensors["prompt_of"] = self.prompt_of
        if self.asked:
            tensors |= _texts_to_tensors(self.asked)
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> Calibration:
        """Make a calibration of what ``to_tensors`` returned."""
        prompts = {name.removeprefix("prompts."): t for name, t in tensors.items() if name.startswith("prompts.")}
        prompts = {name: part.float() if part.is_floating_point() else part for name, part in prompts.items()}
        asked = _texts_from_tensors(tensors)
        return cls(KeyEncoder.from_tensors(tensors), Keys.from_tensors(prompts), tensors.get("prompt_of"), info, asked)


def calibrate(
    router: Router, config: MeloConfig, prompts: Sequence[Prompt], origin: str, progress: Progress | None = None
) -> Calibration:
    """Fit the key encoder, and take the keys of ``prompts`` in every form they may be asked in.

    Documents are their own fitting data: their states are whitened.

    Raises:
        EditError: if there are fewer prompts than the false-activation rate needs, or one cannot be tokenised.
    """
    _check_enough(prompts, config)
    backbone = router.backbone
    encoded = [form for prompt in prompts for form in backbone.forms(prompt)]
    if backbone.documents:
        states = pooled_states(router, encoded, progress, "calibrating")
        encoder = KeyEncoder(Projection.fit(states, min(config.key_size, states.shape[1])))
        return Calibration(encoder, encoder.keys(states, ()), None, _info(origin, prompts, len(states)))
    encoder = _fit_encoder(router, config, () if origin == BUILT_IN else prompts, progress)
    pooled = pooled_prompts(router, encoded, progress, "calibrating", encoder.pooling(backbone.tokenizer))
    keys = encoder.keys(pooled.states, pooled.asked)
    asked = [router.reader.asked(prompt.ids, prompt.span) for prompt in map(router.reader.locate, encoded)]
    return Calibration(encoder, keys, torch.tensor(pooled.rows), _info(origin, prompts, len(keys)), asked)


def _texts_to_tensors(asked: Sequence[Asked]) -> dict[str, Tensor]:
    """Return texts as tensors: the different ones as JSON, and the number of each prompt's."""
    numbers = {one: i for i, one in enumerate(dict.fromkeys(asked))}
    text = json.dumps([[one.text, *one.before] for one in numbers], ensure_ascii=False)
    data = zlib.compress(text.encode("utf-8", "surrogatepass"))
    return {
        "texts": torch.frombuffer(bytearray(data), dtype=torch.uint8),
        "text_of": torch.tensor([numbers[one] for one in asked], dtype=torch.int32),
    }


def _texts_from_tensors(tensors: Mapping[str, Tensor]) -> list[Asked]:
    if "texts" not in tensors:
        return []
    unpacked = zlib.decompressobj().decompress(bytes(tensors["texts"].numpy()), MAX_TEXTS)
    if len(unpacked) == MAX_TEXTS:
        raise EditError(f"the texts of a calibration have more than {MAX_TEXTS:,} bytes: give fewer prompts")
    data = unpacked.decode("utf-8", "surrogatepass")
    texts = [Asked(text, tuple(before)) for text, *before in json.loads(data)]
    return [texts[number] for number in tensors["text_of"].tolist()]


def _info(origin: str, prompts: Sequence[Prompt], keys: int) -> dict[str, Any]:
    return {"source": origin, "prompts": len(prompts), "keys": keys}


def _fit_encoder(
    router: Router, config: MeloConfig, prompts: Sequence[Prompt], progress: Progress | None
) -> KeyEncoder:
    """Fit keys on the grammar's pairs of wordings, after counting words and tokens in its and the given prompts."""
    count, backbone = min(config.calibration_prompts, FITTED), router.backbone
    counted = list({prompt_key(prompt): prompt for prompt in (*make_prompts(count), *prompts)}.values())
    words = WordCounts.fit([prompt_text(prompt) for prompt in counted])
    weights = token_weights(_span_tokens(router, prompt) for prompt in counted)
    first, second, relations = zip(*make_pairs(count), strict=True)
    wordings = [backbone.encode(text) for text in (*first, *second)]
    depends = [*(wording.ids for wording in wordings), weights.tolist(), words.counts.tolist()]
    path = _cache_path(router, config, "keys", depends)
    tensors = load_tensors(path)
    if tensors is None:
        pooling = Pooling(weights, words, backbone.tokenizer)
        of_all, of_unnamed = pooled_states(router, wordings, progress, "learning keys", pooling).chunk(2, 1)
        size = min(config.key_size, of_all.shape[1])
        content = Projection.fit_pairs(of_all[: len(first)], of_all[len(first) :], size)
        relation = Projection.fit_classes(of_unnamed, torch.tensor(relations * 2), min(RELATION_SIZE, size))
        tensors = KeyEncoder(content, relation).to_tensors()
        save_tensors(path, tensors)
    return replace(KeyEncoder.from_tensors(tensors), words=words, token_weights=weights)


def _span_tokens(router: Router, prompt: Prompt) -> list[int]:
    encoded = router.backbone.encode(prompt)
    return encoded.ids[encoded.span.start : encoded.span.stop]


def _cache_path(router: Router, config: MeloConfig, kind: str, depends: Sequence[Any]) -> Path:
    """Return where a calibration of this model is cached that depends on these values."""
    site = router.bank.sites[0]
    parts = [VERSION, router.backbone.fingerprint(), router.locations.key_layer, config.key_size, site.dtype, *depends]
    name = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]
    return cache_folder() / "calibrations" / f"{name}.{kind}"


def _check_enough(prompts: Sequence[Prompt], config: MeloConfig) -> None:
    check_rate(len({prompt_key(prompt) for prompt in prompts}), config)


def check_rate(distinct: int, config: MeloConfig) -> None:
    """Refuse a false-activation rate that needs more than ``distinct`` different prompts.

    Raises:
        EditError: saying how many it needs.
    """
    if distinct < (least := math.ceil(1 / config.false_activation)):
        raise EditError(
            f"{distinct} different prompts cannot calibrate a false-activation rate of {config.false_activation:g}: "
            f"give at least {least} that no edit asks (2,000 or more make it steady)"
        )


def built_in_calibration(router: Router, config: MeloConfig, progress: Progress | None = None) -> Calibration:
    """Calibrate on prompts of the package's grammar; the result is cached for the next store.

    The grammar's questions say nothing about documents: where prompts are documents, they serve the whitening alone,
    and only near-exact repeats of an edit's text are in its scope.
    """
    calibration = _grammar_calibration(router, config, progress)
    if router.backbone.documents:
        info = {**calibration.info, "scope": "near-exact"}
        return replace(calibration, prompts=calibration.prompts[:0], info=info)
    return calibration


def _grammar_calibration(router: Router, config: MeloConfig, progress: Progress | None) -> Calibration:
    count = config.calibration_prompts
    prompts = make_prompts(min(count, FITTED) if router.backbone.documents else count)
    _check_enough(prompts, config)
    # A few prompts as tokens stand for tokenizer and chat template.
    forms = [form for prompt in prompts[:50] for form in router.backbone.forms(prompt)]
    path = _cache_path(router, config, "calibration", [*forms, *prompts])
    if (tensors := load_tensors(path) or load_tensors(SHIPPED / path.name)) is not None:
        return Calibration.from_tensors(tensors, _info(BUILT_IN, prompts, len(tensors["prompts.content"])))
    calibration = calibrate(router, config, prompts, BUILT_IN, progress)
    save_tensors(path, calibration.to_tensors())
    return Calibration.from_tensors(calibration.to_tensors(), calibration.info)  # rounded, as the next call reads it
