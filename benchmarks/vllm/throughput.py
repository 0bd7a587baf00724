"""What the plugin costs in vLLM: tokens per second without it, with it and no hit, and where every prompt hits.

    python -m benchmarks.vllm.throughput --store FACTS.melo --out throughput.json
    python -m benchmarks.vllm.throughput --store FACTS.melo --tokens 32 --reworded --out reworded.json

Runs without and with the hooks take turns in one engine, from an empty prefix cache. On a machine with other work the
seconds of the processor count, not the clock's. ``--reworded`` asks the demo's facts in other words, too: a prompt in
an edit's own words needs no judge. A store that was made with ``layers=1`` runs with vLLM's own scheduler, as
``meloedit vllm`` would have it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.shared.options import option_parser, positive, write
from benchmarks.shared.vllm_engine import Bench, Run
from meloedit.backbones.loading import demo_model_folder
from meloedit.cli.demo import read_facts
from meloedit.keys.grammar import make_prompts
from meloedit.store import Store
from meloedit.vllm.edits.host import settings_of
from meloedit.vllm.start.checks import touches_kv

PROMPTS = 16


class Load:
    """Prompts that are asked together, without the hooks and with them.

    Args:
        bench: the engine.
        texts: the prompts.
        tokens: tokens of an answer.
    """

    def __init__(self, bench: Bench, texts: Sequence[str], tokens: int) -> None:
        self.bench, self._prompts, self._tokens = bench, [bench.chat(text) for text in texts], tokens
        self.plain: list[Run] = []
        self.edited: list[Run] = []
        self.hooks: list[float] = []
        self.fired = 0

    def take_turns(self) -> None:
        """Ask without the hooks, and then with them."""
        with self.bench.without_hooks():
            self.plain.append(self.bench.ask(self._prompts, self._tokens))
        self.bench.call("melo_forget")
        self.edited.append(self.bench.ask(self._prompts, self._tokens))
        facts = self.bench.call("melo_facts")
        self.fired = facts["reasons"].get("fired", 0)
        self.hooks.append(facts["seconds"])

    def figures(self) -> dict[str, Any]:
        """Return what all rounds but the first, which warms up, say."""
        rounds = [one.cpu / other.cpu for one, other in zip(self.plain[1:], self.edited[1:], strict=True)]
        return {
            "prompts": len(self._prompts),
            "fired": self.fired,
            "share of plain vLLM's throughput, median": median(rounds),
            "each round": rounds,
            "processor seconds without and with the hooks": [
                [one.cpu, other.cpu] for one, other in zip(self.plain[1:], self.edited[1:], strict=True)
            ],
            "seconds in the hooks, by the clock": self.hooks[1:],
            "tokens": self.edited[-1].tokens,
        }


def main() -> None:
    """Measure, and write the figures."""
    parser = option_parser(__doc__, "--store")
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--tokens", type=positive, default=64)
    parser.add_argument("--reworded", action="store_true", help="ask the demo's facts in other words, too")
    given = parser.parse_args()
    store, model = Store.open(given.store), str(demo_model_folder())
    layers = json.loads((Path(model) / "config.json").read_text())["num_hidden_layers"]
    touching = touches_kv(settings_of(store, "LlamaForCausalLM").modules or (), layers)
    bench = Bench(model, **({} if touching else {"scheduler_cls": None}))
    bench.call("melo_open", str(given.store))
    own = [str(one.edit.prompt) for one in store.edits()[:PROMPTS]]
    texts = {"no hit": [str(text) for text in make_prompts(PROMPTS, seed=3)], "all hit": own}
    if given.reworded:
        others = {fact["prompt"]: fact["rephrases"] for fact in read_facts()}
        texts["all hit, in other words"] = [others[prompt][0] for prompt in own]
    loads = {name: Load(bench, asked, given.tokens) for name, asked in texts.items()}
    for place in range(given.rounds + 1):
        for load in loads.values():
            load.take_turns()
        if place:
            result: dict[str, Any] = {"task": "throughput of vLLM with the hooks", "edits": len(store.edits())}
            result |= {"touches the KV cache": touching, **{name: load.figures() for name, load in loads.items()}}
            write(result, given.out, model="SmolLM2-135M-Instruct", dtype="float32")


if __name__ == "__main__":
    main()
