"""What many edits cost on paper: bytes from shapes, times from bytes and rates. ``benchmarks.simulate`` checks them."""

from __future__ import annotations

from dataclasses import dataclass

KEY_NUMBERS = {"content": 256, "relation": 64, "words": 24}
"""Numbers of a key: float32 each, the words also as int32 codes."""
CALIBRATION_PROMPTS = 4_000
"""Prompts whose nearest edits the scope keeps in step."""


@dataclass(frozen=True)
class Shape:
    """A decoder-only model.

    Attributes:
        hidden: width of its states; what an edited module gives.
        inner: width inside of its feed-forwards; what an edited module takes.
        layers: how many.
        kv: numbers of a token's keys and values in one layer.
        weights: parameters.
    """

    hidden: int
    inner: int
    layers: int
    kv: int
    weights: float


SHAPES = {
    "135M": Shape(576, 1536, 30, 2 * 192, 0.135e9),
    "7B": Shape(3584, 18944, 28, 2 * 512, 7.6e9),
    "8B": Shape(4096, 14336, 32, 2 * 1024, 8.0e9),
    "14B": Shape(5120, 13824, 48, 2 * 1024, 14.8e9),
    "32B": Shape(5120, 27648, 64, 2 * 1024, 32.8e9),
    "70B": Shape(8192, 28672, 80, 2 * 1024, 70.6e9),
}
"""SmolLM2-135M, Qwen2.5-7B, Llama-3.1-8B, Qwen2.5-14B and -32B, Llama-3.1-70B, as their config.json have them."""


@dataclass(frozen=True)
class EditShape:
    """An edit of the default mode.

    Attributes:
        rank: of its block.
        modules: edited modules.
        positions: answer positions that a block has an input for.
        keys: keys: one for each wording and form.
    """

    rank: int = 2
    modules: int = 3
    positions: int = 8
    keys: int = 2


@dataclass(frozen=True)
class Device:
    """A device, by its data sheet.

    Attributes:
        memory: bytes.
        bandwidth: bytes a second.
        flops: float32 operations a second of a matrix product.
    """

    memory: float
    bandwidth: float
    flops: float


DEVICES = {
    "A100-80": Device(80e9, 2.04e12, 19.5e12),
    "H100-80": Device(80e9, 3.35e12, 67e12),
    "H200-141": Device(141e9, 4.8e12, 67e12),
}


@dataclass(frozen=True)
class Rates:
    """What was measured.

    Attributes:
        read: bytes of keys a second that a search reads, with one query.
        search: seconds of a search that do not depend on the number of keys.
        batch: seconds for each key and query of a batch, where the product decides and not the memory.
        judge: seconds for each pair that the judge reads.
        file: bytes of the store's file for each edit, beside block and keys.
        open: seconds for each edit of opening a store, beside reading its file.
        resident: bytes of the process for each edit, beside block and keys: texts, numbers, the lists of names.
        commit: seconds of a transaction, and of what follows it, for each edit in it.
    """

    read: float
    search: float
    batch: float
    judge: float
    file: float
    open: float
    resident: float
    commit: float


def block_bytes(shape: Shape, edit: EditShape) -> int:
    """Return the bytes of a block, in float16."""
    return 2 * edit.rank * edit.modules * (shape.inner + shape.hidden + edit.positions)


def key_bytes(edit: EditShape) -> int:
    """Return the bytes of an edit's keys in the index, with the number of its owner and whether they are quiet."""
    numbers = KEY_NUMBERS["content"] + KEY_NUMBERS["relation"] + 2 * KEY_NUMBERS["words"]
    return edit.keys * (4 * numbers + 9)


def read_bytes(edits: int, edit: EditShape) -> int:
    """Return the bytes that a search reads: the content of every key."""
    return edits * edit.keys * 4 * KEY_NUMBERS["content"]


def search_seconds(edits: int, edit: EditShape, rates: Rates, queries: int = 1) -> float:
    """Return the time of a search: it reads the keys once; with many queries the product takes longer than that."""
    reading = read_bytes(edits, edit) / rates.read
    return rates.search + max(reading, edits * edit.keys * queries * rates.batch)


def search_seconds_on(device: Device, edits: int, edit: EditShape, queries: int = 1) -> float:
    """Return the least time of a search on a device, by its data sheet."""
    product = 2 * KEY_NUMBERS["content"] * edits * edit.keys * queries / device.flops
    return max(read_bytes(edits, edit) / device.bandwidth, product)


def file_bytes(edits: int, shape: Shape, edit: EditShape, rates: Rates) -> float:
    """Return the size of a store's file."""
    return edits * (block_bytes(shape, edit) + key_bytes(edit) + rates.file)


def resident_bytes(edits: int, shape: Shape, edit: EditShape, rates: Rates) -> float:
    """Return what the edits add to the memory of the process, where the model is on the CPU."""
    return edits * (block_bytes(shape, edit) + key_bytes(edit) + rates.resident)


def step_share(shape: Shape, edit: EditShape, rows: int) -> float:
    """Return the bytes of the blocks that a decoding step of some rows reads, of those of the weights in 16 bits."""
    return rows * block_bytes(shape, edit) / (2 * shape.weights)


def most_edits(device: Device, shape: Shape, edit: EditShape, devices: int = 1, tokens: int = 65_536) -> int:
    """Return how many edits fit beside the model, in 16 bits, and the cache of so many tokens.

    On several devices that share every matrix each has its share of a block as of a module; the keys are on one.
    """
    cache = 2 * tokens * shape.layers * shape.kv
    free = devices * device.memory * 0.95 - 2 * shape.weights - cache
    return max(0, int(free // (block_bytes(shape, edit) + key_bytes(edit))))
