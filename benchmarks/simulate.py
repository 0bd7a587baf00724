"""What thousands to millions of edits take, on models of 7B to 70B: on paper, and checked where it can be run.

    python -m benchmarks.simulate --sizes 1000 10000 100000 --out simulate.json

Stores of made-up edits (no judge; of random weights in a small shape unless ``--model`` says another) are made and
opened in the sizes given. What an edit takes of the file and of the time of opening is fitted to the first two sizes;
how fast keys are read is timed on a table of random numbers, as large as that of the largest size, since small tables
lie in the caches. With these rates the largest size is predicted, and compared with what was measured: file, memory,
opening, search with one query and with 32. Times are those of the processor. The judge is timed by itself, on four
pairs at once. Then come the tables for larger models: with the shapes that their config.json state, the rates of this
machine, and those of data sheets. ``--measured FILE`` takes what was measured from the file of an earlier run.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch

from meloedit import Editor, MeloConfig
from meloedit.judging.judge import Judge
from meloedit.store import Store
from meloedit.types import Asked

from .shared import costs
from .shared.costs import DEVICES, SHAPES, EditShape, Rates, Shape
from .shared.made_up import store_with_edits
from .shared.models import add_options, described, load
from .shared.options import option_parser, positive, write

QUERIES = 32
ON_PAPER = (1_000, 10_000, 100_000, 1_000_000)


def middle(action: Callable[[], object], rounds: int) -> float:
    """Return the median of some runs, in seconds of the processor: other work may run on the same cores."""
    action()
    took = []
    for _ in range(rounds):
        began = time.process_time()
        action()
        took.append(time.process_time() - began)
    return statistics.median(took)


def opened(path: Path, given: Any) -> dict[str, float]:
    """Open a store and search it; return bytes and seconds. Called in a process of its own, for its memory."""
    torch.set_num_threads(given.threads)
    model, tokenizer = load(given)
    Editor(model, tokenizer, MeloConfig(judge="none")).unload()
    gc.collect()
    before, size = psutil.Process().memory_info().rss, path.stat().st_size
    path.read_bytes()  # into the cache of the system, so that the disk is not timed
    began = time.process_time()
    editor = Editor(model, tokenizer, store=Store.open(path))
    seconds = time.process_time() - began
    gc.collect()
    index, prompts = editor.index, editor.calibration.prompts if editor.calibration else None
    assert prompts is not None
    one, many = prompts[:1], prompts[:QUERIES]
    slabs = editor.engine.router.bank._slabs.values()
    tables = [table for slab in slabs for factors in slab.tables.values() for table in factors]
    return {
        "file": size,
        "resident": psutil.Process().memory_info().rss - before,
        "bank": sum(table.nbytes for table in tables),
        "open": seconds,
        "search": middle(lambda: index.search(one, 4), given.rounds),
        "search_many": middle(lambda: index.search(many, 4), given.rounds),
    }


def in_a_process(path: Path, given: Any) -> dict[str, float]:
    """Call ``opened`` in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(opened, path, given).result()


def made(folder: Path, given: Any, size: int) -> dict[str, float]:
    """Make a store, then measure it; it is removed."""
    path = folder / f"{size}.melo"
    began = time.process_time()
    store_with_edits(path, load(given), size, MeloConfig(judge="none")).unload()
    making = time.process_time() - began
    found = in_a_process(path, given) | {"making": making}
    path.unlink()
    return found


def judge_seconds(rounds: int) -> float:
    """Return the seconds that the judge takes for a pair, four at a time, as a prompt with four candidates has."""
    judge, pairs = Judge.open(), 4
    prompts = [Asked("Which company makes the engines of the regional train to Odessa?")] * pairs
    wordings = [Asked(f"Who builds the engines of the number {i} train to Odessa?") for i in range(pairs)]
    return middle(lambda: judge.scores(prompts, wordings), rounds) / pairs


def product_seconds(keys: int, queries: int, rounds: int) -> float:
    """Return the seconds of the product of queries with a table of random keys, the best four of each included."""
    rng, size = torch.Generator().manual_seed(0), costs.KEY_NUMBERS["content"]
    table, query = (torch.randn(size, count, generator=rng) for count in (keys, queries))
    return middle(lambda: (query.T @ table).topk(4), rounds)


