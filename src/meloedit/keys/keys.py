"""Keys: what the index compares, one key per wording of an edit, prompt, or sentence of a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

MAX_WORDS = 24
"""Words of a text that its key holds: names first, then the rarest."""


class KeyShape(NamedTuple):
    """How many numbers the parts of a key have; ``relation`` 0: content alone, as for documents."""

    content: int
    relation: int = 0

    @property
    def words(self) -> int:
        """How many words a key holds."""
        return MAX_WORDS if self.relation else 0

    @property
    def size(self) -> int:
        """How many numbers a key has."""
        return self.content + self.relation + 2 * self.words


@dataclass(frozen=True)
class Keys:
    """Keys of n prompts. What they mean, and how two are compared, is in ``similarity``.

    Leading dimensions other than (n,) are allowed: (B, m) keys have content (B, m, c).

    Attributes:
        content: u, (n, c) unit vectors of everything that a prompt says.
        relation: a, (n, r) unit vectors of what it asks, names left out; r = 0: content alone.
        word_codes: (n, w) int32, numbers that stand for the prompt's words; 0: no word.
        word_shares: (n, w) the share of each word in the prompt's names; the shares of a key add up to 1.
    """

    content: Tensor
    relation: Tensor
    word_codes: Tensor
    word_shares: Tensor

    @classmethod
    def of_content(cls, content: Tensor) -> Keys:
        """Make keys (n,) of content (n, c) alone."""
        nothing = content.new_zeros(*content.shape[:-1], 0)
        return cls(content, nothing, nothing.to(torch.int32), nothing)

    @classmethod
    def empty(cls, shape: KeyShape) -> Keys:
        """Make no keys at all, of a shape."""
        codes = torch.zeros(0, shape.words, dtype=torch.int32)
        return cls(
            torch.zeros(0, shape.content, dtype=torch.float32),
            torch.zeros(0, shape.relation, dtype=torch.float32),
            codes,
            torch.zeros(0, shape.words, dtype=torch.float32),
        )

    @classmethod
    def cat(cls, parts: Sequence[Keys]) -> Keys:
        """Join keys along their first dimension."""
        return cls(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Keys:
        """Make keys of what ``to_tensors`` returned."""
        alone = cls.of_content(tensors["content"])
        return cls(*(tensors.get(item.name, getattr(alone, item.name)) for item in fields(cls)))

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the parts by name, those left out that have no numbers."""
        parts = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: part for name, part in parts.items() if part.shape[-1]}

    def __len__(self) -> int:
        return len(self.content)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the four parts."""
        return iter((self.content, self.relation, self.word_codes, self.word_shares))

    def __getitem__(self, rows: int | slice | list[int] | Tensor | None) -> Keys:
        return Keys(*(part[rows] for part in self))

    def to(self, device: torch.device | str) -> Keys:
        """Return the keys on a device."""
        return Keys(*(part.to(device) for part in self))

    def expand(self, count: int) -> Keys:
        """Return ``count`` times the same keys, (count, n)."""
        return Keys(*(part.expand(count, *part.shape) for part in self))

    def clone(self) -> Keys:
        """Return a copy that shares no memory."""
        return Keys(*(part.clone() for part in self))

    def split(self, sizes: Sequence[int]) -> list[Keys]:
        """Return the keys in parts of these sizes."""
        columns = (torch.split(part, list(sizes)) for part in self)
        return [Keys(*parts) for parts in zip(*columns, strict=True)]

    @property
    def shape(self) -> KeyShape:
        """The sizes of the parts."""
        return KeyShape(self.content.shape[-1], self.relation.shape[-1])
