"""Rows: an edit's prompt behind several contexts, each with its target and the subject's last token.

That token has the same column in all rows, so that one vector can be added there. What stands before the column
does not depend on it: the tokens are run once, and their keys and values are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ...backbones.batch import CausalBatch, Example
from ...backbones.causal import CausalBackbone
from ...backbones.contexts import own_run
from ...backbones.decoder_runs import run_decoder
from .subject import last_token

if TYPE_CHECKING:
    from ...types import Prompt

AT_ONCE = 64
"""Rows whose keys are read in one pass."""


@dataclass(frozen=True)
class Row:
    """A prompt with its target.

    Attributes:
        ids: the prompt's tokens, and the target's but for the last, which predicts nothing.
        place: which of them is the subject's last.
        target: the target's tokens; empty: the row has none.
    """

    ids: list[int]
    place: int
    target: list[int]

    @classmethod
    def of(cls, backbone: CausalBackbone, prompt: Prompt, subject: str, target: str = "", end: bool = True) -> Row:
        """Tokenise a prompt and its target.

        Args:
            backbone: the model.
            prompt: the prompt, which names the subject.
            subject: the subject.
            target: the target; empty for none.
            end: whether the token that ends an answer belongs to the target.
        """
        encoded = backbone.encode(prompt)
        place = last_token(backbone.tokenizer, encoded.ids, prompt, subject)
        tokens = backbone.encode_target(target, encoded) if target else []
        tokens = tokens if end or not tokens else tokens[:-1]
        return cls([*encoded.ids, *tokens[:-1]], place, tokens)

    @property
    def example(self) -> Example:
        """The row as a batch takes it, which aligns the tokens up to the subject's last on the right."""
        rest = self.ids[self.place + 1 :]
        return Example(self.ids[: self.place + 1], [*rest, self.ids[-1]])


def with_context(context: str, prompt: Prompt) -> Prompt:
    """Return a prompt whose user's words stand behind a context."""
    if isinstance(prompt, str):
        return context + prompt
    return [*prompt[:-1], {**prompt[-1], "content": context + prompt[-1]["content"]}]


class Rows:
    """Rows of one edit, run from the subject's last token on.

    Args:
        backbone: the model.
        rows: the rows.

    Attributes:
        column: the column of the subject's last token in what is run.
    """

    def __init__(self, backbone: CausalBackbone, rows: Sequence[Row]) -> None:
        self.backbone, self.rows = backbone, rows
        self.batch = CausalBatch.of([row.example for row in rows], backbone.pad_id, backbone.device)
        self._cache: DynamicCache | None = None
        self._first = 0
        if backbone.only_keys_and_values and self.batch.split:
            self._cache, self._first = DynamicCache(), self.batch.split
            with torch.no_grad():
                run_decoder(backbone, self.batch, 0, self._first, self._cache)
        self.column = self.batch.split - self._first

    def logits(self) -> tuple[list[Tensor], Tensor]:
        """Return the logits (T, V) that predict each row's target, and those (R, V) after the subject's last token.

        The second are of the rows without a target alone.
        """
        backbone, batch = self.backbone, self.batch
        cache = deepcopy(self._cache)  # a run adds to it
        spans = [(len(row.ids) - row.place - len(row.target), len(row.ids) - row.place) for row in self.rows]
        spans = [span if row.target else (0, 1) for row, span in zip(self.rows, spans, strict=True)]
        wanted = sorted({i for start, stop in spans for i in range(start, stop)})  # behind the subject's last token
        columns = torch.tensor(wanted, device=backbone.device) + self.column
        inputs: dict[str, Any] = {"input_ids": batch.ids[:, self._first :], "attention_mask": batch.mask}
        if "position_ids" in backbone.forward_names:
            inputs["position_ids"] = batch.positions[:, self._first :]
        if cache is not None:
            inputs["past_key_values"] = cache
        keeps = "logits_to_keep" in backbone.forward_names  # a row of the vocabulary's size costs as much as a layer
        if keeps:
            inputs["logits_to_keep"] = columns
        whole = backbone.model(**inputs, use_cache=cache is not None).logits
        whole = whole if keeps else whole[:, columns]
        starts = {column: i for i, column in enumerate(wanted)}
        parts = [whole[i, starts[start] : starts[start] + stop - start] for i, (start, stop) in enumerate(spans)]
        given = [part for row, part in zip(self.rows, parts, strict=True) if row.target]
        free = [part[0] for row, part in zip(self.rows, parts, strict=True) if not row.target]
        return given, torch.stack(free)

    def loss(self, given: Sequence[Tensor]) -> Tensor:
        """Return the mean over rows of the mean cross-entropy of their targets' tokens, from ``logits``' first part."""
        targets = [torch.tensor(row.target, device=self.backbone.device) for row in self.rows if row.target]
        losses = [nn.functional.cross_entropy(own, target) for own, target in zip(given, targets, strict=True)]
        return torch.stack(losses).mean()


class _Stop(Exception):
    """Ends a forward pass whose remaining layers nobody needs."""


@contextmanager
def stopping_after(module: nn.Module) -> Iterator[None]:
    """End a forward pass when a module returns."""

    def stop(*_: Any) -> None:
        raise _Stop

    handle = module.register_forward_hook(stop)
    try:
        yield
    except _Stop:
        pass
    finally:
        handle.remove()


def states_at(
    backbone: CausalBackbone, rows: Sequence[Row], modules: Mapping[str, bool], last: str
) -> dict[str, Tensor]:
    """Return what modules read or write at the subject's last token of rows: (R, width) each, by name.

    Args:
        backbone: the model.
        rows: the rows.
        modules: names of modules; whether their inputs are wanted, not their outputs.
        last: the module that is called last.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in modules}
    named = dict(backbone.model.named_modules())
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        cut = [Example(row.ids[: row.place + 1], []) for row in part]  # what follows cannot change it
        batch = CausalBatch.of(cut, backbone.pad_id, backbone.device)
        handles = []
        for name, reads in modules.items():

            def record(
                _: nn.Module, args: Any, output: Any, name: str = name, reads: bool = reads, at: int = batch.split
            ) -> None:
                value = args[0] if reads else output
                states = value[0] if isinstance(value, tuple) else value
                found[name].append(states[:, at].detach())

            handles.append(named[name].register_forward_hook(record))
        try:
            with own_run(backbone.model), stopping_after(named[last]):
                run_decoder(backbone, batch, 0)
        finally:
            for handle in handles:
                handle.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}
