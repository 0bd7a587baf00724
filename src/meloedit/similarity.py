"""How near a prompt lies to an edit: one number from what both say, whom they name, and what they ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .names import SLOTS


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


class Evidence(NamedTuple):
    """What the similarity of a prompt to an edit is made of.

    Attributes:
        said: <q_u, e_u>, how alike both are in all that they say.
        named: m, the share of the edit's names that the prompt mentions; ``None`` where names are not looked at.
        asked: <q_a, e_a>, how alike what both ask is; ``None`` likewise.
    """

    said: float
    named: float | None
    asked: float | None


class Names:
    """The names of keys, sorted, so that queries find those they mention without a look at the others.

    Args:
        named: (n, 2 SLOTS) the keys' words and shares, see ``names.named``.
    """

    def __init__(self, named: Tensor) -> None:
        key, slot = torch.nonzero(named[:, SLOTS:], as_tuple=True)
        self._codes, order = named[key, slot].sort()
        self._key, self._share = key[order], named[key, SLOTS + slot][order]

    def mentioned(self, named: Tensor) -> Mentions:
        """Return which of the names queries (B, 2 SLOTS) mention."""
        query, slot = torch.nonzero(named[:, :SLOTS], as_tuple=True)
        codes = named[query, slot]
        first = torch.searchsorted(self._codes, codes)
        found = torch.searchsorted(self._codes, codes, right=True) - first
        query, first, found = query[found > 0], first[found > 0], found[found > 0]
        begin = (found.cumsum(0) - found).repeat_interleave(found)
        at = first.repeat_interleave(found) + torch.arange(len(begin), device=begin.device) - begin
        return Mentions(query.repeat_interleave(found), self._key[at], self._share[at])


@dataclass(frozen=True)
class Similarity:
    """The similarity of a prompt's key q to an edit's key e, which is 1 for the edit's own prompt.

    s(q, e) = (<q_u, e_u> + 2 m (1 + <q_a, e_a>)) / 5

    A key is [u | a | words]: u and a of unit length, of all that is said and of what is asked, and the words with the
    share that each has in the names (``names.named``). m is the share of the edit's names among the words of the
    prompt; it is not symmetric: a prompt may name others too. What is asked counts as far as the names are the same,
    since of others anything may be asked. Keys of u alone (documents, stores made before) have the plain cosine.

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

    def names(self, keys: Tensor) -> Names | None:
        """Return the names of keys (n, size), for ``between``."""
        return Names(keys[:, self.said + self.asked :]) if self.asked else None

    def between(self, queries: Tensor, keys: Tensor, names: Names | None) -> Tensor:
        """Return s (B, n) of queries (B, size) and keys (n, size) by matmul, which errs in the fourth digit."""
        scores = queries[:, : self.said] @ keys[:, : self.said].T
        if names is None:
            return scores
        found = names.mentioned(queries[:, self.said + self.asked :])
        a = slice(self.said, self.said + self.asked)
        asked = (queries[found.query, a] * keys[found.key, a]).sum(1)
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
        return Evidence(said, 1 - float(self._missed(query[None], key[None, None])), float(query[a] @ key[a]))
