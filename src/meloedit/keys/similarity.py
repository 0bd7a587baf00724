"""How near a prompt lies to an edit: one number from what both say, whom they name, and what they ask.

The similarity of a prompt's key q to an edit's key e, 1 for the edit's own prompt:

    s(q, e) = (<q_u, e_u> + 2 m (1 + <q_a, e_a>)) / 5

u is the content and a the relation of a key; m is the share of the edit's names among the words of the prompt. m is not
symmetric: a prompt may name others too. The relation counts as far as the names agree, since anything may be asked of
somebody else. Keys of content alone (documents) have the plain cosine.

The distance of two keys is sqrt(2 - 2 s); for keys of content alone that is |q_u - e_u|.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..callers.precision import exact
from .keys import Keys

CELLS_AT_ONCE = 2**24
"""Numbers that are compared at once where two edits' keys are: an edit may have thousands."""
DENSE = 16
"""Cells of a table per mention, from which each mention is computed alone and not the whole table."""


@dataclass(frozen=True)
class Mentions:
    """Where words of queries are names of keys; K of these.

    Attributes:
        query: (K,) the query.
        key: (K,) the key.
        share: (K,) the share of the word in the key's names.
    """

    query: Tensor
    key: Tensor
    share: Tensor


class WordIndex:
    """The words of many keys, sorted, so that finding who has a word takes no scan.

    Args:
        keys: n keys.
        names: whether to list names alone, or all words.
    """

    def __init__(self, keys: Keys, names: bool) -> None:
        row, slot = torch.nonzero(keys.word_shares if names else keys.word_codes, as_tuple=True)
        self._codes, order = keys.word_codes[row, slot].sort()
        self._row, self._share = row[order], keys.word_shares[row, slot][order]

    def mentioned_by(self, queries: Keys) -> Mentions:
        """Return which of these names of keys the words of queries (B,) are."""
        query, slot = torch.nonzero(queries.word_codes, as_tuple=True)
        of, at = self._matches(queries.word_codes[query, slot])
        return Mentions(query[of], self._row[at], self._share[at])

    def mentions(self, keys: Keys) -> Mentions:
        """Return which of these words of queries are names of keys (n,)."""
        key, slot = torch.nonzero(keys.word_shares, as_tuple=True)
        of, at = self._matches(keys.word_codes[key, slot])
        return Mentions(self._row[at], key[of], keys.word_shares[key, slot][of])

    def _matches(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the positions of equal words: in ``codes`` (K,), and in the sorted list."""
        first = torch.searchsorted(self._codes, codes)
        count = torch.searchsorted(self._codes, codes, right=True) - first
        of = torch.arange(len(codes), device=codes.device).repeat_interleave(count)
        within = torch.arange(len(of), device=codes.device) - (count.cumsum(0) - count)[of]
        return of, first[of] + within


class Evidence(NamedTuple):
    """The terms of a prompt's similarity to an edit.

    Attributes:
        content: <q_u, e_u>, how alike both are in everything that they say.
        entity_overlap: m, the share of the edit's names that the prompt mentions; ``None`` for keys of content alone.
        relation: <q_a, e_a>, how alike their questions are; ``None`` likewise.
        names: the words of the edit that are its names, each with its share and whether the prompt mentions it.
        candidates: the edits that the judge read beside the prompt, best first: id, score, the score of the best of its
            quiet prompts (``None`` without any), and the guard that lowered the score. Scores are probabilities.
        turns_read: turns before the last one that the judge read, at most.
        cut: whether the judge read the prompt without its middle, since it is long.
    """

    content: float
    entity_overlap: float | None
    relation: float | None
    names: dict[str, tuple[float, bool]] = {}
    candidates: Sequence[tuple[str, float, float | None, str | None]] = ()
    turns_read: int = 0
    cut: bool = False


def word_index(keys: Keys, names: bool) -> WordIndex | None:
    """Return the words, or the names alone, of keys (n,); ``None`` for keys of content alone."""
    return WordIndex(keys, names) if keys.shape.relation else None


def similarities(queries: Keys, keys: Keys, mentions: Mentions | None) -> Tensor:
    """Return s (B, n) of queries (B,) and keys (n,) by matmul, which errs in the fourth digit.

    Args:
        queries: keys of prompts.
        keys: keys of edits.
        mentions: where the queries mention names of the keys; ``None`` for keys of content alone.
    """
    with exact(queries.content.device):
        scores = queries.content @ keys.content.T
        if mentions is None:
            return scores
        if len(mentions.key) * DENSE < scores.numel():
            relation = (queries.relation[mentions.query] * keys.relation[mentions.key]).sum(1)
        else:  # many share these names: one matmul costs less than each pair alone
            relation = (queries.relation @ keys.relation.T)[mentions.query, mentions.key]
    scores.index_put_((mentions.query, mentions.key), 2 * mentions.share * (1 + relation), accumulate=True)
    return scores.div_(5)


def distances(queries: Keys, keys: Keys) -> Tensor:
    """Return the distances (B, m) of queries (B,) to m keys each (B, m), by direct float32 differences.

    2 - 2 s = (|q_u - e_u|^2 + 8 (1 - m) + 2 m |q_a - e_a|^2) / 5
    """
    content = (queries.content[:, None] - keys.content).norm(dim=2)
    if not keys.shape.relation:
        return content
    relation, missed = (queries.relation[:, None] - keys.relation).norm(dim=2), _missed(queries, keys)
    return ((content.square() + 8 * missed + 2 * (1 - missed) * relation.square()) / 5).sqrt()


def _missed(queries: Keys, keys: Keys) -> Tensor:
    """Return 1 - m (B, m), the share of each key's names that its query does not mention."""
    mentioned = (queries.word_codes[:, None, None, :] == keys.word_codes[..., None]).any(3)  # (B, m, w)
    return (keys.word_shares * ~mentioned).sum(2)


def evidence(query: Keys, key: Keys) -> Evidence:
    """Return the terms of the similarity of one query (1,) to one key (1,)."""
    content = float((query.content[0] * key.content[0]).sum())
    if not key.shape.relation:
        return Evidence(content, None, None)
    overlap = min(1.0, max(0.0, 1 - float(_missed(query, key[None]))))
    return Evidence(content, overlap, float((query.relation[0] * key.relation[0]).sum()))


def same_keys(first: Keys, second: Keys, tolerance: float) -> bool:
    """Return whether a key of ``first`` (n,) is one of ``second`` (m,): the same words, vectors within a tolerance."""
    at_once = max(1, CELLS_AT_ONCE // max(1, len(second) * first.shape.size))
    return any(_any_same(first[start : start + at_once], second, tolerance) for start in range(0, len(first), at_once))


def _any_same(first: Keys, second: Keys, tolerance: float) -> bool:
    if not len(first) or not len(second):
        return False
    same_words = (first.word_codes[:, None] == second.word_codes).all(2)
    vectors = (
        (first.content, second.content),
        (first.relation, second.relation),
        (first.word_shares, second.word_shares),
    )
    square = torch.stack([(a[:, None] - b).square().sum(2) for a, b in vectors]).sum(0)
    return bool((same_words & (square.sqrt() < tolerance)).any())
