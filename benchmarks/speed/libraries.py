"""Our index beside FAISS: flat, in one run, over made-up keys of the default mode's shape.

    python -m benchmarks.speed.libraries --keys 100000 1000000

It needs faiss-cpu, in an environment of its own. Three searches for the four nearest take turns: FAISS's exact inner
product over the content of the keys (``IndexFlatIP``); a matrix product and topk of torch over the same numbers; and
our index, which also looks for the names that a prompt mentions, adds what they say, and decides by direct differences.
Times are those of the processor, on one thread, since other work may run on the same cores.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from meloedit.keys.keys import Keys, KeyShape
from meloedit.routing.calibration import RELATION_SIZE
from meloedit.routing.index import NeuronIndex

from ..shared.options import option_parser, positive, write
from .search import named

COUNT = 4
"""Edits that a prompt's candidates are."""
NOISE = 1.0
"""How far a query lies from its key: the length of what is added to the key's vectors, of length 1."""


def in_turns(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Run all sides in turns; return the median and the least of each one's processor seconds."""
    took: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            began = time.process_time()
            side()
            if number:
                took[name].append(time.process_time() - began)
    return {name: {"median": statistics.median(times), "least": min(times)} for name, times in took.items()}


def queries_near(table: Keys, count: int) -> Keys:
    """Return queries that lie near some of the keys, and mention their names."""
    rng = torch.Generator().manual_seed(7)
    picks = torch.randint(len(table.content), (count,), generator=rng)

    def moved(part: torch.Tensor) -> torch.Tensor:
        noise = torch.nn.functional.normalize(torch.randn(part.shape, generator=rng), dim=1)
        return torch.nn.functional.normalize(part + NOISE * noise, dim=1)

    words = table.word_codes[picks], table.word_shares[picks]
    return Keys(moved(table.content[picks]), moved(table.relation[picks]), *words)


def compared(keys: int, size: int, rounds: int) -> dict[str, Any]:
    """Compare the searches over so many keys."""
    import faiss

    faiss.omp_set_num_threads(1)
    table = named(keys, size, 0)
    ours = NeuronIndex(KeyShape(size, RELATION_SIZE))
    ours.add_all(range(keys), Keys(*(part[:, None] for part in table)), torch.zeros(keys, 1, dtype=torch.bool), keys)
    flat = faiss.IndexFlatIP(size)
    flat.add(table.content.numpy())
    queries = {count: queries_near(table, count) for count in (1, 32)}
    del table  # a million keys take a gigabyte and a half
    by_column = ours._table.rows.keys.content.T
    result: dict[str, Any] = {"keys": keys, "numbers": size, "megabytes_of_content": round(4 * size * keys / 1e6)}
    for count, query in queries.items():
        array = query.content.numpy()
        result[f"queries_{count}"] = in_turns(
            {
                "faiss flat": lambda array=array: flat.search(array, COUNT),  # type: ignore[misc]
                "torch matmul and topk": lambda query=query: (query.content @ by_column).topk(COUNT),  # type: ignore[misc]
                "ours": lambda query=query: ours.search(query, COUNT),  # type: ignore[misc]
            },
            rounds,
        )
    return result


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    parser.add_argument("--keys", type=positive, nargs="+", default=[100_000, 1_000_000], metavar="N")
    parser.add_argument("--size", type=positive, default=256)
    parser.add_argument("--rounds", type=positive, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    import faiss

    found = []
    for keys in given.keys:
        found.append(compared(keys, given.size, given.rounds))
        print(found[-1], flush=True)
    write({"task": "our index beside FAISS", "noise": NOISE, "sizes": found}, given.out, faiss=faiss.__version__)


if __name__ == "__main__":
    main()
