"""The personal ranker in the cascade: it says what fits a user where it can, and else all is as it
was."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Floats, Interaction, Profile
from sidecar.inference.cost import Cost
from tests.unit.sidecar.parts import (
    Bench,
    WordTaste,
    ids,
    reasons,
    request,
    shop,
    vector,
)
from tests.unit.sidecar.test_service import serving

HOUR = 3_600_000
BUYER = Profile(
    interactions=(
        Interaction("C", "purchase", 5 * HOUR),
        Interaction("", "query", 4 * HOUR, "red phone"),
        Interaction("C", "view", 3 * HOUR),
        Interaction("gone", "click", 2 * HOUR),
        Interaction("B", "click", HOUR),
    ),
    purchased=frozenset({"C"}),
)
OPTIONS = pb.RankOptions(explain=True, weights=pb.Weights(affinity=1, retrieval=0, relevance=0))


def bench(taste: WordTaste | None, cost: Cost | None = None) -> Bench:
    catalogue = shop()
    catalogue.users = {"u": BUYER}
    return Bench(catalogue, taste=taste, cost=cost)


@pytest.fixture
def taste() -> WordTaste:
    return WordTaste()


@pytest.fixture
async def made(taste: WordTaste) -> AsyncIterator[Bench]:
    found = bench(taste)
    yield found
    await found.close()


async def test_affinity_is_what_the_ranker_says(made: Bench, taste: WordTaste) -> None:
    ranking = await made.rank(request(user="u", options=OPTIONS))
    # Of its two steps one is a computer, one a Huawei phone.
    fits = {hit.id: hit.explanation.affinity for hit in ranking.results if hit.explanation}
    assert fits == pytest.approx({"A": 0.1, "B": 0.1, "C": 0.1, "D": 0.1})
    assert "taste@000000000003" in ranking.bundles
    assert "personal" in [stage.name for stage in ranking.stages]
    assert reasons(ranking) == set()
    # Oldest first, what was done with one item in a row is one step; neither queries nor items
    # that are not there.
    ((acts, candidates, query),) = taste.calls
    assert acts == [("B", "click"), ("C", "purchase")]
    assert candidates == ["C", "D", "B", "A"]
    assert query is None


async def test_the_order_follows_it(made: Bench) -> None:
    made.catalogue.users["u"] = Profile(interactions=(Interaction("D", "view", HOUR),))
    ranking = await made.rank(request("B", "C", "A", user="u", options=OPTIONS))
    assert ids(ranking)[-1] == "B"  # neither Apple nor phone


async def test_it_is_given_the_query_and_what_may_be_shown(made: Bench, taste: WordTaste) -> None:
    options = pb.RankOptions(filters=pb.Filters(exclude_purchased=True))
    await made.rank(request(query="apple phone", user="u", options=options))
    ((_, candidates, query),) = taste.calls
    assert candidates == ["D", "B", "A"]
    assert query is not None
    assert query.tolist() == pytest.approx(vector("apple phone").tolist())
    await made.rank(request("A", "B", user="u", similar_to="D"))
    assert taste.calls[-1][2] is None  # an item is no query


async def test_of_those_that_may_be_shown_each_has_its_own_price_and_score(
    made: Bench, taste: WordTaste, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, tuple[float, float]] = {}
    score = taste.score

    def noted(*read: Any) -> Floats:
        names, columns, retrieval = read[3], read[5], read[7]
        given.update(zip(names, zip(columns.price, retrieval, strict=True), strict=True))
        return score(*read)

    monkeypatch.setattr(taste, "score", noted)
    asked = request("C", "B", "A", query="apple phone", user="u")
    asked.options.filters.exclude_purchased = True  # C
    for candidate, found in zip(asked.candidates, (8.0, 4.0, 2.0), strict=True):
        candidate.retrieval_score = found
    await made.rank(asked)
    assert given == {"B": (800.0, 0.5), "A": (1_000.0, 0.25)}


async def test_a_query_that_only_it_reads_is_encoded(made: Bench, taste: WordTaste) -> None:
    await made.rank(request(query="apple", user="u", options=OPTIONS))  # relevance weighs nothing
    assert taste.calls[0][2] is not None


async def test_canaries_are_told_apart_in_metrics(made: Bench, taste: WordTaste) -> None:
    await made.rank(request(user="u"))
    counted = {"bundle": taste.ref, "arm": "serving"}
    assert made.metrics.registry.get_sample_value("neuralrank_arm_requests_total", counted) == 1


async def test_nobody_asks_it_where_there_is_nothing_to_ask(made: Bench, taste: WordTaste) -> None:
    ranking = await made.rank(request(query="phone", user="nobody"))
    assert "no_user" in reasons(ranking)
    await made.rank(request(query="phone"))
    options = pb.RankOptions(weights=pb.Weights(affinity=0))
    await made.rank(request(query="phone", user="u", options=options))
    assert taste.calls == []


async def test_what_was_done_with_items_that_are_not_here_counts_and_searching_alone_is_nothing(
    made: Bench, taste: WordTaste
) -> None:
    made.catalogue.users["guest"] = Profile(interactions=(Interaction("elsewhere", "view", HOUR),))
    made.catalogue.users["seeker"] = Profile(interactions=(Interaction("", "search", HOUR, "red"),))
    users = ("guest", "seeker")
    inputs = [pb.EncodeInput(user=pb.User(id=name), collaborative=2) for name in users]
    async with serving(made) as stub:
        guest, seeker = (await stub.Encode(pb.EncodeRequest(index="shop", inputs=inputs))).encodings
    assert taste.likely_of == [["elsewhere"]]
    assert list(guest.collaborative) == ["D", "gone"]
    assert "none of the user's 1 interactions" in guest.missing
    assert not seeker.collaborative
    assert seeker.vector


async def test_encode_asks_the_ranker_that_ranks_for_the_user(
    made: Bench, taste: WordTaste
) -> None:
    tried = WordTaste("taste@00000000000a")
    before = made.models.serving
    status = replace(before.loaded[taste.ref].status, hash="00000000000a")
    made.models.serving = replace(
        before,
        loaded={
            **before.loaded,
            tried.ref: replace(before.loaded[taste.ref], status=status, personal=tried),
        },
        current={"words": "words@000000000001", "taste": taste.ref},
        canaries={"taste": (tried.ref, 100.0)},
    )
    inputs = [pb.EncodeInput(user=pb.User(id="u"), collaborative=2)]
    async with serving(made) as stub:
        await stub.Encode(pb.EncodeRequest(index="shop", inputs=inputs))
    ranking = await made.rank(request(user="u", options=OPTIONS))
    assert tried.ref in ranking.bundles
    assert tried.likely_of == [["B", "gone", "C"]]
    assert taste.likely_of == []


async def test_encode_names_what_those_who_did_the_same_have(made: Bench, taste: WordTaste) -> None:
    wanted = pb.EncodeRequest(
        index="shop",
        inputs=[
            pb.EncodeInput(user=pb.User(id="u"), collaborative=2),
            pb.EncodeInput(user=pb.User(id="u")),
            pb.EncodeInput(user=pb.User(id="nobody"), collaborative=2),
        ],
    )
    async with serving(made) as stub:
        answer = await stub.Encode(wanted)
        named = [list(each.collaborative) for each in answer.encodings]
        assert named == [["D", "gone"], [], ["popular", "B"]]
        assert "no events" in answer.encodings[2].missing
        assert answer.encodings[0].vector == answer.encodings[1].vector
        # Oldest first, and what has left the index counts, too: others had it as well.
        assert taste.likely_of == [["B", "gone", "C"], []]
        taste.encoder = "other@000000000009"
        answer = await stub.Encode(wanted)
    assert not answer.encodings[0].collaborative
    assert answer.encodings[0].vector


async def test_what_was_bought_or_blocked_long_ago_is_not_named(
    made: Bench, taste: WordTaste
) -> None:
    """The newest events alone don't say what somebody has."""
    long_ago = {"purchased": frozenset({"D", "lamp"}), "blocked_items": frozenset({"A"})}
    made.catalogue.users["old"] = Profile(
        interactions=(Interaction("C", "click", HOUR),), **long_ago
    )
    made.catalogue.users["back"] = Profile(**long_ago)
    inputs = [pb.EncodeInput(user=pb.User(id=name), collaborative=2) for name in ("old", "back")]
    async with serving(made) as stub:
        await stub.Encode(pb.EncodeRequest(index="shop", inputs=inputs))
    assert taste.likely_of == [["C"], []]
    assert taste.without == [{"A", "D", "lamp"}] * 2


