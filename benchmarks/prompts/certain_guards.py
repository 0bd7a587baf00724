r"""How often a guard speaks, by its name, and is certain: of rewordings of an edit's prompt, and of near questions.

Of rewordings none may be certain.

    python -m benchmarks.prompts.certain_guards train.jsonl dev.jsonl

The files are of edits with their rewordings and near questions (``rephrasings``, ``near_same_subject`` and
``near_same_relation``). No model runs.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from meloedit.judging.guards import CERTAIN, cost_of, guard_of
from meloedit.judging.request import request_of

from ..shared.edits import read_jsonl

NEAR = ("near_same_subject", "near_same_relation")


def texts(row: Mapping[str, Any], *fields: str) -> Iterator[str]:
    """Yield the prompts in fields of a row; of a chat its last turn."""
    for prompt in (prompt for field in fields for prompt in row.get(field, [])):
        yield prompt if isinstance(prompt, str) else prompt[-1]["content"]


def main() -> None:
    """Count, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    counts = {kind: Counter[str]() for kind in ("rewordings", "near")}
    for path in parser.parse_args().files:
        for row in read_jsonl(path):
            (own,) = texts({"prompt": [row["prompt"]]}, "prompt")
            for kind, fields in (("rewordings", ("rephrasings",)), ("near", NEAR)):
                for text in texts(row, *fields):
                    text = request_of(text).text  # what the judge reads of it
                    guard = guard_of(text, own)
                    counts[kind]["asked"] += 1
                    counts[kind]["certain"] += cost_of(guard, text, own) == CERTAIN
                    counts[kind][guard or "none"] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
