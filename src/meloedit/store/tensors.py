"""Tensors as bytes in the safetensors format, one edit's or those of many at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]
Stack = tuple[list[int], Tensors]
"""Numbers of edits, and their tensors (n, ...), one row an edit."""

# The format: 8 bytes that hold the length of a JSON header, the header, the tensors. https://github.com/huggingface/safetensors
_LENGTH = 8


def pack(tensors: Tensors) -> bytes:
    """Return tensors as safetensors bytes."""
    from safetensors.torch import save

    # Copied, since blocks are rows of one slab and safetensors refuses tensors that share memory.
    return save({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()})


def unpack(blob: bytes) -> Tensors:
    """Return the tensors in safetensors bytes, by name: safetensors gives them in another order every time."""
    from safetensors.torch import load

    return dict(sorted(load(blob).items()))


def stacked(blobs: Mapping[int, bytes]) -> list[Stack]:
    """Return the tensors of many edits, those of one layout as rows of one tensor.

    Edits of one rank have the same header, so that their bytes are the rows of a table, and each tensor is some columns
    of it: nothing is done per edit and tensor.
    """
    import torch

    alike: dict[bytes, list[int]] = {}
    for number, blob in blobs.items():
        alike.setdefault(blob[: _LENGTH + int.from_bytes(blob[:_LENGTH], "little")], []).append(number)
    stacks = []
    for header, numbers in alike.items():
        one, layout = unpack(blobs[numbers[0]]), json.loads(header[_LENGTH:])
        table = torch.frombuffer(bytearray(b"".join(blobs[n] for n in numbers)), dtype=torch.uint8)
        table = table.view(len(numbers), -1)
        tensors = {}
        for name, like in one.items():
            start, stop = (len(header) + offset for offset in layout[name]["data_offsets"])
            columns = table[:, start:stop].clone(memory_format=torch.contiguous_format)  # bytes may be odd in number
            tensors[name] = (
                columns.view(like.dtype).view(-1, *like.shape)
                if like.numel()
                else like.expand(len(numbers), *like.shape)
            )
        stacks.append((numbers, tensors))
    return stacks
