"""Judgment files, in and out."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.evaluation import read_qrels, read_queries
from neuralrank.judging import (
    Judgments,
    query_key,
    require_some,
    unknown_in_words,
    unknown_items,
)

MADE = Judgments({"1": "red kettle", "2": "电脑"}, {"1": {"a": 3, "b": 0}, "2": {"A": 2}})


def test_trec_and_its_queries_come_back(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "mine.qrels"
    queries = MADE.write(out)
    assert queries == tmp_path / "deep" / "mine.queries.tsv"
    assert out.read_text() == "1 0 a 3\n1 0 b 0\n2 0 A 2\n"
    assert read_qrels(out) == MADE.grades
    assert read_queries(queries) == MADE.texts
    assert Judgments.read(out, queries) == MADE
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


def test_what_opensearch_imports_has_its_shape_and_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    assert MADE.write(out) is None
    body = json.loads(out.read_text())
    assert body == {
        "name": "mine",
        "description": "Written by neuralrank judge",
        "type": "IMPORT_JUDGMENT",
        "judgmentRatings": [
            {
                "query": "red kettle",
                # Strings: their importer casts both.
                "ratings": [{"docId": "a", "rating": "3.000"}, {"docId": "b", "rating": "0.000"}],
            },
            {"query": "电脑", "ratings": [{"docId": "A", "rating": "2.000"}]},
        ],
    }
    back = Judgments.read(out)
    assert back.by_ids_of(MADE).grades == MADE.grades
    assert all(name.startswith("q") and len(name) == 13 for name in back.grades)
    answered = tmp_path / "get.json"
    answered.write_text(json.dumps({"hits": {"hits": [{"_id": "x", "_source": body}]}}))
    assert Judgments.read(answered) == back


def test_ratings_of_a_click_model_need_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "coec.json"
    ratings = [{"docId": "a", "rating": "0.873"}, {"docId": "b", "rating": 2.5}]
    path.write_text(json.dumps({"judgmentRatings": [{"query": "q", "ratings": ratings}]}))
    # Who reads it (`train dataset`, `tune`) may have no such flag; this command has.
    with pytest.raises(InvalidInput, match=r"query 1: a has the rating 0\.873") as refused:
        Judgments.read(path)
    said = str(refused.value).rpartition("`neuralrank ")[2].removesuffix("`.").split()
    said[said.index("--out") + 1] = str(tmp_path / "grades.json")
    assert CliRunner().invoke(app, said).exit_code == 0
    (grades,) = Judgments.read(tmp_path / "grades.json").grades.values()
    assert grades == {"a": 1, "b": 3}
    (grades,) = Judgments.read(path, thresholds=(0.25, 1, 2)).grades.values()
    assert grades == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "no `judgmentRatings`"),
        ('{"hits": {"hits": []}}', "no `judgmentRatings`"),
        ("{", "can't be read as JSON"),
        ('{"judgmentRatings": [{"ratings": []}]}', "query 1: got"),
        ('{"judgmentRatings": [{"query": "q", "ratings": [{"docId": "a"}]}]}', "`rating`, a num"),
        (
            '{"judgmentRatings": [{"query": "q", "ratings": [{"docId": "a", "rating": 1}, '
            '{"docId": "a", "rating": 2}]}]}',
            "query 1: a has grade 2, and 1 in a rating before it",
        ),
    ],
)
def test_what_is_no_judgment_file_is_said(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=words):
        Judgments.read(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no file"):
        Judgments.read(tmp_path / "none.json")


def test_an_id_with_a_space_does_not_break_the_columns(tmp_path: Path) -> None:
    odd = Judgments({"1": "x"}, {"1": {"a b": 1}})
    with pytest.raises(InvalidInput, match=r"'a b' can't be written in TREC.*\.json"):
        odd.write(tmp_path / "odd.qrels")
    assert list(tmp_path.iterdir()) == []
    odd.write(tmp_path / "odd.json")
    assert next(iter(Judgments.read(tmp_path / "odd.json").grades.values())) == {"a b": 1}


def test_queries_that_differ_in_case_width_or_spaces_are_one() -> None:
    assert query_key(" ＭacBook   Air") == query_key("macbook air")
    # Logs hold what anybody typed, and sorting marks takes a time that grows with their square.
    assert len(query_key("a" + "\u0301\u0323" * 1_000)) <= 31
    made = Judgments({"7": "MacBook Air"})
    assert made.id_of("macbook  air") == "7"
    assert made.id_of("iphone") == made.id_of("IPHONE ") != "7"


def test_of_many_unknown_items_the_first_are_named() -> None:
    assert unknown_in_words(["a", "b"]) == "2 judged items are not in the index: a, b"
    many = unknown_in_words([f"i{n}" for n in range(1_020)])
    assert many.startswith("1,020 judged items are not in the index: i0, i1, ")
    assert many.endswith(", i19 and 1,000 more")


def test_convert_reads_the_queries_that_lie_beside_the_file(tmp_path: Path) -> None:
    source, out = tmp_path / "mine.qrels", tmp_path / "mine.json"
    MADE.write(source)
    done = CliRunner().invoke(app, ["judge", "convert", str(source), "--out", str(out)])
    assert done.exit_code == 0, done.output
    ratings = json.loads(out.read_text())["judgmentRatings"]
    assert [entry["query"] for entry in ratings] == ["red kettle", "电脑"]
    (tmp_path / "mine.queries.tsv").unlink()
    CliRunner().invoke(app, ["judge", "convert", str(source), "--out", str(out)])
    ratings = json.loads(out.read_text())["judgmentRatings"]
    assert [entry["query"] for entry in ratings] == ["1", "2"]


def test_of_a_gzip_file_the_queries_are_those_of_the_same_name(tmp_path: Path) -> None:
    source, out = tmp_path / "mine.qrels", tmp_path / "mine.json"
    MADE.write(source)
    zipped = tmp_path / "mine.qrels.gz"
    zipped.write_bytes(gzip.compress(source.read_bytes()))
    done = CliRunner().invoke(app, ["judge", "convert", str(zipped), "--out", str(out)])
    assert done.exit_code == 0, done.output
    ratings = json.loads(out.read_text())["judgmentRatings"]
    assert [entry["query"] for entry in ratings] == ["red kettle", "电脑"]


def test_what_is_converted_has_texts_and_no_ids_for_them(tmp_path: Path) -> None:
    (tmp_path / "j.qrels").write_text("1 0 a 3\n2 0 b 1\n")
    (tmp_path / "q.tsv").write_text("1\tred kettle\n")
    command = ["judge", "convert", str(tmp_path / "j.qrels"), "--out", str(tmp_path / "j.json")]
    done = CliRunner().invoke(app, [*command, "--queries", str(tmp_path / "q.tsv"), "--json"])
    assert json.loads(done.stdout)["skipped"] == {"judged queries without a text": 1}
    written = json.loads((tmp_path / "j.json").read_text())
    assert [row["query"] for row in written["judgmentRatings"]] == ["red kettle"]


def test_judgments_of_which_an_index_holds_nothing_measure_nothing() -> None:
    require_some("shop", {"a", "b"}, ["a"])
    require_some("shop", set(), [])
    with pytest.raises(InvalidInput, match="None of the 2 judged items is in the index 'shop'"):
        require_some("shop", {"a", "b"}, ["a", "b"])


class Alias:
    """Over indices that share ids: each gives its own hit, one index after the other."""

    def __init__(self, *indices: list[str]) -> None:
        self._of = indices
        self.asked: list[int] = []
        self.indices = SimpleNamespace(exists=lambda **_: True)

    def search(self, *, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        wanted = body["query"]["ids"]["values"]
        self.asked.append(len(wanted))
        hits = [{"_id": name} for index in self._of for name in index if name in wanted]
        return {"hits": {"hits": hits[: body["size"]]}}


@pytest.mark.parametrize(
    ("first", "second", "unknown", "asked"),
    [
        # What both hold fills the answer.
        (range(700), range(1_000), [], [1_000, 300]),
        (range(700), range(990), range(990, 1_000), [1_000, 300]),
        (range(600), range(600), range(600, 1_000), [1_000, 400]),
        # One index asks once, whatever it lacks.
        (range(990), (), range(990, 1_000), [1_000]),
        (range(1_000), (), [], [1_000]),
        ((), (), range(1_000), [1_000]),
    ],
)
def test_an_alias_over_indices_that_share_ids_hides_no_item(
    first: range, second: range, unknown: range, asked: list[int]
) -> None:
    names = [f"p{n:04}" for n in range(1_000)]
    client: Any = Alias([names[n] for n in first], [names[n] for n in second])
    assert unknown_items(client, "shop", names) == [names[n] for n in unknown]
    assert client.asked == asked
