"""Calibration: whitening and scope, fitted on prompts that no edit should answer."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from .batch import Row
from .edit import Prompt, prompt_key
from .errors import EditError
from .grammar import make_prompts
from .keys import Whitening
from .zoo import cache_folder

if TYPE_CHECKING:
    from .backbone import Encoded
    from .config import MeloConfig
    from .routing import Router

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""

KEYS_AT_ONCE = 64


@dataclass(frozen=True)
class Calibration:
    """What turns a prompt's pooled state into a key, and the keys of the prompts that set the scope.

    Attributes:
        whitening: pooled state -> key.
        prompts: (n, k) keys of the calibration prompts, in every form they may be asked in.
        info: where the prompts came from.
    """

    whitening: Whitening
    prompts: Tensor
    info: dict[str, Any]

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store; the prompts' keys in float16, which moves the threshold by less than 1e-3."""
        whitening = self.whitening
        return {"mean": whitening.mean, "components": whitening.components, "prompts": self.prompts.half()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], info: dict[str, Any]) -> Calibration:
        """Make a calibration from stored tensors."""
        return cls(Whitening(tensors["mean"], tensors["components"]), tensors["prompts"].float(), info)


def pooled_states(
    router: Router, encoded: Sequence[Encoded], progress: Progress | None = None, what: str = ""
) -> Tensor:
    """Return the pooled key-layer states (n, d) of prompts, on the CPU, in their order."""
    states: Tensor | None = None
    done = 0
    for members, batch in router.backbone.pack([Row.of(prompt) for prompt in encoded], KEYS_AT_ONCE):
        pooled = router.pooled(batch).cpu()
        states = torch.zeros(len(encoded), pooled.shape[1]) if states is None else states
        states[members] = pooled
        done += len(members)
        if progress:
            progress(what, done, len(encoded))
    if states is None:
        raise EditError("no prompts to take keys of")
    return states


def calibrate(
    router: Router, config: MeloConfig, prompts: Sequence[Prompt], source: str, progress: Progress | None = None
) -> Calibration:
    """Fit whitening and scope on ``prompts``, each in every form it may be asked in.

    Raises:
        EditError: if there are fewer prompts than the false-activation rate needs, or one cannot be tokenised.
    """
    _check_enough(prompts, config)
    encoded = [form for prompt in prompts for form in router.backbone.forms(prompt)]
    states = pooled_states(router, encoded, progress, "calibrating")
    whitening = Whitening.fit(states, min(config.key_size, states.shape[1]))
    return Calibration(whitening, whitening(states), {"source": source, "prompts": len(prompts), "keys": len(states)})


def _check_enough(prompts: Sequence[Prompt], config: MeloConfig) -> None:
    distinct, least = len({prompt_key(prompt) for prompt in prompts}), math.ceil(1 / config.false_activation)
    if distinct < least:
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
        info = made.info | {"scope": "near-exact"}
        return Calibration(made.whitening, made.prompts[:0], info)
    return made


def _grammar_calibration(router: Router, config: MeloConfig, progress: Progress | None) -> Calibration:
    prompts = make_prompts(config.calibration_prompts)
    _check_enough(prompts, config)
    # A few prompts as tokens stand for tokenizer and chat template.
    forms = [form for prompt in prompts[:50] for form in router.backbone.forms(prompt)]
    parts = [
        router.backbone.fingerprint(),
        router.locations.key_layer,
        config.key_size,
        router.bank.sites[0].dtype,
        *forms,
    ]
    name = hashlib.sha256("\n".join(map(str, [*parts, *prompts])).encode()).hexdigest()[:24]
    path = cache_folder() / "calibrations" / f"{name}.calibration"
    source = "built-in grammar"
    if (kept := _read(path)) is not None:
        return Calibration.from_tensors(kept, {"source": source, "prompts": len(prompts), "keys": len(kept["prompts"])})
    made = calibrate(router, config, prompts, source, progress)
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
