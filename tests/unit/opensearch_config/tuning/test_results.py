"""Numbers of a comparison, the split of a search, and the report."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.errors import InvalidInput
from opensearch_config.tuning.asking import Answers
from opensearch_config.tuning.bench import Built
from opensearch_config.tuning.page import write_page
from opensearch_config.tuning.questions import Questions
from opensearch_config.tuning.results import Measured, adjusted, table
from opensearch_config.tuning.search import split

GRADES = {f"q{n}": {"good": 3, "poor": 1} for n in range(8)}
QUESTIONS = Questions({query: f"text <of> {query}" for query in GRADES}, GRADES, ["gone"])
BEST, WORST, NONE = ["good", "poor"], ["poor", "good"], list[str]()


def measured(name: str, items: dict[str, list[str]]) -> Measured:
    answers = Answers(items, {"deadline": 1} if name != "first" else {})
    built = Built(f"index of {name}", 2_000_000, None if name == "first" else 1.5)
    return Measured(
        name, {"fusion": "rrf"}, built, {}, answers, [10.0, 20.0], dict.fromkeys(items, 0.5)
    )


def rows() -> list[dict[str, Any]]:
    better = dict.fromkeys(GRADES, BEST) | {"q7": NONE}
    return table(
        [
            measured("first", dict.fromkeys(GRADES, WORST)),
            measured("better", better),
            measured("same", dict.fromkeys(GRADES, WORST)),
        ],
        QUESTIONS,
        100,
    )


def test_variants_are_compared_with_the_first() -> None:
    first, better, same = rows()
    assert "versus_first" not in first
    assert better["nDCG@10"] == pytest.approx(7 / 8, abs=1e-4)
    versus = better["versus_first"]
    assert (versus["wins"], versus["losses"]) == (7, 1)
    assert [each["id"] for each in versus["lost"]] == ["q7"]
    assert versus["lost"][0]["text"] == "text <of> q7"
    assert [each["id"] for each in versus["won"]] == [f"q{n}" for n in range(7)]
    assert (same["versus_first"]["difference"], same["versus_first"]["p_holm"]) == (0.0, 1.0)
    assert versus["p_holm"] == pytest.approx(min(1.0, 2 * versus["p"]), abs=1e-3)
    assert better["knn_recall"] == {"k": 100, "mean": 0.5}
    assert (better["index_bytes"], better["indexing_seconds"]) == (2_000_000, 1.5)
    assert first["indexing_seconds"] is None
    assert better["degraded"] == {"deadline": 1}


def test_holms_correction_is_that_of_its_paper() -> None:
    assert adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjusted([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_adjusted_chances_are_no_smaller_and_keep_their_order(chances: list[float]) -> None:
    found = adjusted(chances)
    for own, made in zip(chances, found, strict=True):
        assert own <= made <= 1.0
    by_own = sorted(range(len(chances)), key=lambda place: chances[place])
    assert all(found[low] <= found[high] for low, high in itertools.pairwise(by_own))


@given(st.sets(st.text(min_size=1, max_size=4), min_size=8, max_size=40), st.integers(0, 99))
def test_no_query_is_tuned_on_and_judged_by(queries: set[str], seed: int) -> None:
    tune_on, judge_by = split(sorted(queries, reverse=True), 0.4, seed)
    assert set(tune_on) | set(judge_by) == queries
    assert not set(tune_on) & set(judge_by)
    assert len(judge_by) == round(0.4 * len(queries))
    # Whatever their order was, so that a run that goes on has the same parts.
    assert (tune_on, judge_by) == split(sorted(queries), 0.4, seed)


def test_too_few_queries_are_refused() -> None:
    with pytest.raises(InvalidInput, match="1 to judge by, 3 to tune on"):
        split(list("abcd"), 0.25, 0)


def test_the_report_has_every_part_and_no_markup_of_others(tmp_path: Path) -> None:
    made = rows()
    found = {
        "spec": "tune.yml",
        "index": "shop",
        "documents": 3,
        "metric": "nDCG@10",
        "judgments": QUESTIONS.json(),
        "variants": made,
        "search": {
            "variant": "first",
            "trials": 2,
            "best": {"weights.retrieval": 0.25, "fusion": "rrf"},
            "tuned_on": {"queries": 4, "nDCG@10": 0.8, "nDCG@10_before": 0.7},
            "held_back": {
                "queries": 4,
                "nDCG@10": 0.6,
                "nDCG@10_before": 0.7,
                "versus_before": made[1]["versus_first"],
            },
            "history": [0.7, 0.8],
            "tried": [],
        },
    }
    path = tmp_path / "report.html"
    write_page(found, path)
    page = path.read_text(encoding="utf-8")
    for words in (
        "better against first",
        "Search from first",
        "1 judged items are not in the index",
        "text &lt;of&gt; q7",
        "Recall@100 of the k-NN leg",
        "held back",
    ):
        assert words in page
    assert "<of>" not in page
