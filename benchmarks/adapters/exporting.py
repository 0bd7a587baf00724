"""How long it takes to write a store's edits as adapters: all of them, and again with none new.

    python -m benchmarks.adapters.exporting --edits 1000

The blocks are random numbers of the real shapes. Writing needs no model; it is loaded to make the store.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from meloedit import MeloConfig
from meloedit.adapters import export_store
from meloedit.store import Store

from ..shared.made_up import store_with_edits
from ..shared.models import add_options, described, load
from ..shared.options import option_parser, positive, write


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    add_options(parser)
    parser.add_argument("--edits", type=positive, default=1000)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = {"task": "edits as adapters", "edits": given.edits}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = MeloConfig(judge="none", reach="all", answer_positions=0)
        store_with_edits(folder / "many.melo", load(given), given.edits, config).unload()
        store = Store.open(folder / "many.melo")
        for what in ("all_new", "none_new"):
            began, busy = time.perf_counter(), time.process_time()
            made = export_store(store, folder / "adapters")
            took = time.perf_counter() - began, time.process_time() - busy
            result[what] = {"written": made.written, "seconds": round(took[0], 2), "processor": round(took[1], 2)}
            print(what, result[what], flush=True)
        files = [path for path in (folder / "adapters").rglob("*") if path.is_file()]
        result["megabytes"] = round(sum(path.stat().st_size for path in files) / 1e6, 1)
    write(result, given.out, **described(given))


if __name__ == "__main__":
    main()
