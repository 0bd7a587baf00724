"""Tensors as bytes in the safetensors format, for one edit or for many edits at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .schema import damaged

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]
"""Tensors by name."""
Stack = tuple[list[int], Tensors]
"""The numbers of n records, and their tensors: each has shape (n, ...) with one row per record, in that order."""

# 8 bytes give the length of a JSON header; the header and the tensors follow. https://github.com/huggingface/safetensors
_LENGTH_BYTES = 8
_DTYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}


def pack(tensors: Tensors) -> bytes:
    """Return tensors as safetensors bytes."""
    from safetensors.torch import save  # imported late: the store starts without torch

    # Copied, because blocks are rows of one slab and safetensors refuses tensors that share memory.
    return save({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()})


def unpack(blob: bytes, name: str | Path, what: str, finite: bool = True) -> Tensors:
    """Return the tensors in safetensors bytes, sorted by name: the library's order differs from call to call.

    Args:
        blob: the bytes.
        name: the store's name in messages.
        what: what messages call the tensors.
        finite: whether all numbers must be finite.

    Raises:
        StoreError: if they are no tensors, or have numbers that are not finite.
    """
    tensors = _load(blob, name, what)
    if finite and not all(bool(_finite(tensor[None])[0]) for tensor in tensors.values()):
        raise damaged(name, f"{what} has numbers that are not finite")
    return tensors


def _load(blob: bytes, name: str | Path, what: str) -> Tensors:
    from safetensors.torch import load

    try:
        layout = json.loads(_header(blob)[_LENGTH_BYTES:])
        for entry, value in layout.items():
            if entry != "__metadata__" and value["dtype"] not in _DTYPES:
                raise ValueError(f"{entry!r} has the type {value['dtype']}")
        return dict(sorted(load(blob).items()))
    except Exception as error:  # safetensors raises errors of many classes
        raise damaged(name, f"{what} cannot be read: {error}") from None


def _header(blob: bytes) -> bytes:
    """Return the length of the header and the header."""
    return blob[: _LENGTH_BYTES + int.from_bytes(blob[:_LENGTH_BYTES], "little")]


def _finite(tensor: Tensor) -> Tensor:
    """Return, for each of n rows of a tensor (n, ...), whether all its numbers are finite."""
    from torch import int16

    if not tensor.is_floating_point() or not tensor.numel():
        return tensor.new_ones(len(tensor)).bool()
    flat = tensor.flatten(1)
    if flat.element_size() != 2:
        return flat.isfinite().all(1)
    # The bits as whole numbers: ``isfinite`` takes twenty times as long on the CPU, and blocks are large.
    most = 0x7C00 if str(flat.dtype) == "torch.float16" else 0x7F80
    return flat.view(int16).bitwise_and(0x7FFF).amax(1) < most


def stack_tensors(
    blobs: Mapping[int, bytes], name: str | Path, called: Callable[[int], str] = "record {}".format
) -> list[Stack]:
    """Return the tensors of many records, one stack per layout.

    Blobs of one layout have equal headers, so they have equal lengths and each tensor lies at the same offsets. Hence
    the blobs are the rows of one byte table, and each tensor is a range of its columns: no work per record and tensor.

    Args:
        blobs: safetensors bytes by the number of the record.
        name: the store's name in messages.
        called: returns what messages call the tensors of a record.

    Raises:
        StoreError: if some are no tensors, or have numbers that are not finite.
    """
    import torch

    by_header: dict[tuple[bytes, int], list[int]] = {}
    for number, blob in blobs.items():
        by_header.setdefault((_header(blob), len(blob)), []).append(number)
    stacks = []
    for (header, _), numbers in by_header.items():
        first, layout = _load(blobs[numbers[0]], name, called(numbers[0])), json.loads(header[_LENGTH_BYTES:])
        table = torch.frombuffer(bytearray().join(blobs[number] for number in numbers), dtype=torch.uint8)
        table = table.view(len(numbers), -1)  # (n, bytes of one blob)
        tensors = {}
        for entry, example in first.items():
            if not example.numel():
                tensors[entry] = example.expand(len(numbers), *example.shape)
                continue
            start, stop = (len(header) + offset for offset in layout[entry]["data_offsets"])
            # Copied, for one row alone would keep its offset, which a view in a wider type needs to be aligned.
            columns = table[:, start:stop].clone(memory_format=torch.contiguous_format)
            tensors[entry] = columns.view(example.dtype).view(-1, *example.shape)
            if not bool((finite := _finite(tensors[entry])).all()):
                number = numbers[int(finite.logical_not().nonzero()[0])]
                raise damaged(name, f"{called(number)} has numbers that are not finite")
        stacks.append((numbers, tensors))
    return stacks
