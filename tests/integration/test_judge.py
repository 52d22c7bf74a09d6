"""Judgments from clicks that lie in a real OpenSearch, and from a person at its results."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch
from typer.testing import CliRunner

from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput
from neuralrank.evaluation import read_qrels, read_queries
from neuralrank.opensearch.connection import connect
from neuralrank.settings import Settings
from neuralrank.ubi import rows

INDEX = "judge_test_products"
# A time of its own: other tests log events too.
DAY = "2019-03-05T12:00:00Z"
DURING = ("--since", "2019-03-01", "--until", "2019-03-31")


def event(query: str, action: str, item: str, ordinal: int | None = None) -> dict[str, Any]:
    position = {} if ordinal is None else {"position": {"ordinal": ordinal}}
    return {
        "action_name": action,
        "query_id": query,
        "client_id": "judge-test",
        "timestamp": DAY,
        "event_attributes": {"object": {"object_id": item}, **position},
    }


def asked(query: str, text: str, *hits: str) -> dict[str, Any]:
    row = {"query_id": query, "user_query": text, "client_id": "judge-test", "timestamp": DAY}
    return row | ({"query_response_hit_ids": list(hits)} if hits else {})


# The pages of tests/unit/judging/test_clicks.py, logged in the ways in which shops log.
ROWS = [
    asked("judge-1", "Kettle"),
    *(event("judge-1", "impression", item, place) for place, item in enumerate("abc", 1)),
    event("judge-1", "click", "b"),
    event("judge-1", "click", "b"),  # twice: one click
    event("judge-1", "impression", "a", 9),  # seen again: one impression, where it was first
    asked("judge-2", "kettle "),
    *(event("judge-2", "impression", item, place) for place, item in enumerate("abc", 1)),
    event("judge-2", "click", "a"),
    event("judge-2", "click", "c"),
    event("judge-2", "click", "elsewhere"),
    # Without impressions: the hits of the response, at the same places.
    asked("judge-3", "kettle", "b", "a", "c"),
    # Without a document in ubi_queries.
    *(
        event("judge-4", "impression", item, place) | {"user_query": "shoe"}
        for place, item in enumerate("xy", 1)
    ),
    event("judge-4", "click", "x"),
    # What can't be used.
    event("judge-5", "click", "a"),
    asked("judge-6", "kettle"),
    {**event("", "click", "a"), "query_id": None},
]


@pytest.fixture(scope="module")
def client(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearch]:
    with closing(connect(stack)) as opened:
        path = tmp_path_factory.mktemp("judge") / "rows.ndjson"
        path.write_text("\n".join(map(json.dumps, ROWS)))
        done = run(stack, "feedback", "load", str(path))
        assert done.exit_code == 0, done.output
        opened.indices.delete(index=INDEX, params={"ignore_unavailable": "true"})
        for item in "abcx":
            body = {"title": f"kettle {item}", "brand": "Bodum"}
            opened.index(index=INDEX, id=item, body=body, params={"refresh": "true"})
        yield opened
        opened.indices.delete(index=INDEX)
        opened.delete_by_query(
            index="ubi_events,ubi_queries",
            body={"query": {"range": {"timestamp": {"lte": "2019-12-31"}}}},
            params={"refresh": "true"},
        )


def run(stack: Settings, *arguments: str, **options: Any) -> Any:
    environment = {"NEURALRANK_OPENSEARCH_URL": stack.opensearch_url, "COLUMNS": "200"}
    return CliRunner().invoke(app, [*arguments], env=environment, **options)


@pytest.mark.parametrize("batch", [2, 5_000])
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("coec", {"kettle": {"a": 1, "b": 2, "c": 2}, "shoe": {"x": 3, "y": 0}}),
        ("sdbn", {"kettle": {"a": 1, "b": 2, "c": 2}, "shoe": {"x": 2}}),
    ],
)
def test_clicks_become_grades(
    stack: Settings,
    client: OpenSearch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    batch: int,
    expected: dict[str, dict[str, int]],
) -> None:
    monkeypatch.setattr(rows, "_BATCH", batch)
    out = tmp_path / "clicks.qrels"
    done = run(
        stack, "judge", "clicks", "--out", str(out), "--model", model, "--min-impressions", "1",
        *DURING, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    texts = read_queries(tmp_path / "clicks.queries.tsv")
    assert {texts[q]: grades for q, grades in read_qrels(out).items()} == expected
    assert (report["pages"], report["queries"]) == (4, 2)
    assert report["skipped"] == {
        "events without query_id": 1,
        "clicks on what was not shown": 1,
        "pages without a query text": 1,
        "pages of which is not known what stood on them": 1,
    }
    # Nothing is left open in the cluster.
    assert client.get_all_pits().get("pits", []) == []


def test_unknown_items_are_left_out_counted_and_listed(
    stack: Settings, client: OpenSearch, tmp_path: Path
) -> None:
    out = tmp_path / "clicks.json"
    common = ("judge", "clicks", "--out", str(out), *DURING, "--min-impressions", "1")
    done = run(stack, *common, "--index", INDEX)
    assert done.exit_code == 0, done.output
    assert "1 judged items are not in the index: y" in done.stdout
    body = json.loads(out.read_text())
    ratings = {entry["query"]: entry["ratings"] for entry in body["judgmentRatings"]}
    assert ratings["shoe"] == [{"docId": "x", "rating": "3.000"}]
    assert client.exists(index=INDEX, id="x")


def test_queries_of_a_file_keep_their_ids(
    stack: Settings, client: OpenSearch, tmp_path: Path
) -> None:
    assert client.ping()
    queries, out = tmp_path / "queries.tsv", tmp_path / "clicks.qrels"
    queries.write_text("17\tKETTLE\n18\tnever asked\n")
    done = run(
        stack, "judge", "clicks", "--out", str(out), "--queries", str(queries), *DURING,
        "--min-impressions", "3", "--thresholds", "0.9", "--json",
    )  # fmt: skip
    assert read_qrels(out) == {"17": {"a": 0, "b": 1, "c": 1}}
    report = json.loads(done.stdout)
    assert (report["other_queries"], report["too_rare"]) == (2, 0)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["clicks.qrels", "queries.tsv"]


def test_nothing_to_judge_is_said(stack: Settings, client: OpenSearch, tmp_path: Path) -> None:
    assert client.ping()
    done = run(stack, "judge", "clicks", "--out", str(tmp_path / "x.qrels"), *DURING)
    assert isinstance(done.exception, InvalidInput)
    assert "pairs were shown less than 10 times" in str(done.exception)
    assert list(tmp_path.iterdir()) == []
    done = run(stack, "judge", "clicks", "--out", "x.qrels", "--since", "yesterdayish")
    assert isinstance(done.exception, InvalidInput)
    assert "'yesterdayish' is no time; allowed are ISO 8601" in str(done.exception)


def test_a_person_answers_leaves_and_goes_on(
    stack: Settings, client: OpenSearch, tmp_path: Path
) -> None:
    assert client.ping()
    queries, out = tmp_path / "queries.tsv", tmp_path / "mine.qrels"
    queries.write_text("1\tkettle\n")
    command = (
        "judge", "ask", "--queries", str(queries), "--index", INDEX, "--out", str(out),
        "--pipelines", "_none",
    )  # fmt: skip
    first = run(stack, *command, input="3\n0\nq\n")
    assert first.exit_code == 0, first.output
    assert "1 of 4   kettle" in first.stdout
    assert "2 answers, 0 skipped, 2 not asked yet" in first.stdout
    kept = read_qrels(out)["1"]
    assert sorted(kept.values()) == [0, 3]
    second = run(stack, *command, input="1\n2\n")
    assert "1 of 2   kettle" in second.stdout
    grades = read_qrels(out)["1"]
    assert {item: grades[item] for item in kept} == kept
    assert sorted(grades) == ["a", "b", "c", "x"]
    assert sorted(grades.values()) == [0, 1, 2, 3]
    as_json = tmp_path / "mine.json"
    done = run(
        stack, "judge", "convert", str(out), "--queries", str(queries), "--out", str(as_json),
        "--index", INDEX, "--json",
    )  # fmt: skip
    assert json.loads(done.stdout)["unknown_items"] == []
    other = tmp_path / "other.qrels"
    other.write_text("1 0 gone 3\n")
    gone = ("judge", "convert", str(other), "--out", str(tmp_path / "none.json"))
    none = run(stack, *gone, "--index", INDEX)
    assert isinstance(none.exception, InvalidInput)
    assert "None of the 1 judged items is in the index" in str(none.exception)
    assert not (tmp_path / "none.json").exists()
    # A file of OpenSearch's format is gone on with too.
    third = run(stack, *command[:-4], "--out", str(as_json), "--pipelines", "_none", input="")
    assert "0 answers, 0 skipped, 0 not asked yet" in third.stdout
    assert "has 4 judgments" in third.stdout


def test_a_time_without_pages_is_said_with_what_to_do(
    stack: Settings, client: OpenSearch, tmp_path: Path
) -> None:
    assert client.ping()
    out = tmp_path / "clicks.qrels"
    done = run(stack, "judge", "clicks", "--out", str(out), "--until", "1999-01-01")
    assert isinstance(done.exception, InvalidInput)
    assert str(done.exception).startswith("ubi_queries holds no page until 1999-01-01. Load what")
    assert not out.exists()


def test_evaluate_counts_and_lists_judged_items_that_are_not_there(
    stack: Settings, client: OpenSearch, tmp_path: Path
) -> None:
    assert client.ping()
    queries, qrels = tmp_path / "queries.tsv", tmp_path / "some.qrels"
    queries.write_text("1\tkettle a\n")
    qrels.write_text("1 0 a 3\n1 0 gone-2 1\n1 0 gone-1 2\n")
    command = (
        "evaluate", "--index", INDEX, "--queries", str(queries), "--qrels", str(qrels),
        "--systems", "lexical",
    )  # fmt: skip
    answer = json.loads(run(stack, *command, "--json").stdout)
    assert answer["unknown_items"] == ["gone-1", "gone-2"]
    assert answer["systems"]["lexical"]["RR@10"] == 1.0
    shown = run(stack, *command)
    assert "2 judged items are not in the index: gone-1, gone-2" in shown.stderr
    qrels.write_text("1 0 gone-2 1\n1 0 gone-1 2\n")
    measured = run(stack, *command)
    assert isinstance(measured.exception, InvalidInput)
    assert "None of the 2 judged items is in the index" in str(measured.exception)