async def test_who_did_what_says_nothing_gets_what_a_new_user_gets(
    made: Bench, taste: WordTaste
) -> None:
    """Nothing of it is in the index, and nobody else did the same."""
    taste.unheard_of = {"discontinued"}
    gone = Profile(interactions=(Interaction("discontinued", "purchase", HOUR),))
    made.catalogue.users["gone"] = gone
    inputs = [pb.EncodeInput(user=pb.User(id=name), collaborative=2) for name in ("gone", "nobody")]
    async with serving(made) as stub:
        answer = await stub.Encode(pb.EncodeRequest(index="shop", inputs=inputs))
    for encoding in answer.encodings:
        assert list(encoding.collaborative) == ["popular", "B"]


def _fails(taste: WordTaste) -> None:
    taste.error = RuntimeError("broken")


def _gives_nan(taste: WordTaste) -> None:
    taste.score = lambda *given: np.full(len(given[3]), np.nan, np.float32)  # type: ignore[method-assign]


def _other_encoder(taste: WordTaste) -> None:
    taste.encoder = "other@000000000009"


def _other_length(taste: WordTaste) -> None:
    taste.dimensions = 5


@pytest.mark.parametrize("spoil", [_fails, _gives_nan, _other_encoder, _other_length])
async def test_where_it_cannot_be_asked_all_is_as_without_it_and_the_answer_says_so(
    spoil: Callable[[WordTaste], None],
) -> None:
    without = bench(None)
    expected = await without.rank(request(query="phone", user="u"))
    await without.close()
    assert reasons(expected) == {"model_unavailable"}  # no cross-encoder
    taste = WordTaste()
    spoil(taste)
    spoilt = bench(taste)
    ranking = await spoilt.rank(request(query="phone", user="u"))
    await spoilt.close()
    assert [(hit.id, hit.score) for hit in ranking.results] == [
        (hit.id, hit.score) for hit in expected.results
    ]
    assert any("taste@000000000003" in entry.detail for entry in ranking.degraded)
    assert "taste@000000000003" not in ranking.bundles


async def test_it_is_not_begun_where_it_would_miss_the_deadline(taste: WordTaste) -> None:
    cost = Cost()
    cost.observe(100, 50.0)  # half a second a pair of event and candidate
    slow = bench(taste, cost)
    ranking = await slow.rank(request(user="u", options=OPTIONS), seconds=3.0)
    await slow.close()
    assert taste.calls == []
    assert "deadline" in reasons(ranking)
    assert len(ranking.results) == 4


async def test_a_candidate_without_vector_has_the_affinity_of_the_others(
    made: Bench, taste: WordTaste
) -> None:
    asked = request("A", "B", user="u", options=OPTIONS)
    asked.candidates.add(id="unknown")
    ranking = await made.rank(asked)
    fits = {hit.id: hit.explanation.affinity for hit in ranking.results if hit.explanation}
    assert fits["A"] is not None
    assert fits["B"] is not None
    assert fits["unknown"] == pytest.approx((fits["A"] + fits["B"]) / 2)
    assert taste.calls[0][1] == ["A", "B"]
