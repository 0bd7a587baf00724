"""Ten thousand edits in vLLM: how long a pass takes, and how long one waits while the store is read.

    python -m benchmarks.vllm.many --edits 10000 --out many.json

The edits are made up (random blocks, keys near those of ordinary prompts). They are read in a process of their own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.shared.vllm_engine import Bench
from meloedit.backbones.loading import demo_model_folder
from meloedit.keys.grammar import make_prompts
from meloedit.store import Store

STREAMS = 16


def make(path: Path, count: int) -> None:
    """Make the store; it needs the model, which vLLM's process should not hold twice."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from benchmarks.shared.made_up import store_with_edits

    folder = str(demo_model_folder())
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    store_with_edits(path, loaded, count).unload()


class Passes:
    """The seconds of the engine's passes while answers are made."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._engine = bench, bench.llm.llm_engine
        self._prompts = [bench.chat(str(text)) for text in make_prompts(STREAMS, seed=5)]

    def take(self, tokens: int, until: threading.Thread | None = None) -> list[float]:
        """Return the seconds of each pass in which all streams decode, for so many tokens or while a thread runs."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        self._bench.llm.reset_prefix_cache()
        for i, ids in enumerate(self._prompts):
            self._engine.add_request(f"{time.time()}-{i}", {"prompt_token_ids": ids}, params)
        for _ in range(3):  # the prompts
            self._engine.step()
        if until is not None:
            until.start()
        seconds = []
        while self._engine.has_unfinished_requests():
            began = time.perf_counter()
            self._engine.step()
            seconds.append(time.perf_counter() - began)
            if until is not None and not until.is_alive():
                break
        while self._engine.has_unfinished_requests():
            self._engine.step()
        return seconds


def figures(seconds: list[float]) -> dict[str, float]:
    """Return the median and the longest, in milliseconds."""
    return {"passes": len(seconds), "median ms": 1e3 * median(seconds), "longest ms": 1e3 * max(seconds)}


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=10_000)
    parser.add_argument("--make", type=Path, help="only make the store, here")
    parser.add_argument("--store", type=Path, help="a store that --make made")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.make is not None:
        make(given.make, given.edits)
        return
    with TemporaryDirectory() as scratch:
        store = given.store or Path(scratch) / "many.melo"
        if given.store is None:
            command = [sys.executable, "-m", "benchmarks.vllm.many", "--edits", str(given.edits), "--make", str(store)]
            subprocess.run(command, check=True)
        result = measure(store)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measure(path: Path) -> dict[str, Any]:
    """Return the figures of a store."""
    bench = Bench(str(demo_model_folder()))
    began, cpu = time.perf_counter(), time.process_time()
    bench.call("melo_open", str(path), 1e6)  # looks when it is told to
    result: dict[str, Any] = {"edits": bench.call("melo_facts")["edits"]}
    result["opened in s"] = {"clock": time.perf_counter() - began, "processor": time.process_time() - cpu}
    passes, follower = Passes(bench), bench.attached.follower
    passes.take(8)  # warms up
    with bench.without_hooks():
        result["plain vLLM"] = figures(passes.take(64))
    result["with the edits"] = figures(passes.take(64))
    whole = threading.Thread(target=follower.look)  # the second reading of all of it
    result["while the whole store is read"] = figures(passes.take(900, whole))
    with Store.open(path) as store:
        edits = [one.edit.id for one in store.edits()[:64]]
        store.set_enabled(edits, False)
        few = threading.Thread(target=follower.look)
        result["while a change of 64 edits is followed"] = figures(passes.take(900, few))
        store.set_enabled(edits, True)
    return result


if __name__ == "__main__":
    main()
