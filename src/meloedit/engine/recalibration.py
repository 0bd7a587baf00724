"""Calibrating a store anew: other keys, other calibration prompts, or another scope of those that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..edit import check_prompt, prompt_key
from ..errors import EditError
from ..keys.encoder import Calibration
from ..routing.calibration import SCOPE_SETTINGS, built_in_calibration, calibrate, check_rate
from ..types import Progress, Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from ..config import MeloConfig
    from .live import Live

Keys = dict[str, dict[str, "Tensor"]]
"""By edit, its ``keys`` and those of its ``quiet`` prompts."""


def anew(
    live: Live,
    prompts: Sequence[Prompt] | None,
    source: str,
    scope: Mapping[str, float],
    progress: Progress | None,
) -> tuple[Calibration, Keys]:
    """Return a new calibration and the keys that edits have under it.

    Args:
        live: what answers now.
        prompts: prompts that no edit should answer; ``None``: the package's own.
        source: where they are from.
        scope: settings of the scope from now on. With some, and no prompts, keys and prompts stay as they are.
        progress: told how many prompts are done.
    """
    present = live.calibration
    stated = {} if present is None else {name: present.info[name] for name in SCOPE_SETTINGS if name in present.info}
    stated |= scope
    config = live.scope_config(stated)
    if prompts is None and scope and present is not None:
        check_rate(present.info["prompts"], config)
        made, keys = present, {name: own for name, (_, own) in live.store.tensors().items()}
    else:
        made = _of_prompts(live, prompts, source, config, progress)
        edits = [stored.edit for stored in live.store.edits()]
        keys = {edit.id: own for edit, own in zip(edits, live.keys_of(edits, made), strict=True)}
    if "min_similarity" in scope and made.info.get("scope") == "near-exact":
        raise EditError(
            "min_similarity decides nothing while near-exact repeats of a document alone fire (document_similarity): "
            "give documents to calibrate on"
        )
    return replace(made, info=made.info | stated), keys


def _of_prompts(
    live: Live, prompts: Sequence[Prompt] | None, source: str, config: MeloConfig, progress: Progress | None
) -> Calibration:
    if prompts is None:
        return built_in_calibration(live.router, config, progress)
    own = {prompt_key(prompt) for stored in live.store.edits() for prompt in stored.edit.prompts}
    checked = [check_prompt(prompt, f"prompts[{i}]") for i, prompt in enumerate(prompts)]
    checked = [prompt for prompt in checked if prompt_key(prompt) not in own]  # these should be answered
    return calibrate(live.router, config, checked, source, progress)
