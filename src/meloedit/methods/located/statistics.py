"""Statistics of keys: the mean of k k' over the tokens of ordinary text, made once for a model and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...backbones.contexts import own_run
from ...backbones.layers import linear_shape
from ...errors import MeloEditError
from ...files import cache_folder, json_hash, load_tensors, save_tensors
from ...keys.grammar import make_prompts
from ..data_files import read_texts
from .rows import stopping_after

if TYPE_CHECKING:
    from ...backbones.causal import CausalBackbone

BUILT_IN = 4000
"""Prompts of the built-in grammar that stand in where no text is given."""
WINDOW = 256
"""Tokens of a text that are read together."""
AT_ONCE = 8
"""Texts that are read in one pass."""
VERSION = 1
"""Counts changes of how statistics are made: kept ones of another version are made again."""


class Statistics:
    """The second moments of what linear modules read, kept in a folder.

    Args:
        backbone: the unedited model.
        text: a file of texts; empty: the prompts of the built-in grammar.
        tokens: how many tokens are read at most.
        folder: where statistics are kept; empty: the usual cache.
        method: the method's name in messages.
    """

    def __init__(self, backbone: CausalBackbone, text: str, tokens: int, folder: str, method: str) -> None:
        self.backbone, self.tokens, self.method = backbone, tokens, method
        self._given = read_texts(text) if text else None
        self._model = backbone.fingerprint()
        self._source = json_hash([VERSION, tokens, BUILT_IN if self._given is None else self._given])
        self._folder = Path(folder) if folder else cache_folder() / "statistics" / self._model

    @cached_property
    def _texts(self) -> list[str]:
        return make_prompts(BUILT_IN) if self._given is None else self._given

    def path(self, module: str) -> Path:
        """Return the file of a module's statistics."""
        return self._folder / f"{module}-{self._source}.moments"

    def check(self, modules: Sequence[str]) -> None:
        """Check what is kept, and that there is text enough.

        Raises:
            MeloEditError: if kept statistics are of another model, or there are fewer tokens than a module has inputs.
        """
        missing = [module for module in modules if self._kept(module) is None]
        if missing:
            need = max(self._inputs(module) for module in missing)
            have = 0
            for text in self._texts:
                have += len(self._ids(text))
                if have >= min(need, self.tokens):
                    break
            if min(have, self.tokens) < need:
                have = min(have, self.tokens)
                raise MeloEditError(
                    f"method {self.method} needs statistics of at least {need:,} tokens, as many as its matrix has "
                    f"inputs, and gets {have:,}: give a longer text, or raise tokens"
                )

    def moments(self, modules: Sequence[str]) -> dict[str, Tensor]:
        """Return the mean of k k' (d, d) of each module's inputs, float64; those that are not kept are made first.

        Raises:
            MeloEditError: as ``check``.
        """
        kept = {module: self._kept(module) for module in modules}
        if missing := [module for module, value in kept.items() if value is None]:
            self.check(missing)
            kept |= self._make(missing)
        device = self.backbone.device
        return {module: moment.to(device) for module, moment in kept.items() if moment is not None}

    def _kept(self, module: str) -> Tensor | None:
        found = load_tensors(self.path(module))
        if found is None or {"model", "moment"} - set(found):  # missing, damaged or none of these: made again
            return None
        model = bytes(found["model"].tolist()).decode()
        if model != self._model:
            raise MeloEditError(
                f"method {self.method}: {self.path(module)} has statistics of another model ({model}, this one is "
                f"{self._model}): choose another folder"
            )
        return found["moment"]

    def _make(self, modules: Sequence[str]) -> dict[str, Tensor]:
        """Run the texts through the model, up to the last of the modules."""
        backbone = self.backbone
        named = {module: backbone.model.get_submodule(module) for module in modules}
        last = named[max(modules, key=backbone.layer_of)]
        sums = {
            module: torch.zeros(size, size, dtype=torch.float64, device=backbone.device)
            for module in modules
            for size in [self._inputs(module)]
        }
        count = 0
        for ids, mask in self._batches():
            real = mask.bool()

            def add(module: nn.Module, args: tuple[Any, ...], _: Any, real: Tensor = real) -> None:
                keys = args[0][real.to(args[0].device)]
                sums[next(n for n, m in named.items() if m is module)] += (keys.T @ keys).double()

            handles = [module.register_forward_hook(add) for module in named.values()]
            try:
                with own_run(backbone.model), stopping_after(last):
                    backbone.decoder(input_ids=ids, attention_mask=mask, use_cache=False)
            finally:
                for handle in handles:
                    handle.remove()
            count += int(real.sum())
        mark = torch.tensor(list(self._model.encode()), dtype=torch.uint8)
        for module, total in sums.items():
            save_tensors(self.path(module), {"moment": total.cpu() / count, "model": mark})
        return {module: total / count for module, total in sums.items()}

    def _batches(self) -> list[tuple[Tensor, Tensor]]:
        """Return the texts' tokens in padded batches, up to as many as are asked for."""
        rows: list[list[int]] = []
        left = self.tokens
        for text in self._texts:
            ids = self._ids(text)
            for start in range(0, len(ids), WINDOW):
                rows.append(ids[start : start + min(WINDOW, left)])
                left -= len(rows[-1])
                if left <= 0:
                    break
            if left <= 0:
                break
        rows = sorted((row for row in rows if row), key=len)
        batches = []
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            padded = torch.full((len(part), len(part[-1])), self.backbone.pad_id)
            mask = torch.zeros_like(padded)
            for i, row in enumerate(part):
                padded[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
            batches.append((padded.to(self.backbone.device), mask.to(self.backbone.device)))
        return batches

    def _ids(self, text: str) -> list[int]:
        return list(self.backbone.tokenizer(text)["input_ids"])

    def _inputs(self, module: str) -> int:
        shape = linear_shape(self.backbone.model.get_submodule(module))
        assert shape is not None, "feed_forward_linear gives linear modules"
        return shape[0]
