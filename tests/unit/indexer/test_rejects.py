"""The file of rejected rows takes whatever came."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from indexer import Rejects


@pytest.mark.parametrize(
    ("row", "written"),
    [
        ({"title": "a\udcff"}, {"title": "a?"}),
        ({"id": 2**70}, {"id": float(2**70)}),
        ({"id": {1}}, {"id": "{1}"}),
    ],
)
def test_any_row_can_be_written(tmp_path: Path, row: Any, written: Any) -> None:
    with Rejects(tmp_path / "rejects.jsonl", tmp_path / "rows.jsonl") as rejects:
        rejects.write(3, "why", row)
        rejects.write(4, "why", {})
    first, second = (tmp_path / "rejects.jsonl").read_bytes().splitlines()
    assert orjson.loads(first) == {"line": 3, "reason": "why", "row": written}
    assert orjson.loads(second)["line"] == 4


def test_the_rejects_of_an_earlier_run_are_replaced(tmp_path: Path) -> None:
    feed, path = tmp_path / "feed.jsonl", tmp_path / "rejects.jsonl"
    feed.touch()
    for line in (1, 2):
        with Rejects(path, feed) as rejects:
            rejects.write(line, "title: is missing", None)
    (left,) = path.read_text().splitlines()
    assert orjson.loads(left)["line"] == 2
