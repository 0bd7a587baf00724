"""Stores of thousands of made-up edits: random blocks and keys of the real shapes, in place of hours of training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from meloedit import Edit, Editor, MeloConfig
from meloedit.hooks.blocks import Block, Factors, Site, block_to_tensors
from meloedit.keys.keys import Keys
from meloedit.store import Record

from .models import Loaded

AT_ONCE = 500
"""Edits of one transaction."""


def made_up_block(sites: Sequence[Site], config: MeloConfig, generator: torch.Generator, scale: float = 1e-3) -> Block:
    """Return a block of small random numbers."""
    rank, positions = config.rank, config.answer_positions or 0

    def draw(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * scale).half()

    return {
        site.name: Factors(draw(rank, site.inputs), draw(site.outputs, rank), draw(rank, positions)) for site in sites
    }


def made_up_edit(i: int) -> Edit:
    """Return an edit that is in no data set."""
    return Edit(f"What is item {i} of the made-up list?", f"thing {i}", id=f"made-up-{i}")


def _records(editor: Editor, count: int) -> Iterator[Record]:
    generator = torch.Generator().manual_seed(0)
    config, sites = editor.config, editor.engine.router.bank.sites
    assert editor.calibration is not None
    prompts = editor.calibration.prompts
    for i in range(count):
        block = made_up_block(sites, config, generator)
        # Near the key of an ordinary prompt, as real edits are.
        like = prompts[torch.randint(len(prompts), (1,), generator=generator)]
        vectors = _moved(like.content, generator), _moved(like.relation, generator)
        words = like.word_codes.repeat(2, 1), like.word_shares.repeat(2, 1)
        keys = Keys(*vectors, *words).to_tensors() | {"quiet": torch.zeros(2, dtype=torch.bool)}
        yield Record(made_up_edit(i), config.rank, config.reach, {}, block_to_tensors(block), keys)


def _moved(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return two unit vectors (2, d) near a given one (1, d)."""
    noise = torch.randn(2, like.shape[1], generator=generator) / max(1, like.shape[1]) ** 0.5
    return torch.nn.functional.normalize(like + noise, dim=1)


def store_with_edits(path: Path, loaded: Loaded, count: int, config: MeloConfig | None = None) -> Editor:
    """Make a store of ``count`` made-up edits and open it on a model; without a config the default one."""
    editor = Editor(*loaded, config=config, store=path)
    editor.prepare()
    part: list[Record] = []
    for record in _records(editor, count):
        part.append(record)
        if len(part) == AT_ONCE:
            editor.store.put(part)
            part = []
    if part:
        editor.store.put(part)
    return Editor.from_pretrained(path, editor.unload(), editor.tokenizer)
