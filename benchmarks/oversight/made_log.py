"""A long log to scan, made of the prompts of data sets.

    python -m benchmarks.oversight.made_log FILE... --lines 100000 --out log.jsonl

Every text of a row that asks something is taken, conversations as messages, each once, in an order drawn with a seed.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..shared.edits import read_jsonl
from ..shared.options import positive

ASKED = {"prompt", "prompts", "text", "src", "question", "questions", "a", "b", "rephrase", "rephrases", "rephrasings"}
ASKED |= {"near", "near_same_subject", "near_same_relation", "multi_turn", "pronoun_turn", "single_hops", "cloze"}
"""Fields whose texts ask something, in the files of the data sets."""


def prompts_of(value: Any, asked: bool = False) -> Iterator[Any]:
    """Yield the prompts of a row's value: texts and conversations."""
    if isinstance(value, str):
        if asked and " " in value.strip():
            yield value
    elif isinstance(value, list):
        if asked and value and all(isinstance(turn, dict) and "role" in turn for turn in value):
            yield {"messages": value}
            return
        for part in value:
            yield from prompts_of(part, asked)
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from prompts_of(part, name in ASKED)


def main() -> None:
    """Write the log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="JSONL, also .gz")
    parser.add_argument("--lines", type=positive, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    lines = {json.dumps(prompt) for name in given.files for row in read_jsonl(name) for prompt in prompts_of(row)}
    if len(lines) < given.lines:
        parser.error(f"the files hold {len(lines):,} prompts, fewer than {given.lines:,}: name more files")
    chosen = random.Random(given.seed).sample(sorted(lines), given.lines)
    Path(given.out).write_text("\n".join(chosen) + "\n", "utf-8")


if __name__ == "__main__":
    main()
