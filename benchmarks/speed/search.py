"""Exact search over key tables larger than the caches, against one pass over the memory and the released loop.

    python -m benchmarks.speed.search [--released MELO]

The pass reads the table once (a sum), which shows this machine's memory bandwidth in this run. The released code
measures the distance to each cluster in a Python loop (BruthYU/MELO, ``VecDB.search_database``). The rival is a loop
written after it, or with ``--released`` that class itself, from a checkout of the repository.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from meloedit.keys.keys import MAX_WORDS, Keys, KeyShape
from meloedit.paper.clusters import ClusterIndex
from meloedit.routing.calibration import RELATION_SIZE
from meloedit.routing.index import NeuronIndex

from ..shared.options import option_parser, positive, write
from ..shared.timing import compare

WORDS = 100_000
"""How many different words the keys' names are drawn from."""


def last_level_cache() -> int:
    """Return the bytes of the largest cache."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) * {"K": 1024, "M": 1024**2}[text[-1]])
    return max(sizes, default=32 * 1024**2)


def unit(rows: int, size: int, seed: int) -> torch.Tensor:
    """Return random keys (rows, size) of unit length."""
    keys = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(keys, dim=1)


def named(rows: int, size: int, seed: int) -> Keys:
    """Return keys (rows,) like the default mode's: ``size`` numbers of content, twelve words, three of them names."""
    rng = torch.Generator().manual_seed(seed)
    codes, shares = torch.zeros(rows, MAX_WORDS, dtype=torch.int32), torch.zeros(rows, MAX_WORDS)
    codes[:, :12] = torch.randint(1, WORDS, (rows, 12), generator=rng, dtype=torch.int32)
    shares[:, :3] = 1 / 3
    return Keys(unit(rows, size, seed), unit(rows, RELATION_SIZE, seed + 1), codes, shares)


def against_bandwidth(size: int, rounds: int, queries: int, device: str) -> dict[str, Any]:
    """Search a table of four times the last-level cache; the pass reads the content part, which every search reads."""
    rows = 4 * last_level_cache() // (4 * size) + 1
    index, table = NeuronIndex(KeyShape(size, RELATION_SIZE), device), named(rows, size, 0).to(device)
    one_each = Keys(*(part[:, None] for part in table))
    index.add_all(range(rows), one_each, torch.zeros(rows, 1, dtype=torch.bool))
    content = table.content.contiguous()
    del table, one_each
    query = named(queries, size, 2).to(device)
    result = compare(lambda: index.search(query), lambda: content.sum(), rounds)
    return result | {"keys": rows, "numbers": size, "megabytes": round(4 * size * rows / 1e6), "queries": queries}


def literal_loop(centres: torch.Tensor) -> Callable[[torch.Tensor], object]:
    """Return a search that measures the distance to each cluster, one after the other."""

    def search(queries: torch.Tensor) -> object:
        distances = [
            torch.cdist(queries, centre[None], compute_mode="donot_use_mm_for_euclid_dist") for centre in centres
        ]
        return torch.stack(distances).view(-1, len(queries)).min(0)

    return search


def released_loop(checkout: str, centres: torch.Tensor) -> Callable[[torch.Tensor], object]:
    """Return the search of the released code: two classes without the PEFT around them, which needs old packages."""
    path = Path(checkout) / "peft_egg/src/peft/tuners/melo.py"
    if not path.exists():
        raise SystemExit(f"{path} is not there: give the folder of a checkout of github.com/BruthYU/MELO")
    wanted = {"VecDB", "mem_point"}
    parts = [part for part in ast.parse(path.read_text()).body if getattr(part, "name", None) in wanted]
    names: dict[str, Any] = {"torch": torch, "NO_LORA": -100}
    exec(compile(ast.Module(parts, []), str(path), "exec"), names)  # noqa: S102
    database = names["VecDB"]({"init_radius": 1.0})
    for number, centre in enumerate(centres):
        database.add_cluster(centre, number, number)
    return database.search_database


def against_loop(clusters: int, size: int, rounds: int, released: str | None) -> dict[str, Any]:
    """Search paper mode's index, against a loop over the clusters."""
    centres = torch.randn(clusters, size, generator=torch.Generator().manual_seed(2)) * 50
    index = ClusterIndex(size, 1.0, "paper")
    numbers = list(range(clusters))
    index.add_batch(numbers, numbers, centres, numbers)
    query = centres[:1] + 0.01
    loop = released_loop(released, centres) if released else literal_loop(centres)
    rival = "the released code" if released else "the literal loop"
    result = compare(lambda: index.search(query), lambda: loop(query), rounds)
    return result | {"rival": rival, "clusters": clusters, "numbers": size}


def accuracy(size: int) -> float:
    """Return the largest relative error of distances against float64, for keys with massive activations."""
    keys = torch.randn(500, size, generator=torch.Generator().manual_seed(3))
    keys[:, :3] += torch.tensor([2000.0, -1500.0, 900.0])  # a few features a thousand times the others
    index = ClusterIndex(size, 1e-3, "paper")
    numbers = list(range(len(keys)))
    index.add_batch(numbers, numbers, keys, numbers)
    queries = keys[:64] + 0.05 * torch.randn(64, size, generator=torch.Generator().manual_seed(4))
    distance = index.search(queries).distance.double()
    exact = torch.cdist(queries.double(), keys.double()).min(1).values
    return float(((distance - exact).abs() / exact).max())


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    parser.add_argument("--size", type=positive, default=256)
    parser.add_argument("--rounds", type=positive, default=40)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--released", metavar="FOLDER", help="a checkout of BruthYU/MELO")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = {"task": "exact search", "device": given.device, "last_level_cache": last_level_cache()}
    for queries in (1, 32):
        result[f"against_bandwidth_{queries}"] = against_bandwidth(given.size, given.rounds, queries, given.device)
    result["against_loop"] = against_loop(1000, 2048, given.rounds, given.released)
    result["relative_error"] = accuracy(2048)
    write(result, given.out)


if __name__ == "__main__":
    main()
