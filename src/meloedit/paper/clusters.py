"""ClusterIndex: the paper's index from keys to blocks, by clusters with radii (Add / Expand / Conflict)."""

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

Expand = Literal["paper", "reference"]
Device = torch.device | str
Numbers = Sequence[int]
PIECE = 1 << 18  # numbers that the exact comparison holds at once: about as many as a cache does


@dataclass(frozen=True)
class Found:
    """What the index found for a batch of B queries, on the CPU; -1, inf and 0 in an empty index."""

    block: Tensor  # (B,) the block that answers; -1 where the query lies outside its nearest cluster
    owner: Tensor  # (B,) owner of the nearest key of the nearest cluster, entered or not
    cluster: Tensor  # (B,) number of the nearest cluster
    distance: Tensor  # (B,) float32 distance to its centre
    radius: Tensor  # (B,) its float32 radius: the query is inside where distance <= radius


class ClusterIndex:
    """The paper's "inner vector database" (arXiv 2312.11795, Section 4.2; Eq. 9 and 10 read it).

    A cluster has a centre, a radius, a label (the target; compared by value) and keys, each with its block and its
    owner (an edit, which may have several). A key enters by its nearest cluster C* (by centre; ties: the newest), with
    distance d, radius R*, initial radius R0:

    - Add, d > R* + R0 or no cluster yet: a new cluster {centre = key, radius R0}.
    - Expand, d <= R* + R0 and the same label: the key joins C*. ``expand="paper"``: the centre stays, the radius
      becomes d where d > R*. ``expand="reference"``: the centre becomes the mean of the keys, the radius max(R0,
      distance of the farthest key), which also undoes what a conflict took from it.
    - Conflict, d <= R* + R0 and another label: a new cluster {centre = key, radius d/2}; the radius of C* becomes the
      next float32 below d/2, even where it was smaller (d may exceed 2 R*). Keys of C* now outside are forgotten and
      counted, its centre stays, and without keys it is dropped. Other clusters do not give way.
    - At d = 0 (the same prompt, a new target) that rule, taken literally, gives the new cluster radius 0 and C* one
      below 0, in which no key lies: all keys of C* are forgotten, also those beside the point, and C* is dropped. So
      the new edit prevails, though for exactly this key only, until its cluster expands.

    Search: the nearest cluster (ties: the newest); outside its radius no block; inside, the block of its nearest key
    (ties: the newest). Removal: the owners' keys leave; a cluster without keys is dropped, one that lost some is made
    again from the rest by the expand rule. ``paper``: its centre is the oldest key, its radius is what birth or the
    last conflict gave, grown to the farthest key; ``reference``: mean and max(R0, farthest). Clusters that lost no key
    stay as they are, and what a conflict took (keys, radius) does not come back by itself.

    Exactness: direct float32 differences decide, summed by halves in elementwise operations only, so that a distance
    has the same bits in every batch and on every device. A float64 matmul with its error bound shortlists the centres:
    neither large coordinates common to all keys nor reduced matmul precision change what is found.

    Args:
        size: d, the length of a key.
        radius: R0 (``expand``: see above).
        device: where keys and centres lie (with ``mps``, which lacks float64, on the CPU).
        quirks: do as the released code does where it departs from the above (methods ``_quirk_*``).
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
        # Rows are in order of age; "floor" is the radius that birth or the last conflict gave.
        clusters = {"number": whole, "centre": vectors, "radius": floats, "floor": floats}
        keys = {"key": vectors, "owner": whole, "block": whole, "cluster": whole}
        self._clusters, self._keys = ({name: empty.clone() for name, empty in t.items()} for t in (clusters, keys))
        self._labels: dict[int, Hashable] = {}
        self._tally = {"born": 0, "conflicts": 0, "forgotten": 0}
        self.forgotten: list[int] = []  # owner of each key forgotten, in order, also of removed ones (-1: a quirk's)
        self._wide: tuple[Tensor, Tensor] | None = None  # centres and their squared norms in float64, made when needed

    def add(self, owner: int, block: int, key: Tensor, label: Hashable) -> list[int]:
        """Insert an edit's key (d,), answered by a block; return the owners of the keys it makes the index forget."""
        return self.add_batch([owner], [block], key[None], [label])

    def add_batch(self, owners: Numbers, blocks: Numbers, keys: Tensor, labels: Sequence[Hashable]) -> list[int]:
        """Insert keys (n, d) one after another, each seeing the earlier ones; else like ``add``."""
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
        """Apply Add, Expand or Conflict to one key (d,), given its nearest cluster and the distance."""
        number, radius = self._tally["born"], self._initial
        if place >= 0 and distance <= np.float32(self._clusters["radius"][place].item()) + self._initial:
            nearest = int(self._clusters["number"][place])
            if self._labels[nearest] == label:
                _append(self._keys, key=key, owner=owner, block=block, cluster=nearest)
                return self._settle(place)
            half = distance / np.float32(2)
            old, radius = self._quirk_halves(half) if self._quirks else (np.nextafter(half, np.float32(-1)), half)
            self._shrink(place, old)
        _append(self._clusters, number=number, centre=key, radius=float(radius), floor=float(radius))
        _append(self._keys, key=key, owner=owner, block=block, cluster=number)
        self._labels[number], self._tally["born"], self._wide = label, number + 1, None

    def _settle(self, place: int) -> None:
        """Make a cluster's centre and radius from its keys by the expand rule."""
        keys = self._keys["key"][self._members(place)]
        if self._expand == "paper":
            # The same as enlarging R* to each new d: the keys present when floor was set lie within it.
            centre, floor = keys[0], np.float32(self._clusters["floor"][place].item())
        else:
            # By a tensor: a GPU divides by a number by multiplying with its reciprocal.
            centre, floor = _fold(keys.T.clone()) / keys.new_tensor(len(keys)), self._initial
        farthest = np.float32(_distances(keys, centre).max().item())
        self._clusters["centre"][place], self._clusters["radius"][place] = centre, float(max(floor, farthest))
        self._wide = None

    def _shrink(self, place: int, radius: np.float32) -> None:
        """Let a conflict set a cluster's radius: its keys outside are forgotten."""
        self._clusters["radius"][place] = self._clusters["floor"][place] = float(radius)
        members, centre = self._members(place), self._clusters["centre"][place]
        outside = members.masked_scatter(members, _distances(self._keys["key"][members], centre) > float(radius))
        lost = self._keys["owner"][outside].tolist()
        self.forgotten += lost
        self._tally.update(conflicts=self._tally["conflicts"] + 1, forgotten=self._tally["forgotten"] + len(lost))
        _drop(self._keys, outside)
        if len(lost) == members.sum():
            (self._quirk_placeholder if self._quirks else self._drop_cluster)(place)

    def _drop_cluster(self, place: int) -> None:
        _drop(self._keys, self._members(place))
        del self._labels[int(self._clusters["number"][place])]
        _drop(self._clusters, self._clusters["number"] == self._clusters["number"][place])
        self._wide = None

    def remove(self, owners: Numbers) -> None:
        """Remove the keys of some owners; those that are not here are passed over."""
        leaving = torch.isin(self._keys["owner"], self._keys["owner"].new_tensor([n for n in owners if n >= 0]))
        touched = self._keys["cluster"][leaving].unique()
        _drop(self._keys, leaving)
        for number in touched:
            place = int(torch.searchsorted(self._clusters["number"], number))
            alive = (self._keys["owner"][self._members(place)] >= 0).any()
            (self._settle if alive else self._drop_cluster)(place)

    def search(self, queries: Tensor) -> Found:
        """Find for each query (B, d) its block: nearest cluster (Eq. 9), then its nearest key (Eq. 10)."""
        queries = queries.detach().to(self._keys["key"])
        place, distance = self._nearest(queries)
        cluster = _take(self._clusters["number"], place, -1)
        radius = _take(self._clusters["radius"], place, 0.0)
        row, at = torch.nonzero(self._keys["cluster"] == cluster[:, None], as_tuple=True)
        key, _ = self._closest(queries, row, self._keys["key"], at)
        block = torch.where(distance <= radius, _take(self._keys["block"], key, -1), -1)
        owner = _take(self._keys["owner"], key, -1)
        return Found(*(column.cpu() for column in (block, owner, cluster, distance, radius)))

    def _nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return place (B,) and distance (B,) of the nearest centres; -1 and inf where there is none (or a nan)."""
        if self._wide is None:
            wide = self._clusters["centre"].double()
            self._wide = wide, wide.square().sum(1)
        (wide, norm), double = self._wide, queries.double()
        own = double.square().sum(1, keepdim=True)
        square = torch.addmm(own + norm, double, wide.T, alpha=-2)  # (B, C)
        # The shortlist keeps each centre that could be nearest: "slip" bounds the rounding of the expanded square,
        # "spread" that of the float32 distance which decides, the last term its underflow.
        slip = (own.sqrt() + norm.sqrt()).square() * ((self._size + 4) * 2**-52)
        spread = (6 + math.log2(self._size)) * 2**-23
        most = (square + slip).amin(1, keepdim=True) * (1 + spread) + 1e-37 if len(wide) else own
        row, at = torch.nonzero((square - slip) * (1 - spread) <= most, as_tuple=True)
        return self._closest(queries, row, self._clusters["centre"], at)

    def _closest(self, queries: Tensor, row: Tensor, table: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each query (B, d) its nearest candidate (-1: none) and the distance; pairs (row, at) are given."""
        pieces = [slice(i, i + PIECE // self._size + 1) for i in range(0, len(row) or 1, PIECE // self._size + 1)]
        distance = torch.cat([_distances(queries[row[piece]], table[at[piece]]) for piece in pieces])
        best = queries.new_full((len(queries),), math.inf).scatter_reduce(0, row, distance, "amin")
        wins, none = distance == best[row], at.new_full((len(queries),), -1)
        tie = self._quirk_tie() if self._quirks else "amax"  # rows are in order of age: the newest
        return none.scatter_reduce(0, row[wins], at[wins], tie, include_self=False), best

    def _nearest_to(self, key: Tensor) -> tuple[int, np.float32]:
        """Compare a key (d,) with all centres: an insertion changes them, so that a shortlist would not pay."""
        pieces = self._clusters["centre"].split(PIECE // self._size + 1)
        distance = torch.cat([_distances(piece, key) for piece in pieces]).cpu().numpy()
        newest_first = np.append(distance[::-1], np.float32(math.inf))
        return len(distance) - 1 - int(newest_first.argmin()), newest_first.min()

    def _members(self, place: int) -> Tensor:
        return self._keys["cluster"] == self._clusters["number"][place]

    def _quirk_search_once(self, keys: Tensor) -> list[tuple[int, np.float32]]:
        """Search for all rows of a batch before inserting any: distances are stale then, a first batch is unchecked."""
        place, distance = (column.cpu().numpy() for column in self._nearest(keys))
        return list(zip(place.tolist(), distance, strict=True))

    def _quirk_tie(self) -> str:
        """Of equally near clusters or keys take the oldest."""
        return "amin"

    def _quirk_halves(self, half: np.float32) -> tuple[np.float32, np.float32]:
        """Set the old radius 1e-5 below d/2 and the new one 1e-5 above."""
        return half - np.float32(1e-5), half + np.float32(1e-5)

    def _quirk_placeholder(self, place: int) -> None:
        """Keep an emptied cluster, with a point (owner -1) at its centre that answers with no block; count one less."""
        number, centre = self._clusters["number"][place], self._clusters["centre"][place]
        _append(self._keys, key=centre, owner=-1, block=-1, cluster=number)
        self._tally["forgotten"] -= 1

    @property
    def counts(self) -> dict[str, int]:
        """Return how many clusters and keys there are, and how many conflicts and forgotten keys there were so far."""
        now = {"clusters": len(self._labels), "keys": int((self._keys["owner"] >= 0).sum())}
        return now | {name: self._tally[name] for name in ("conflicts", "forgotten")}

    @property
    def numbers(self) -> int:
        """How many numbers keys, centres and radii are made of."""
        return self._size * len(self._keys["owner"]) + (self._size + 1) * len(self._labels)

    @property
    def owners(self) -> set[int]:
        """The owners that have keys here; a live edit that is not among them cannot answer any more."""
        return set(self._keys["owner"].tolist()) - {-1}

    def statistics(self) -> dict[str, list]:
        """Describe the clusters, oldest first: label, radius, how many keys."""
        radius, keys = self._clusters["radius"].tolist(), Counter(self._keys["cluster"].tolist())
        return {"label": [*self._labels.values()], "radius": radius, "keys": [keys[n] for n in self._labels]}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return copies of all that the index holds: its tables (on the CPU), and everything else as plain values."""
        values = {"settings": {**self._settings}, "labels": [*self._labels.values()], "forgotten": [*self.forgotten]}
        columns = [("cluster." + name, column) for name, column in self._clusters.items()]
        columns += [("key." + name, column) for name, column in self._keys.items()]
        return {name: column.cpu().clone() for name, column in columns}, values | {"tally": {**self._tally}}


def _append(table: dict[str, Tensor], **row: Tensor | float) -> None:
    """Append a row to the columns, in place; their storage doubles when it is full."""
    for name, value in row.items():
        column, count, rest = table[name], len(table[name]), table[name].shape[1:]
        if column.untyped_storage().nbytes() <= count * math.prod(rest) * column.element_size():
            column.resize_(2 * count + 8, *rest)
        column.resize_(count + 1, *rest)[count] = value


def _drop(table: dict[str, Tensor], rows: Tensor) -> None:
    """Drop the rows where a mask (n,) is true; the others keep their order."""
    if rows.any():
        table.update({name: column[~rows] for name, column in table.items()})


def _take(column: Tensor, place: Tensor, missing: float) -> Tensor:
    """Return the rows of a column at some places, ``missing`` at place -1."""
    return torch.cat([column, column.new_full((1,), missing)])[place]


def _distances(left: Tensor, right: Tensor) -> Tensor:
    """Return |left - right| over the last dimension, in float32; its own root is not always rounded right on a CPU."""
    return _fold((left - right).square_()).double().sqrt().float()


def _fold(values: Tensor) -> Tensor:
    """Sum over the last dimension by adding its second half to its first until one is left; ``values`` is used up."""
    width = values.shape[-1]
    while width > 1:
        half = (width + 1) // 2
        values[..., : width - half] += values[..., half:width]
        width = half
    return values[..., 0]
