"""Fusing: several edits as one adapter that is always on, for those who can serve only one, and what that loses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..engine.answering import generate_in_batches, greedy
from ..errors import MeloEditError
from ..keys.grammar import make_prompts
from .exporting import blocks_of, check_exportable, choose, earlier, entry, finish
from .folders import write_folder, writing
from .index import Index
from .layout import make_adapter, modules_of

if TYPE_CHECKING:
    from ..backbones.batch import Encoded
    from ..engine.engine import Engine
    from ..store.tensors import Tensors
    from ..types import Progress

OTHERS = 100
"""Prompts that concern no edit with which a fused adapter is tried."""
TOKENS = 16
"""Tokens of the answers to them."""


@dataclass(frozen=True)
class Fused:
    """A fused adapter, and what it loses against the routed edits.

    Attributes:
        folder: where it is.
        adapter: its name.
        edits: how many edits are in it.
        whole_rank: the rank that would hold them all.
        rank: the rank that it has.
        lost: the greatest share of a module's change that the rank cuts off (Frobenius norm, 0 to 1).
        asked: how often the edits were asked: in every wording and form.
        held: how many of these the adapter answers with the target.
        held_whole: how many an adapter of the whole rank would.
        others: prompts that concern no edit.
        changed: how many of them it answers otherwise than the base model; routed, none is.
    """

    folder: Path
    adapter: str
    edits: int
    whole_rank: int
    rank: int
    lost: float
    asked: int
    held: int
    held_whole: int
    others: int
    changed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self) | {"folder": str(self.folder)}


def fuse(blocks: Sequence[Tensors], rank: int) -> tuple[Tensors, float]:
    """Return one block of a rank for the sum of blocks, and the greatest share of a module's sum that is cut off.

    The best approximation of each module's B A of that rank is its singular value decomposition, cut off.

    Args:
        blocks: the factors ``MODULE.A`` (r, in) and ``MODULE.B`` (out, r) of each.
        rank: at most what the smallest module has.
    """
    fused: Tensors = {}
    worst = 0.0
    for name in modules_of(blocks[0]):
        a = torch.cat([block[f"{name}.A"].float() for block in blocks])  # (R, in)
        b = torch.cat([block[f"{name}.B"].float() for block in blocks], 1)  # (out, R)
        left, right = torch.linalg.qr(b), torch.linalg.qr(a.T)
        u, sizes, v = torch.linalg.svd(left[1] @ right[1].T)
        kept = min(rank, len(sizes))
        root = sizes[:kept].sqrt()
        fused[f"{name}.A"] = _filled((root[:, None] * v[:kept]) @ right[0].T, rank).half()
        fused[f"{name}.B"] = _filled((left[0] @ u[:, :kept] * root).T, rank).T.contiguous().half()
        whole = float(sizes.square().sum())
        worst = max(worst, (float(sizes[kept:].square().sum()) / whole) ** 0.5 if whole else 0.0)
    return fused, worst


def _filled(rows: Tensor, rank: int) -> Tensor:
    """Return rows (k, d) with zeros below, (rank, d)."""
    return torch.nn.functional.pad(rows, (0, 0, 0, rank - len(rows)))


def export_fused(
    engine: Engine,
    folder: str | Path,
    rank: int,
    ids: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Fused:
    """Write edits as one adapter, and measure what it loses.

    Args:
        engine: the model and its store.
        folder: where to; made if it is missing.
        rank: the adapter's rank.
        ids: the edits; ``None``: all that are enabled.
        progress: told how many prompts are asked.

    Raises:
        StoreError: if the blocks are no LoRAs.
        MeloEditError: if the rank is more than a module has, or the folder cannot be written.
    """
    store, sites = engine.store, engine.router.bank.sites
    most = min(min(site.inputs, site.outputs) for site in sites)
    if not 1 <= rank <= most:
        raise MeloEditError(f"a rank is between 1 and what the smallest edited module has, {most}, not {rank}")
    chosen, _ = choose(store, ids)
    check_exportable(store, chosen, "peft")
    blocks = blocks_of(store, chosen)
    one = modules_of(blocks[0])[0]
    whole_rank = sum(len(block[f"{one}.A"]) for block in blocks)
    block, lost = fuse(blocks, min(rank, whole_rank))
    adapter = make_adapter(block, store.model, "fused", prefix="fused-")
    folder = Path(folder)
    with writing(folder):
        before = earlier(folder)
        write_folder(folder / adapter.name, adapter.files)
        entries = tuple(entry(stored, adapter) for stored in chosen)
        finish(folder, Index("fused", store.model, store.config, store.revision, entries), before)
    losses = Losses(engine, [stored.edit.id for stored in chosen], progress)
    held, changed = losses.of(block)
    held_whole = held if adapter.rank == whole_rank else losses.of(fuse(blocks, min(whole_rank, most))[0])[0]
    counts = len(losses.asked), held, held_whole, len(losses.others), changed
    return Fused(folder, adapter.name, len(chosen), whole_rank, adapter.rank, lost, *counts)


class Losses:
    """What an adapter that is always on loses: edits that it no longer holds, other answers that it changes.

    Args:
        engine: the model and its store.
        ids: the edits in the adapter.
        progress: told how many prompts are asked.
    """

    def __init__(self, engine: Engine, ids: Sequence[str], progress: Progress | None = None) -> None:
        self._engine, self._progress = engine, progress
        backbone, policy = engine.backbone, engine.policy
        edits = [engine.store.get(edit_id).edit for edit_id in ids]
        asked = [(edit.target, form) for edit in edits for prompt in edit.prompts for form in policy.forms(prompt)]
        targets = [backbone.encode_target(target, form) for target, form in asked]
        self.asked = [form for _, form in asked]
        self.others = [form for prompt in make_prompts(OTHERS, seed=1) for form in backbone.forms(prompt)[-1:]]
        self._wanted = [backbone.text_of(target) for target in targets]
        self._longest = max(map(len, targets)) + 1
        with engine.router.disabled():
            self._base = self._answers(self.others, TOKENS)

    def of(self, block: Tensors) -> tuple[int, int]:
        """Return how many edits a block that is always on holds, and how many other answers it changes."""
        with self._engine.router.disabled(), always_on(self._engine.backbone.model, block):
            held = self._answers(self.asked, self._longest)
            others = self._answers(self.others, TOKENS)
        same = sum(a == b for a, b in zip(held, self._wanted, strict=True))
        return same, sum(a != b for a, b in zip(others, self._base, strict=True))

    def _answers(self, encoded: Sequence[Encoded], tokens: int) -> list[str]:
        backbone, texts = self._engine.backbone, dict[int, str]()
        settings = greedy(backbone) | {"max_new_tokens": tokens}
        for part, answers in generate_in_batches(backbone, encoded, 32, settings):
            texts |= {number: text for number, (text, _) in zip(part, answers, strict=True)}
            if self._progress:
                self._progress("asking the fused adapter", len(texts), len(encoded))
        return [texts[number] for number in range(len(encoded))]


@contextmanager
def always_on(model: torch.nn.Module, block: Mapping[str, Tensor]) -> Iterator[None]:
    """Add a block to every token that a model reads, for the length of a ``with`` block."""

    def added(name: str) -> Any:
        def add(module: Any, args: Any, output: Tensor) -> Tensor:
            x = args[0]
            a, b = (block[f"{name}.{letter}"].to(device=x.device, dtype=x.dtype) for letter in "AB")
            return output + x @ a.T @ b.T

        return model.get_submodule(name).register_forward_hook(add)

    hooks = [added(name) for name in modules_of(block)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
