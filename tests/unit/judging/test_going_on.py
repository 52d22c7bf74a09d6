"""`neuralrank judge ask` finds what an earlier run of it has saved, in both formats."""

from pathlib import Path

import pytest

from neuralrank.cli.judge import _so_far, _steps
from neuralrank.errors import InvalidInput
from neuralrank.judging import Judgments

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


@pytest.mark.parametrize("text", ["1,0.5", "1,1", "a", "0.1;0.2"])
def test_thresholds_must_ascend(text: str) -> None:
    with pytest.raises(InvalidInput, match="ascending numbers"):
        _steps(text)
    assert _steps("") == ()
    assert _steps("0.25, 1,2") == (0.25, 1.0, 2.0)
