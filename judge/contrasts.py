"""Find words that make another question where one stands for the other: python -m judge.contrasts --rows FILE....

Hand-written rows have near questions that differ from a wording of their row in one word alone ("before" for "after"),
and rewordings. A pair of words that does so in near questions of at least ``ROWS`` rows, and never in a rewording, is a
contrast. Rows that are kept back from training are not read. ``meloedit.judging.contrasts`` reads the file.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

from meloedit.judging.contrasts import BUILT_IN, bare_words, one_word_apart
from meloedit.keys.function_words import FUNCTION_WORDS

from .mixture import kept_back

ROWS, ROWS_FUNCTION = 2, 4
"""In how many rows, at least, near questions have one word in place of the other; where one is a function word."""
OFTEN = 5
"""How often both words occur in the rows, at least: a misspelt one is rare."""


def contrasts_of(row: Mapping[str, Any]) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return the pairs of words by which near questions differ from a wording of a row, and those of its wordings."""
    wordings, near = (
        list(_texts(*prompts)) for prompts in ((row["prompt"], *row["rephrasings"]), row["near_same_subject"])
    )
    return (
        {pair for one in wordings for other in near if (pair := one_word_apart(one, other))},
        {
            pair
            for one, other in permutations(wordings, 2)
            for content in (False, True)
            if (pair := one_word_apart(one, other, content))
        },
    )


def _texts(*prompts: Any) -> Iterator[str]:
    return (prompt for prompt in prompts if isinstance(prompt, str))


def main() -> None:
    """Write the contrasts of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=BUILT_IN)
    args = parser.parse_args()
    apart: Counter[tuple[str, str]] = Counter()
    alike: set[tuple[str, str]] = set()
    uses: Counter[str] = Counter()
    for path in args.rows:
        for row in kept_back(path, False):
            for text in _texts(row["prompt"], *row["rephrasings"], *row["near_same_subject"]):
                uses.update(bare_words(text))
            near, same = contrasts_of(row)
            apart.update({min(pair, pair[::-1]) for pair in near})
            alike |= {min(pair, pair[::-1]) for pair in same}
    kept = sorted(
        pair
        for pair, rows in apart.items()
        if rows >= (ROWS_FUNCTION if FUNCTION_WORDS & {*pair} else ROWS)
        and pair not in alike
        and all(word.isalpha() and uses[word] >= OFTEN for word in pair)
    )
    args.out.write_text("".join(f"{json.dumps(pair, ensure_ascii=False)}\n" for pair in kept), encoding="utf-8")


if __name__ == "__main__":
    main()
