"""`neuralrank judge ask` finds what an earlier run of it has saved, in both formats."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neuralrank.cli import judge as asking
from neuralrank.cli.commands import app
from neuralrank.cli.judge import _so_far, _steps
from neuralrank.errors import InvalidInput
from neuralrank.judging import Judgments
from neuralrank.opensearch.page import Hit

TEXTS = {"1": "red kettle", "2": "电脑"}


@pytest.mark.parametrize("name", ["mine.qrels", "mine.json"])
@pytest.mark.parametrize("grades", [{"1": {"a": 3}, "2": {"b": 0}}, {"2": {"b": 1}}, {}])
def test_what_was_saved_is_found(
    tmp_path: Path, name: str, grades: dict[str, dict[str, int]]
) -> None:
    queries, out = tmp_path / "queries.tsv", tmp_path / name
    queries.write_text("".join(f"{query}\t{text}\n" for query, text in TEXTS.items()))
    assert _so_far(out, queries, TEXTS) == Judgments(TEXTS)
    Judgments(dict(TEXTS), grades).write(out, queries=False)
    assert _so_far(out, queries, TEXTS) == Judgments(TEXTS, grades)
    assert queries.read_text().startswith("1\tred kettle")


def test_judgments_on_queries_that_are_no_longer_asked_stay(tmp_path: Path) -> None:
    queries, out = tmp_path / "queries.tsv", tmp_path / "mine.qrels"
    queries.write_text("1\tred kettle\n")
    out.write_text("1 0 a 3\n9 0 z 2\n")
    found = _so_far(out, queries, {"1": "red kettle"})
    assert found.grades == {"1": {"a": 3}, "9": {"z": 2}}
    found.write(out, queries=False)
    assert out.read_text() == "1 0 a 3\n9 0 z 2\n"


def test_answers_on_queries_that_differ_in_case_only_all_stay(tmp_path: Path) -> None:
    texts = {"1": "iPhone", "2": "iphone", "3": "kettle"}
    queries, out = tmp_path / "queries.tsv", tmp_path / "mine.qrels"
    queries.write_text("".join(f"{query}\t{text}\n" for query, text in texts.items()))
    grades = {"1": {"a": 3, "b": 0}, "2": {"a": 1, "c": 2}}
    Judgments(dict(texts), grades).write(out, queries=False)
    assert _so_far(out, queries, texts).grades == grades


def test_what_becomes_one_query_is_joined_and_two_grades_are_refused(tmp_path: Path) -> None:
    """Ids that are texts, of a file that was made without one of queries."""
    queries, out = tmp_path / "queries.tsv", tmp_path / "mine.qrels"
    queries.write_text("1\tiPhone\n")
    out.write_text("iphone 0 a 3\nIPHONE 0 b 1\n")
    assert _so_far(out, queries, {"1": "iPhone"}).grades == {"1": {"a": 3, "b": 1}}
    out.write_text("iphone 0 a 3\nIPHONE 0 a 1\n")
    with pytest.raises(InvalidInput, match=r"Item 'a' has grade 1 for the query 'iPhone', and 3 "):
        _so_far(out, queries, {"1": "iPhone"})


@pytest.mark.parametrize(
    ("name", "typed", "kept"),
    [
        ("mine.json", "3\n0\n", {"iPhone": {"a": 3}, "kettle": {"a": 0}}),
        ("mine.qrels", "3\n1\n0\n", {"1": {"a": 3}, "2": {"a": 1}, "3": {"a": 0}}),
    ],
)
def test_an_answer_on_one_spelling_is_not_overwritten_by_that_on_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, typed: str, kept: object
) -> None:
    queries, out = tmp_path / "queries.tsv", tmp_path / name
    queries.write_text("1\tiPhone\n2\tiphone \n3\tkettle\n")
    monkeypatch.setattr(asking, "connect", lambda _: None)
    monkeypatch.setattr(asking, "closing", nullcontext)
    monkeypatch.setattr(asking, "_pool", lambda *_: [Hit("a", 1.0, {"title": "a thing"})])
    command = ["judge", "ask", "--queries", str(queries), "-i", "shop", "--out", str(out)]
    done = CliRunner().invoke(app, command, input=typed)
    assert done.exit_code == 0, done.output
    assert ("Query 2 is not asked: it is the text of 1" in done.output) is (name == "mine.json")
    found = Judgments.read(out)
    assert {found.texts[query]: grades for query, grades in found.grades.items()} == kept
    # Nothing is left to be asked.
    again = CliRunner().invoke(app, command)
    assert "0 answers, 0 skipped, 0 not asked yet" in again.output


@pytest.mark.parametrize("text", ["1,0.5", "1,1", "a", "0.1;0.2"])
def test_thresholds_must_ascend(text: str) -> None:
    with pytest.raises(InvalidInput, match="ascending numbers"):
        _steps(text)
    assert _steps("") == ()
    assert _steps("0.25, 1,2") == (0.25, 1.0, 2.0)
