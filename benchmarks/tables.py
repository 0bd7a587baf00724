r"""The tables of docs/results.md: methods side by side, as Markdown, the best of each column in bold.

    python benchmarks/tables.py docs/results/eval/zsre-100-retention.json --metrics edit_success,generality

A column's best is the largest value (the smallest of divergence, perplexity, activation, time and size); others whose
interval reaches it are bold too, since the data does not tell them apart.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from meloedit.evaluation.metrics.columns import COST, MAIN

SMALLER = ("kl_", "ppl_", "activation_", "wrong_", "answer_time", "parameters_", "bytes_")
SHOWN = (*MAIN, *COST, "bytes_per_edit")
PLAIN = ("edits_per_minute", "answer_time_ratio", "parameters_per_edit", "bytes_per_edit")
"""Shown without their interval, and never bold for the unedited model."""


def cell(figure: dict[str, Any] | None, metric: str, best: float | None) -> str:
    """Return a figure as text, bold where it is the best or not told apart from it."""
    if figure is None:
        return ""
    value = figure["value"]
    low, high = figure["ci"] or (value, value)
    if metric in PLAIN:
        text = f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
    else:
        text = f"{value:.3f} [{low:.3f}, {high:.3f}]"
    reaches = best is not None and low <= best <= high
    return f"**{text}**" if reaches else text


def best_of(methods: dict[str, Any], metric: str) -> float | None:
    """Return the best value of a column among methods that edit; ``None`` where there are not two."""
    values = [own[metric]["value"] for name, own in methods.items() if metric in own and name != "none"]
    if len(values) < 2:
        return None
    return min(values) if metric.startswith(SMALLER) else max(values)


def main() -> None:
    """Print a table for each result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--metrics", default=",".join(SHOWN))
    args = parser.parse_args()
    for path in args.results:
        result = json.loads(path.read_text())
        methods = result["methods"]
        metrics = [name for name in args.metrics.split(",") if any(name in own for own in methods.values())]
        print(f"\n{result['task']}, `{result['protocol']}`, {result['edits']:,} edits ({path.name})\n")
        print("| | " + " | ".join(name.replace("_", " ") for name in metrics) + " |")
        print("|---" * (len(metrics) + 1) + "|")
        best = {name: best_of(methods, name) for name in metrics}
        for name, own in methods.items():
            shown = {metric: None if name == "none" else best[metric] for metric in metrics}
            print(f"| {name} | " + " | ".join(cell(own.get(m), m, shown[m]) for m in metrics) + " |")


if __name__ == "__main__":
    main()
