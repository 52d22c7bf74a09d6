"""Reports: one page without network, in which no text becomes markup."""

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput, Unsupported
from neuralrank.report import Column, Plot, Report, Section, Table, bars, lines, points, writable

HOSTILE = "<script>alert(1)</script>\" onmouseover='x' 降噪 $\\frac{"


def report() -> Report:
    table = Table(
        [Column("variant"), Column("nDCG@10", "+.3f", "higher is better")],
        [["first", 0.5], [HOSTILE, None]],
        caption="Means",
    )
    return Report(
        f"Tuning {HOSTILE}",
        [
            Section(f"Quality {HOSTILE}", [HOSTILE], [table], [bars([HOSTILE], [0.5], HOSTILE)]),
            Section("Nothing"),
        ],
        {"index": HOSTILE},
    )


def test_no_text_becomes_markup() -> None:
    page = report().html()
    assert page.count("<script>") == 1  # its own
    assert "onmouseover='x'" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("降噪") >= 6


def test_nothing_is_fetched() -> None:
    page = report().html()
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert page.count('src="data:image/svg+xml;base64,') == 1


def test_numbers_are_formatted_and_sort_by_their_value() -> None:
    page = report().html()
    assert '<td class="number" data-value="0.5">+0.500</td>' in page
    assert "<td></td>" in page
    assert 'title="higher is better"' in page


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidInput, match="row 1 of a report's table has 2 cells; it has 1"):
        Table([Column("a")], [[1, 2]])


def test_it_is_written_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "made" / "report.html"
    report().write(path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unsupported, match=r"report\.html can't be written"):
        report().write(tmp_path / "file" / "report.html")


@pytest.mark.parametrize(
    "command",
    [
        ("tune", "spec.yml", "--report"),
        ("train", "evaluate", "data", "--bundle", "some", "--out"),
    ],
)
def test_a_place_where_no_report_can_be_is_said_before_the_work(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = CliRunner().invoke(app, [*command, str(tmp_path)])
    assert isinstance(done.exception, InvalidInput)
    assert str(done.exception) == (
        f"The report {tmp_path} is a folder. Name a file, as {tmp_path / 'report.html'}."
    )
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(app, [*command, str(tmp_path / "file" / "report.html")])
    assert isinstance(done.exception, Unsupported)
    assert "report.html can't be written" in str(done.exception)


def test_a_place_for_a_report_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "made" / "report.html"
    writable(path)
    assert list(path.parent.iterdir()) == []
    path.write_text("the last one")
    writable(path)
    assert path.read_text() == "the last one"


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(Unsupported, match=rf"{missing}: `pip install '\.\[evaluate\]'`"):
        report().html()


def test_plots_hold_their_names_as_text_and_are_the_same_each_time() -> None:
    def drawn() -> list[Plot]:
        return [
            bars(["耳机 $5", "b"], [1.0, -2.0], "bars", intervals=[(0.5, 1.5), (-3, -1)]),
            lines({"一": ([0, 1], [2, 3]), "二": ([0, 1], [3, 1])}, "lines", x_label="trial"),
            points({"三 & <x>": (1.0, 2.0)}, "points", x_label="ms", y_label="nDCG@10"),
        ]

    first, second = drawn(), drawn()
    assert first == second
    for plot, text in zip(first, ["耳机", "二", "三 &amp; &lt;x&gt;"], strict=True):
        assert text in plot.svg
        assert plot.uri.startswith("data:image/svg+xml;base64,")


def test_plots_refuse_unequal_lengths() -> None:
    with pytest.raises(InvalidInput, match="'b' got 1 values for 2 places"):
        bars(["x", "y"], [1.0], "b")
    with pytest.raises(InvalidInput, match="'c' got 2 values for 1 places"):
        bars(["x"], [1.0], "c", intervals=[(0, 1), (0, 1)])
    with pytest.raises(InvalidInput, match="'d' got 1 values for 2 places"):
        lines({"s": ([0, 1], [1])}, "d")
