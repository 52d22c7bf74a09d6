import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from neuralrank.cli import evaluate
from neuralrank.cli.commands import app
from neuralrank.errors import EncoderMismatch, InvalidInput, NotFound
from neuralrank.evaluation import (
    Judged,
    compare,
    judge,
    ndcg,
    read_qrels,
    read_queries,
    scores_of,
)
from neuralrank.opensearch.page import Hit, Page

QRELS = {"q1": {"a": 3, "b": 1, "c": 0}, "q2": {"d": 1}, "q3": {"e": 2}}


@pytest.mark.parametrize("count", [1, 5, 10, 30])
def test_of_lists_in_memory_ndcg_is_the_same(count: int) -> None:
    random = np.random.default_rng(count)
    for _ in range(20):
        grades = random.integers(0, 4, count)
        scores = random.permutation(count).astype(np.float32)
        qrels = {"q": {str(n): int(grade) for n, grade in enumerate(grades)}}
        run = {"q": {str(n): float(score) for n, score in enumerate(scores)}}
        expected = judge(qrels, run, ("nDCG@10",)).mean("nDCG@10")
        assert ndcg(grades.astype(np.float32), scores) == pytest.approx(expected)


def test_what_tells_nothing_apart_gets_the_worst_order() -> None:
    gains = np.array([1, 0, 0], np.float32)
    assert ndcg(gains, np.zeros(3, np.float32)) == pytest.approx(0.5)
    assert ndcg(0 * gains, gains) == 0.0


def test_a_perfect_ranking_scores_one() -> None:
    run = {"q1": {"a": 3.0, "b": 2.0, "c": 1.0}, "q2": {"d": 1.0}, "q3": {"e": 1.0}}
    judged = judge(QRELS, run)
    assert [judged.mean(metric) for metric in ("nDCG@10", "RR@10", "R@100")] == [1.0, 1.0, 1.0]
    assert judged.interval("nDCG@10") == (1.0, 1.0)


def test_gains_are_the_grades() -> None:
    judged = judge({"q": {"a": 3, "b": 1}}, {"q": {"b": 2.0, "a": 1.0}})
    expected = (1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3))
    assert judged.mean("nDCG@10") == pytest.approx(expected)


def test_an_item_that_comes_again_counts_where_it_stands_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An alias over indices that share ids gives it once from each."""
    assert scores_of("abac") == {"a": 0.0, "b": -1.0, "c": -3.0}
    hits = tuple(Hit(name, 1.0, {}) for name in "abac")
    monkeypatch.setattr(evaluate, "tracked", lambda rows, _name: rows)
    judged, _ = evaluate._judged(
        "lexical",
        lambda text: Page(text, "", 1.0, 4, hits, {}),
        {"q": "mouse"},
        {"q": {"a": 1}},
        again=True,
    )
    assert judged.mean("RR@10") == 1.0


def test_a_page_with_several_notes_of_one_reason_is_one_that_was_degraded() -> None:
    notes = [{"reason": "not_applicable", "detail": detail} for detail in ("no vectors", "no hits")]
    _, answer = evaluate._judged(
        "reranked",
        lambda text: Page(text, "", 1.0, 0, [], {"degraded": notes}),
        {"q": "mouse"},
        {"q": {"a": 1}},
        again=True,
    )
    assert answer["degraded"] == {"not_applicable": 1}


def test_what_is_judged_is_a_page_in_time_and_what_is_timed_the_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With cold caches the same system had another nDCG@10 than with warm ones."""
    asked: Counter[str] = Counter()

    def search(text: str) -> Page:
        asked[text] += 1
        # The first request opens connections; of `slow` every page is late.
        if text == "slow" or (text == "cold" and asked[text] < 4):
            hits = (Hit("b", 1.0, {}), Hit("a", 0.9, {}))
            report = {"degraded": [{"reason": "deadline"}], "took_ms": {"total": 500}}
            return Page(text, "", 500.0, 2, hits, report)
        return Page(text, "", 20.0, 2, (Hit("a", 1.0, {}),), {"took_ms": {"total": 20}})

    queries = {"q1": "warm", "q2": "cold", "q3": "slow"}
    qrels = {query: {"a": 1, "b": 0} for query in queries}
    judged, answer = evaluate._judged("reranked", search, queries, qrels, again=True)
    assert judged.values["RR@10"].tolist() == [1.0, 1.0, 0.5]
    assert asked == {"warm": 2, "cold": 4, "slow": 4}
    assert (answer["ms_p50"], answer["stages_ms_p50"]) == (500.0, {"total": 500.0})
    assert (answer["asked_again"], answer["late"]) == (2, 1)
    assert answer["degraded"] == {"deadline": 1}
    evaluate._show({"reranked": answer}, "reranked", 3)
    assert "2 of 3 came late and were asked for again; 1 stayed late" in capsys.readouterr().out


def test_where_a_deadline_is_measured_pages_are_judged_as_they_came() -> None:
    """What the sidecar read for one would be there for the next."""
    asked: Counter[str] = Counter()

    def search(text: str) -> Page:
        asked[text] += 1
        report = {"degraded": [{"reason": "deadline"}]}
        return Page(text, "", 10.0, 1, (Hit("b", 1.0, {}), Hit("a", 0.9, {})), report)

    judged, answer = evaluate._judged(
        "reranked", search, {"q": "kettle"}, {"q": {"a": 1}}, again=False
    )
    assert asked == {"kettle": 2}  # the first opens connections
    assert judged.mean("RR@10") == 0.5
    assert answer["degraded"] == {"deadline": 1}
    assert "asked_again" not in answer


