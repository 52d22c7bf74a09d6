"""The search over numbers: what it does not ask."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from opensearch_config.tuning.journal import Journal
from opensearch_config.tuning.questions import Questions
from opensearch_config.tuning.search import search
from opensearch_config.tuning.spec import PARTS, Range, Search
from tests.unit.opensearch_config.tuning.test_variants import planned

QUERIES = [f"q{number}" for number in range(4)]


class Cluster:
    """Finds the same for every query. As the plugin, it refuses weights that are all zero."""

    def __init__(self, pipeline: dict[str, float]) -> None:
        self._pipeline = pipeline
        self.asked: list[dict[str, float]] = []

    def search(self, *, index: str, body: Any, params: Any) -> Any:
        assert index
        assert params
        weights = self._pipeline | body["ext"]["neural_rank"].get("weights", {})
        self.asked.append(weights)
        if all(weights.get(part) == 0 for part in PARTS):
            raise ValueError("weights are all zero")
        hits = {"total": {"value": 1}, "hits": [{"_id": "a", "_score": 1.0}]}
        return {"hits": hits, "ext": {"neural_rank": {"reranked": 1}}}


@pytest.mark.parametrize(
    ("own", "over"),
    [
        ({"affinity": 0.0, "retrieval": 0.0}, {"relevance": (0, 1)}),
        ({"retrieval": 0.0}, {"relevance": (0, 1), "affinity": (0, 0.5)}),
    ],
)
def test_weights_that_are_zero_with_those_of_the_pipeline_are_not_asked(
    tmp_path: Path, own: dict[str, float], over: dict[str, Any]
) -> None:
    said = ", ".join(f"{part}: {weight}" for part, weight in own.items())
    (variant,) = planned(tmp_path, f"weights: {{{said}}}")
    assert variant.weights == own
    options = Search(
        trials=12, over={f"weights.{part}": Range(one_of=each) for part, each in over.items()}
    )
    cluster = Cluster(own)
    with closing(Journal(tmp_path / "journal")) as journal:
        found = search(
            cluster,  # type: ignore[arg-type]
            journal,
            options,
            variant,
            ("shop-1", "tune"),
            Questions(dict.fromkeys(QUERIES, "mug"), {query: {"a": 1} for query in QUERIES}),
            {query: ["b"] for query in QUERIES},
            lambda *_: None,
        )
    # It was tried, counts as nothing, and no query of it was asked.
    nothing = {f"weights.{part}": 0 for part in over}
    assert nothing in found["tried"]
    assert 0.0 in found["history"]
    assert found["best"] != nothing
    assert len(cluster.asked) > len(QUERIES)


def test_what_a_pipeline_does_not_say_is_the_sidecars_and_is_asked(tmp_path: Path) -> None:
    plain, _, unranked = planned(tmp_path, "", "weights: {relevance: 0}", "rank: false")
    # The files say nothing of affinity.
    assert plain.weights == unranked.weights == {}
