r"""Print the tables of docs/results.md: a row per method, as Markdown, the best of each column in bold.

    python -m benchmarks.quality.tables docs/results/eval/zsre-100-retention.json --metrics edit_success,generality

The best of a column is its largest value, for divergence, perplexity, activation, time and size its smallest. Values
whose interval reaches the best are bold too, since the data does not tell them apart.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from meloedit.evaluation.metrics.columns import COST, MAIN

from ..shared.options import option_parser

SMALLER = ("kl_", "ppl_", "activation_", "wrong_", "answer_time", "parameters_", "bytes_", "fires_", "traps")
METRICS = (*MAIN, *COST, "bytes_per_edit")
"""The columns, unless others are named."""
PLAIN = ("edits_per_minute", "answer_time_ratio", "parameters_per_edit", "bytes_per_edit")
"""Columns without an interval."""


def cell(figure: dict[str, Any] | None, metric: str, best: float | None) -> str:
    """Return a figure as text, bold where its interval reaches the best value."""
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
    """Return the best value of a column among methods that edit; ``None`` if fewer than two have the column."""
    values = [row[metric]["value"] for name, row in methods.items() if metric in row and name != "none"]
    if len(values) < 2:
        return None
    return min(values) if metric.startswith(SMALLER) else max(values)


def main() -> None:
    """Print a table for each result."""
    parser = option_parser(__doc__, out=False)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--metrics", default=",".join(METRICS), help="columns, separated by commas")
    args = parser.parse_args()
    for path in args.results:
        result = json.loads(path.read_text())
        methods = result["methods"]
        metrics = [name for name in args.metrics.split(",") if any(name in row for row in methods.values())]
        print(f"\n{result['task']}, `{result['protocol']}`, {result['edits']:,} edits ({path.name})\n")
        print("| | " + " | ".join(name.replace("_", " ") for name in metrics) + " |")
        print("|---" * (len(metrics) + 1) + "|")
        best = {name: best_of(methods, name) for name in metrics}
        for name, row in methods.items():
            shown = {metric: None if name == "none" else best[metric] for metric in metrics}
            print(f"| {name} | " + " | ".join(cell(row.get(m), m, shown[m]) for m in metrics) + " |")


if __name__ == "__main__":
    main()
