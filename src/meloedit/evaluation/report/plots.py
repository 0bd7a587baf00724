"""The drawings of a report: growth curves, routes by set of prompts, distances to the nearest edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..drawing import MAX_NAME, label, panels, png
from .read import ObservationSummary, Run, StoredEstimate
from .table import METRICS, PART, UNEDITED, metric
from .values import finite, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d31")
"""Distinct for the colour-blind as well; the unedited model is grey."""
MARKERS = "osD^vPX*"
ROUTES = {"right": "right edit", "wrong": "wrong edit", "none": "no edit"}
WANTED = dict.fromkeys(("edits", "rephrases", "chats"), "right") | dict.fromkeys(
    ("near", "attribute", "far", "upstream"), "none"
)
"""The sets of prompts that are drawn, and the right route of each."""
SPREAD = {
    "rephrases": "#0072b2",
    "chats": "#56b4e9",
    "near": "#d55e00",
    "attribute": "#cc79a7",
    "far": "#7f7f7f",
    "upstream": "#009e73",
}
WIDTH = 9.0


def draw_run(run: Run) -> list[dict[str, Any]]:
    """Return the drawings that a run has data for, each with name, title, caption, alternative text and PNG."""
    drawings = (_growth(run), _routing(run), _distances(run))
    return [drawing for drawing in drawings if drawing is not None]


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """Return panels in at most two columns, each ``height`` inches high."""
    columns = min(2, count)
    rows = -(-count // columns)
    return panels(rows, columns, count, (WIDTH if columns == 2 else WIDTH * 0.62, height * rows + 0.5))


def _text(text: str, limit: int = MAX_NAME) -> str:
    """Return text as a label, unprintable characters replaced."""
    return label(short(text, limit), limit)


def _styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    edited = [name for name in names if name != UNEDITED]
    styles: dict[str, dict[str, Any]] = {UNEDITED: {"color": "0.5", "linestyle": "--", "marker": "."}}
    for at, name in enumerate(edited):
        line = "-" if at < len(COLOURS) else ":"
        styles[name] = {"color": COLOURS[at % len(COLOURS)], "linestyle": line, "marker": MARKERS[at % len(MARKERS)]}
    return styles


def _growth(run: Run) -> dict[str, Any] | None:
    drawn = {name for points in run.growth.values() for _, figures in points for name in figures if PART not in name}
    there = [name for name in METRICS if name in drawn] + sorted(drawn - set(METRICS))
    if not there:
        return None
    figure, axes = _panels(len(there), 2.6)
    styles = _styles(run.names())
    lines: dict[str, Any] = {}
    for axis, name in zip(axes, there, strict=True):
        for method, points in run.growth.items():
            curve = [(edits, figures[name]) for edits, figures in points if name in figures]
            if curve:
                lines[method] = _line(axis, curve, styles[method])
        axis.set_title(_text(metric(name).label, 60), fontsize=10, loc="left")
        axis.margins(y=0.12)
        if metric(name).share:
            axis.set_ylim(-0.03, 1.03)
        axis.set_xlim(0, None)
        axis.tick_params(labelsize=8)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for axis in axes[-2:]:
        axis.set_xlabel("edits made so far", fontsize=9)
    # Legends skip names that begin with an underscore; a space before them is invisible.
    names = [f" {_text(name)}" for name in lines]
    figure.legend(list(lines.values()), names, loc="outside upper left", ncols=4, fontsize=9, frameon=False)
    last = "; ".join(f"{short(name)} to {points[-1][0]:,.0f} edits" for name, points in run.growth.items() if points)
    return {
        "name": "growth",
        "title": "Growth",
        "words": "Figures over the number of edits made so far; the bands are 95 % intervals.",
        "alt": f"Line charts of {', '.join(short(metric(name).label) for name in there)}: {last}.",
        "png": png(figure, 130),
    }


def _line(axis: Axes, points: Sequence[tuple[float, StoredEstimate]], style: dict[str, Any]) -> Any:
    edits = [at for at, _ in points]
    (line,) = axis.plot(edits, [_or_gap(figure.value) for _, figure in points], linewidth=1.6, markersize=4, **style)
    low, high = ([_or_gap(figure.ci[side] if figure.ci else None) for _, figure in points] for side in (0, 1))
    axis.fill_between(edits, low, high, color=style["color"], alpha=0.15, linewidth=0)
    return line


def _or_gap(value: float | None) -> float:
    return value if value is not None and finite(value) else float("nan")


def _routing(run: Run) -> dict[str, Any] | None:
    drawn = {name: seen for name, seen in run.seen.items() if name not in run.unscoped()}
    routed = {name: seen for name, seen in drawn.items() if any(where in seen.routes for where in WANTED)}
    if not routed:
        return None
    figure, axes = _panels(len(routed), 2.5)
    sets = [where for where in WANTED if any(where in seen.routes for seen in routed.values())]
    summaries = []
    for axis, (name, seen) in zip(axes, routed.items(), strict=True):
        _heat(axis, seen, sets)
        axis.set_title(_text(name), fontsize=10, loc="left")
        rows = [f"{where} {_counts(seen, where)}" for where in sets if where in seen.routes]
        summaries.append(f"{short(name)}: {', '.join(rows)}")
    return {
        "name": "routing",
        "title": "Routing",
        "words": "Which edit each prompt reached. Blue is where it should go: edits, rephrases and chats to the right "
        "edit, all other prompts to none; orange is where it should not.",
        "alt": f"Routing by set. {'; '.join(summaries)}.",
        "png": png(figure, 130),
    }


def _counts(seen: ObservationSummary, where: str) -> str:
    return "/".join(f"{seen.routes[where][route]:,} {route}" for route in ROUTES)


def _heat(axis: Axes, seen: ObservationSummary, sets: Sequence[str]) -> None:
    """Draw a heat table: a row for each set, a column for each route."""
    from matplotlib import colormaps

    image = np.ones((len(sets), len(ROUTES), 3))
    for row, where in enumerate(sets):
        counts = seen.routes.get(where)
        total = sum(counts[route] for route in ROUTES) if counts else 0
        for column, route in enumerate(ROUTES):
            if not counts or not total:
                axis.text(column, row, "–", ha="center", va="center", color="0.4")
                continue
            share = counts[route] / total
            scale = colormaps["Blues" if route == WANTED[where] else "Oranges"]
            image[row, column] = scale(0.85 * share)[:3]
            colour = "white" if share > 0.65 else "0.15"
            words = f"{counts[route]:,}\n{100 * share:.1f} %"
            axis.text(column, row, words, ha="center", va="center", fontsize=8.5, color=colour)
    axis.imshow(image, aspect="auto")
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set_xticks(range(len(ROUTES)), list(ROUTES.values()), fontsize=9)
    axis.set_yticks(range(len(sets)), sets, fontsize=9)
    axis.tick_params(length=0)
    for at in range(1, len(sets)):
        axis.axhline(at - 0.5, color="white", linewidth=2)
    for at in range(1, len(ROUTES)):
        axis.axvline(at - 0.5, color="white", linewidth=2)


def _distances(run: Run) -> dict[str, Any] | None:
    measured = {name: seen for name, seen in run.seen.items() if any(where in seen.distances for where in SPREAD)}
    if not measured:
        return None
    figure, axes = _panels(len(measured), 2.7)
    summaries = []
    for axis, (name, seen) in zip(axes, measured.items(), strict=True):
        _spread(axis, seen)
        at = f", threshold {np.median(seen.thresholds):.3g}" if seen.thresholds else ""
        axis.set_title(f"{_text(name)}{at}", fontsize=10, loc="left")
        medians = [f"{where} {np.median(seen.distances[where]):.3g}" for where in SPREAD if where in seen.distances]
        summaries.append(f"{short(name)}: {', '.join(medians)}{at}")
    drawn = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(list(drawn.values()), list(drawn), loc="outside upper left", ncols=4, fontsize=9, frameon=False)
    return {
        "name": "distances",
        "title": "Distances",
        "words": "How far prompts lie from the nearest edit's key. Left of the threshold the edit answers. Where edits "
        "have thresholds of their own, the line is their median and the band holds nine tenths of them.",
        "alt": f"Histograms of distances; medians: {'; '.join(summaries)}.",
        "png": png(figure, 130),
    }


def _spread(axis: Axes, seen: ObservationSummary) -> None:
    there = {where: np.asarray(seen.distances[where]) for where in SPREAD if where in seen.distances}
    every = np.concatenate(list(there.values()))
    edges = np.linspace(every.min(), every.max(), 41) if np.ptp(every) > 0 else every[0] + np.linspace(-0.5, 0.5, 42)
    for where, values in there.items():
        heights = np.histogram(values, edges)[0] / len(values)
        axis.stairs(heights, edges, fill=True, color=SPREAD[where], alpha=0.28)
        axis.stairs(heights, edges, color=SPREAD[where], linewidth=1.3, label=where)
    if seen.thresholds:
        low, middle, high = np.quantile(np.asarray(seen.thresholds), [0.05, 0.5, 0.95])
        axis.axvline(middle, color="0.15", linestyle="--", linewidth=1.4, label="threshold")
        if high > low:
            axis.axvspan(low, high, color="0.15", alpha=0.1, linewidth=0)
    axis.set_xlabel("distance", fontsize=9)
    axis.set_ylabel("share of prompts", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.set_ylim(0, None)
