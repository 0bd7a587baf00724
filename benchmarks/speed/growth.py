"""The cost of adding, replacing, removing and opening in a large store, against a small one; and the memory it takes.

    python -m benchmarks.speed.growth --few 10 --many 10000 --folder /dev/shm

A made-up block stands in for training, and a ``--folder`` in memory leaves out fsync. All else is the work of
``Editor.edit``: tokenising, keys, the transaction, index and bank, the report. The rival is the same code with a small
store, in the same process, in turns.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch

from meloedit import Edit, Editor
from meloedit.backbones.loading import load_model
from meloedit.store import Store
from meloedit.training.trainer import Trained, Trainer

from ..shared.made_up import made_up_block, made_up_edit, store_with_edits
from ..shared.options import option_parser, positive, write
from ..shared.timing import compare


def without_training() -> None:
    """Make training return a made-up block at once."""

    def train(self: Trainer, edits: list[Any], *_: Any, **__: Any) -> list[Trained]:
        block = made_up_block(self.sites, self.config, torch.Generator().manual_seed(0))
        return [Trained(block, True, 1, self.config.rank, 0.0) for _ in edits]

    Trainer.train = train  # type: ignore[method-assign, assignment]


def actions(editor: Editor, start: int) -> dict[str, Callable[[], None]]:
    """Return the actions to time, by name; ``remove`` takes away what ``add`` added."""
    numbers = itertools.count(start)
    added: list[Edit] = []

    def add() -> None:
        edit = made_up_edit(next(numbers))
        (report,) = editor.edit(edit)
        assert report.status == "stored"
        added.append(edit)

    def replaced() -> None:
        edit = added[-1]
        (report,) = editor.edit(replace(edit, target=edit.target + "!"), replace=True)
        assert report.status == "stored"
        added[-1] = replace(edit, target=edit.target + "!")

    def remove() -> None:
        editor.remove(added.pop().id)

    return {"add": add, "replace": replaced, "remove": remove}


def resident(path: Path, model: str) -> tuple[int, int, int]:
    """Open a store; return this process's resident bytes, the edits, and the bytes of their blocks and keys."""
    editor = Editor.from_pretrained(path, model)
    gc.collect()
    edits, sites, config = len(editor), editor.engine.router.bank.sites, editor.config
    width = sum(site.inputs + (config.answer_positions or 0) + site.outputs for site in sites)
    return psutil.Process().memory_info().rss, edits, 2 * config.rank * width * edits + 4 * editor.index.numbers


def alone(path: Path, model: str) -> tuple[int, int, int]:
    """Call ``resident`` in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(resident, path, model).result()


def opening(few: Path, many: Path, model: str) -> dict[str, Any]:
    """Time opening a store on a loaded model and reading its bytes; measure the memory that its edits add."""
    editor = Editor.create(model)
    editor.prepare()
    loaded, tokenizer = editor.unload(), editor.tokenizer
    began = time.perf_counter()
    size = len(many.read_bytes())
    read = time.perf_counter() - began
    began, spent = time.perf_counter(), time.process_time()
    store = Store.open(many)
    listed = time.perf_counter() - began
    Editor(loaded, tokenizer, store=store).unload()
    whole, spent = time.perf_counter() - began, time.process_time() - spent
    (small, _, little), (large, _, much) = alone(few, model), alone(many, model)
    return {
        "seconds": round(whole, 2),
        "processor_seconds": round(spent, 2),
        "seconds_to_list": round(listed, 2),
        "seconds_to_read_the_file": round(read, 2),
        "file_bytes": size,
        "resident_bytes_few": small,
        "resident_bytes_many": large,
        "block_and_key_bytes": much,
        "resident_over_blocks_and_keys": round((large - small) / (much - little), 3),
    }


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--few", type=positive, default=10)
    parser.add_argument("--many", type=positive, default=10_000)
    parser.add_argument("--rounds", type=positive, default=40)
    parser.add_argument("--folder", help="where to write the stores; a folder in memory leaves out fsync")
    given = parser.parse_args()
    result: dict[str, Any] = {"task": "cost of a change with many edits held", "few": given.few, "many": given.many}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        many = store_with_edits(Path(folder) / "many.melo", load_model(given.model), given.many)
        few = store_with_edits(Path(folder) / "few.melo", load_model(given.model), given.few)
        without_training()
        large, small = actions(many, given.many), actions(few, given.few)
        for name in ("add", "replace", "remove"):
            result[name] = compare(large[name], small[name], given.rounds, warm=3)
            print(name, result[name], flush=True)
        many.unload(), few.unload()
        del many, few, large, small
        result["opening"] = opening(Path(folder) / "few.melo", Path(folder) / "many.melo", given.model)
    write(result, given.out)


if __name__ == "__main__":
    main()
