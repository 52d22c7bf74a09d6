"""Pages that don't show the same thing again and again: maximal marginal relevance."""

from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.errors import InvalidInput
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Candidates, Floats, Ranking
from sidecar.ranking.diversity import Diverse, diversified
from sidecar.rpc.wire import read_candidates
from tests.unit.sidecar.parts import Bench, Catalogue, WordEncoder, ids, item, request

# Two are the same but for a word, one is something else.
KETTLES = Catalogue(
    {
        product.id: product
        for product in (
            item("1", "red kettle"),
            item("2", "red red kettle"),
            item("3", "blue kettle"),
        )
    }
)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(KETTLES)
    yield made
    await made.close()


def among(vectors: Floats, known: list[bool] | None = None) -> Candidates:
    given = [
        pb.Candidate(id=str(number), vector=row.astype("<f4").tobytes())
        if known is None or known[number]
        else pb.Candidate(id=str(number))
        for number, row in enumerate(vectors)
    ]
    return read_candidates(given, frozenset(), 100)


def best_first(scores: Floats) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.argsort(-scores, kind="stable")


def asked(diversity: float, *candidates: str, **options: object) -> pb.RankRequest:
    return request(
        *candidates or ("1", "2", "3"),
        query="red kettle",
        options=pb.RankOptions(
            weights=pb.Weights(relevance=1, affinity=0, retrieval=0, diversity=diversity),
            explain=True,
            **options,  # type: ignore[arg-type]
        ),
    )


def test_the_next_is_the_best_by_score_and_novelty_together() -> None:
    angles = np.array([0.0, 0.1, np.pi / 2])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    scores = np.array([0.9, 0.8, 0.6], np.float32)
    found = diversified(best_first(scores), scores, among(vectors), WordEncoder(), 0.5)
    assert found is not None
    assert found.ranked.tolist() == [0, 2, 1]
    # By hand: novelty is 1 − the calibrated cosine to the nearest one above.
    novelty = [1.0, 1 - np.cos(0.1) ** 2, 1.0]
    assert found.novelty == pytest.approx(novelty, abs=1e-6)
    assert found.scores == pytest.approx((scores + novelty) / 2, abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(2, 130), st.floats(0.01, 1), st.floats(0, 1))
def test_whatever_comes_the_order_is_whole_and_goes_on_where_it_ended(
    seed: int, count: int, share: float, lacking: float
) -> None:
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known = chance.random(count) >= lacking
    scores = chance.random(count).astype(np.float32)
    candidates = among(vectors, known.tolist())
    found = diversified(best_first(scores), scores, candidates, WordEncoder(), share)
    if known[best_first(scores)[:100]].sum() < 2:
        assert found is None
        return
    assert isinstance(found, Diverse)
    assert sorted(found.ranked.tolist()) == list(range(count))
    in_order = found.scores[found.ranked]
    assert (np.diff(in_order) <= 1e-6).all()
    assert ((found.novelty >= 0) & (found.novelty <= 1)).all()
    assert found.scores == pytest.approx((1 - share) * scores + share * found.novelty, abs=1e-5)
    # Behind the first hundred the order is that of the scores.
    behind = scores[found.ranked[100:]]
    assert (np.diff(behind) <= 0).all()


@pytest.mark.parametrize("share", [0.2, 0.3, 0.5])
def test_an_item_without_vector_moves_as_others_do(share: float) -> None:
    # Eight kinds of things, many of each: most are like something above them.
    chance = np.random.default_rng(7)
    kinds = chance.normal(size=(8, 16))
    vectors = (kinds[np.arange(60) % 8] + 0.2 * chance.normal(size=(60, 16))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = np.linspace(0.8, 0.5, 60).astype(np.float32)
    places = []
    for lacking in range(20, 50, 3):
        known = [place != lacking for place in range(60)]
        found = diversified(best_first(scores), scores, among(vectors, known), WordEncoder(), share)
        assert found is not None
        places.append(found.ranked.tolist().index(lacking) - lacking)
    assert abs(np.mean(places)) < 8


def test_nothing_to_compare_is_no_diversity() -> None:
    scores = np.array([0.9, 0.8], np.float32)
    one = among(np.eye(2, dtype=np.float32), [True, False])
    assert diversified(best_first(scores), scores, one, WordEncoder(), 0.5) is None
    both = among(np.eye(2, dtype=np.float32))
    assert diversified(best_first(scores), scores, both, None, 0.5) is None


async def test_a_variant_of_what_stands_above_makes_way(bench: Bench) -> None:
    assert ids(await bench.rank(asked(0.0))) == ["1", "2", "3"]
    ranking = await bench.rank(asked(0.6))
    assert ids(ranking) == ["1", "3", "2"]
    last = ranking.results[-1].explanation
    assert last is not None
    assert last.summary.startswith("down 1: is unlike those above less (0.10)")


async def test_that_a_vector_lacks_is_no_reason(bench: Bench) -> None:
    bench.catalogue.contents["4"] = replace(item("4", "kettle"), vector=None)
    ranking = await bench.rank(asked(0.6, "1", "2", "4", "3"))
    said = {hit.id: hit.explanation for hit in ranking.results}["4"]
    assert said is not None
    assert said.novelty is not None
    assert "unlike" not in said.summary


async def test_the_explanation_adds_up(bench: Bench) -> None:
    ranking = await bench.rank(asked(0.4))
    for hit in ranking.results:
        said = hit.explanation
        assert said is not None
        assert said.relevance is not None
        assert said.novelty is not None
        assert said.weights.diversity == pytest.approx(0.4)
        assert hit.score == pytest.approx(0.6 * said.relevance + 0.4 * said.novelty, abs=1e-6)
    first = ranking.results[0].explanation
    assert first is not None
    assert "unlike" not in first.summary


DIVERSITY = "diversity counts nothing: no two of the candidates have vectors"


def said(ranking: Ranking) -> list[str]:
    return [entry.detail for entry in ranking.degraded]


def without(ranking: Ranking) -> bool:
    return all(hit.explanation is not None and hit.explanation.novelty is None
               and not hit.explanation.weights.diversity for hit in ranking.results)  # fmt: skip


async def test_it_counts_nothing_where_it_is_not_asked_for_or_can_not_be_told(bench: Bench) -> None:
    assert without(await bench.rank(asked(0.0)))
    alone = await bench.rank(asked(0.5, "1"))
    assert without(alone)
    assert DIVERSITY not in said(alone)
    unknown = await bench.rank(asked(0.5, "x", "y"))
    assert without(unknown)
    assert DIVERSITY in said(unknown)


async def test_min_score_is_held_against_the_score_before_novelty(bench: Bench) -> None:
    plain = await bench.rank(asked(0.0, min_score=0.6))
    diverse = await bench.rank(asked(0.9, min_score=0.6))
    assert set(ids(diverse)) == set(ids(plain)) == {"1", "2"}


@pytest.mark.parametrize("diversity", [-0.1, 1.5, float("nan")])
async def test_a_share_out_of_range_is_refused(bench: Bench, diversity: float) -> None:
    with pytest.raises(InvalidInput, match=r"diversity is .*allowed is 0 to 1"):
        await bench.rank(asked(diversity))
