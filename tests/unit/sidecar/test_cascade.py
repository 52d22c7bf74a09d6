"""What a caller gets from Rank: orders, drops, explanations, and what is said when parts fail."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Never

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralrank.errors import DeadlineExceeded, InvalidInput, NotFound, Unavailable
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Floats, Interaction, Item, Profile, Ranking
from sidecar.inference.cost import Cost
from tests.unit.sidecar.parts import (
    Bench,
    Catalogue,
    WordEncoder,
    WordJudge,
    ids,
    item,
    reasons,
    request,
    shop,
    vector,
)

HOUR = 3_600_000
BUYER_OF_A = Profile(
    interactions=(
        Interaction("A", "purchase", 3 * HOUR),
        Interaction("B", "view", 2 * HOUR),
        Interaction("A", "view", HOUR),
    ),
    purchased=frozenset({"A"}),
)
BUYER_OF_C = Profile(
    interactions=(Interaction("C", "purchase", 2 * HOUR), Interaction("D", "view", HOUR)),
    purchased=frozenset({"C"}),
)


def shop_with_users() -> Catalogue:
    catalogue = shop()
    catalogue.users = {"a": BUYER_OF_A, "b": BUYER_OF_C}
    return catalogue


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(shop_with_users(), judge=WordJudge())
    yield made
    await made.close()


def explained(**options: object) -> pb.RankOptions:
    return pb.RankOptions(explain=True, **options)  # type: ignore[arg-type]


async def test_a_query_puts_what_answers_it_first(bench: Bench) -> None:
    assert set(ids(await bench.rank(request(query="computer")))[:2]) == {"A", "B"}


async def test_recommendations_are_each_users_own(bench: Bench) -> None:
    # Retrieval counts nothing here: the order of the request must not show through.
    options = pb.RankOptions(weights=pb.Weights(retrieval=0))
    assert set(ids(await bench.rank(request(user="a", options=options)))[:2]) == {"A", "B"}
    assert set(ids(await bench.rank(request(user="b", options=options)))[:2]) == {"C", "D"}


async def test_what_is_dropped_moves_none_of_those_that_stay(bench: Bench) -> None:
    # What "a" has bought is of the brand that "a" likes; one that may be shown has no brand.
    bench.catalogue.contents["N"] = replace(bench.catalogue.contents["D"], id="N", brand="")
    options = pb.RankOptions(
        filters=pb.Filters(exclude_purchased=True), weights=pb.Weights(retrieval=0)
    )
    whole = await bench.rank(request("A", "B", "C", "D", "N", user="a", options=options))
    alone = await bench.rank(request("B", "C", "D", "N", user="a", options=options))
    assert [drop.id for drop in whole.dropped] == ["A"]
    assert {hit.id: hit.score for hit in whole.results} == pytest.approx(
        {hit.id: hit.score for hit in alone.results}
    )


async def test_by_rrf_the_places_count_and_the_explanation_adds_up(bench: Bench) -> None:
    options = pb.RankOptions(fusion=pb.FUSION_RRF, explain=True)
    ranking = await bench.rank(request(query="computer", user="a", options=options))
    assert set(ids(ranking)) == set("ABCD")
    possible = [61 / (60 + place) for place in range(1, 5)]
    for result in ranking.results:
        explained = result.explanation
        assert explained is not None
        total = 0.0
        for part in ("relevance", "affinity", "retrieval"):
            value = getattr(explained, part)
            assert value == pytest.approx(min(possible, key=lambda p: abs(p - value)), abs=1e-6)
            total += value * getattr(explained.weights, part)
        assert result.score == pytest.approx(total, abs=1e-5)
    assert ids(ranking)[0] == "A"


async def test_what_was_bought_is_dropped_where_asked(bench: Bench) -> None:
    options = pb.RankOptions(filters=pb.Filters(exclude_purchased=True))
    ranking = await bench.rank(request(user="a", options=options))
    assert [(drop.id, drop.reason.value) for drop in ranking.dropped] == [("A", "purchased")]
    assert "A" not in ids(ranking)


async def test_a_click_changes_the_next_query(bench: Bench) -> None:
    options = pb.RankOptions(weights=pb.Weights(retrieval=0))
    before = ids(await bench.rank(request(user="a", options=options)))
    clicks = tuple(Interaction("C", "add_to_cart", 100 * HOUR + n) for n in range(9))
    bench.catalogue.users["a"] = Profile(interactions=(*clicks, *BUYER_OF_A.interactions))
    bench.clock.now += 1.1
    after = ids(await bench.rank(request(user="a", options=options)))
    assert before[0] in {"A", "B"}
    assert after[0] == "C"


async def test_an_unknown_user_is_no_error_and_the_answer_says_so(bench: Bench) -> None:
    known = ids(await bench.rank(request(query="computer")))
    ranking = await bench.rank(request(query="computer", user="nobody"))
    assert ids(ranking) == known
    assert reasons(ranking) == {"no_user"}


async def test_an_inline_profile_needs_no_read(bench: Bench) -> None:
    made = request(options=pb.RankOptions(weights=pb.Weights(retrieval=0)))
    made.user.profile.interactions.add(item_id="D", action="purchase")
    made.user.profile.blocked_items.append("B")
    ranking = await bench.rank(made)
    assert ids(ranking)[0] == "D"
    assert [drop.id for drop in ranking.dropped] == ["B"]
    assert "events" not in bench.catalogue.reads


async def test_who_watches_one_thing_for_long_has_not_forgotten_what_they_bought(
    bench: Bench,
) -> None:
    made = request(options=pb.RankOptions(weights=pb.Weights(retrieval=0)))
    for number in range(60):
        made.user.profile.interactions.add(item_id="C", action="watch", timestamp_ms=100 - number)
    made.user.profile.interactions.add(item_id="A", action="purchase", timestamp_ms=1)
    assert ids(await bench.rank(made))[0] == "A"


async def test_what_the_user_has_blocked_is_listed_where_asked(bench: Bench) -> None:
    bench.catalogue.users["a"] = replace(BUYER_OF_A, blocked_items=frozenset({"B", "elsewhere"}))
    asked = pb.RankOptions(list_blocked=True)
    assert (await bench.rank(request(user="a", options=asked))).blocked == ("B", "elsewhere")
    assert (await bench.rank(request(user="a"))).blocked == ()
    assert (await bench.rank(request(user="b", options=asked))).blocked == ()


async def test_items_that_share_an_id_are_ranked_and_dropped_by_it(bench: Bench) -> None:
    old, new = (replace(bench.catalogue.contents["A"], index=name) for name in ("old", "new"))
    bench.catalogue.contents |= {"A": old, "new/A": replace(new, vector=vector("huawei phone"))}
    bench.catalogue.shared = True
    bench.catalogue.generation = "old,new"
    made = request("A", "B", query="computer", options=explained())
    made.candidates[0].index = "old"
    made.candidates.add(id="new/A", item_id="A", index="new")
    near = {
        result.id: result.explanation.query_similarity
        for result in (await bench.rank(made)).results
        if result.explanation is not None
    }
    assert near["A"] == near["B"] != near["new/A"]
    made.options.filters.exclude_items.append("A")
    ranking = await bench.rank(made)
    assert ids(ranking) == ["B"]
    assert [drop.id for drop in ranking.dropped] == ["A", "new/A"]


async def test_no_candidates_give_an_empty_answer(bench: Bench) -> None:
    ranking = await bench.rank(pb.RankRequest(query="computer", index="shop"))
    assert ids(ranking) == []
    assert bench.encoder.calls == []


async def test_candidates_without_text_and_vector_keep_the_callers_order(bench: Bench) -> None:
    made = pb.RankRequest(
        query="computer",
        candidates=[
            pb.Candidate(id="low", retrieval_score=1),
            pb.Candidate(id="high", retrieval_score=7),
        ],
    )
    assert ids(await bench.rank(made)) == ["high", "low"]


async def test_ten_thousand_candidates_are_ranked(bench: Bench) -> None:
    made = request(*map(str, range(9_999)), "A", query="apple computer")
    ranking = await bench.rank(made)
    assert len(ranking.results) == 10_000
    assert ranking.results[0].id == "A"


async def test_results_are_the_kept_candidates_each_once(bench: Bench) -> None:
    options = pb.RankOptions(filters=pb.Filters(max_price=1_500), min_score=0.5)
    ranking = await bench.rank(request(query="computer", user="b", options=options))
    both = [*ids(ranking), *(drop.id for drop in ranking.dropped)]
    assert sorted(both) == ["A", "B", "C", "D"]
    assert all(0.5 <= hit.score <= 1 for hit in ranking.results)
    details = {drop.reason.value for drop in ranking.dropped}
    assert details == {"price_range", "below_min_score"}


async def test_the_order_of_the_request_does_not_matter_where_scores_are_given(
    bench: Bench,
) -> None:
    rows = [pb.Candidate(id=name, retrieval_score=n) for n, name in enumerate("ABCD", start=1)]
    orders = set()
    for turn in range(4):
        made = pb.RankRequest(query="phone", index="shop", candidates=rows[turn:] + rows[:turn])
        orders.add(tuple(ids(await bench.rank(made))))
    assert len(orders) == 1


async def test_top_k_cuts_the_list(bench: Bench) -> None:
    ranking = await bench.rank(request(query="phone", options=pb.RankOptions(top_k=2)))
    assert len(ranking.results) == 2


async def test_every_hit_is_explained_in_numbers_that_add_up(bench: Bench) -> None:
    ranking = await bench.rank(request(query="apple computer", user="a", options=explained()))
    for hit in ranking.results:
        why = hit.explanation
        assert why is not None
        parts = (why.relevance, why.affinity, why.retrieval)
        weights = (why.weights.relevance, why.weights.affinity, why.weights.retrieval)
        total = sum(w * p for w, p in zip(weights, parts, strict=True) if p is not None)
        assert hit.score == pytest.approx(total, abs=1e-5)
        assert sum(weights) == pytest.approx(1.0)
    best = ranking.results[0].explanation
    assert best is not None
    assert ranking.results[0].id == "A"
    assert best.summary.startswith("up 3: ")
    assert "answers the query (" in best.summary
    assert best.because_of[0] == "A"
    assert best.cross_encoder_logit == 4.0
    assert best.query_similarity == pytest.approx(1.0)


@pytest.mark.parametrize("fusion", [pb.FUSION_WEIGHTS, pb.FUSION_RRF])
@pytest.mark.parametrize(
    "page",
    [
        {"query": "computer", "user": "b"},
        {"query": "phone", "user": "a"},
        {"user": "a"},
        {"similar_to": "D", "user": "a"},
    ],
)
async def test_an_item_without_a_vector_neither_gains_nor_loses_by_that_it_may_fit_the_user(
    bench: Bench, page: dict[str, str], fusion: "pb.Fusion"
) -> None:
    bench.catalogue.contents["E"] = replace(bench.catalogue.contents["C"], id="E", vector=None)
    rows = [pb.Candidate(id=name, retrieval_score=9 - at) for at, name in enumerate("AEBC")]
    options = explained(fusion=fusion, bundle="none")
    asked = request(options=options, **page)
    del asked.candidates[:]
    asked.candidates.extend(rows)
    ranking = await bench.rank(asked)
    explanations = {hit.id: hit.explanation for hit in ranking.results if hit.explanation}
    said = explanations["E"]
    fits = [explanations[name].affinity for name in "ABC"]
    assert said.affinity == pytest.approx(np.mean([fit for fit in fits if fit is not None]))
    assert {why.weights for why in explanations.values()} == {said.weights}
    assert said.user_similarity is None
    assert said.because_of == ()
    assert "fits the user" not in said.summary
    parts = (said.relevance, said.affinity, said.retrieval)
    weights = (said.weights.relevance, said.weights.affinity, said.weights.retrieval)
    total = sum(w * p for w, p in zip(weights, parts, strict=True) if p is not None)
    score = next(hit.score for hit in ranking.results if hit.id == "E")
    assert score == pytest.approx(total, abs=1e-5)


async def test_a_copy_without_a_vector_does_not_pass_what_fits_nobody_either() -> None:
    # Nothing here is like what the user bought: 0.02 of affinity against much else.
    bought = item("K", "kettle", price=20.0, category=("kitchen",))
    computers = [item(f"P{n}", "red computer", category=("digital",)) for n in range(8)]
    copy = replace(computers[6], id="copy", vector=None)
    rows = [*computers, copy]
    bench = Bench(Catalogue({one.id: one for one in [bought, *rows]}))
    bench.catalogue.users = {"k": Profile(interactions=(Interaction("K", "purchase", HOUR),))}
    made = pb.RankRequest(query="computer", index="shop", user=pb.User(id="k"))
    made.candidates.extend(
        pb.Candidate(id=one.id, retrieval_score=20 - place) for place, one in enumerate(rows)
    )
    ranking = await bench.rank(made)
    await bench.close()
    assert ids(ranking) == [one.id for one in rows]


async def test_similar_items_are_near_the_item_and_without_it(bench: Bench) -> None:
    made = request(similar_to="A", options=explained(weights=pb.Weights(retrieval=0)))
    ranking = await bench.rank(made)
    assert ids(ranking)[-1] == "C"
    assert [(drop.id, drop.reason.value) for drop in ranking.dropped] == [("A", "same_item")]


async def test_similar_to_an_item_without_a_vector_says_so() -> None:
    items = {name: replace(item, vector=None) for name, item in shop().contents.items()}
    bench = Bench(Catalogue(items))
    try:
        ranking = await bench.rank(request(similar_to="A"))
    finally:
        await bench.close()
    assert reasons(ranking) == {"features_unavailable"}
    assert "has no vector here" in ranking.degraded[0].detail


async def test_similar_to_an_item_that_is_not_there_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound, match="'Z'"):
        await bench.rank(request(similar_to="Z"))


async def test_an_index_that_is_not_there_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.rank(pb.RankRequest(index="attic", candidates=[pb.Candidate(id="A")]))


@pytest.mark.parametrize(
    "options", [pb.RankOptions(bundle="nope"), pb.RankOptions(encoder="words@ffff")]
)
async def test_a_bundle_that_is_not_served_is_not_found(
    bench: Bench, options: pb.RankOptions
) -> None:
    with pytest.raises(NotFound, match=r"Served: (judge|words)@"):
        await bench.rank(request(query="phone", options=options))


async def test_vectors_of_another_length_are_refused(bench: Bench) -> None:
    made = pb.RankRequest(candidates=[pb.Candidate(id="A", vector=bytes(12))])
    with pytest.raises(InvalidInput, match="3 dimensions; the encoder's have 8"):
        await bench.rank(made)


async def test_vectors_in_the_request_are_used_without_an_index(bench: Bench) -> None:
    rows = [("x", "huawei phone"), ("y", "dell computer")]
    made = pb.RankRequest(
        query="computer",
        candidates=[
            pb.Candidate(id=name, vector=vector(text).astype("<f4").tobytes())
            for name, text in rows
        ],
    )
    made.user.profile.interactions.add(item_id="y", action="click")
    assert ids(await bench.rank(made)) == ["y", "x"]


async def test_beside_a_candidate_that_needs_no_read_others_are_read_by_their_own_version(
    bench: Bench,
) -> None:
    bench.catalogue.contents["D"] = replace(bench.catalogue.contents["D"], version=7)
    whole = pb.Candidate(
        id="A", text="apple computer", brand="Apple", price=1_000.0, in_stock=True,
        category=["computer"], version=3, vector=vector("apple computer").tobytes(),
    )  # fmt: skip
    rows = [whole, pb.Candidate(id="D", version=7)]
    for _ in range(2):
        await bench.rank(pb.RankRequest(query="phone", index="shop", candidates=rows))
    assert [read for read in bench.catalogue.reads if read.startswith("items")] == ["items shop 1"]


@pytest.mark.parametrize("lacks", ["text", "brand", "price", "in_stock", "category", "vector"])
async def test_a_candidate_that_lacks_one_thing_is_read(bench: Bench, lacks: str) -> None:
    whole = pb.Candidate(
        id="A", text="apple computer", brand="Apple", price=1_000.0, in_stock=True,
        category=["computer"], vector=vector("apple computer").tobytes(),
    )  # fmt: skip
    await bench.rank(pb.RankRequest(query="phone", index="shop", candidates=[whole]))
    assert "items shop 1" not in bench.catalogue.reads
    whole.ClearField(lacks)  # type: ignore[arg-type]
    await bench.rank(pb.RankRequest(query="phone", index="shop", candidates=[whole]))
    assert "items shop 1" in bench.catalogue.reads


async def test_an_index_of_another_encoder_is_said_and_its_vectors_are_not_used(
    bench: Bench,
) -> None:
    bench.catalogue.encoder = "others@00000000000f"
    ranking = await bench.rank(request(query="kettle", user="a", options=explained()))
    assert "encoder_mismatch" in reasons(ranking)
    assert all(
        hit.explanation and hit.explanation.query_similarity is None for hit in ranking.results
    )


@pytest.mark.parametrize("named", ["words", "words@000000000001"])
async def test_an_index_may_name_its_encoder_without_its_hash(bench: Bench, named: str) -> None:
    bench.catalogue.encoder = "words"
    options = explained(encoder=named, bundle="none")
    ranking = await bench.rank(request(query="computer", options=options))
    assert not ranking.degraded
    assert all(
        hit.explanation and hit.explanation.query_similarity is not None for hit in ranking.results
    )


async def test_vectors_of_an_index_that_does_not_say_whose_they_are_are_nobodys_taste(
    bench: Bench,
) -> None:
    bench.catalogue.encoder = ""
    texts = {"A": "red kettle", "C": "red kettle", "B": "blue phone"}
    rows = [
        pb.Candidate(id=name, vector=vector(text).astype("<f4").tobytes())
        for name, text in texts.items()
    ]
    made = pb.RankRequest(index="shop", candidates=rows, options=explained())
    made.user.profile.interactions.add(item_id="A", action="click")
    fits = {
        hit.id: hit.explanation.affinity
        for hit in (await bench.rank(made)).results
        if hit.explanation
    }
    # By the vectors of the request; the index has a computer, a phone and a computer.
    assert fits["C"] is not None
    assert fits["B"] is not None
    assert fits["C"] > fits["B"]


async def test_an_index_that_does_not_say_whose_vectors_it_holds_is_ranked_by_text(
    bench: Bench,
) -> None:
    bench.catalogue.encoder = ""
    ranking = await bench.rank(request(query="apple computer", options=explained()))
    assert ids(ranking)[0] == "A"
    assert reasons(ranking) == set()
    why = ranking.results[0].explanation
    assert why is not None
    assert why.query_similarity is None
    assert why.cross_encoder_logit is not None


async def test_a_cross_encoder_reads_only_its_languages(bench: Bench) -> None:
    ranking = await bench.rank(request(query="电脑"))
    assert bench.judge is not None
    assert bench.judge.calls == []
    assert reasons(ranking) == {"model_unavailable"}


@pytest.mark.parametrize("bundle", ["", "judge"])
@pytest.mark.parametrize("query", ["12345", "195-50", "🎁"])
async def test_a_query_without_letters_is_read_as_one_of_any_language(
    bench: Bench, query: str, bundle: str
) -> None:
    ranking = await bench.rank(request(query=query, options=explained(bundle=bundle)))
    assert not ranking.degraded
    assert bench.judge is not None
    assert bench.judge.texts


async def test_letters_of_a_script_that_is_not_known_are_no_part_number(bench: Bench) -> None:
    ranking = await bench.rank(request(query="கணினி 12345"))
    assert reasons(ranking) == {"model_unavailable"}


async def test_a_cross_encoder_that_is_named_reads_only_its_languages_too(bench: Bench) -> None:
    ranking = await bench.rank(request(query="电脑", options=pb.RankOptions(bundle="judge")))
    assert len(ranking.results) == 4
    assert [note.detail for note in ranking.degraded] == [
        "judge@000000000002 does not know the query's language 'zh'"
    ]
    assert bench.judge is not None
    assert bench.judge.calls == []


async def test_no_more_of_a_text_is_read_than_the_setting_says(bench: Bench) -> None:
    long = pb.Candidate(id="long", text="apple computer " * 60)
    await bench.rank(pb.RankRequest(query="computer", candidates=[long]))
    assert bench.judge is not None
    assert [len(text) for text in bench.judge.texts] == [500]


async def test_the_language_can_be_named(bench: Bench) -> None:
    ranking = await bench.rank(request(query="computer", language="de"))
    assert reasons(ranking) == {"model_unavailable"}


async def test_no_cross_encoder_where_none_is_wanted(bench: Bench) -> None:
    ranking = await bench.rank(request(query="computer", options=pb.RankOptions(bundle="none")))
    assert bench.judge is not None
    assert bench.judge.calls == []
    assert reasons(ranking) == set()


async def test_no_cross_encoder_where_relevance_counts_nothing(bench: Bench) -> None:
    weights = pb.Weights(relevance=0, affinity=0, retrieval=1)
    ranking = await bench.rank(request(query="computer", options=pb.RankOptions(weights=weights)))
    assert bench.judge is not None
    assert bench.judge.calls == []
    assert bench.judge.ref not in ranking.bundles


async def test_the_best_are_read_first_and_no_more_than_asked(bench: Bench) -> None:
    await bench.rank(request(query="apple computer", options=pb.RankOptions(max_reranked=1)))
    assert bench.judge is not None
    assert bench.judge.texts == ["apple computer"]


def texts_alone(*scores: float | None) -> pb.RankRequest:
    """Candidates that are in no index: a, b, c and so on, of which b and d are asked for."""
    texts = ("kettle", "red phone", "lamp", "red phone")
    rows = [
        pb.Candidate(id="abcd"[place], text=text) for place, text in enumerate(texts[: len(scores)])
    ]
    for row, score in zip(rows, scores, strict=True):
        if score is not None:
            row.retrieval_score = score
    return pb.RankRequest(query="red phone", language="en", candidates=rows)


async def test_without_vectors_those_that_are_read_move_on_the_scale_of_the_callers_scores(
    bench: Bench,
) -> None:
    asked = texts_alone(10.0, 9.9, 9.0, 2.0)
    assert ids(await bench.rank(asked)) == ["b", "a", "c", "d"]
    asked.options.weights.cross_encoder = 0.0
    assert ids(await bench.rank(asked)) == ["a", "b", "c", "d"]
    asked.options.weights.cross_encoder = 1.0
    assert ids(await bench.rank(asked)) == ["b", "d", "a", "c"]
    # What is not read keeps its place among what is.
    asked.options.max_reranked = 3
    assert ids(await bench.rank(asked)) == ["b", "a", "c", "d"]


async def test_without_vectors_and_scores_the_reading_makes_the_order(bench: Bench) -> None:
    assert ids(await bench.rank(texts_alone(None, None, None, None))) == ["b", "d", "a", "c"]
    asked = texts_alone(10.0, 9.9, 9.0, 2.0)
    asked.options.weights.retrieval = 0.0
    assert ids(await bench.rank(asked)) == ["b", "d", "a", "c"]


async def test_a_cross_encoder_that_fails_costs_no_page(bench: Bench) -> None:
    assert bench.judge is not None
    bench.judge.error = RuntimeError("out of memory")
    ranking = await bench.rank(request(query="computer"))
    assert len(ranking.results) == 4
    assert reasons(ranking) == {"model_unavailable"}


async def test_opensearch_down_costs_quality_and_no_page(bench: Bench) -> None:
    bench.catalogue.error = Unavailable("down")
    ranking = await bench.rank(request(query="computer", user="a"))
    assert len(ranking.results) == 4
    assert "features_unavailable" in reasons(ranking)


@pytest.mark.parametrize(
    ("others", "length", "named", "used"),
    [(1, 8, "", False), (1, 16, "", False), (1, 8, "words", True), (0, 8, "", True)],
)
async def test_opensearch_down_leaves_no_doubt_whose_the_vectors_of_a_request_are(
    bench: Bench, others: int, length: int, named: str, used: bool
) -> None:
    serving = bench.models.serving
    other = WordEncoder("more@00000000000a", dimensions=16)
    status = replace(serving.loaded[bench.encoder.ref].status, name="more", hash="00000000000a")
    more = replace(serving.loaded[bench.encoder.ref], status=status, encoder=other)
    bench.models.serving = replace(
        serving, loaded={**serving.loaded, **({other.ref: more} if others else {})}
    )
    bench.catalogue.error = Unavailable("down")
    made = request("C", "A", query="computer", options=pb.RankOptions(encoder=named, bundle="none"))
    for candidate, text in zip(made.candidates, ["huawei phone", "apple computer"], strict=True):
        row = np.zeros(length, "<f4")
        row[: len(vector(text))] = vector(text)
        candidate.vector = row.tobytes()
    ranking = await bench.rank(made)
    assert ids(ranking) == (["A", "C"] if used else ["C", "A"])
    assert reasons(ranking) == {"features_unavailable"}
    assert any("options.encoder" in note.detail for note in ranking.degraded) is not used


@pytest.mark.parametrize("cached", ["C", "CD", "BCD", "ABCD"])
async def test_the_few_that_happen_to_be_cached_do_not_order_the_page(
    bench: Bench, cached: str
) -> None:
    await bench.rank(request(*cached))
    bench.catalogue.error = Unavailable("down")
    rows = [pb.Candidate(id=name, retrieval_score=9 - place) for place, name in enumerate("DABC")]
    options = explained(bundle="none")
    made = pb.RankRequest(query="computer", index="shop", candidates=rows, options=options)
    ranking = await bench.rank(made)
    if len(cached) < 3:
        # As it came: C is known to be no computer, of A and B it is not known what they are.
        assert ids(ranking) == ["D", "A", "B", "C"]
        assert all(hit.explanation and hit.explanation.relevance is None for hit in ranking.results)
    else:
        assert set(ids(ranking)[:2]) == {"A", "B"}
        assert all(
            hit.explanation and hit.explanation.relevance is not None for hit in ranking.results
        )


@pytest.mark.parametrize("lacks", ["vectors", "weight", "items"])
async def test_equal_scores_count_where_nothing_else_orders_so_that_no_page_is_empty(
    bench: Bench, lacks: str
) -> None:
    await bench.rank(request("A", "B", user="a"))
    options = pb.RankOptions(min_score=0.5)
    if lacks == "vectors":
        for name in "CD":
            left = replace(bench.catalogue.contents[name], vector=None)
            bench.catalogue.contents[name] = left
    elif lacks == "weight":
        options.weights.affinity = 0.0
    else:
        bench.catalogue.error = Unavailable("down")
    made = request("C", "D", user="a", options=options)
    for candidate in made.candidates:  # as of match_all
        candidate.retrieval_score = 1.0
    assert [(hit.id, hit.score) for hit in (await bench.rank(made)).results] == [("C", 1), ("D", 1)]


async def test_neighbours_of_a_user_stay_first_where_items_come_too_late(bench: Bench) -> None:
    await bench.rank(request("A", "B", user="a"))
    bench.catalogue.error = Unavailable("down")
    made = request("x", "y", "C", "D", user="a", options=pb.RankOptions(min_score=0.5))
    for candidate in made.candidates[2:]:  # the hits of match_all
        candidate.retrieval_score = 1.0
    assert ids(await bench.rank(made)) == ["x", "y", "C", "D"]


@pytest.mark.parametrize("weighs", [True, False])
async def test_equal_scores_say_nothing_beside_an_item_that_orders(
    bench: Bench, weighs: bool
) -> None:
    made = request("C", "B", similar_to="A", options=explained())
    made.options.weights.relevance = weighs
    for candidate in made.candidates:
        candidate.retrieval_score = 1.0
    found = [
        hit.explanation.retrieval for hit in (await bench.rank(made)).results if hit.explanation
    ]
    assert found == ([None, None] if weighs else [1.0, 1.0])


async def test_without_a_query_even_a_few_that_are_cached_are_in_the_order_of_taste(
    bench: Bench,
) -> None:
    await bench.rank(request("A", "C", user="a"))
    bench.catalogue.error = Unavailable("down")
    assert ids(await bench.rank(request("C", "x", "y", "A", user="a")))[0] == "A"


RULED = pb.Filters(
    attributes=[pb.AttributeRule(name="brand", values=["Apple"])], in_stock_only=True
)


@pytest.mark.parametrize("read", ["items", "index"])
async def test_a_rule_keeps_what_could_not_be_read_and_the_answer_says_of_how_many(
    bench: Bench, read: str
) -> None:
    async def down(*_: object) -> list[Item]:
        raise Unavailable("down")

    setattr(bench.catalogue, read, down)
    rows = [pb.Candidate(id="A"), pb.Candidate(id="B", brand="Dell"), pb.Candidate(id="C")]
    asked = pb.RankRequest(candidates=rows, index="shop", options=explained(filters=RULED))
    ranking = await bench.rank(asked)
    # B came with its brand, which is not the one that is wanted.
    assert ids(ranking) == ["A", "C"]
    assert [drop.id for drop in ranking.dropped] == ["B"]
    assert [(note.reason.value, note.detail) for note in ranking.degraded][-1] == (
        "features_unavailable",
        "2 of 2 candidates were not held to all filters: what these look at was not read",
    )


@pytest.mark.parametrize(
    "filters",
    [
        pb.Filters(in_stock_only=True), pb.Filters(min_price=1.0), pb.Filters(max_price=9.0),
        pb.Filters(exclude_brands=["Dell"]),
    ],
)  # fmt: skip
async def test_of_whatever_a_filter_looks_at_it_is_said_that_it_was_not_read(
    bench: Bench, filters: pb.Filters
) -> None:
    bench.catalogue.error = Unavailable("down")
    ranking = await bench.rank(request("A", "B", options=pb.RankOptions(filters=filters)))
    assert len(ranking.results) == 2
    assert any("2 of 2 candidates were not held" in note.detail for note in ranking.degraded)


async def test_a_rule_asks_of_what_was_read_though_others_were_not(bench: Bench) -> None:
    bench.catalogue.contents["C"] = replace(bench.catalogue.contents["C"], category=())
    await bench.rank(request("C"))
    bench.catalogue.error = Unavailable("down")
    rule = pb.AttributeRule(name="category", values=["phone"])
    options = pb.RankOptions(filters=pb.Filters(attributes=[rule]))
    ranking = await bench.rank(request("C", "D", options=options))
    assert ids(ranking) == ["D"]
    assert [(drop.id, drop.reason.value) for drop in ranking.dropped] == [("C", "attribute_rule")]


async def test_after_the_deadline_a_rule_keeps_what_was_not_read(bench: Bench) -> None:
    asked = request("C", "A", options=explained(filters=RULED))
    ranking = await bench.rank(asked)
    assert ids(ranking) == ["A"]
    assert not ranking.degraded
    late = await bench.rank(asked, seconds=0.0)
    assert len(late.results) == 2
    assert [note.reason.value for note in late.degraded] == ["deadline", "deadline"]
    assert late.degraded[1].detail.startswith("2 of 2 candidates were not held to all filters")


async def test_of_what_no_filter_looks_at_nothing_is_said(bench: Bench) -> None:
    bench.catalogue.error = Unavailable("down")
    rows = [pb.Candidate(id=name, brand="Apple", in_stock=True) for name in "AB"]
    asked = pb.RankRequest(candidates=rows, index="shop", options=explained(filters=RULED))
    ranking = await bench.rank(asked)
    assert len(ranking.results) == 2
    assert not any("filters" in note.detail for note in ranking.degraded)


async def test_events_down_leaves_the_rest(bench: Bench) -> None:
    async def events(*_: object) -> Profile:
        raise Unavailable("down")

    bench.catalogue.events = events  # type: ignore[method-assign]
    ranking = await bench.rank(request(query="apple computer", user="a"))
    assert ids(ranking)[0] == "A"
    assert reasons(ranking) == {"features_unavailable"}


@pytest.mark.parametrize("late", [False, True], ids=["down", "late"])
async def test_what_a_user_has_blocked_stays_away_where_events_can_not_be_read_anew(
    bench: Bench, late: bool
) -> None:
    known = Profile(
        interactions=(Interaction("D", "click", 1),),
        purchased=frozenset({"B"}),
        blocked_items=frozenset({"A"}),
    )
    bench.catalogue.users["a"] = known
    made = request(query="computer", user="a", options=explained())
    made.options.filters.exclude_purchased = True
    await bench.rank(made)
    bench.clock.now += 1.1  # the time that events serve

    async def events(*_: object) -> Profile:
        if late:
            await asyncio.Event().wait()
        raise Unavailable("down.")

    bench.catalogue.events = events  # type: ignore[method-assign]
    # Part of a deadline is waited for by the real clock.
    ranking = await bench.rank(made, seconds=0.05 if late else 60.0)
    assert set(ids(ranking)) == {"C", "D"}
    (note,) = ranking.degraded
    assert note.reason.value == ("deadline" if late else "features_unavailable")
    assert note.detail.startswith("profile: ")
    assert note.detail.endswith(". What was read of the user before is used.")
    if not late:  # and the taste, too
        liked = [hit for hit in ranking.results if hit.explanation and hit.explanation.affinity]
        assert "D" in [hit.id for hit in liked]


@pytest.mark.parametrize("late", [False, True], ids=["down", "late"])
async def test_a_page_made_without_knowing_what_a_user_has_blocked_says_so(
    bench: Bench, late: bool
) -> None:
    bench.catalogue.users["a"] = Profile(blocked_items=frozenset({"A"}))
    plain = bench.catalogue.events
    gate = asyncio.Event()

    async def events(*asked: object) -> Profile:
        if not late:
            raise Unavailable("OpenSearch is down.")
        await gate.wait()
        return await plain(*asked)  # type: ignore[arg-type]

    bench.catalogue.events = events  # type: ignore[method-assign]
    made = request(query="computer", user="a")
    ranking = await bench.rank(made, seconds=0.05 if late else 60.0)
    assert "A" in ids(ranking)
    unread = "What the user has blocked or bought is not known, and may be shown."
    (note,) = [note for note in ranking.degraded if note.detail.endswith(f". {unread}")]
    assert note.reason.value == ("deadline" if late else "features_unavailable")
    assert note.partial
    if late:  # the read went on
        gate.set()
        ranking = await bench.rank(made)
        assert "A" not in ids(ranking)
        assert not [note for note in ranking.degraded if unread in note.detail]


async def test_a_deadline_that_passes_on_the_way_does_not_show_what_a_user_has_blocked(
    bench: Bench,
) -> None:
    bench.catalogue.users["a"] = Profile(blocked_items=frozenset({"A"}))
    made = request(query="computer", user="a")
    await bench.rank(made)
    bench.clock.now += 2.1
    plain = bench.catalogue.index

    async def slow(name: str, timeout: float) -> object:
        bench.clock.now += 10.0
        return await plain(name, timeout)

    bench.catalogue.index = slow  # type: ignore[assignment]
    ranking = await bench.rank(made, seconds=5.0)
    assert sorted(ids(ranking)) == ["B", "C", "D"]
    assert (
        "profile, features and query vector left out: no time was left. What was read of the user "
        "before is used."
    ) in [note.detail for note in ranking.degraded]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, []),
        ({"user": pb.User(id="a")}, ["profile"]),
        ({"user": pb.User(profile=pb.Profile())}, []),
        ({"query": "red"}, []),  # and no vector to compare it with
        ({"query": "red", "near": True}, ["query vector"]),
    ],
)
async def test_of_what_no_time_is_left_for_only_what_there_is_to_read_is_named(
    bench: Bench, fields: dict[str, Any], said: list[str]
) -> None:
    near = fields.get("near", False)
    packed = vector("red").tobytes() if near else b""
    rows = [pb.Candidate(id=name, text=name, vector=packed) for name in ("x", "y")]
    given = {name: value for name, value in fields.items() if name != "near"}
    made = pb.RankRequest(candidates=rows, **given)
    # None is left, and yet it was let in.
    ranking = await bench.rank(made, seconds=0.0)
    details = [note.detail for note in ranking.degraded if "left out" in note.detail]
    unread = " What the user has blocked or bought is not known, and may be shown."
    assert details == [
        f"{what} left out: no time was left.{unread if what == 'profile' else ''}" for what in said
    ]


async def test_a_deadline_too_short_for_opensearch_is_the_reason_and_not_opensearch(
    bench: Bench,
) -> None:
    async def slow(*_: object) -> Profile:
        await asyncio.Event().wait()
        raise AssertionError("never")

    bench.catalogue.events = slow  # type: ignore[method-assign]
    ranking = await bench.rank(request(query="apple computer", user="a"), seconds=0.004)
    assert len(ranking.results) == 4
    assert "deadline" in reasons(ranking)
    assert "features_unavailable" not in reasons(ranking)


async def test_no_encoder_at_all_leaves_the_callers_order(bench: Bench) -> None:
    bench.models.serving = type(bench.models.serving)({})
    ranking = await bench.rank(request("C", "A", query="computer"))
    assert ids(ranking) == ["C", "A"]
    assert reasons(ranking) == {"encoder_mismatch", "model_unavailable"}


class Fixed(Cost):
    """A second for 22 tokens, whatever is measured."""

    def estimate(self, tokens: float) -> float:
        return tokens / 22


async def test_only_what_the_deadline_affords_is_read_and_the_answer_says_how_much() -> None:
    judge = WordJudge(seconds=1.0)
    bench = Bench(judge=judge, cost=Fixed())
    judge.clock = bench.clock
    try:
        # A pair has 20 to 23 tokens. Two of them and their headroom fit into 3.1 s, and not one
        # into the 1.1 s after them.
        ranking = await bench.rank(request(query="computer"), seconds=3.1)
        assert len(judge.texts) == 2
        assert reasons(ranking) == {"deadline"}
        detail = ranking.degraded[0].detail
        assert detail == "the cross-encoder read 2 of 4 candidates in time"
        assert len(ranking.results) == 4
    finally:
        await bench.close()


async def test_a_deadline_shorter_than_any_stage_begins_none_and_keeps_the_order() -> None:
    judge = WordJudge()
    bench = Bench(judge=judge, cost=Fixed())
    try:
        plain = await bench.rank(request(query="computer", options=pb.RankOptions(bundle="none")))
        ranking = await bench.rank(request(query="computer"), seconds=0.5)
        assert judge.texts == []
        assert ids(ranking) == ids(plain)
        assert reasons(ranking) == {"deadline"}
    finally:
        await bench.close()


async def test_a_pair_that_gives_nan_costs_itself_and_the_answer_says_so(bench: Bench) -> None:
    judge = bench.judge
    assert judge is not None
    whole = judge.score

    def poisoned(query: str, texts: Sequence[str]) -> Floats:
        logits = whole(query, texts)
        return np.where([text == "huawei phone" for text in texts], np.nan, logits)

    judge.score = poisoned  # type: ignore[method-assign]
    ranking = await bench.rank(request(query="computer", options=explained()))
    read = {hit.id for hit in ranking.results if hit.explanation.cross_encoder_logit is not None}
    assert read == {"A", "B", "D"}
    assert reasons(ranking) == {"model_unavailable"}
    assert ranking.degraded[0].detail.startswith("1 of 4 candidates could not be read")


async def test_a_model_that_gives_nan_alone_keeps_the_order(bench: Bench) -> None:
    judge = bench.judge
    assert judge is not None
    plain = await bench.rank(request(query="computer", options=pb.RankOptions(bundle="none")))
    judge.score = lambda _, texts: np.full(len(texts), np.nan, np.float32)  # type: ignore[method-assign]
    ranking = await bench.rank(request(query="computer"))
    assert ids(ranking) == ids(plain)
    assert reasons(ranking) == {"model_unavailable"}
    assert judge.ref not in ranking.bundles


async def test_a_pair_that_was_read_is_not_read_again(bench: Bench) -> None:
    assert bench.judge is not None
    first = await bench.rank(request(query="computer"))
    read = len(bench.judge.texts)
    assert read == 4
    again = await bench.rank(request(query="computer"))
    assert len(bench.judge.texts) == read
    assert [(hit.id, hit.score) for hit in again.results] == [
        (hit.id, hit.score) for hit in first.results
    ]
    await bench.rank(request(query="phone"))
    assert len(bench.judge.texts) == 2 * read


async def test_a_changed_text_and_a_swapped_model_are_read_anew(bench: Bench) -> None:
    assert bench.judge is not None
    await bench.rank(request(query="computer"))
    read = len(bench.judge.texts)
    changed = request(query="computer")
    changed.candidates[0].text = "phone with another text"
    await bench.rank(changed)
    assert bench.judge.texts[read:] == ["phone with another text"]
    bench.judge.ref = "judge@000000000003"
    await bench.rank(request(query="computer"))
    assert len(bench.judge.texts) == read + 1 + 4


async def test_after_the_deadline_nothing_is_begun_and_an_answer_is_given(bench: Bench) -> None:
    ranking = await bench.rank(request(query="computer", user="a"), seconds=0.0)
    assert bench.judge is not None
    assert (bench.encoder.calls, bench.judge.calls) == ([], [])
    assert len(ranking.results) == 4
    assert "deadline" in reasons(ranking)


async def test_without_time_for_the_querys_vector_nothing_is_read_and_the_order_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(*_: object) -> Floats:
        raise DeadlineExceeded("3 ms are left, a query takes 5.")

    monkeypatch.setattr(bench.inference, "encode_queries", late)
    assert bench.judge is not None
    ranking = await bench.rank(request("C", "A", "B", query="computer"))
    assert ids(ranking) == ["C", "A", "B"]
    assert reasons(ranking) == {"deadline"}
    assert bench.judge.texts == []


async def test_stages_are_reported_in_order(bench: Bench) -> None:
    ranking = await bench.rank(request(query="computer", user="a"))
    names = [stage.name for stage in ranking.stages]
    assert names == [
        "profile", "features", "filter", "score",
        "tokenise", "queue", "inference", "rerank", "blend",
    ]  # fmt: skip
    assert ranking.bundles == ("words@000000000001", "judge@000000000002")
    again = await bench.rank(request(query="computer", user="a", options=explained()))
    assert [stage.name for stage in again.stages][-2:] == ["blend", "explain"]
    assert again.stages[-1].candidates == 4


async def test_why_a_hit_stands_where_it_does_depends_on_no_page_size(bench: Bench) -> None:
    random = np.random.default_rng(0)
    rows = [
        pb.Candidate(
            id=str(n),
            retrieval_score=200.0 - n,
            vector=random.normal(size=8).astype("<f4").tobytes(),
        )
        for n in range(200)
    ]
    pages = [
        await bench.rank(
            pb.RankRequest(query="computer", candidates=rows, options=explained(top_k=count))
        )
        for count in (0, 20)
    ]
    summaries = [
        [(hit.explanation.summary, hit.explanation.because_of) for hit in page.results[:20]
         if hit.explanation]
        for page in pages
    ]  # fmt: skip
    assert len(summaries[0]) == 20
    assert summaries[0] == summaries[1]


async def test_a_query_is_encoded_once_for_encode_and_rank(bench: Bench) -> None:
    await bench.rank(request(query="computer"))
    await bench.rank(request(query="computer"))
    assert bench.encoder.calls == [["computer"]]


def without_apple(**options: object) -> pb.RankRequest:
    # Equal scores say nothing: what models and titles say orders.
    rows = [pb.Candidate(id=name, retrieval_score=1.0) for name in "CDBA"]
    return pb.RankRequest(
        query="computer without apple", index="shop", candidates=rows, options=explained(**options)
    )


async def test_what_a_query_does_not_want_counts_against_what_has_it(bench: Bench) -> None:
    ranking = await bench.rank(without_apple())
    assert ids(ranking)[0] == "B"
    found = {hit.id: hit.explanation for hit in ranking.results}
    assert found["A"] is not None
    assert found["B"] is not None
    plain = {
        hit.id: hit.explanation
        for hit in (await bench.rank(without_apple(exclusions=False))).results
    }
    assert plain["A"] is not None
    assert plain["A"].summary != found["A"].summary
    # Models read what is wanted alone: neither vector nor cross-encoder finds an apple in it.
    assert bench.encoder.calls == [["computer"], ["computer without apple"]]
    assert found["A"].query_similarity == pytest.approx(found["B"].query_similarity)
    assert found["A"].relevance == pytest.approx(found["B"].relevance / 2, abs=0.01)
    assert (found["A"].retrieval, found["B"].retrieval) == (0.5, 1.0)
    assert found["A"].summary.endswith("; its title names what the query excludes (apple)")
    assert "excludes" not in found["B"].summary
    assert plain["A"].query_similarity > plain["B"].query_similarity
    assert "excludes" not in plain["A"].summary


async def test_a_title_that_says_it_lacks_it_is_ahead() -> None:
    catalogue = shop()
    for name, text in (("A", "kettle with whistle"), ("B", "kettle"), ("C", "kettle, no whistle")):
        catalogue.contents[name] = replace(
            catalogue.contents[name], text=text, vector=vector("red kettle")
        )
    bench = Bench(catalogue, WordEncoder())
    try:
        rows = [pb.Candidate(id=name, retrieval_score=1.0) for name in "ABC"]
        for query in ("kettle without whistle", "kettle w/o whistles"):
            made = pb.RankRequest(
                query=query, index="shop", candidates=rows, options=explained(fusion=pb.FUSION_RRF)
            )
            ranking = await bench.rank(made)
            assert ids(ranking) == ["C", "B", "A"]
            assert ranking.results[0].explanation is not None
            assert "its title says it is without" in ranking.results[0].explanation.summary
    finally:
        await bench.close()


async def test_without_vectors_the_callers_own_scores_are_moved(bench: Bench) -> None:
    rows = [
        pb.Candidate(id=text, text=text, retrieval_score=3 - place)
        for place, text in enumerate(("kettle with whistle", "kettle", "no whistle kettle"))
    ]
    options = explained(bundle="none")
    made = pb.RankRequest(query="kettle without whistle", candidates=rows, options=options)
    ranking = await bench.rank(made)
    assert ids(ranking) == ["kettle", "no whistle kettle", "kettle with whistle"]
    assert [hit.score for hit in ranking.results] == pytest.approx([2 / 3, 2 / 3, 1 / 2])
    made.options.exclusions = False
    assert ids(await bench.rank(made))[0] == "kettle with whistle"


async def test_queries_without_a_click_count_for_the_user() -> None:
    catalogue = shop()
    catalogue.users = {"s": Profile(interactions=(Interaction("", "search", HOUR, "phone"),))}
    bench = Bench(catalogue, WordEncoder())
    try:
        options = pb.RankOptions(weights=pb.Weights(retrieval=0))
        ranking = await bench.rank(request("A", "B", "C", "D", user="s", options=options))
        assert set(ids(ranking)[:2]) == {"C", "D"}
    finally:
        await bench.close()


async def test_what_a_user_did_not_want_is_no_interest() -> None:
    catalogue = shop()
    query = "computer without apple"
    catalogue.users = {"s": Profile(interactions=(Interaction("", "search", HOUR, query),))}
    bench = Bench(catalogue, WordEncoder())
    try:
        await bench.rank(request(user="s"))
        assert bench.encoder.calls == [["computer"]]
    finally:
        await bench.close()


async def test_an_encoder_that_fails_costs_no_page_of_a_user_who_searched() -> None:
    def fails(_: object) -> Never:
        raise RuntimeError("the graph failed")

    searched = Interaction("", "search", 2 * HOUR, "phone")
    bought = Interaction("B", "purchase", HOUR)
    catalogue = shop()
    catalogue.users = {"s": Profile((searched, bought), purchased=frozenset({"B"}))}
    bench = Bench(catalogue)
    bench.encoder.run = fails  # type: ignore[method-assign]
    try:
        options = pb.RankOptions(filters=pb.Filters(exclude_purchased=True), bundle="none")
        ranking = await bench.rank(request(query="computer", user="s", options=options))
        assert sorted(ids(ranking)) == ["A", "C", "D"]
        assert reasons(ranking) == {"model_unavailable"}
    finally:
        await bench.close()


@pytest.mark.parametrize("asked", [{"user": "a"}, {"similar_to": "A"}])
async def test_a_vector_of_another_length_in_the_index_is_none(
    bench: Bench, asked: dict[str, str]
) -> None:
    foreign = replace(bench.catalogue.contents["A"], vector=vector("apple")[:4])
    bench.catalogue.contents["A"] = foreign
    ranking = await bench.rank(request("B", "C", "D", query="computer", **asked))  # type: ignore[arg-type]
    assert sorted(ids(ranking)) == ["B", "C", "D"]
    # What similar items are like can't be told without it.
    assert reasons(ranking) == ({"features_unavailable"} if "similar_to" in asked else set())


NAMES = st.sampled_from(["A", "B", "C", "D", "ghost", "other"])
CANDIDATES = st.lists(
    st.builds(
        pb.Candidate,
        id=NAMES,
        text=st.one_of(st.none(), st.sampled_from(["", "red kettle", "apple phone"])),
        retrieval_score=st.one_of(
            st.none(), st.floats(allow_nan=False, allow_infinity=False, width=32)
        ),
        price=st.one_of(st.none(), st.floats(0, 5_000)),
        in_stock=st.one_of(st.none(), st.booleans()),
        brand=st.one_of(st.none(), st.sampled_from(["", "Apple", "dell"])),
    ),
    max_size=6,
    unique_by=lambda candidate: candidate.id,
)
OPTIONS = st.builds(
    pb.RankOptions,
    top_k=st.integers(0, 3),
    min_score=st.one_of(st.none(), st.floats(0, 1, width=32)),
    weights=st.builds(pb.Weights, diversity=st.one_of(st.none(), st.floats(0, 1, width=32))),
    explain=st.booleans(),
    filters=st.builds(
        pb.Filters,
        exclude_purchased=st.booleans(),
        exclude_brands=st.lists(st.sampled_from(["APPLE", "Dell"]), max_size=1),
        max_price=st.one_of(st.none(), st.floats(0, 5_000)),
        in_stock_only=st.booleans(),
    ),
)
REQUESTS = st.builds(
    pb.RankRequest,
    query=st.sampled_from(["", "computer", "apple phone", "电脑", "75"]),
    index=st.sampled_from(["", "shop"]),
    user=st.builds(pb.User, id=st.sampled_from(["", "a", "b", "nobody"])),
    candidates=CANDIDATES,
    options=OPTIONS,
)


@settings(max_examples=60)
@given(REQUESTS)
def test_whatever_is_asked_the_answer_is_whole_and_in_bounds(made: pb.RankRequest) -> None:
    async def run() -> Ranking:
        bench = Bench(shop_with_users(), judge=WordJudge())
        try:
            return await bench.rank(made)
        finally:
            await bench.close()

    ranking = asyncio.run(run())
    asked = [candidate.id for candidate in made.candidates]
    shown, dropped = ids(ranking), [drop.id for drop in ranking.dropped]
    assert len({*shown, *dropped}) == len(shown) + len(dropped)
    if made.options.top_k:
        assert len(shown) <= made.options.top_k
        assert {*shown, *dropped} <= set(asked)
    else:
        assert {*shown, *dropped} == set(asked)
    scores = [hit.score for hit in ranking.results]
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert scores == sorted(scores, reverse=True)
    assert all(asked[hit.position] == hit.id for hit in ranking.results)
    assert all((hit.explanation is not None) == made.options.explain for hit in ranking.results)
