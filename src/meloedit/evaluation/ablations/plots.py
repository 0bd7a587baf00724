"""The drawings of the ablations, one PNG each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import write_bytes
from ..drawing import MAX_NAME, label, panels, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(data: dict[str, Any], path: Path) -> None:
    """Draw an ablation's data to a PNG file.

    Raises:
        MeloEditError: if the file cannot be written.
    """
    drawn = {"radius": _radius, "keys": _keys, "rank": _rank, "key-layer": _key_layer, "efficiency": _efficiency}
    write_bytes(path, png(drawn[data["ablation"]](data), 150))


def _panels(data: dict[str, Any], title: str, count: int, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    figure, axes = panels(1, count, count, (max(6.5, 4.6 * count), height))
    quirks = (
        "\nwith reference_quirks: the released code's departures from the paper" if data["reference_quirks"] else ""
    )
    figure.suptitle(f"{label(title)}{quirks}", fontsize=11)
    return figure, axes


def _name(data: dict[str, Any]) -> str:
    return Path(data.get("model", "")).name or "model"


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 * number / max(1, count - 1)) for number in range(count)]


def _radius(data: dict[str, Any]) -> Figure:
    size = data["config"]["edits_per_block"]
    title = f"{_name(data)}, {data['facts_file']}: {data['edits']:,} edits in batches of {size}, by initial radius"
    figure, axes = _panels(data, title, 3)
    for axis, (name, words) in zip(axes, _COUNTS.items(), strict=True):
        for run, colour in zip(data["runs"], _colours(len(data["runs"])), strict=True):
            edits, counts = [0], [0]
            edits += [point["edits"] for point in run["curve"]]
            counts += [point[name] for point in run["curve"]]
            axis.plot(edits, counts, color=colour, label=f"{run['radius']:g}", linewidth=1.6)
        axis.set(xlabel="edits so far", ylabel=words, xlim=(0, None), ylim=(0, None))
    axes[0].legend(title="initial radius", fontsize=8, title_fontsize=8, frameon=False)
    return figure


_COUNTS = {"clusters": "clusters", "conflicts": "conflicts so far", "forgotten": "forgotten edits so far"}


def _keys(data: dict[str, Any]) -> Figure:
    from matplotlib import colormaps

    shares = [100 * share for share in data["share_of_variance"]]
    title = f"{_name(data)}, {data['facts_file']}: keys by target; {sum(shares):.0f} % of the variance is in the plane"
    figure, (axis,) = _panels(data, title, 1, height=5.2)
    figure.set_size_inches(8.5, 5.2)
    dots = []
    for number, target in enumerate(data["targets"]):
        points = [point for point in data["points"] if point["target"].strip() == target]
        # Only ten colours can be told apart; further targets repeat them in other shapes.
        colour, marker = colormaps["tab10"](number % 10), "os^Dvp*X"[number // 10 % 8]
        x, y = ([point[name] for point in points] for name in "xy")
        dots.append(axis.scatter(x, y, s=18, color=colour, marker=marker, alpha=0.75, linewidths=0))
    axis.set(xlabel=f"component 1 ({shares[0]:.0f} %)", ylabel=f"component 2 ({shares[1]:.0f} %)")
    # Legends skip names that begin with an underscore; a space before them is invisible.
    names = [f" {label(target, MAX_NAME)}" for target in data["targets"]]
    figure.legend(dots, names, loc="outside right upper", title="target", fontsize=8, title_fontsize=8, frameon=False)
    return figure


def _lines(axis: Axes, names: Sequence[str], runs: Sequence[dict[str, Any]]) -> None:
    for column, (words, style) in _FIGURES.items():
        if all(column in run for run in runs):
            axis.plot(range(len(runs)), [run[column] for run in runs], style, label=words)
    rotation: dict[str, Any] = {"rotation": 15, "ha": "right"} if sum(map(len, names)) > 60 else {}
    axis.set_xticks(range(len(runs)), [label(name, MAX_NAME) for name in names], **rotation)
    axis.set(ylabel="share of prompts, or mean F1", ylim=(-0.02, 1.02))
    axis.figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)


_FIGURES = {
    "edit_success": ("edit success (the target, word for word)", "C0o-"),
    "edit_f1": ("edit success, F1", "C0o:"),
    "rephrase_success": ("generality (a rephrasing never trained on)", "C1s-"),
    "rephrase_f1": ("generality, F1", "C1s:"),
    "rephrase_reached": ("rephrasings that reach their edit", "C7d--"),
    "activation": ("other questions that reach an edit", "C3^--"),
    "activation_dressed": ("the same, with a capital and a question mark", "C3v:"),
}


def _rank(data: dict[str, Any]) -> Figure:
    size = data["config"]["edits_per_block"]
    figure, (axis,) = _panels(
        data, f"{_name(data)}: {data['facts']:,} edits, {size} in a block, by rank", 1, height=4.6
    )
    _lines(axis, [str(run["rank"]) for run in data["runs"]], data["runs"])
    axis.set_xlabel("rank of a block")
    return figure


def _key_layer(data: dict[str, Any]) -> Figure:
    radius = data["config"]["radius"]
    title = f"{_name(data)}: {data['facts']:,} edits by key layer, initial radius {radius:g} in each"
    figure, (axis,) = _panels(data, title, 1, height=5.4)
    names, common = short_names([run["key_layer"] for run in data["runs"]])
    _lines(axis, names, data["runs"])
    axis.set_xlabel(f"key layer: {common}" if common else "key layer")
    return figure


def short_names(names: Sequence[str]) -> tuple[list[str], str]:
    """Return the parts in which names of modules differ, and their common part with ``*`` for those."""
    parts = [name.split(".") for name in names]
    shortest = min(map(len, parts))
    first = next((i for i in range(shortest) if len({part[i] for part in parts}) > 1), shortest)
    rest = shortest - first
    last = next((i for i in range(rest) if len({part[-1 - i] for part in parts}) > 1), rest)
    if len(set(names)) == 1 or first + last == 0:
        return list(names), ""
    common = ".".join([*parts[0][:first], "*", *parts[0][len(parts[0]) - last :]])
    return [".".join(part[first : len(part) - last]) or "-" for part in parts], common


_PARAMETERS = {
    "melo_blocks": "MELO: blocks (Eq. 11)",
    "melo_blocks_and_keys": "MELO: blocks and keys",
    "grace_values": "GRACE: values",
    "grace_keys_and_values": "GRACE: keys and values",
}


def _efficiency(data: dict[str, Any]) -> Figure:
    measured, counted = data["measured"], data["parameters"]
    speed = f"{measured['edits_per_minute']:,.0f} edits a minute on {_machine(data)}"
    figure, axes = _panels(data, f"{_name(data)}: {measured['edits']:,} edits, {speed}", 3)
    _bars(axes[0], list(_PARAMETERS.values()), [counted[name] for name in _PARAMETERS], "{:,.0f}")
    axes[0].set_yscale("log")
    lowest = min(counted[name] for name in _PARAMETERS)
    axes[0].set(ylabel=f"parameters per {counted['per_edits']:,} edits", ylim=(lowest / 3, None))
    before, rates = {"edits": 0, "seconds": 0.0}, []
    for part in data["parts"]:
        seconds = max(part["seconds"] - before["seconds"], 1e-9)
        rates.append(60 * (part["edits"] - before["edits"]) / seconds)
        before = part
    axes[1].plot([part["edits"] for part in data["parts"]], rates, "o-", markersize=4)
    axes[1].set(xlabel="edits so far", ylabel="edits a minute, block by block", ylim=(0, 1.15 * max(rates)))
    axes[1].set_xlim(0, None)
    names = {"block_bytes_per_edit": "blocks", "key_bytes_per_edit": "index (keys, clusters)"}
    _bars(axes[2], list(names.values()), [measured[name] for name in names], "{:,.0f}")
    axes[2].set(ylabel="bytes per edit, in memory")
    return figure


def _machine(data: dict[str, Any]) -> str:
    device, threads = data["machine"]["device"], data["machine"]["threads"]
    return f"{device} ({threads} thread{'' if threads == 1 else 's'})" if device == "cpu" else device


def _bars(axis: Axes, names: list[str], values: list[float], form: str) -> None:
    bars = axis.bar(range(len(names)), values, color=[f"C{number}" for number in range(len(names))], width=0.65)
    axis.bar_label(bars, [form.format(value) for value in values], fontsize=8, padding=2)
    axis.set_xticks(range(len(names)), [name.replace(": ", ":\n") for name in names], fontsize=7.5)
    axis.margins(y=0.15)
