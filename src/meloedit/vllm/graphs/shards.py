"""Shards: the part of a block that one rank of tensor parallelism has, and how all ranks come to the same blocks.

A row-parallel linear has a slice of the inputs, and its outputs are summed over the ranks: A is cut by columns, B is
whole, and P, which no input multiplies, belongs to the first rank alone. A column-parallel one has a slice of the
outputs: B is cut by rows. The delta is added before the sum, so that no other communication is needed for it.

Which edit answers is decided by the first rank: it alone has the store, the index and the judge. The others receive the
blocks themselves, so that two ranks can never have read different revisions of the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from ...errors import ModelError
from ...hooks.blocks import Factors


class Shard(NamedTuple):
    """The part of a linear that a rank has.

    Attributes:
        inputs: the slice of its input features.
        outputs: the slice of its output features.
        places: whether P is added here.
    """

    inputs: slice
    outputs: slice
    places: bool

    @property
    def shape(self) -> tuple[int, int]:
        """How many input and output features the rank has."""
        return self.inputs.stop - self.inputs.start, self.outputs.stop - self.outputs.start

    def cut(self, factors: Factors) -> Factors:
        """Return this part of a block's factors a (..., rank, in), b (..., out, rank), p (..., rank, K)."""
        a, b, p = factors
        return Factors(a[..., self.inputs], b[..., self.outputs, :], p if self.places else torch.zeros_like(p))


def shard_of(name: str, linear: Any) -> Shard:
    """Return the part that this rank has of one of vLLM's linears.

    Args:
        name: its name, for the error.
        linear: it; without the attributes of a parallel one it is whole.

    Raises:
        ModelError: if several matrices are merged in it, whose parts a block cannot follow.
    """
    inputs, outputs = int(linear.input_size), int(linear.output_size)
    own_in = int(getattr(linear, "input_size_per_partition", inputs))
    own_out = int(getattr(linear, "output_size_per_partition", outputs))
    rank = int(getattr(linear, "tp_rank", 0))
    if own_out < outputs and len(getattr(linear, "output_sizes", ())) > 1:
        raise ModelError(f"module {name!r} has several matrices merged, each cut by itself: edits cannot act on it")
    if own_in == inputs and own_out == outputs:
        rank = 0
    first_in = rank * own_in if own_in < inputs else 0
    first_out = rank * own_out if own_out < outputs else 0
    return Shard(
        slice(first_in, first_in + own_in), slice(first_out, first_out + own_out), own_in == inputs or rank == 0
    )


def ranks(vllm_config: Any) -> Any:
    """Return vLLM's group of this model's ranks that takes tensors of the CPU; ``None`` if there is one rank alone."""
    if int(vllm_config.parallel_config.tensor_parallel_size) == 1:
        return None
    from vllm.distributed.parallel_state import get_tp_group

    return get_tp_group().cpu_group


class Answer(NamedTuple):
    """A block that acts on the answer of one request.

    Attributes:
        start: the position from which it acts.
        answer: the position that P counts from.
        factors: per module, whole: a (rank, in), b (out, rank), p (rank, K).
        last: the position behind which ``spelled`` comes.
        spelled: tokens that must come, see ``Requests.token``.
    """

    start: int
    answer: int
    factors: Mapping[str, Factors]
    last: int = 0
    spelled: tuple[int, ...] = ()


class Crew:
    """The ranks that run one model.

    Args:
        sites: by module, how many input and output features it has as a whole.
        dtype: of the factors.
        group: a group of torch.distributed that takes tensors of the CPU; ``None``: one rank alone.
    """

    def __init__(
        self, sites: Mapping[str, tuple[int, int]], dtype: torch.dtype, group: dist.ProcessGroup | None = None
    ) -> None:
        self._sites, self._dtype, self._group = dict(sites), dtype, group
        self._source = 0 if group is None else dist.get_global_rank(group, 0)
        self.first = group is None or dist.get_rank(group) == 0

    def share(self, count: int, answers: Sequence[Answer | None] | None, device: torch.device) -> list[Answer | None]:
        """Return on every rank what the first one has; all ranks call it at the same place of a pass.

        Args:
            count: how many prompts end in the pass, which every rank knows.
            answers: on the first rank the blocks that act on them.
            device: where the factors go.
        """
        if self._group is None:
            assert answers is not None
            return list(answers)
        told = answers if self.first else None
        head = torch.zeros(count, 6, dtype=torch.int64)
        for row, answer in enumerate(told or ()):
            if answer is not None:
                p = next(iter(answer.factors.values())).p
                head[row] = torch.tensor([*p.shape, answer.start, answer.answer, answer.last, len(answer.spelled)])
        self._send(head)
        body = self._body(head, told)
        self._send(body)
        words = torch.tensor([w for one in told or () if one for w in one.spelled] or [0], dtype=torch.int64)
        if total := int(head[:, 5].sum()):
            words = words if self.first else torch.zeros(total, dtype=torch.int64)
            self._send(words)
        return list(answers) if answers is not None and self.first else self._heard(head, body.to(device), words)

    def _send(self, tensor: Tensor) -> None:
        if tensor.numel():
            dist.broadcast(tensor, self._source, group=self._group)

    def _body(self, head: Tensor, told: Sequence[Answer | None] | None) -> Tensor:
        """Return the factors of all blocks one after another; room for them on ranks that have not heard them."""
        if told is not None:
            parts = [f.flatten() for one in told if one for name in self._sites for f in one.factors[name]]
            return torch.cat(parts).to("cpu", self._dtype) if parts else torch.zeros(0, dtype=self._dtype)
        size = sum(rank * (i + o + k) for rank, k in head[:, :2].tolist() for i, o in self._sites.values())
        return torch.zeros(size, dtype=self._dtype)

    def _heard(self, head: Tensor, body: Tensor, words: Tensor) -> list[Answer | None]:
        heard: list[Answer | None] = []
        at = said = 0
        for rank, k, start, answer, last, length in head.tolist():
            if not rank:
                heard.append(None)
                continue
            factors = {}
            for name, (inputs, outputs) in self._sites.items():
                sizes = (rank * inputs, outputs * rank, rank * k)
                a, b, p = body[at : at + sum(sizes)].split(sizes)
                factors[name] = Factors(a.view(rank, inputs), b.view(outputs, rank), p.view(rank, k))
                at += sum(sizes)
            heard.append(Answer(start, answer, factors, last, tuple(words[said : said + length].tolist())))
            said += length
        return heard
