"""How near a prompt lies to an edit: one number from what both say, whom they name, and what they ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .names import SLOTS

DENSE = 16
"""Cells of a table for each of which one mention may be looked at by itself."""


@dataclass(frozen=True)
class Mentions:
    """Where words of queries are names of keys; K of these.

    Attributes:
        query: (K,) the query.
        key: (K,) the key.
        share: (K,) how much of the key's names the word is.
    """

    query: Tensor
    key: Tensor
    share: Tensor


class Listed:
    """Words of many texts, sorted, so that who has a word is found without a look at the others.

    Args:
        words: (n, 2 SLOTS) words and shares, see ``names.named``.
        names: whether names alone count.
    """

    def __init__(self, words: Tensor, names: bool) -> None:
        row, slot = torch.nonzero(words[:, SLOTS:] if names else words[:, :SLOTS], as_tuple=True)
        self._codes, order = words[row, slot].sort()
        self._row, self._share = row[order], words[row, SLOTS + slot][order]

    def mentioned_by(self, queries: Tensor) -> Mentions:
        """Return which of these names of keys the words of queries (B, 2 SLOTS) are."""
        query, slot = torch.nonzero(queries[:, :SLOTS], as_tuple=True)
        of, at = self._meet(queries[query, slot])
        return Mentions(query[of], self._row[at], self._share[at])

    def mentions(self, keys: Tensor) -> Mentions:
        """Return which of these words of queries are names of keys (n, 2 SLOTS)."""
        key, slot = torch.nonzero(keys[:, SLOTS:], as_tuple=True)
        of, at = self._meet(keys[key, slot])
        return Mentions(self._row[at], key[of], keys[key, SLOTS + slot][of])

    def _meet(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the places of equal words: in ``codes`` (K,), and in the list."""
        first = torch.searchsorted(self._codes, codes)
        count = torch.searchsorted(self._codes, codes, right=True) - first
        of = torch.arange(len(codes), device=codes.device).repeat_interleave(count)
        within = torch.arange(len(of), device=codes.device) - (count.cumsum(0) - count)[of]
        return of, first[of] + within


class Evidence(NamedTuple):
    """What the similarity of a prompt to an edit is made of.

    Attributes:
        said: <q_u, e_u>, how alike both are in all that they say.
        named: m, the share of the edit's names that the prompt mentions; ``None`` where names are not looked at.
        asked: <q_a, e_a>, how alike what both ask is; ``None`` likewise.
        names: the words of the edit that are its names, each with its share and whether the prompt mentions it.
    """

    said: float
    named: float | None
    asked: float | None
    names: dict[str, tuple[float, bool]] = {}


@dataclass(frozen=True)
class Similarity:
    """The similarity of a prompt's key q to an edit's key e, which is 1 for the edit's own prompt.

    s(q, e) = (<q_u, e_u> + 2 m (1 + <q_a, e_a>)) / 5

    A key is [u | a | words]: u and a of unit length, of all that is said and of what is asked, and the words with the
    share that each has in the names (``names.named``). m is the share of the edit's names among the words of the
    prompt; it is not symmetric: a prompt may name others too. What is asked counts as far as the names are the same,
    since of others anything may be asked. Keys of u alone (documents) have the plain cosine.

    The distance of two keys is sqrt(2 - 2 s); for keys of unit length and no more, |q - e|.

    Attributes:
        said: how many numbers u has.
        asked: how many a has; 0: keys are u alone.
    """

    said: int
    asked: int = 0

    @property
    def size(self) -> int:
        """How many numbers a key has."""
        return self.said + (self.asked + 2 * SLOTS if self.asked else 0)

    def words(self, keys: Tensor) -> Tensor:
        """Return the words of keys (n, 2 SLOTS); none where names are not looked at."""
        return keys[:, self.said + self.asked :]

    def listed(self, keys: Tensor, names: bool) -> Listed | None:
        """Return the words, or the names alone, of keys (n, size); ``None`` where names are not looked at."""
        return Listed(self.words(keys), names) if self.asked else None

    def between(self, queries: Tensor, keys: Tensor, found: Mentions | None) -> Tensor:
        """Return s (B, n) of queries (B, size) and keys (n, size) by matmul, which errs in the fourth digit.

        Args:
            queries: keys of prompts.
            keys: keys of edits.
            found: where the queries mention names of the keys; ``None`` where names are not looked at.
        """
        scores = queries[:, : self.said] @ keys[:, : self.said].T
        if found is None:
            return scores
        a = slice(self.said, self.said + self.asked)
        if len(found.key) * DENSE < scores.numel():
            asked = (queries[found.query, a] * keys[found.key, a]).sum(1)
        else:  # names that many have: all at once take less than each by itself
            asked = (queries[:, a] @ keys[:, a].T)[found.query, found.key]
        scores.index_put_((found.query, found.key), 2 * found.share * (1 + asked), accumulate=True)
        return scores.div_(5)

    def distances(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return the distances (B, m) of queries (B, size) to m keys each (B, m, size), by direct differences.

        2 - 2 s = (|q_u - e_u|^2 + 8 (1 - m) + 2 m |q_a - e_a|^2) / 5
        """
        said = (queries[:, None, : self.said] - keys[..., : self.said]).norm(dim=2)
        if not self.asked:
            return said
        a = slice(self.said, self.said + self.asked)
        asked, missed = (queries[:, None, a] - keys[..., a]).norm(dim=2), self._missed(queries, keys)
        return ((said.square() + 8 * missed + 2 * (1 - missed) * asked.square()) / 5).sqrt()

    def _missed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return 1 - m (B, m), the share of each key's names that its query does not mention."""
        words = self.said + self.asked
        codes, shares = keys[..., words : words + SLOTS], keys[..., words + SLOTS :]
        heard = (queries[:, None, None, words : words + SLOTS] == codes[..., None]).any(3)  # (B, m, SLOTS)
        return (shares * ~heard).sum(2)

    def evidence(self, query: Tensor, key: Tensor) -> Evidence:
        """Return what the similarity of one query (size,) to one key is made of."""
        said = float(query[: self.said] @ key[: self.said])
        if not self.asked:
            return Evidence(said, None, None)
        a = slice(self.said, self.said + self.asked)
        named = min(1.0, max(0.0, 1 - float(self._missed(query[None], key[None, None]))))
        return Evidence(said, named, float(query[a] @ key[a]))
