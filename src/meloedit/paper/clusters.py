"""ClusterIndex: the paper's index, which finds the block for a key by clusters with radii."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import MeloEditError
from .tables import append_row, distances, drop_rows, sum_by_halves, take

Expand = Literal["paper", "reference"]
Device = torch.device | str
Numbers = Sequence[int]
PIECE = 1 << 18
"""Numbers per piece of the exact comparison: about as many as the processor's cache takes."""


@dataclass(frozen=True)
class ClusterHits:
    """The search results of B queries, on the CPU; -1, inf and 0 in an empty index.

    Attributes:
        block: (B,) the block that answers; -1 if the query lies outside its nearest cluster.
        owner: (B,) the owner of the nearest key in the nearest cluster, whether the query lies inside or not.
        cluster: (B,) the number of the nearest cluster.
        distance: (B,) the float32 distance to its centre.
        radius: (B,) its float32 radius; the query is inside if distance <= radius.
    """

    block: Tensor
    owner: Tensor
    cluster: Tensor
    distance: Tensor
    radius: Tensor


class ClusterIndex:
    """The paper's "inner vector database" (arXiv 2312.11795, Section 4.2; Eq. 9 and 10 are its search).

    A cluster has a centre, a radius, a label (the target; compared by value) and keys. Each key has a block and an
    owner: an edit, which may have several keys. A new key is compared with its nearest cluster C* (by centre; ties: the
    newest). With d its distance, R* the radius of C*, and R_init the initial radius:

    - Add, d > R* + R_init or no cluster yet: a new cluster {centre = key, radius R_init}.
    - Expand, d <= R* + R_init and the same label: the key joins C*. ``expand="paper"``: the centre stays, the radius
      becomes d if d > R*. ``expand="reference"``: the centre becomes the mean of the keys, the radius max(R_init,
      distance of the farthest key), which also undoes an earlier conflict's change of the radius.
    - Conflict, d <= R* + R_init and another label: a new cluster {centre = key, radius d/2}; the radius of C* becomes
      the next float32 below d/2, even if it was smaller (d may exceed 2 R*). Keys of C* now outside are forgotten and
      counted, its centre stays, and without keys it is dropped. Other clusters do not change.
    - Conflict at d = 0 (the same prompt, a new target): by the same rule the new cluster has radius 0 and C* a radius
      below 0, so that all its keys are forgotten, wherever they lie, and C* is dropped. The new edit prevails, but for
      exactly this key only, until its cluster expands.

    Search: Eq. 9 finds the nearest cluster (ties: the newest). Eq. 10 has two cases: outside its radius no block;
    inside, the block of its nearest key (ties: the newest).

    Removal: the owners' keys leave. A cluster without keys is dropped; one that lost a key is computed again from the
    rest by the expand rule. ``paper``: its centre is the oldest key, its radius that of its start or its last conflict,
    grown to the farthest key; ``reference``: mean and max(R_init, farthest). Clusters that lost no key stay as they
    are: the keys and the radius that a conflict took from them do not come back.

    Exactness: direct float32 differences decide, summed by halves in elementwise operations only, so that a distance
    has the same bits in every batch and on every device. A float64 matmul with an error bound shortlists the centres,
    so neither large coordinates common to all keys nor reduced matmul precision can change a result.

    Args:
        size: d, the length of a key.
        radius: R_init.
        expand: how a cluster grows, see above.
        device: where keys and centres lie (for ``mps``, which lacks float64, on the CPU).
        quirks: do as the released code does where it departs from the above (methods ``_quirk_*``).

    Raises:
        MeloEditError: if a value does not fit.
    """

    def __init__(
        self, size: int, radius: float, expand: Expand = "paper", device: Device = "cpu", quirks: bool = False
    ) -> None:
        self._initial = np.float32(torch.tensor(radius, dtype=torch.float32).item())
        if not (size > 0 and 0 < self._initial < math.inf):
            raise MeloEditError(f"key size {size!r} and cluster radius {radius!r} must be positive (in float32)")
        if expand not in ("paper", "reference"):
            raise MeloEditError(f"expand must be 'paper' or 'reference', not {expand!r}")
        self._settings = {"size": size, "radius": float(self._initial), "expand": expand, "quirks": quirks}
        self._size, self._expand, self._quirks = size, expand, quirks
        floats = torch.zeros(0, device="cpu" if torch.device(device).type == "mps" else device)
        whole, vectors = floats.long(), floats.reshape(0, size)
        # Rows are in order of age. "floor" is the radius that a cluster started with or got in its last conflict.
        clusters = {"number": whole, "centre": vectors, "radius": floats, "floor": floats}
        keys = {"key": vectors, "owner": whole, "block": whole, "cluster": whole}
        self._clusters, self._keys = ({name: empty.clone() for name, empty in t.items()} for t in (clusters, keys))
        self._labels: dict[int, Hashable] = {}
        self._tally = {"born": 0, "conflicts": 0, "forgotten": 0}
        self.forgotten: list[int] = []  # owner of each forgotten key, in order; stays if it is removed (-1: a quirk's)
        self._wide: tuple[Tensor, Tensor] | None = None  # centres and squared norms in float64; None: to be computed

    def add(self, owner: int, block: int, key: Tensor, label: Hashable) -> list[int]:
        """Insert the key (d,) of an edit; return the owners of the keys that the index forgets because of it."""
        return self.add_batch([owner], [block], key[None], [label])

    def add_batch(self, owners: Numbers, blocks: Numbers, keys: Tensor, labels: Sequence[Hashable]) -> list[int]:
        """Insert keys (n, d) one after another; return the owners of all keys that the index forgets.

        Raises:
            MeloEditError: if lengths differ, a key is not finite, or a number is negative.
        """
        if keys.shape != (len(owners), self._size) or not len(owners) == len(blocks) == len(labels):
            raise MeloEditError(f"each row needs an owner, a block, a label and a key of {self._size} numbers")
        keys = keys.detach().to(self._keys["key"])
        if not keys.isfinite().all() or any(number < 0 for number in (*owners, *blocks)):
            raise MeloEditError("keys must be finite (float32), and owners and blocks be numbered from 0")
        known, before = len(self.forgotten), self._quirk_search_once(keys) if self._quirks else None
        for i, key in enumerate(keys):
            place, distance = before[i] if before else self._nearest_to(key)
            self._insert(place, distance, owners[i], blocks[i], key, labels[i])
        return self.forgotten[known:]

    def _insert(self, place: int, distance: np.float32, owner: int, block: int, key: Tensor, label: Hashable) -> None:
        """Apply Add, Expand or Conflict to a key (d,), given its nearest cluster's row (-1: none) and distance."""
        number, radius = self._tally["born"], self._initial
        if place >= 0 and distance <= np.float32(self._clusters["radius"][place].item()) + self._initial:
            nearest = int(self._clusters["number"][place])
            if self._labels[nearest] == label:
                append_row(self._keys, key=key, owner=owner, block=block, cluster=nearest)
                return self._refit(place)
            half = distance / np.float32(2)
            old, radius = self._quirk_halves(half) if self._quirks else (np.nextafter(half, np.float32(-1)), half)
            self._shrink(place, old)
        append_row(self._clusters, number=number, centre=key, radius=float(radius), floor=float(radius))
        append_row(self._keys, key=key, owner=owner, block=block, cluster=number)
        self._labels[number], self._tally["born"], self._wide = label, number + 1, None

    def _refit(self, place: int) -> None:
        """Compute a cluster's centre and radius from its keys by the expand rule."""
        keys = self._keys["key"][self._members(place)]
        if self._expand == "paper":
            # The same as growing R* to each new d, since the keys that were there when floor was set lie within it.
            centre, floor = keys[0], np.float32(self._clusters["floor"][place].item())
        else:
            # Divide by a tensor: by a plain number, a GPU multiplies with the reciprocal, which rounds differently.
            centre, floor = sum_by_halves(keys.T.clone()) / keys.new_tensor(len(keys)), self._initial
        farthest = np.float32(distances(keys, centre).max().item())
        self._clusters["centre"][place], self._clusters["radius"][place] = centre, float(max(floor, farthest))
        self._wide = None

    def _shrink(self, place: int, radius: np.float32) -> None:
        """Set a cluster's radius in a conflict, and forget its keys outside."""
        self._clusters["radius"][place] = self._clusters["floor"][place] = float(radius)
        members, centre = self._members(place), self._clusters["centre"][place]
        outside = members.masked_scatter(members, distances(self._keys["key"][members], centre) > float(radius))
        lost = self._keys["owner"][outside].tolist()
        self.forgotten += lost
        self._tally.update(conflicts=self._tally["conflicts"] + 1, forgotten=self._tally["forgotten"] + len(lost))
        drop_rows(self._keys, outside)
        if len(lost) == members.sum():
            (self._quirk_placeholder if self._quirks else self._drop_cluster)(place)

    def _drop_cluster(self, place: int) -> None:
        drop_rows(self._keys, self._members(place))
        del self._labels[int(self._clusters["number"][place])]
        drop_rows(self._clusters, self._clusters["number"] == self._clusters["number"][place])
        self._wide = None

    def remove(self, owners: Numbers) -> None:
        """Remove the keys of these owners; owners without keys are ignored."""
        leaving = torch.isin(self._keys["owner"], self._keys["owner"].new_tensor([n for n in owners if n >= 0]))
        touched = self._keys["cluster"][leaving].unique()
        drop_rows(self._keys, leaving)
        for number in touched:
            place = int(torch.searchsorted(self._clusters["number"], number))
            alive = (self._keys["owner"][self._members(place)] >= 0).any()
            (self._refit if alive else self._drop_cluster)(place)

    def search(self, queries: Tensor) -> ClusterHits:
        """Find the block for each query (B, d): the nearest cluster (Eq. 9); its nearest key, or none (Eq. 10)."""
        queries = queries.detach().to(self._keys["key"])
        place, distance = self._nearest(queries)
        cluster = take(self._clusters["number"], place, -1)
        radius = take(self._clusters["radius"], place, 0.0)
        row, at = torch.nonzero(self._keys["cluster"] == cluster[:, None], as_tuple=True)
        key, _ = self._closest(queries, row, self._keys["key"], at)
        block = torch.where(distance <= radius, take(self._keys["block"], key, -1), -1)
        owner = take(self._keys["owner"], key, -1)
        return ClusterHits(*(column.cpu() for column in (block, owner, cluster, distance, radius)))

    def _nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return row (B,) and distance (B,) of the nearest centres; -1 and inf if there is none, or for nan."""
        if self._wide is None:
            wide = self._clusters["centre"].double()
            self._wide = wide, wide.square().sum(1)
        (wide, norm), double = self._wide, queries.double()
        query_norm = double.square().sum(1, keepdim=True)
        square = torch.addmm(query_norm + norm, double, wide.T, alpha=-2)  # (B, C)
        # The shortlist has every centre that could be nearest. "slip" bounds the rounding of the expanded square,
        # "spread" that of the deciding float32 distance, and the last term its underflow.
        slip = (query_norm.sqrt() + norm.sqrt()).square() * ((self._size + 4) * 2**-52)
        spread = (6 + math.log2(self._size)) * 2**-23
        most = (square + slip).amin(1, keepdim=True) * (1 + spread) + 1e-37 if len(wide) else query_norm
        row, at = torch.nonzero((square - slip) * (1 - spread) <= most, as_tuple=True)
        return self._closest(queries, row, self._clusters["centre"], at)

    def _closest(self, queries: Tensor, row: Tensor, table: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each query (B, d) the nearest of its candidates and the distance; -1 and inf without any.

        Args:
            queries: the queries.
            row: (n,) the query of each candidate.
            table: (m, d) centres or keys, oldest first.
            at: (n,) each candidate's row in ``table``.
        """
        pieces = [slice(i, i + PIECE // self._size + 1) for i in range(0, len(row) or 1, PIECE // self._size + 1)]
        distance = torch.cat([distances(queries[row[piece]], table[at[piece]]) for piece in pieces])
        best = queries.new_full((len(queries),), math.inf).scatter_reduce(0, row, distance, "amin")
        wins, none = distance == best[row], at.new_full((len(queries),), -1)
        tie = self._quirk_tie() if self._quirks else "amax"  # rows are in order of age, so the last is the newest
        return none.scatter_reduce(0, row[wins], at[wins], tie, include_self=False), best

    def _nearest_to(self, key: Tensor) -> tuple[int, np.float32]:
        """Return row and distance of the centre nearest to a key (d,).

        It compares all centres: every insertion changes them, so a shortlist would cost more than it saves.
        """
        pieces = self._clusters["centre"].split(PIECE // self._size + 1)
        distance = torch.cat([distances(piece, key) for piece in pieces]).cpu().numpy()
        newest_first = np.append(distance[::-1], np.float32(math.inf))
        return len(distance) - 1 - int(newest_first.argmin()), newest_first.min()

    def _members(self, place: int) -> Tensor:
        return self._keys["cluster"] == self._clusters["number"][place]

    def _quirk_search_once(self, keys: Tensor) -> list[tuple[int, np.float32]]:
        """Search for all keys of a batch before inserting any, so that they do not see each other."""
        place, distance = (column.cpu().numpy() for column in self._nearest(keys))
        return list(zip(place.tolist(), distance, strict=True))

    def _quirk_tie(self) -> str:
        """Take the oldest of equally near clusters or keys."""
        return "amin"

    def _quirk_halves(self, half: np.float32) -> tuple[np.float32, np.float32]:
        """Set the old radius 1e-5 below d/2 and the new one 1e-5 above."""
        return half - np.float32(1e-5), half + np.float32(1e-5)

    def _quirk_placeholder(self, place: int) -> None:
        """Keep an emptied cluster: a key of owner -1 and no block at its centre; count one forgotten key less."""
        number, centre = self._clusters["number"][place], self._clusters["centre"][place]
        append_row(self._keys, key=centre, owner=-1, block=-1, cluster=number)
        self._tally["forgotten"] -= 1

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of clusters and keys, and of conflicts and forgotten keys so far."""
        now = {"clusters": len(self._labels), "keys": int((self._keys["owner"] >= 0).sum())}
        return now | {name: self._tally[name] for name in ("conflicts", "forgotten")}

    @property
    def numbers(self) -> int:
        """How many float32 numbers the keys, centres and radii have in all."""
        return self._size * len(self._keys["owner"]) + (self._size + 1) * len(self._labels)

    @property
    def owners(self) -> set[int]:
        """The owners that have keys; an edit that is not among them cannot answer any more."""
        return set(self._keys["owner"].tolist()) - {-1}

    def statistics(self) -> dict[str, list]:
        """Return label, radius and number of keys of the clusters, oldest first."""
        radius, keys = self._clusters["radius"].tolist(), Counter(self._keys["cluster"].tolist())
        return {"label": [*self._labels.values()], "radius": radius, "keys": [keys[n] for n in self._labels]}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return a copy of the whole index: its tables (on the CPU), and the rest as plain values."""
        values = {"settings": {**self._settings}, "labels": [*self._labels.values()], "forgotten": [*self.forgotten]}
        columns = [("cluster." + name, column) for name, column in self._clusters.items()]
        columns += [("key." + name, column) for name, column in self._keys.items()]
        return {name: column.cpu().clone() for name, column in columns}, values | {"tally": {**self._tally}}