def fitted(
    sizes: Sequence[int], found: Sequence[dict[str, float]], shape: Shape, edit: EditShape, rounds: int
) -> Rates:
    """Return rates that two sizes, the judge, and a table of random keys give."""
    few, many = sizes[0], sizes[1]
    small, large = found[0], found[1]
    slope = {name: (large[name] - small[name]) / (many - few) for name in small}
    own, keys = costs.block_bytes(shape, edit) + costs.key_bytes(edit), sizes[-1] * edit.keys
    return Rates(
        read=costs.read_bytes(sizes[-1], edit) / product_seconds(keys, 1, rounds),
        search=small["search"],
        batch=product_seconds(keys, QUERIES, rounds) / (QUERIES * keys),
        judge=judge_seconds(rounds),
        file=slope["file"] - own,
        open=slope["open"],
        resident=slope["resident"] - own,
        commit=slope["making"],
    )


def checked(
    sizes: Sequence[int], found: Sequence[dict[str, float]], shape: Shape, edit: EditShape, rates: Rates
) -> dict[str, Any]:
    """Return, for the largest size, what was predicted from the others, what was measured, and the ratio."""
    count, last, first, more = sizes[-1], found[-1], found[0], sizes[-1] - sizes[0]
    predicted = {
        "file": first["file"] + costs.file_bytes(more, shape, edit, rates),
        "resident": first["resident"] + costs.resident_bytes(more, shape, edit, rates),
        "bank": count * costs.block_bytes(shape, edit),
        "open": first["open"] + more * rates.open,
        "search": costs.search_seconds(count, edit, rates),
        "search_many": costs.search_seconds(count, edit, rates, QUERIES),
    }
    return {
        name: {"predicted": value, "measured": last[name], "ratio": round(last[name] / value, 3)}
        for name, value in predicted.items()
    }


def on_paper(edit: EditShape, rates: Rates) -> dict[str, Any]:
    """Return the tables for larger models."""
    sizes: dict[str, Any] = {}
    for name, shape in SHAPES.items():
        sizes[name] = {
            "block_bytes": costs.block_bytes(shape, edit),
            "step_share_of_32_rows": costs.step_share(shape, edit, 32),
            "gigabytes": {
                str(count): {
                    "bank": count * costs.block_bytes(shape, edit) / 1e9,
                    "file": costs.file_bytes(count, shape, edit, rates) / 1e9,
                }
                for count in ON_PAPER
            },
            "most_edits": {
                f"{devices} x {device}": costs.most_edits(DEVICES[device], shape, edit, devices)
                for device in DEVICES
                for devices in (1, 2, 4, 8)
            },
        }
    index = {
        str(count): {
            "gigabytes": count * costs.key_bytes(edit) / 1e9,
            "search_here": costs.search_seconds(count, edit, rates),
            "search_here_32": costs.search_seconds(count, edit, rates, QUERIES),
            **{f"search_{name}": costs.search_seconds_on(device, count, edit) for name, device in DEVICES.items()},
            **{
                f"search_{name}_32": costs.search_seconds_on(device, count, edit, QUERIES)
                for name, device in DEVICES.items()
            },
            "open": count * rates.open,
        }
        for count in ON_PAPER
    }
    return {"key_bytes": costs.key_bytes(edit), "models": sizes, "index": index}


def measured(given: Any) -> list[dict[str, float]]:
    """Return what every size takes."""
    if given.measured:
        earlier = json.loads(Path(given.measured).read_text())
        given.sizes = earlier["sizes"]
        return list(earlier["measured"])
    found = []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for size in given.sizes:
            found.append(made(Path(folder), given, size))
            print(size, found[-1], flush=True)
    return found


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    parser.add_argument("--sizes", type=positive, nargs="+", default=[1_000, 10_000, 100_000], metavar="N")
    parser.add_argument("--rounds", type=positive, default=15)
    parser.add_argument("--folder", help="where to write the stores; a folder in memory leaves out fsync")
    parser.add_argument("--measured", metavar="FILE", help="take what was measured from the file of an earlier run")
    add_options(parser)
    parser.set_defaults(model="random-tiny")
    given = parser.parse_args()
    if len(given.sizes) < 3 or given.sizes != sorted(set(given.sizes)):
        parser.error("--sizes: give three or more, the smallest first")
    torch.set_num_threads(given.threads)
    config = load(given)[0].config
    shape, edit = Shape(config.hidden_size, config.intermediate_size, config.num_hidden_layers, 0, 0), EditShape()
    found = measured(given)
    rates = fitted(given.sizes, found, shape, edit, given.rounds)
    result: dict[str, Any] = {"task": "growth on paper, and checked", "sizes": given.sizes, "measured": found}
    result |= {"rates": asdict(rates), "largest": checked(given.sizes, found, shape, edit, rates)}
    write(result | {"on_paper": on_paper(edit, rates)}, given.out, **described(given))


if __name__ == "__main__":
    main()
