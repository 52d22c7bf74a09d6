"""Files of judgments, queries and events may be gzip, whatever they are called."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuralrank.errors import InvalidInput, NotFound
from neuralrank.evaluation import read_qrels, read_queries
from neuralrank.files.zipped import read_lines
from neuralrank.judging.judgments import Judgments

RATINGS = b'{"judgmentRatings": [{"query": "q", "ratings": [{"docId": "a", "rating": 2}]}]}'

READERS: list[tuple[str, bytes, Callable[[Path], Any]]] = [
    ("queries.tsv", b"1\tred kettle\n", read_queries),
    ("qrels.tsv", b"1 0 a 2\n", read_qrels),
    ("grades.json", RATINGS, lambda path: Judgments.read(path).grades),
    ("events.ndjson", b"{}\n{}\n", lambda path: list(read_lines(path))),
]


@pytest.mark.parametrize(("name", "content", "reads"), READERS)
def test_whether_a_file_is_gzip_is_told_by_what_is_in_it(
    tmp_path: Path, name: str, content: bytes, reads: Callable[[Path], Any]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    plain = reads(path)
    assert plain
    path.write_bytes(gzip.compress(content))
    assert reads(path) == plain
    misnamed = tmp_path / f"{name}.gz"
    misnamed.write_bytes(content)
    assert reads(misnamed) == plain


@pytest.mark.parametrize(("name", "content", "reads"), READERS)
def test_one_that_was_cut_short_or_can_not_be_read_is_said(
    tmp_path: Path, name: str, content: bytes, reads: Callable[[Path], Any]
) -> None:
    path = tmp_path / name
    with pytest.raises(NotFound, match="There is no file"):
        reads(path)
    path.write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(InvalidInput, match=rf"{name} is a damaged gzip file .*\. Get it anew"):
        reads(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InvalidInput, match=rf"{name} can't be read: Is a directory"):
        reads(path)