def test_a_query_without_an_answer_counts_as_zero() -> None:
    judged = judge(QRELS, {"q1": {"a": 2.0, "b": 1.0}, "q2": {"x": 1.0}})
    assert judged.values["RR@10"].tolist() == [1.0, 0.0, 0.0]
    assert judged.mean("RR@10") == pytest.approx(1 / 3)


def test_a_clear_difference_is_significant_and_none_is_not() -> None:
    queries = {f"q{i}": {"good": 1} for i in range(20)}
    right = judge(queries, {q: {"good": 2.0, "bad": 1.0} for q in queries})
    wrong = judge(queries, {q: {"good": 1.0, "bad": 2.0} for q in queries})
    better = compare(right, wrong, "nDCG@10")
    assert better.difference > 0.3
    assert better.p < 0.001
    assert (better.wins, better.losses) == (20, 0)
    same = compare(right, right, "nDCG@10")
    assert (same.difference, same.p, same.wins, same.losses) == (0.0, 1.0, 0, 0)


def test_one_query_says_nothing_of_chance() -> None:
    one, other = (Judged(("q",), {"RR@10": np.array([value])}) for value in (0.6, 0.5))
    found = compare(one, other, "RR@10")
    assert (found.p, found.wins, found.losses) == (1.0, 1, 0)
    assert found.difference == pytest.approx(0.1)


def test_many_queries_take_no_more_memory() -> None:
    random = np.random.default_rng(3)
    names = tuple(map(str, range(3_000)))
    one, other = (Judged(names, {"RR@10": random.random(3_000)}) for _ in range(2))
    tracemalloc.start()
    found = compare(one, other, "RR@10")
    one.interval("RR@10")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Drawn all at once it would be 240 million bytes for one copy alone.
    assert peak < 100e6
    assert 0.0 < found.p <= 1.0


def test_the_interval_holds_the_mean() -> None:
    queries = {f"q{i}": {"good": 1} for i in range(30)}
    run = {q: {"good": float(i % 3), "bad": 1.0} for i, q in enumerate(queries)}
    judged = judge(queries, run)
    low, high = judged.interval("nDCG@10")
    assert low < judged.mean("nDCG@10") < high


def test_a_byte_order_mark_is_no_part_of_the_first_query(tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("q1\tkettle\n", "utf-8-sig")
    (tmp_path / "r.tsv").write_text("q1 0 A 3\nq1 0 B 1\n", "utf-8-sig")
    assert read_queries(tmp_path / "q.tsv") == {"q1": "kettle"}
    assert read_qrels(tmp_path / "r.tsv") == {"q1": {"A": 3, "B": 1}}


def test_files_of_the_shared_shape_are_read(tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("q1\t1/2 inch binder\n\nq2\t电脑\n", encoding="utf-8")
    (tmp_path / "r.tsv").write_text("q1 0 B07 3\nq1\t0\tB08\t0\n", encoding="utf-8")
    assert read_queries(tmp_path / "q.tsv") == {"q1": "1/2 inch binder", "q2": "电脑"}
    assert read_qrels(tmp_path / "r.tsv") == {"q1": {"B07": 3, "B08": 0}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1 no tab\n", r"q\.tsv:1: got 'q1 no tab'"),
        ("q1\ta\nq1\tb\n", "comes twice"),
        ("", "no queries"),
    ],
)
def test_a_wrong_query_file_says_where(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "q.tsv").write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_queries(tmp_path / "q.tsv")


@pytest.mark.parametrize("text", ["q1 0 B07\n", "q1 0 B07 good\n", ""])
def test_a_wrong_qrels_file_says_what_is_allowed(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.tsv").write_text(text)
    with pytest.raises(InvalidInput, match=r"query 0 item grade"):
        read_qrels(tmp_path / "r.tsv")


def test_an_item_with_two_grades_for_one_query_is_refused_and_the_same_line_twice_is_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "r.tsv").write_text("q1 0 A 3\nq2 0 A 0\nq1 0 A 3\n")
    assert read_qrels(tmp_path / "r.tsv") == {"q1": {"A": 3}, "q2": {"A": 0}}
    (tmp_path / "r.tsv").write_text("q1 0 A 3\nq2 0 A 0\nq1 0 A 1\n")
    with pytest.raises(InvalidInput, match=r"r\.tsv:3: item 'A' has grade 1 .* 'q1', and 3"):
        read_qrels(tmp_path / "r.tsv")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="absent"):
        read_qrels(tmp_path / "absent")


def test_an_index_without_vectors_is_measured_by_the_systems_that_need_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vector(_text: str) -> None:
        raise EncoderMismatch("Index 'shop' has no vectors.")

    monkeypatch.setattr(evaluate, "_searches", lambda *_: {"vector": vector})
    monkeypatch.setattr(evaluate, "unknown_items", lambda *_: [])
    (tmp_path / "queries.tsv").write_text("q\tmouse\n")
    (tmp_path / "qrels.tsv").write_text("q 0 a 1\n")
    files = [f"--{name}={tmp_path / f'{name}.tsv'}" for name in ("queries", "qrels")]
    done = CliRunner().invoke(app, ["evaluate", "--index=shop", "--systems=vector", *files])
    assert isinstance(done.exception, EncoderMismatch)
    assert "no vectors. To measure it without vectors: --systems lexical" in str(done.exception)


def test_help_of_evaluate_shows_the_flags_of_its_usual_form() -> None:
    shown = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "120"})
    assert shown.exit_code == 0
    for words in ("--index", "--queries", "--qrels", "--systems", "neuralrank evaluate personal"):
        assert words in shown.stdout
    other = CliRunner().invoke(app, ["evaluate", "personal", "--help"], env={"COLUMNS": "120"})
    assert "--qrels" not in other.stdout
