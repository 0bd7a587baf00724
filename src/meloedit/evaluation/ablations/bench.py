"""The bench of the ablations: model, facts, finished runs and ways to open an editor, shared by all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...backbones.layers import fingerprint
from ...files import json_hash
from .facts import Facts
from .runs import Runs

if TYPE_CHECKING:
    from torch import Tensor

    from ...editor import Editor
    from ...paper.config import PaperConfig
    from ...types import Progress, Prompt

KEYS_AT_ONCE = 256
"""Prompts whose keys are computed in one call."""
_NOT_OF_KEYS = "radius expand rank max_rank steps lr lr_step lr_decay declared_blocks seed edits_per_block".split()
"""Settings that keys do not depend on."""


@dataclass
class Bench:
    """The arguments that all ablations share.

    Attributes:
        model: the model to edit.
        tokenizer: its tokenizer.
        facts: the edits and their rephrasings.
        runs: the folder of finished runs.
        configure: returns a paper-mode configuration; keyword arguments override the user's settings.
        open_editor: returns an editor with a configuration; leaving its ``with`` block unloads it.
        progress: called with what is being done, how much is done, and how much there is.
    """

    model: torch.nn.Module
    tokenizer: Any
    facts: Facts
    runs: Runs
    configure: Callable[..., PaperConfig]
    open_editor: Callable[[PaperConfig], AbstractContextManager[Editor]]
    progress: Progress

    def progress_of(self, run: str) -> Progress:
        """Return a progress callback that names one of several runs."""
        return lambda what, done, total: self.progress(f"{run}: {what}", done, total)

    def data(self, ablation: str, config: PaperConfig, **results: Any) -> dict[str, Any]:
        """Return an ablation's data: its name, facts and configuration, then the results."""
        facts = {"facts_file": self.facts.name, "facts_sha256": self.facts.sha256, "facts": len(self.facts.items)}
        quirks = {"reference_quirks": config.reference_quirks, "config": config.to_dict()}
        return {"ablation": ablation, **facts, **quirks, **results}


def model_identity(model: torch.nn.Module) -> dict[str, str]:
    """Return the values that tell a model's runs from another's: hash of the weights, their type, the device."""
    parameter = next(model.parameters())
    return {"weights": fingerprint(model), "dtype": str(parameter.dtype), "device": parameter.device.type}


def prompt_keys(bench: Bench, config: PaperConfig, prompts: Sequence[Prompt], targets: Sequence[str]) -> Tensor:
    """Return the keys (n, d) of prompts, as the index gets them; they are computed once and then read.

    With ``reference_quirks`` a key depends on the answer behind the prompt and on the batch's padding, so the batches
    are those of editing.
    """
    quirks = config.reference_quirks
    size = config.edits_per_block if quirks else KEYS_AT_ONCE
    settings = {name: value for name, value in config.to_dict().items() if name not in _NOT_OF_KEYS}

    def compute() -> Tensor:
        parts = []
        with bench.open_editor(config) as editor:
            for start in range(0, len(prompts), size):
                encoded = [editor.backbone.encode(prompt) for prompt in prompts[start : start + size]]
                answers = targets[start : start + size] if quirks else None
                parts.append(editor.engine.policy.keys(encoded, answers).float().cpu())
                bench.progress("taking keys", min(start + size, len(prompts)), len(prompts))
        return torch.cat(parts)

    texts = json_hash([list(prompts), list(targets)], 64)
    return bench.runs.keys({"config": settings, "batch": size if quirks else None, "prompts": texts}, compute)
