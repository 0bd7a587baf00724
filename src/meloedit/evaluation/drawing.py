"""Drawing shared by ablations and reports: figures of matplotlib without a window and without its global state."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from ..errors import MeloEditError
from ..text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAME = 28
"""Characters of a name in a drawing; the data have the whole name."""


def check_plots() -> None:
    """Check that matplotlib is installed, before any work is done for a drawing.

    Raises:
        MeloEditError: naming the extra that installs it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MeloEditError("drawing needs the extra 'plots': pip install 'meloedit[plots]'") from None


def panels(rows: int, columns: int, count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``count`` empty panels.

    Args:
        rows: rows of the grid of panels.
        columns: its columns.
        count: how many panels, from the grid's first on.
        size: width and height of the figure in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = [figure.add_subplot(rows, columns, number + 1) for number in range(count)]
    for axis in axes:
        axis.set_axisbelow(True)
        axis.grid(True, color="0.9", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def label(text: str, limit: int = 200) -> str:
    """Return text as a label: one line, at most ``limit`` characters, never read as mathematics."""
    return shorten(text, limit).replace("$", r"\$")


def png(figure: Figure, dpi: int) -> bytes:
    """Return a figure as the bytes of a PNG file with ``dpi`` pixels an inch."""
    stream = io.BytesIO()
    with warnings.catch_warnings():  # a box in place of a character that the font lacks is warning enough
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()
