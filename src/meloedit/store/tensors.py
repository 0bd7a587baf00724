"""Tensors as bytes in the safetensors format, for one edit or for many edits at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]
"""Tensors by name."""
Stack = tuple[list[int], Tensors]
"""The numbers of n records, and their tensors: each has shape (n, ...) with one row per record, in that order."""

# 8 bytes give the length of a JSON header; the header and the tensors follow. https://github.com/huggingface/safetensors
_LENGTH_BYTES = 8


def pack(tensors: Tensors) -> bytes:
    """Return tensors as safetensors bytes."""
    from safetensors.torch import save  # imported late: the store starts without torch

    # Copied, because blocks are rows of one slab and safetensors refuses tensors that share memory.
    return save({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()})


def unpack(blob: bytes) -> Tensors:
    """Return the tensors in safetensors bytes, sorted by name: the library's order differs from call to call."""
    from safetensors.torch import load

    return dict(sorted(load(blob).items()))


def stack_tensors(blobs: Mapping[int, bytes]) -> list[Stack]:
    """Return the tensors of many records, one stack per layout.

    Blobs of one layout have equal headers, so they have equal lengths and each tensor lies at the same offsets. Hence
    the blobs are the rows of one byte table, and each tensor is a range of its columns: no work per record and tensor.

    Args:
        blobs: safetensors bytes by the number of the record.
    """
    import torch

    by_header: dict[bytes, list[int]] = {}
    for number, blob in blobs.items():
        header = blob[: _LENGTH_BYTES + int.from_bytes(blob[:_LENGTH_BYTES], "little")]
        by_header.setdefault(header, []).append(number)
    stacks = []
    for header, numbers in by_header.items():
        first, layout = unpack(blobs[numbers[0]]), json.loads(header[_LENGTH_BYTES:])
        table = torch.frombuffer(bytearray().join(blobs[number] for number in numbers), dtype=torch.uint8)
        table = table.view(len(numbers), -1)  # (n, bytes of one blob)
        tensors = {}
        for name, example in first.items():
            if not example.numel():
                tensors[name] = example.expand(len(numbers), *example.shape)
                continue
            start, stop = (len(header) + offset for offset in layout[name]["data_offsets"])
            # Copied, for one row alone would keep its offset, which a view in a wider type needs to be aligned.
            columns = table[:, start:stop].clone(memory_format=torch.contiguous_format)
            tensors[name] = columns.view(example.dtype).view(-1, *example.shape)
        stacks.append((numbers, tensors))
    return stacks
