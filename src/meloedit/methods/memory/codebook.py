"""GRACE's codebook: keys with radii and labels, each with the value that replaces a layer's output."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Codebook:
    """Keys with their radii, labels and values.

    Attributes:
        keys: (n, d) inputs of the layer at one token.
        radii: (n,) epsilon of each key.
        labels: (n,) mean of the label's token ids, which the authors compare instead of labels.
        values: (n, out) replacements of the layer's output.
        edits: per key the ids of the edits that chose it.
    """

    keys: Tensor
    radii: Tensor
    labels: Tensor
    values: Tensor
    edits: list[list[str]] = field(default_factory=list)

    @classmethod
    def empty(cls, size: int, out: int, device: torch.device) -> Codebook:
        """Return a codebook without keys.

        Args:
            size: inputs of the layer.
            out: outputs of the layer.
            device: where the tensors are.
        """
        none = torch.zeros(0, device=device)
        return cls(none.reshape(0, size), none, none.clone(), torch.zeros(0, out, device=device))

    def choose(self, query: Tensor, label: float, value: Tensor, eps: float, expand: str) -> int:
        """Add a key for an edit, or adapt the nearest one; return the index of the key whose value the edit trains.

        With d the distance to the nearest key and e its radius: if d > eps + e, a key is added. Otherwise, if the
        labels are equal, e grows to d if it is smaller. Otherwise a key is added, and both radii become half of d.

        Args:
            query: (d,) the layer's input.
            label: mean of the target's token ids.
            value: (out,) initial value of a new key.
            eps: radius of a new key.
            expand: ``coverage``, or ``moving_average`` to move a growing key half-way to the query.
        """
        if not len(self.keys):
            self._add(query, label, value, eps)
            return 0
        (distance,), (nearest,) = self.search(query[None])
        if distance > eps + self.radii[nearest]:
            self._add(query, label, value, eps)
        elif label != self.labels[nearest]:
            self._add(query, label, value, eps)
            self.radii[nearest], self.radii[-1] = distance / 2 - 1e-5, distance / 2
        elif distance > self.radii[nearest]:
            if expand == "moving_average":
                self.keys[nearest] = 0.5 * self.keys[nearest] + 0.5 * query
            self.radii[nearest] = distance
        # Search again, as the authors do. Of equally near keys the oldest counts: a repeated prompt with another target
        # trains the old key's value, although the key's new radius is too small for it ever to be used.
        return int(self.search(query[None])[1])

    def _add(self, query: Tensor, label: float, value: Tensor, eps: float) -> None:
        self.keys = torch.cat([self.keys, query[None]])
        self.radii = torch.cat([self.radii, query.new_tensor([eps])])
        self.labels = torch.cat([self.labels, query.new_tensor([label])])
        self.values = torch.cat([self.values, value[None]])
        self.edits.append([])

    def search(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distance (B,) of the nearest key to each query (B, d), and the key's index (B,)."""
        nearest = torch.cdist(self.keys, queries).min(0)
        return nearest.values, nearest.indices

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store, by name."""
        return {"keys": self.keys, "radii": self.radii, "labels": self.labels, "values": self.values}
