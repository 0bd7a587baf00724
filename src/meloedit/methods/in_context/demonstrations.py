"""Demonstrations: how training edits are written for a model to see what an edit means, and which stand before one.

Each says a new fact, then a prompt with its answer. In a *copy* the prompt is the fact's own, in an *update* another
wording of it, in a *retain* a prompt that the fact does not concern.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...files import cache_folder, json_hash, load_tensors, save_tensors
from ...training.trainer import seeded
from ..data_files import TrainingEdit
from .text_encoder import TextEncoder

FACT = "New Fact: {fact}\nPrompt: {prompt}"
COPY, UPDATE, RETAIN = range(3)
EIGHTHS = (COPY, UPDATE, UPDATE, UPDATE, RETAIN, RETAIN, RETAIN, RETAIN)
"""The kinds of eight demonstrations, as many as the authors' order of 32 has of each."""
VERSION = 1
"""Counts changes of what is kept on disk."""


class Parts(NamedTuple):
    """A training edit's demonstrations by kind; an edit without rephrasings or near prompts lacks some."""

    copy: str
    update: tuple[str, ...]
    retain: tuple[str, ...]


def parts_of(edit: TrainingEdit, every: bool) -> Parts:
    """Return the demonstrations of a training edit.

    Args:
        edit: the training edit.
        every: with each of its rephrasings and near prompts; if not, with the first ones, as EasyEdit's files have.
    """
    fact, count = f"{edit.prompt} {edit.target}", None if every else 1
    return Parts(
        demonstration(fact, fact),
        tuple(demonstration(fact, f"{prompt} {edit.target}") for prompt in edit.rephrasings[:count]),
        tuple(demonstration(fact, f"{prompt} {answer}") for prompt, answer in edit.near[:count]),
    )


def demonstration(fact: str, prompt: str) -> str:
    """Return a new fact and a prompt, with a blank line behind it."""
    return FACT.format_map({"fact": fact, "prompt": prompt}) + "\n\n"


class Demonstrations:
    """The demonstrations of training edits, and their vectors, which are kept in the cache.

    Args:
        edits: the training edits.
        encoder: the encoder by which they are chosen.
        name: the encoder's name, under which their vectors are kept.
        among_facts: choose among facts, and then a kind for each; if not, among all demonstrations.
    """

    def __init__(self, edits: Sequence[TrainingEdit], encoder: TextEncoder, name: str, among_facts: bool) -> None:
        self.parts = [parts_of(edit, among_facts) for edit in edits]
        self.among_facts = among_facts
        self._encoder = encoder
        self.texts = [text for own in self.parts for text in texts_of(own, among_facts)]
        path = cache_folder() / "demonstrations" / f"{json_hash([VERSION, name, self.texts])}.vectors"
        kept, probe = load_tensors(path), encoder.embed(self.texts[:1])
        # A folder may hold another encoder than it did when the vectors were made.
        if kept is None or not _same(kept["vectors"][:1].to(probe), probe):
            kept = {"vectors": encoder.embed(self.texts)}
            save_tensors(path, kept)
        self._vectors: Tensor = kept["vectors"].to(encoder.device)

    def nearest(self, queries: Sequence[str], count: int) -> list[list[int]]:
        """Return the numbers in ``texts`` of those nearest to each query, the nearest first."""
        vectors = self._encoder.embed(queries)
        best = (vectors @ self._vectors.T).topk(min(count, len(self.texts)))
        return [list(row) for row in best.indices.tolist()]

    def chosen(self, prompts: Sequence[str], targets: Sequence[str], count: int, seed: int) -> list[list[str]]:
        """Return the demonstrations that stand before each edit, in their order.

        Among all demonstrations they are the nearest ones to the edit's fact and prompt, the nearest first (EasyEdit).
        Among facts each of the nearest gets a kind, in a drawn order; the nearest comes last, and behind it the edit's
        own copy (IKE's authors).
        """
        facts = [f"{prompt} {target}" for prompt, target in zip(prompts, targets, strict=True)]
        queries = [demonstration(fact, prompt) for fact, prompt in zip(facts, prompts, strict=True)]
        found = self.nearest(queries, count)
        if not self.among_facts:
            return [[self.texts[i] for i in row] for row in found]
        return [
            [*reversed(self._of_kinds(row, seed, fact)), demonstration(fact, fact)]
            for row, fact in zip(found, facts, strict=True)
        ]

    def _of_kinds(self, row: Sequence[int], seed: int, fact: str) -> list[str]:
        """Return a demonstration of each of some training edits, of drawn kinds; of what an edit lacks, its copy."""
        generator = seeded(seed, 0, fact)
        kinds = [EIGHTHS[i % len(EIGHTHS)] for i in range(len(row))]
        order = [kinds[i] for i in torch.randperm(len(kinds), generator=generator).tolist()]
        texts = []
        for i, kind in zip(row, order, strict=True):
            own = self.parts[i][kind] if kind != COPY else ()
            drawn = int(torch.randint(max(len(own), 1), (), generator=generator))
            texts.append(own[drawn] if own else self.parts[i].copy)
        return texts


def texts_of(parts: Parts, among_facts: bool) -> list[str]:
    """Return what is searched: the facts alone, or all demonstrations."""
    return [parts.copy] if among_facts else [parts.copy, *parts.update, *parts.retain]


def _same(kept: Tensor, made: Tensor) -> bool:
    """Return whether vectors (n, d) that were kept are of the encoder that made others."""
    return kept.shape == made.shape and torch.allclose(kept, made, atol=1e-4)
