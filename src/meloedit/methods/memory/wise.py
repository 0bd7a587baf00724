"""WISE (arXiv 2405.14768) as in EasyEdit (``models/wise``), with retrieval: edits train a copy of one matrix.

A score says how far the copy's output is from the matrix's. Training brings it above a bound for edits, and keeps it
below another for other text; a prompt whose score is high enough is answered by the copy. EasyEdit decides for all
rows of a call together, and anew for every token that is generated. Here each row decides by the tokens of its own
prompt, and keeps to it (``hold``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from ...backbones.batch import Example
from ...backbones.contexts import frozen, run_once
from ...backbones.feed_forward import feed_forward_linear
from ...edit import Edit
from ...errors import EditError, MeloEditError
from ...keys.grammar import make_prompts
from ...results import Route
from ...training.trainer import seeded
from ..base import Method, Size
from ..checkpoint import read_state, write_state
from ..free_memory import check_room
from ..located.contexts import written_contexts
from ..located.rows import with_context
from .side import Shard, hinges, merge
from .wise_settings import WiseSettings

if TYPE_CHECKING:
    from ...backbones.batch import Batch
    from ...backbones.causal import CausalBackbone

STARTS = ("I", "You", "Because", "Yes", "Q: ")
"""What the contexts begin with, as in EasyEdit."""
OTHERS = 200
"""Built-in questions of which one, in turn, stands for what an edit does not concern."""


class Wise(Method):
    """Answers from a trained copy of one matrix where that writes something else than the matrix."""

    name = "wise"
    Settings = WiseSettings
    routes = True
    causal_only = "it is defined for decoder-only models"
    unfit = {"document": "it is defined for decoder-only models"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        prefix, self._number = self.layer_at(self.settings.depth)
        self.layer = feed_forward_linear(self.backbone, f"{prefix}.{self._number}")
        self._module = cast(Any, self.model.get_submodule(self.layer))
        if not self._module.weight.is_floating_point():
            raise MeloEditError(f"method wise cannot copy the quantised weights of {self.layer}")
        config = self.model.config.get_text_config()
        self._act: Any = ACT2FN[getattr(config, "hidden_act", None) or config.activation_function]
        self._counted: Tensor | None = None  # (B, L) the tokens whose distance counts
        self._training: Tensor | None = None
        self._seen: tuple[Tensor, Tensor] | None = None  # what matrix and copy wrote, while training
        self._held: Tensor | None = None  # (B,) the copy that answers each row, -1: none
        self._routes: list[Route | None] = []
        self._contexts: list[str] | None = None
        self._others: list[str] = []
        self._idle = False
        self._reset()
        self._handle = self._module.register_forward_hook(self._answer_from_memory)

    def check(self) -> None:
        """Raise a MeloEditError if memory does not suffice to train a copy."""
        copies = 4  # in training: the new copy, its gradient, what it becomes, the mask with what is drawn for it
        copies += self.settings.merge_freq // self.settings.save_freq  # kept until they are merged
        check_room(self.name, copies * self._module.weight.nbytes, "copies of its matrix", self.backbone.device)

    def _reset(self) -> None:
        self.memory: list[Shard] = []
        self.current = Shard(self._module.weight.detach().clone())
        self.made = 0

    # -- answering

    def _written(self, weight: Tensor, given: Tensor) -> Tensor:
        """Return what a copy writes."""
        turned = weight if hasattr(self._module, "nf") else weight.T  # Conv1D
        written = given @ turned
        return written if self._module.bias is None else written + self._module.bias

    def _distance(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the distances (B, L) of what was written at each token, behind the model's activation."""
        return (self._act(one) - self._act(other)).float().norm(dim=-1)

    def _answer_from_memory(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        given = args[0]
        if self._training is not None:
            written = self._written(self._training, given)
            self._seen = output, written
            return written
        shards = [shard for shard in [self.current, *self.memory] if shard.edits]
        if not shards or self._idle:
            self._routes, self._held = [None] * len(output), None
            return output
        if self.settings.hold and self._held is not None and given.shape[1] == 1 and len(self._held) == len(output):
            chosen = self._held
        else:
            chosen = self._choose(shards, given, output)
        result = output
        for number in chosen.unique().tolist():
            if number >= 0:
                rows = chosen == number
                result = torch.where(rows[:, None, None], self._written(shards[number].weight, given), result)
        return result

    def _choose(self, shards: Sequence[Shard], given: Tensor, output: Tensor) -> Tensor:
        """Return which copy answers each row (B,): the one of greatest score among those that reach their bound."""
        counted = self._counted
        if counted is None or counted.shape != output.shape[:2]:
            counted = torch.ones(output.shape[:2], device=output.device)
        best = torch.full((len(output),), -1, device=output.device)
        top = torch.zeros(len(output), device=output.device)
        scores, bounds = [], []
        for number, shard in enumerate(shards):
            distance = self._distance(output, self._written(shard.weight, given))
            score = (distance * counted).sum(1) / counted.sum(1)
            bound = shard.least * self.settings.act_ratio
            better = (score >= bound) & (score > top)
            best, top = torch.where(better, number, best), torch.where(better, score, top)
            scores.append(score)
            bounds.append(bound)
        if given.shape[1] > 1:
            self._held = best
            table = torch.stack(scores, dim=1).tolist()
            self._routes = [
                self._route(shards, bounds, row, number) for row, number in zip(table, best.tolist(), strict=True)
            ]
        return best

    @staticmethod
    def _route(shards: Sequence[Shard], bounds: Sequence[float], scores: Sequence[float], number: int) -> Route:
        """Return a row's route; a copy is named by its first edit. The distance is what lacks to the bound."""
        near = number if number >= 0 else max(range(len(shards)), key=lambda i: scores[i] - bounds[i])
        name, lacking = shards[near].edits[0], bounds[near] - scores[near]
        return Route(name if number >= 0 else None, lacking, 0.0, name, "fired" if number >= 0 else "outside scope")

    @contextmanager
    def _counting(self, counted: Tensor) -> Iterator[None]:
        self._counted, self._held = counted, None
        try:
            yield
        finally:
            self._counted = self._held = None

    def around_generate(self, batch: Batch) -> AbstractContextManager[object]:
        """Score each row by the tokens of its prompt."""
        return self._counting(batch.mask.float())

    def around_forward(self, examples: Sequence[Example]) -> AbstractContextManager[object]:
        """Score each row by the tokens of its prompt, which its target follows."""
        width = max(len(one.prompt) + len(one.target) - 1 for one in examples)
        lengths = torch.tensor([len(one.prompt) for one in examples], device=self.backbone.device)
        return self._counting((torch.arange(width, device=lengths.device) < lengths[:, None]).float())

    def last_routes(self, indices: Sequence[int]) -> list[Route | None]:
        """Return the routes of the last prefill, in the order of its rows."""
        return self._routes

    # -- editing

    def _edit(self, edits: Sequence[Edit]) -> None:
        decoder, settings = cast("CausalBackbone", self.backbone), self.settings
        if self._contexts is None:
            halves = settings.contexts // 2, settings.contexts - settings.contexts // 2
            self._others = make_prompts(OTHERS)
            self._idle = True  # the unedited model writes them
            try:
                self._contexts = [
                    text
                    for length, count in zip((6, 11), halves, strict=True)
                    for text in written_contexts(decoder, STARTS, length, count, settings.seed)
                ]
            finally:
                self._idle = False
        for edit in edits:
            self._learn(edit)

    def _rows(self, edit: Edit) -> list[Example]:
        """Return an edit's wordings with its target, alone and behind each context that leaves room."""
        rows = self.examples([edit])
        for context in self._contexts or ():
            try:
                rows += self.examples([Edit(with_context(context, edit.prompt), edit.target, edit.id)])
            except EditError:
                continue
        return rows

    def _learn(self, edit: Edit) -> None:
        """Train the copy on one edit."""
        decoder, settings, weight = cast("CausalBackbone", self.backbone), self.settings, self.current.weight.clone()
        period = self.made // settings.save_freq
        mask = torch.rand(weight.shape, generator=seeded(settings.seed, period, "mask")) < settings.mask_ratio
        mask = mask.to(weight.device)
        rows, original = self._rows(edit), self._module.weight.detach()
        other = self.backbone.encode(self._others[self.made % OTHERS])
        rows.append(Example.of(other, [self.backbone.pad_id]))
        counted = torch.zeros(len(rows), max(len(row.prompt) + len(row.target) - 1 for row in rows))
        for i, row in enumerate(rows):
            counted[i, : len(row.prompt) + len(row.target) - 1] = 1
        counted, before, score = counted.to(weight.device), float("inf"), float("inf")
        below = decoder.layers[: self._number]  # the copy changes nothing that they read
        with frozen(self.model), torch.enable_grad(), run_once(below):
            for _ in range(settings.n_iter):
                self._training = weight.requires_grad_(True)
                try:
                    loss, near = self._loss(rows, counted)
                finally:
                    self._training = None
                score = near.mean().item()
                now = loss.item()
                if abs(now - before) <= 1e-4 and now <= 0.02:
                    break
                before = now
                (gradient,) = torch.autograd.grad(loss, weight)
                with torch.no_grad():
                    moved = weight - settings.edit_lr * mask * (gradient + 1e-5 * weight)
                    reach = settings.norm_constraint
                    weight = torch.minimum(torch.maximum(moved, original - reach), original + reach)
        self.current.weight = weight.detach()
        self.current.least = min(self.current.least, score)
        self.current.edits.append(edit.id)
        self.made += 1
        self._keep()

    def _loss(self, rows: Sequence[Example], counted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of an edit's rows, of which the last does not concern it, and their scores (R - 1,)."""
        logits = self.backbone.target_logits(rows)
        assert self._seen is not None, "the forward pass runs the hook"
        distance = self._distance(*self._seen)
        scores = (distance * counted).sum(1) / counted.sum(1)
        losses = [
            nn.functional.cross_entropy(own.float(), torch.tensor(row.target, device=own.device))
            for own, row in zip(logits[:-1], rows[:-1], strict=True)
        ]
        settings = self.settings
        apart = hinges(scores[:-1], scores[-1:], settings.alpha, settings.beta, settings.gamma)
        return torch.stack(losses).mean() + apart, scores[:-1].detach()

    def _keep(self) -> None:
        """Keep the copy after every ``save_freq`` edits, and merge the kept ones after every ``merge_freq``."""
        settings, original = self.settings, self._module.weight.detach()
        if self.made % settings.save_freq:
            return
        self.memory.append(self.current)
        self.current = Shard(original.clone())
        if self.made % settings.merge_freq == 0 and (count := settings.merge_freq // settings.save_freq) > 1:
            merged = merge(original, self.memory[-count:], settings.densities, settings.weights)
            self.memory = [*self.memory[:-count], merged]

    # -- size and state

    def size(self) -> Size:
        """Return the size of all copies that have edits."""
        return Size.of(shard.weight for shard in (self.current, *self.memory) if shard.edits)

    def blocks(self) -> dict[str, Any]:
        """Return for each edit the first edit of its copy."""
        return {name: shard.edits[0] for shard in (self.current, *self.memory) for name in shard.edits}

    def checkpoint(self) -> dict[str, Any]:
        """Write the copies."""
        shards = [self.current, *self.memory]
        tensors = {f"copy {i}": shard.weight for i, shard in enumerate(shards)}
        notes = [[None if shard.least == float("inf") else shard.least, shard.edits] for shard in shards]
        return write_state(self.folder, tensors) | {"shards": notes, "made": self.made}

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Bring back the copies."""
        tensors = read_state(self.folder, noted)
        shards = [
            Shard(tensors[f"copy {i}"].to(self.backbone.device), float("inf") if least is None else least, list(names))
            for i, (least, names) in enumerate(noted["shards"])
        ]
        self.current, self.memory, self.made = shards[0], shards[1:], noted["made"]
        super().restore(noted, edits)

    def close(self) -> None:
        """Take the hook off the layer."""
        self._handle.remove()
