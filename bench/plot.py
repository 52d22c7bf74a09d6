"""Lines as an SVG file, without a plotting library."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

__all__ = ["Line", "write_plot"]

_WIDTH: Final = 760
_HEIGHT: Final = 420
_LEFT: Final = 60
_RIGHT: Final = 210
_TOP: Final = 40
_BOTTOM: Final = 40
_COLOURS: Final = ("#1f77b4", "#7fb3dd", "#2ca02c", "#98d594", "#d62728", "#ee9a9b")


@dataclass(frozen=True)
class Line:
    """A name and points (x, y), x rising; above 0 on a logarithmic axis."""

    name: str
    points: list[tuple[float, float]]


def write_plot(file: Path, title: str, lines: list[Line], *, logarithmic: bool = True) -> None:
    """Draws the lines over one x axis."""
    xs = sorted({x for line in lines for x, _ in line.points})
    ys = [y for line in lines for _, y in line.points]
    low, high = math.floor(min(ys) * 20) / 20, math.ceil(max(ys) * 20) / 20
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(x: float) -> float:
        if not logarithmic:
            return _LEFT + width * (x - xs[0]) / ((xs[-1] - xs[0]) or 1.0)
        span = math.log(xs[-1] / xs[0]) or 1.0
        return _LEFT + width * math.log(x / xs[0]) / span

    def down(y: float) -> float:
        return _TOP + height * (high - y) / ((high - low) or 1.0)

    parts = [_text(_LEFT, 22, title, size=14)]
    for x in xs:
        parts.append(_text(across(x) - 8, _HEIGHT - 18, f"{x:g}"))
        parts.append(_stroke(across(x), _TOP, across(x), _TOP + height))
    for step in range(round((high - low) * 20) + 1):
        y = low + step / 20
        parts.append(_text(14, down(y) + 4, f"{y:.2f}"))
        parts.append(_stroke(_LEFT, down(y), _LEFT + width, down(y)))
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(_WIDTH - _RIGHT + 14, _TOP + 14 + 20 * number, line.name, colour))
    file.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>'
        + "\n".join(parts)
        + "</svg>\n",
        "utf-8",
    )


def _text(x: float, y: float, words: str, colour: str = "#333", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}">{escape(words)}</text>'
    )


def _stroke(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'
