"""Plots for reports: matplotlib's SVG as a data URI, so that a page needs no other file.

Text stays text in the SVG: the reader's fonts draw it, Chinese as well as English.
"""

import base64
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from neuralrank.errors import InvalidInput, Unsupported
from neuralrank.extras import install

__all__ = ["Plot", "bars", "lines", "points"]

# Inches; a page is 70 rem wide.
_WIDTH: Final = 9.0
_HEIGHT: Final = 4.0
_ROW: Final = 0.35
_COLOUR: Final = "#2a6fbb"
_ZERO: Final = "#9aa3ae"

Numbers = Sequence[float]


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing. `description` stands below it and is what a screen reader says."""

    svg: str
    description: str

    @property
    def uri(self) -> str:
        """For the `src` of an image: nothing in it can run or be fetched."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


def bars(
    names: Sequence[str],
    values: Numbers,
    description: str,
    *,
    label: str = "",
    intervals: Sequence[tuple[float, float]] | None = None,
) -> Plot:
    """One horizontal bar a name, from the top.

    Args:
        label: what the values are.
        intervals: low and high end of each value.

    Raises:
        InvalidInput: there are not as many values or intervals as names.
        Unsupported: matplotlib is not installed.
    """
    _same_length(len(names), values, description)
    if intervals is not None:
        _same_length(len(names), intervals, description)

    def draw(axes: Any) -> None:
        places = range(len(names))
        errors = None
        if intervals is not None:
            errors = [
                [max(0.0, value - low) for value, (low, _) in zip(values, intervals, strict=True)],
                [
                    max(0.0, high - value)
                    for value, (_, high) in zip(values, intervals, strict=True)
                ],
            ]
        axes.barh(places, values, color=_COLOUR, height=0.7, xerr=errors, ecolor="#1b2330")
        axes.set_yticks(places, labels=[_plain(name) for name in names])
        axes.invert_yaxis()
        axes.axvline(0, color=_ZERO, linewidth=0.8)
        axes.set_xlabel(_plain(label))
        axes.grid(axis="x", alpha=0.3)

    return _plot(draw, description, height=max(1.5, 1.0 + _ROW * len(names)))


def lines(
    series: Mapping[str, tuple[Numbers, Numbers]],
    description: str,
    *,
    x_label: str = "",
    y_label: str = "",
    markers: bool = False,
) -> Plot:
    """One line a series of x and y values.

    Args:
        markers: whether each value is marked.

    Raises:
        InvalidInput: a series has not as many x as y values.
        Unsupported: matplotlib is not installed.
    """
    for xs, ys in series.values():
        _same_length(len(xs), ys, description)

    def draw(axes: Any) -> None:
        for name, (xs, ys) in series.items():
            axes.plot(xs, ys, label=_plain(name), marker="o" if markers else None, markersize=3)
        _labelled(axes, x_label, y_label)
        if len(series) > 1:
            axes.legend()

    return _plot(draw, description)


def points(
    places: Mapping[str, tuple[float, float]],
    description: str,
    *,
    x_label: str = "",
    y_label: str = "",
) -> Plot:
    """One named point each.

    Raises:
        Unsupported: matplotlib is not installed.
    """

    def draw(axes: Any) -> None:
        for name, (x, y) in places.items():
            axes.plot([x], [y], marker="o", linestyle="", color=_COLOUR)
            axes.annotate(_plain(name), (x, y), xytext=(6, 4), textcoords="offset points")
        axes.margins(0.15)
        _labelled(axes, x_label, y_label)

    return _plot(draw, description)


def _labelled(axes: Any, x_label: str, y_label: str) -> None:
    axes.set_xlabel(_plain(x_label))
    axes.set_ylabel(_plain(y_label))
    axes.grid(alpha=0.3)


def _plot(draw: Callable[[Any], None], description: str, height: float = _HEIGHT) -> Plot:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unsupported(
            f"A report with plots needs matplotlib: {install('evaluate')}."
        ) from error
    # The salt makes ids, and so the file, the same each time.
    look = {"svg.fonttype": "none", "svg.hashsalt": "neuralrank", "font.family": "sans-serif"}
    out = BytesIO()
    with matplotlib.rc_context(look), warnings.catch_warnings():
        # The font that it measures text with has no Chinese; the reader's has.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return Plot(out.getvalue().decode(), description)


def _plain(text: str) -> str:
    """A dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def _same_length(expected: int, values: Sequence[Any], description: str) -> None:
    if len(values) != expected:
        raise InvalidInput(
            f"the plot {description!r} got {len(values)} values for {expected} places. Give as "
            "many of each."
        )
