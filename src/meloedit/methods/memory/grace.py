"""GRACE (arXiv 2211.11031) as its authors coded it (Thartvigsen/GRACE, ``grace/editors/grace.py``).

One layer is wrapped. A codebook maps keys, which are inputs of the layer at one token, to values, which replace its
output. An edit looks its key up once, in the first of its iterations; all iterations train the value that was chosen.

Batches: the authors run one prompt at a time; here the query of each row is taken at its own last real token, so that
a batch gives what its rows give one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ...backbones.contexts import frozen
from ...backbones.layers import feed_forward_output, linear_shape
from ...errors import MeloEditError
from ...results import Route
from ...training.trainer import seeded
from ..base import Method, Settings, Size, only_trains
from ..checkpoint import read_state, write_state

if TYPE_CHECKING:
    from ...backbones.batch import Batch, Example
    from ...edit import Edit

Replacement = Literal["replace_prompt", "replace_last", "replace_all"]


@dataclass(frozen=True)
class GraceSettings(Settings):
    """Settings under the authors' names and with their defaults (``grace/config/editor/grace.yaml``).

    Attributes:
        layer: the wrapped module; empty: that of the authors' model of the same family at the same relative depth.
        eps: initial radius of a key.
        edit_lr: Adam's rate for the value.
        n_iter: iterations of each edit.
        val_init: a value begins as random numbers in [0, 1) (``cold``) or as the layer's own output (``warm``).
        eps_expand: a key that is met again from farther away grows (``coverage``), or moves half-way too.
        replacement: which tokens get the value: all before the key's token (``replace_prompt``), that token alone
            (``replace_last``), or all.
        prefix_cache: run the layers below once for all iterations of an edit; the values are the same to the bit.
    """

    fixed = ("together",)
    layer: str = ""
    eps: float = 1.0
    edit_lr: float = 1.0
    n_iter: int = 100
    val_init: str = "cold"
    eps_expand: str = "coverage"
    replacement: str = "replace_prompt"
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = {
            "val_init": ("cold", "warm"),
            "eps_expand": ("coverage", "moving_average"),
            "replacement": ("replace_prompt", "replace_last", "replace_all"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise MeloEditError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.together != 1:
            raise MeloEditError("together must be 1: GRACE makes one edit at a time")


@dataclass
class Codebook:
    """Keys, their radii, labels and values.

    Attributes:
        keys: (n, d) inputs of the layer.
        radii: (n,) epsilon of each key.
        labels: (n,) the mean of the label's token ids, by which the authors compare labels.
        values: (n, out) what replaces the layer's output.
        edits: per key the edits that chose it.
    """

    keys: Tensor
    radii: Tensor
    labels: Tensor
    values: Tensor
    edits: list[list[str]] = field(default_factory=list)

    @classmethod
    def empty(cls, size: int, out: int, device: torch.device) -> Codebook:
        """Return a codebook without keys."""
        one = torch.zeros(0, device=device)
        return cls(one.reshape(0, size), one, one.clone(), torch.zeros(0, out, device=device))

    def choose(self, query: Tensor, label: float, value: Tensor, eps: float, expand: str) -> int:
        """Take in an edit's query (d,); return the number of the key whose value it trains.

        The rules, with d the distance to the nearest key and e its radius: d > eps + e adds a key. Else, with the
        same label, e grows to d where it is smaller. Else a key is added, and both radii become half of d.
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
        # The key that is nearest now: of equal ones the oldest, so that a repeated prompt with another target trains
        # the old key's value, which its new radius keeps from being used.
        return int(self.search(query[None])[1])

    def _add(self, query: Tensor, label: float, value: Tensor, eps: float) -> None:
        self.keys = torch.cat([self.keys, query[None]])
        self.radii = torch.cat([self.radii, query.new_tensor([eps])])
        self.labels = torch.cat([self.labels, query.new_tensor([label])])
        self.values = torch.cat([self.values, value[None]])
        self.edits.append([])

    def search(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distance (B,) of the nearest key to each query (B, d), and the key's number (B,)."""
        found = torch.cdist(self.keys, queries).min(0)
        return found.values, found.indices

    def tensors(self) -> dict[str, Tensor]:
        """Return what the codebook consists of."""
        return {"keys": self.keys, "radii": self.radii, "labels": self.labels, "values": self.values}


class Grace(Method):
    """A codebook at one layer."""

    name = "grace"
    Settings = GraceSettings
    routes = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.layer = self.settings.layer or self._default_layer()
        modules = dict(self.model.named_modules())
        if self.layer not in modules or (sizes := linear_shape(modules[self.layer])) is None:
            raise MeloEditError(
                f"method grace: no linear module {self.layer!r}; the default is {self._default_layer()}"
            )
        if self.backbone.place_of(self.layer)[0] != 0:
            raise MeloEditError(f"method grace: {self.layer} must lie where the prompt is read, in the first stack")
        self._sizes, self._device = sizes, next(modules[self.layer].parameters()).device
        self._columns: Tensor | None = None  # of each row's query
        self._seen: tuple[Tensor, Tensor] = (torch.zeros(0), torch.zeros(0))  # queries, and the layer's own outputs
        self._training: Tensor | None = None  # the value that is trained now
        self._found: list[Route | None] = []
        self._reset()
        self._handle = modules[self.layer].register_forward_hook(self._replace)

    def _default_layer(self) -> str:
        """Return the feed-forward output at the authors' depth: T5 4 of 8, BERT 10 of 12; LLaMA 27 of 32 (WISE's)."""
        backbone = self.backbone
        prefix, layers = backbone.stacks[0]
        depth = 10 / 12 if backbone.documents else 27 / 32 if backbone.answer_follows_prompt else 4 / 8
        place = f"{prefix}.{int(depth * len(layers))}"
        return f"{place}.{feed_forward_output(self.model.get_submodule(place), place)}"

    def _replace(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Put the nearest key's value into the layer's output where the query lies within its radius."""
        hidden, book = args[0], self.codebook
        count, length = hidden.shape[:2]
        decoding = length == 1  # each new token is looked up too, as in the authors' code
        columns = torch.zeros(count, dtype=torch.long, device=hidden.device) if decoding else self._columns
        if columns is None:
            columns = torch.full((count,), length - 1, device=hidden.device)
        rows = torch.arange(count, device=hidden.device)
        queries = hidden[rows, columns].float()
        self._seen = queries.detach(), output[rows, columns].detach().float()
        if not len(book.keys):
            self._found = [None] * count
            return output
        distance, nearest = book.search(queries)
        fires = distance <= book.radii[nearest]
        if not decoding:
            self._found = self._routes(distance, nearest, fires)
        if not fires.any():
            return output
        values = book.values[nearest] if self._training is None else self._training[None]
        place = torch.arange(length, device=hidden.device)
        tokens = {
            "replace_prompt": place < columns[:, None],
            "replace_last": place == columns[:, None],
            "replace_all": torch.ones(count, length, dtype=torch.bool, device=hidden.device),
        }[self.settings.replacement]
        return torch.where((fires[:, None] & tokens)[..., None], values[:, None].to(output.dtype), output)

    def _routes(self, distance: Tensor, nearest: Tensor, fires: Tensor) -> list[Route | None]:
        radii, edits = self.codebook.radii[nearest].tolist(), self.codebook.edits
        owners = [edits[key][0] if edits[key] else None for key in nearest.tolist()]
        return [
            Route(owner if fired else None, far, radius, owner, "fired" if fired else "outside scope")
            for owner, far, radius, fired in zip(owners, distance.tolist(), radii, fires.tolist(), strict=True)
        ]

    @contextmanager
    def _querying(self, columns: Tensor) -> Iterator[None]:
        self._columns = columns
        try:
            yield
        finally:
            self._columns = None

    def answering(self, batch: Batch) -> AbstractContextManager[object]:
        """Take queries at the prompts' last tokens."""
        return self._querying(batch.last)

    def reading(self, rows: Sequence[Example]) -> AbstractContextManager[object]:
        """Take queries at the prompts' last tokens, of rows padded on the right."""
        return self._querying(torch.tensor([len(row.prompt) - 1 for row in rows], device=self._device))

    def routed(self, part: Sequence[int]) -> list[Route | None]:
        """Return how the prompts of the last call were routed."""
        return self._found

    def _edit(self, edits: Sequence[Edit]) -> None:
        for edit in edits:
            for row in self.rows([edit]):
                self._edit_row(edit, row)

    def _edit_row(self, edit: Edit, row: Example) -> None:
        settings, book = self.settings, self.codebook
        with torch.no_grad(), frozen(self.model), self.reading([row]):
            self.backbone.target_logits([row])
        (query,), (own,) = self._seen
        if settings.val_init == "cold":
            own = torch.rand(own.shape, generator=seeded(settings.seed, len(book.keys), edit.id)).to(own)
        label = torch.tensor(row.target).float().mean().item()
        chosen = book.choose(query, label, own, settings.eps, settings.eps_expand)
        book.edits[chosen].append(edit.id)
        self._key[edit.id] = chosen
        value = book.values[chosen].clone()
        below = self.below_once(self.layer) if settings.prefix_cache else nullcontext()
        with only_trains(self.model, [value]), self.reading([row]), below:
            self._training = value
            try:
                optimizer = torch.optim.Adam([value], lr=settings.edit_lr)
                for _ in range(settings.n_iter):
                    loss = self.loss([row])
                    if not loss.requires_grad:  # the key does not fire on its own edit: nothing would change
                        break
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            finally:
                self._training = None
        book.values[chosen] = value.detach()

    def _reset(self) -> None:
        self.codebook = Codebook.empty(*self._sizes, self._device)
        self._key: dict[str, int] = {}

    def size(self) -> Size:
        """Return keys, radii and values."""
        tensors = [self.codebook.keys, self.codebook.radii, self.codebook.values]
        return Size(sum(t.numel() for t in tensors), sum(t.numel() * t.element_size() for t in tensors))

    def blocks(self) -> dict[str, Any]:
        """Return the number of the key that each edit chose."""
        return dict(self._key)

    def checkpoint(self) -> dict[str, Any]:
        """Write the codebook."""
        return write_state(self.folder, self.codebook.tensors(), len(self.edits)) | {"edits": self.codebook.edits}

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Bring back the codebook."""
        tensors = {name: tensor.to(self._device) for name, tensor in read_state(self.folder, noted).items()}
        self.codebook = Codebook(**tensors, edits=[list(ids) for ids in noted["edits"]])
        self._key = {name: key for key, ids in enumerate(self.codebook.edits) for name in ids}
        super().restore(noted, edits)

    def close(self) -> None:
        """Unwrap the layer."""
        self._handle.remove()
