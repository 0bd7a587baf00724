r"""Table 2 and Table 3 as Markdown and as a figure, of a finished table2.json.

    python -m benchmarks.paper.table2_shown DIR/table2.json

writes table2.md and table2.png beside it. `benchmarks.paper.table2` does the same at its end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meloedit.evaluation.drawing import panels, png

from ..quality.tables import best_of, cell
from ..shared.options import option_parser
from ..shared.published import COLUMNS, TABLE, reported

COSTS = {"parameters_per_edit": "parameters per 1,000 edits", "edits_per_minute": "edits a minute"}
NAMES = {"melo-paper": "melo-paper (MELO)", "melo": "melo (ours)", "none": "unedited"}


def markdown(tables: Mapping[str, Any]) -> str:
    """Return a table for each task: each column ours, then the paper's; and one of costs."""
    lines: list[str] = []
    for task, table in tables.items():
        methods, columns = table["methods"], COLUMNS[task]
        lines += [f"{task}, {table['edits']:,} edits, {table['model']}", ""]
        in_paper = [any(reported(task, name, at) is not None for name in TABLE[task]) for at in range(len(columns))]
        heads = [f"{name} | paper" if there else name for name, there in zip(columns.values(), in_paper, strict=True)]
        lines += ["| | " + " | ".join(heads) + " |", "|---" * (1 + len(heads) + sum(in_paper)) + "|"]
        for method, row in methods.items():
            cells = []
            for at, metric in enumerate(columns):
                best = None if method == "none" else best_of(methods, metric)
                told = reported(task, method, at)
                cells += [cell(row.get(metric), metric, best)]
                cells += ["" if told is None else f"{told:g}"] if in_paper[at] else []
            lines.append(f"| {NAMES.get(method, method)} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["| | " + " | ".join(f"{task}: {text}" for task in tables for text in COSTS.values()) + " |"]
    lines += ["|---" * (1 + len(COSTS) * len(tables)) + "|"]
    for method in dict.fromkeys(name for table in tables.values() for name in table["methods"] if name != "none"):
        rows = [table["methods"].get(method, {}) for table in tables.values()]
        costs = [_cost(row, metric) for row in rows for metric in COSTS]
        lines.append(f"| {NAMES.get(method, method)} | " + " | ".join(costs) + " |")
    return "\n".join([*lines, ""])


def _cost(row: Mapping[str, Any], metric: str) -> str:
    if metric not in row:
        return ""
    value = row[metric]["value"]
    if metric == "edits_per_minute":
        return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
    return f"{value * 1000 / 1e6:,.3g} M"


def draw(tables: Mapping[str, Any]) -> bytes:
    """Return a figure: a row for each task, a panel for each of its columns, ours with intervals and the paper's."""
    width = max(len(COLUMNS[task]) for task in tables)
    figure, axes = panels(len(tables), width, len(tables) * width, (4.4 * width, 2.9 * len(tables)))
    figure.suptitle("Table 2: measured here (dots, 95 % intervals), and reported for other models (crosses)")
    for row, (task, table) in enumerate(tables.items()):
        methods = list(table["methods"])
        for column in range(width):
            axis = axes[row * width + column]
            if column >= len(COLUMNS[task]):
                axis.set_visible(False)
                continue
            metric, text = list(COLUMNS[task].items())[column]
            for y, method in enumerate(methods):
                figures = table["methods"][method].get(metric)
                if figures is not None:
                    low, high = figures["ci"] or (figures["value"],) * 2
                    axis.plot([low, high], [y, y], color="#0072b2", linewidth=2)
                    axis.plot(figures["value"], y, "o", color="#0072b2")
                if (told := reported(task, method, column)) is not None:
                    axis.plot(told, y, "x", color="#d55e00")
            axis.set_yticks(range(len(methods)), [NAMES.get(name, name) for name in methods], fontsize=8)
            axis.invert_yaxis()
            axis.set_title(f"{task}: {text}", fontsize=9)
            if task == "hallucination":
                axis.set_xscale("log")
            else:
                axis.set_xlim(-0.03, 1.03)
    return png(figure, 120)


def main() -> None:
    """Write the table and the figure of a result."""
    parser = option_parser(__doc__, out=False)
    parser.add_argument("result", type=Path)
    args = parser.parse_args()
    tables = json.loads(args.result.read_text("utf-8"))["tasks"]
    args.result.with_suffix(".md").write_text(markdown(tables), encoding="utf-8")
    args.result.with_suffix(".png").write_bytes(draw(tables))
    print(markdown(tables))


if __name__ == "__main__":
    main()
