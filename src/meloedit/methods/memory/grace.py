"""GRACE (arXiv 2211.11031) as in its authors' code (Thartvigsen/GRACE, ``grace/editors/grace.py``).

A hook on one layer looks up each prompt in a codebook (``codebook.py``) and replaces the layer's output by the value of
the nearest key, if the prompt is within that key's radius. An edit chooses its key before its first iteration; all its
iterations train that key's value.

The authors run one prompt at a time. Here each row of a batch has its query at its last real token, so that a batch
gives the same answers as its rows one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...backbones.contexts import frozen
from ...backbones.feed_forward import feed_forward_linear
from ...backbones.layers import linear_shape
from ...errors import MeloEditError
from ...results import Route
from ...training.trainer import seeded
from ..base import Size
from ..checkpoint import read_state, write_state
from ..settings import Settings
from ..trained import TrainedMethod, only_trains
from .codebook import Codebook

if TYPE_CHECKING:
    from ...backbones.batch import Batch, Example
    from ...edit import Edit


@dataclass(frozen=True)
class GraceSettings(Settings):
    """Settings under the authors' names and with their defaults (``grace/config/editor/grace.yaml``).

    Attributes:
        layer: the edited module; empty: at the relative depth that the authors chose for a model of the same family.
        eps: initial radius of a key.
        edit_lr: Adam's learning rate for the value.
        n_iter: iterations per edit.
        val_init: a value starts as random numbers in [0, 1) (``cold``) or as the layer's output (``warm``).
        eps_expand: what happens to a key when an edit with its label is outside its radius: the radius grows
            (``coverage``), or the key also moves half-way to the edit (``moving_average``).
        replacement: which tokens get the value: all before the key's token (``replace_prompt``), that token alone
            (``replace_last``), or all (``replace_all``).
        prefix_cache: run the layers below once for all iterations of an edit; the values are the same to the bit.
    """

    fixed = ("edits_per_call",)  # GRACE makes one edit at a time
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


class Grace(TrainedMethod):
    """Replaces the output of one layer by values from a codebook."""

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
        if self.backbone.layer_of(self.layer)[0] != 0:
            raise MeloEditError(f"method grace: {self.layer} must lie where the prompt is read, in the first stack")
        self._sizes, self._device = sizes, next(modules[self.layer].parameters()).device
        self._columns: Tensor | None = None  # (B,) column of each row's query
        self._last: tuple[Tensor, Tensor] = (torch.zeros(0), torch.zeros(0))  # queries, and the layer's outputs there
        self._training: Tensor | None = None  # (out,) the value in training
        self._routes: list[Route | None] = []
        self._reset()
        self._handle = modules[self.layer].register_forward_hook(self._replace)

    def _default_layer(self) -> str:
        """Return the feed-forward output at the authors' depth: BERT 10 of 12, T5 4 of 8; LLaMA 27 of 32 (WISE's)."""
        backbone = self.backbone
        prefix, layers = backbone.stacks[0]
        depth = 10 / 12 if backbone.documents else 27 / 32 if backbone.answer_follows_prompt else 4 / 8
        place = f"{prefix}.{int(depth * len(layers))}"
        return feed_forward_linear(self.backbone, place)

    def _replace(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Replace the layer's output by the nearest key's value where the query is within the key's radius.

        Args:
            module: the layer.
            args: its input (B, L, d) first.
            output: its output (B, L, out).
        """
        hidden, book = args[0], self.codebook
        count, length = hidden.shape[:2]
        decoding = length == 1  # the authors' code looks up each generated token, too
        columns = torch.zeros(count, dtype=torch.long, device=hidden.device) if decoding else self._columns
        if columns is None:
            columns = torch.full((count,), length - 1, device=hidden.device)
        rows = torch.arange(count, device=hidden.device)
        queries = hidden[rows, columns].float()
        self._last = queries.detach(), output[rows, columns].detach().float()
        if not len(book.keys):
            self._routes = [None] * count
            return output
        distance, nearest = book.search(queries)
        fires = distance <= book.radii[nearest]
        if not decoding:
            self._routes = self._routes_of(distance, nearest, fires)
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

    def _routes_of(self, distance: Tensor, nearest: Tensor, fires: Tensor) -> list[Route | None]:
        radii, edits = self.codebook.radii[nearest].tolist(), self.codebook.edits
        names = [edits[key][0] if edits[key] else None for key in nearest.tolist()]
        return [
            Route(name if fired else None, far, radius, name, "fired" if fired else "outside scope")
            for name, far, radius, fired in zip(names, distance.tolist(), radii, fires.tolist(), strict=True)
        ]

    @contextmanager
    def _querying(self, columns: Tensor) -> Iterator[None]:
        self._columns = columns
        try:
            yield
        finally:
            self._columns = None

    def around_generate(self, batch: Batch) -> AbstractContextManager[object]:
        """Take queries at the last token of each prompt."""
        return self._querying(batch.last)

    def around_forward(self, examples: Sequence[Example]) -> AbstractContextManager[object]:
        """Take queries at the last token of each prompt, in rows that are padded on the right."""
        return self._querying(torch.tensor([len(example.prompt) - 1 for example in examples], device=self._device))

    def last_routes(self, indices: Sequence[int]) -> list[Route | None]:
        """Return the routes of the last prefill, in the order of its rows."""
        return self._routes

    def _edit(self, edits: Sequence[Edit]) -> None:
        for edit in edits:
            for example in self.examples([edit]):
                self._learn(edit, example)

    def _learn(self, edit: Edit, example: Example) -> None:
        """Choose a key for one wording of an edit, and train the key's value."""
        settings, book = self.settings, self.codebook
        with torch.no_grad(), frozen(self.model), self.around_forward([example]):
            self.backbone.target_logits([example])
        (query,), (initial,) = self._last
        if settings.val_init == "cold":
            initial = torch.rand(initial.shape, generator=seeded(settings.seed, len(book.keys), edit.id)).to(initial)
        label = torch.tensor(example.target).float().mean().item()
        chosen = book.choose(query, label, initial, settings.eps, settings.eps_expand)
        book.edits[chosen].append(edit.id)
        self._key[edit.id] = chosen
        value = book.values[chosen].clone()
        lower = self.run_lower_layers_once(self.layer) if settings.prefix_cache else nullcontext()
        with only_trains(self.model, [value]), self.around_forward([example]), lower:
            self._training = value
            try:
                optimizer = torch.optim.Adam([value], lr=settings.edit_lr)
                for _ in range(settings.n_iter):
                    loss = self.loss([example])
                    if not loss.requires_grad:  # the edit is outside its key's radius: nothing would change
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
        """Return the size of keys, radii and values."""
        return Size.of([self.codebook.keys, self.codebook.radii, self.codebook.values])

    def blocks(self) -> dict[str, Any]:
        """Return the index of the key that each edit chose."""
        return dict(self._key)

    def checkpoint(self) -> dict[str, Any]:
        """Write the codebook."""
        return write_state(self.folder, self.codebook.tensors()) | {"edits": self.codebook.edits}

    def restore(self, noted: Mapping[str, Any], edits: Sequence[Edit]) -> None:
        """Bring back the codebook."""
        tensors = {name: tensor.to(self._device) for name, tensor in read_state(self.folder, noted).items()}
        self.codebook = Codebook(**tensors, edits=[list(ids) for ids in noted["edits"]])
        self._key = {name: key for key, ids in enumerate(self.codebook.edits) for name in ids}
        super().restore(noted, edits)

    def close(self) -> None:
        """Take the hook off the layer."""
        self._handle.remove()
