"""The plot is an SVG with every line and every point of it."""

from pathlib import Path
from xml.etree import ElementTree

from bench.plot import Line, write_plot

SVG = "{http://www.w3.org/2000/svg}"


def test_every_line_is_drawn_from_left_to_right_and_higher_values_higher(tmp_path: Path) -> None:
    file = tmp_path / "plot.svg"
    lines = [Line("a < b", [(5, 0.5), (50, 0.6), (500, 0.7)]), Line("flat", [(5, 0.6), (500, 0.6)])]
    write_plot(file, "title", lines)
    root = ElementTree.parse(file).getroot()
    drawn = [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in root.iter(f"{SVG}polyline")
    ]
    assert [len(points) for points in drawn] == [3, 2]
    rising = drawn[0]
    assert rising == sorted(rising)
    # Upwards on the page is less.
    assert [y for _, y in rising] == sorted((y for _, y in rising), reverse=True)
    words = {text.text for text in root.iter(f"{SVG}text")}
    assert {"title", "a < b", "flat", "5", "50", "500"} <= words


def test_an_axis_that_is_not_logarithmic_has_equal_steps_and_may_begin_at_nothing(
    tmp_path: Path,
) -> None:
    file = tmp_path / "plot.svg"
    write_plot(file, "title", [Line("rounds", [(0, 0.5), (1, 0.6), (2, 0.6)])], logarithmic=False)
    (line,) = ElementTree.parse(file).getroot().iter(f"{SVG}polyline")
    first, second, third = (float(p.split(",")[0]) for p in line.attrib["points"].split())
    assert second - first == third - second > 0
