"""Answers of the plugin in vLLM beside those of one process, and of vLLM without hooks: one mixed load of 200 prompts.

    python tests/vllm_plugin/world.py build/vllm-world
    python -m benchmarks.vllm.answers --world build/vllm-world --tokens-per-pass 16 64 1024 --out answers.json

For each number of tokens a pass, from an empty prefix cache and again with what the first run left there. The prompts
that no edit answers are compared with vLLM without hooks at the same setting: another cut into passes rounds otherwise.
``--dtype bfloat16`` serves the store, whose edits were made in float32, in another dtype; what answers then in one
process is in ``reference-bfloat16.json``, which ``world.py FOLDER bfloat16`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.options import option_parser, positive, write
from benchmarks.shared.vllm_engine import Bench
from meloedit.backbones.loading import demo_model_folder

TOKENS = 24
Answers = list[list[int]]


class Load:
    """The prompts, asked together.

    Args:
        bench: the engine.
        rows: the prompts, as ``world.py`` wrote them.
        per_pass: most tokens of a pass.
    """

    def __init__(self, bench: Bench, rows: Sequence[dict[str, Any]], per_pass: int) -> None:
        self.bench, self.rows, self._per_pass = bench, rows, per_pass

    def asked(self, rows: Sequence[dict[str, Any]]) -> tuple[Answers, list[str], int]:
        """Return the tokens of each answer, the names of the requests, and how many tokens the prefix cache had."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=TOKENS)
        prompts: Any = [{"prompt_token_ids": row["ids"]} for row in rows]
        before = self.bench.counted("prefix_cache_hits")
        with self.bench.tokens_per_pass(self._per_pass):
            found = self.bench.llm.generate(prompts, params, use_tqdm=False)
        cached = int(self.bench.counted("prefix_cache_hits") - before)
        return [list(one.outputs[0].token_ids) for one in found], [one.request_id for one in found], cached

    def plain(self) -> dict[int, list[int]]:
        """Return the tokens of the answers of prompts that no edit answers, by their places; from an empty cache."""
        places = [place for place, row in enumerate(self.rows) if row["edit"] is None]
        self.bench.llm.reset_prefix_cache()
        return dict(zip(places, self.asked([self.rows[place] for place in places])[0], strict=True))

    def routed(self) -> tuple[Answers, list[dict[str, Any]], int]:
        """Return the tokens of each answer, its route, and how many tokens the prefix cache had."""
        self.bench.call("melo_forget")
        answers, names, cached = self.asked(self.rows)
        told = {name.split("-")[0]: route for name, route in self.bench.call("melo_routes").items()}
        return answers, [told[name] for name in names], cached

    def compared(self, plain: dict[int, list[int]]) -> dict[str, Any]:
        """Ask with the edits, and return what agrees with the reference, and with vLLM without hooks."""
        answers, routes, cached = self.routed()
        text = [self.bench.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in answers]
        rows = list(zip(self.rows, routes, text, strict=True))
        edited = [one for one in rows if one[1]["edit"] is not None and one[1]["edit"] == one[0]["edit"]]
        return {
            "prompts": len(rows),
            "tokens from the prefix cache": cached,
            "routes equal": sum(row["edit"] == route["edit"] for row, route, _ in rows),
            "texts equal": sum(row["answer"].strip() == found for row, _, found in rows),
            "edited texts equal": [sum(row["answer"].strip() == got for row, _, got in edited), len(edited)],
            "no edit: tokens identical to plain vLLM": [
                sum(answers[place] == want for place, want in plain.items()),
                len(plain),
            ],
            "largest difference of distance": max(
                abs(row["distance"] - route["distance"]) for row, route, _ in rows if route["distance"] is not None
            ),
            "routes that differ": [_told(row, route) for row, route, _ in rows if row["edit"] != route["edit"]],
            "texts that differ": [
                {"text": row["text"][-80:], "form": row["form"], "edit": row["edit"], "got": got, "want": row["answer"]}
                for row, _, got in rows
                if got != row["answer"].strip()
            ],
        }


def _told(row: dict[str, Any], route: dict[str, Any]) -> dict[str, Any]:
    """Return what two ways of asking say of a prompt."""
    said = {name: [row[name], route[name]] for name in ("edit", "reason", "distance", "score")}
    return {"text": row["text"][-80:], "form": row["form"], **said}


def main() -> None:
    """Measure, and write the figures."""
    parser = option_parser(__doc__, "--world")
    parser.add_argument("--tokens-per-pass", type=positive, nargs="+", default=[1024])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--reference", default="reference.json", help="what answers in one process: a file of --world")
    given = parser.parse_args()
    world = Path(given.world)
    rows = json.loads((world / given.reference).read_text())
    bench = Bench(str(demo_model_folder()), dtype=given.dtype, max_num_batched_tokens=1024, disable_log_stats=False)
    bench.call("melo_open", str(world / "facts.melo"))
    result: dict[str, Any] = {"task": "answers in vLLM beside one process", "reference": given.reference}
    for count in given.tokens_per_pass:
        load = Load(bench, rows, count)
        with bench.without_hooks():
            plain = load.plain()
        bench.llm.reset_prefix_cache()  # of what ran without hooks the states were not kept
        result[f"{count} tokens a pass"] = {name: load.compared(plain) for name in ("cold", "warm")}
        write(result, given.out, model="SmolLM2-135M-Instruct", dtype=given.dtype)


if __name__ == "__main__":
    main()
