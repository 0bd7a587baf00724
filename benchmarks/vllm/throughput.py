"""What the plugin costs in vLLM: tokens per second without it, with it and no hit, and where every prompt hits.

    python -m benchmarks.vllm.throughput --store FACTS.melo --out throughput.json

The three take turns in one engine. On a machine with other work the seconds of the processor count, not the clock's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

from benchmarks.shared.vllm_engine import Bench, Run
from meloedit.backbones.loading import demo_model_folder
from meloedit.keys.grammar import make_prompts
from meloedit.store import Store


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="a store of SmolLM2 with sixteen edits or more")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64)
    given = parser.parse_args()
    bench = Bench(str(demo_model_folder()))
    bench.call("melo_open", str(given.store))
    edits = Store.open(given.store).edits()[:16]
    hits = [bench.chat(str(one.edit.prompt)) for one in edits]
    misses = [bench.chat(str(text)) for text in make_prompts(16, seed=3)]
    runs: dict[str, list[Run]] = {"plain": [], "no hit": [], "plain on the hits": [], "all hit": []}
    fired = []
    for place in range(given.rounds + 1):
        with bench.without_hooks():
            plain = bench.ask(misses, given.tokens), bench.ask(hits, given.tokens)
        bench.call("melo_forget")
        missed = bench.ask(misses, given.tokens)
        bench_misses = bench.call("melo_facts")["reasons"]
        bench.call("melo_forget")
        hit = bench.ask(hits, given.tokens)
        fired = [bench_misses.get("fired", 0), bench.call("melo_facts")["reasons"].get("fired", 0)]
        if place:  # the first one warms up
            for name, run in zip(runs, (plain[0], missed, plain[1], hit), strict=True):
                runs[name].append(run)
        print(json.dumps({name: (run[-1]._asdict() if run else None) for name, run in runs.items()}), flush=True)
    ratios = {
        "no hit": [p.cpu / r.cpu for p, r in zip(runs["plain"], runs["no hit"], strict=True)],
        "all hit": [p.cpu / r.cpu for p, r in zip(runs["plain on the hits"], runs["all hit"], strict=True)],
    }
    result = {
        "fired": {"no hit": fired[0], "all hit": fired[1], "of": len(hits)},
        "share of plain vLLM's throughput (processor seconds), median": {n: median(v) for n, v in ratios.items()},
        "each round": ratios,
        "runs": {name: [run._asdict() for run in of] for name, of in runs.items()},
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: result[name] for name in list(result)[:2]}))


if __name__ == "__main__":
    main()
