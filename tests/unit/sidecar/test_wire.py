"""What a request may hold: a broken one is refused with what was received and what is allowed."""

import math
import time
from collections.abc import Callable

import numpy as np
import pytest

from neuralrank.errors import InvalidInput
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Interaction, Weights
from sidecar.rpc.wire import read_encode, read_rank
from tests.unit.sidecar.parts import WEIGHTS

Change = Callable[[pb.RankRequest], object]


def candidates(*ids: str) -> list[pb.Candidate]:
    return [pb.Candidate(id=name) for name in ids]


def add(**fields: object) -> Change:
    return lambda request: request.candidates.append(pb.Candidate(id="z", **fields))  # type: ignore[arg-type]


def options(**fields: object) -> Change:
    return lambda request: request.options.MergeFrom(pb.RankOptions(**fields))  # type: ignore[arg-type]


def filters(**fields: object) -> Change:
    return options(filters=pb.Filters(**fields))  # type: ignore[arg-type]


def set_to(**fields: object) -> Change:
    return lambda request: request.MergeFrom(pb.RankRequest(**fields))  # type: ignore[arg-type]


BROKEN: dict[str, tuple[Change, str]] = {
    "huge query": (set_to(query="x" * 2_049), "query has 2049 characters; allowed are 2048"),
    "10,001 candidates": (
        set_to(candidates=candidates(*map(str, range(10_000)))),
        "10001 candidates; allowed are 10000",
    ),
    "duplicate ids": (set_to(candidates=candidates("a")), "'a' comes twice"),
    "empty id": (set_to(candidates=candidates("")), r"candidates\[1\].id is empty"),
    "NaN score": (add(retrieval_score=math.nan), "retrieval_score of candidate 'z' is nan"),
    "infinite score": (add(retrieval_score=-math.inf), "'z' is -inf; it must be finite"),
    "NaN price": (add(price=math.nan), "price of candidate 'z' is nan"),
    "infinite feature": (add(features={"ctr": math.inf}), r"features\['ctr'\] of candidate 'z'"),
    "vector of odd bytes": (add(vector=b"abcde"), "has 5 bytes; packed float32"),
    "NaN in vector": (
        add(vector=np.array([math.nan, 1], "<f4").tobytes()),
        "vector of candidate 'z' has numbers that are not finite",
    ),
    "vectors of two lengths": (
        set_to(
            candidates=[
                pb.Candidate(id="y", vector=bytes(8)),
                pb.Candidate(id="z", vector=bytes(12)),
            ]
        ),
        "'z' has 12 bytes, others have 8",
    ),
    "long request id": (set_to(request_id="r" * 129), "request_id has 129 characters"),
    "similar_to without index": (set_to(similar_to="a"), "similar_to is 'a' but index is empty"),
    "min_score above 1": (options(min_score=1.5), "min_score is 1.5; allowed is 0 to 1"),
    "min_score NaN": (options(min_score=math.nan), "min_score is nan"),
    "negative weight": (options(weights=pb.Weights(affinity=-1)), "weights.affinity is -1"),
    "infinite weight": (
        options(weights=pb.Weights(retrieval=math.inf)),
        "weights.retrieval is inf",
    ),
    "cross_encoder's weight above 1": (
        options(weights=pb.Weights(cross_encoder=1.5)),
        "weights.cross_encoder is 1.5; allowed is 0 to 1",
    ),
    "cross_encoder's weight is no number": (
        options(weights=pb.Weights(cross_encoder=math.nan)),
        "weights.cross_encoder is nan; allowed is 0 to 1",
    ),
    "weights all 0": (
        options(weights=pb.Weights(relevance=0, affinity=0, retrieval=0, cross_encoder=1)),
        "weights are all 0",
    ),
    "prices crossed": (filters(min_price=10, max_price=5), "min_price is 10, above max_price 5"),
    "NaN price bound": (filters(max_price=math.nan), "max_price is nan"),
    "rule without value": (
        filters(attributes=[pb.AttributeRule(name="color")]),
        "name 'color' and 0 values",
    ),
    "rule without name": (
        filters(attributes=[pb.AttributeRule(values=["red"])]),
        "name '' and 1 values",
    ),
    "unknown fusion": (options(fusion=9), "FUSION_WEIGHTS, FUSION_RRF"),
    "huge weight": (options(weights=pb.Weights(affinity=2e6)), "allowed is 0 to 1,000,000"),
    "1 MB of text": (
        add(text="x" * 2**20),
        "text of candidate 'z' has 1048576 characters; .* 65536",
    ),
    "long id": (set_to(candidates=candidates("i" * 1_025)), "id of candidate 'i+'... has 1025"),
    "long item_id": (add(item_id="i" * 1_025), "item_id of candidate 'z' has 1025 characters"),
    "long index of one": (add(index="i" * 1_025), "index of candidate 'z' has 1025 characters"),
    "long brand": (add(brand="b" * 1_025), "brand of candidate 'z' has 1025 characters"),
    "many categories": (add(category=["c"] * 101), "category of candidate 'z' has 101 entries"),
    "long category": (
        add(category=["c" * 1_025]),
        "an entry of category of candidate 'z' has 1025",
    ),
    "many attributes": (
        add(attributes={str(n): pb.StringList() for n in range(1_001)}),
        "attributes of candidate 'z' has 1001 entries",
    ),
    "many values of an attribute": (
        lambda request: (
            add(attributes={"size": pb.StringList(values=["v"] * 1_001)})(request),
            filters(attributes=[pb.AttributeRule(name="size", values=["v"])])(request),
        ),
        r"attributes\['size'\] of candidate 'z' has 1001 values",
    ),
    "many features": (
        add(features={str(n): 0.0 for n in range(1_001)}),
        "features of candidate 'z' has 1001 entries",
    ),
    "huge vector": (add(vector=bytes(4 * 16_001)), "has 64004 bytes; .* 64000 at most"),
    "long language": (set_to(language="e" * 1_025), "language has 1025 characters"),
    "long index": (set_to(index="i" * 1_025), "index has 1025 characters"),
    "long similar_to": (set_to(similar_to="i" * 1_025, index="i"), "similar_to has 1025"),
    "long bundle": (options(bundle="b" * 1_025), "options.bundle has 1025 characters"),
    "long encoder": (options(encoder="b" * 1_025), "options.encoder has 1025 characters"),
    "many excluded items": (
        filters(exclude_items=["i"] * 10_001),
        "filters.exclude_items has 10001 entries; allowed are 10000. Send fewer.",
    ),
    "long excluded item": (
        filters(exclude_items=["i" * 1_025]),
        "an entry of filters.exclude_items",
    ),
    "many excluded brands": (filters(exclude_brands=["b"] * 10_001), "exclude_brands has 10001"),
    "many rules": (
        filters(attributes=[pb.AttributeRule(name="a", values=["v"])] * 101),
        "filters.attributes has 101 rules; allowed are 100",
    ),
    "long name of a rule": (
        filters(attributes=[pb.AttributeRule(name="a" * 1_025, values=["v"])]),
        r"filters.attributes\[0\].name has 1025",
    ),
    "many values of a rule": (
        filters(attributes=[pb.AttributeRule(name="a", values=["v"] * 1_001)]),
        r"filters.attributes\[0\].values has 1001 entries",
    ),
    "long user": (set_to(user=pb.User(id="u" * 1_025)), "user.id has 1025 characters"),
    "many blocked items": (
        set_to(user=pb.User(profile=pb.Profile(blocked_items=["i"] * 10_001))),
        "user.profile.blocked_items has 10001 entries",
    ),
    "many blocked brands": (
        set_to(user=pb.User(profile=pb.Profile(blocked_brands=["i"] * 10_001))),
        "user.profile.blocked_brands has 10001 entries",
    ),
    "long query of an interaction": (
        set_to(user=pb.User(profile=pb.Profile(interactions=[pb.Interaction(query="q" * 2_049)]))),
        r"interactions\[0\].query has 2049",
    ),
    "501 interactions": (
        set_to(user=pb.User(profile=pb.Profile(interactions=[pb.Interaction()] * 501))),
        "501 entries; allowed are 500",
    ),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_request_is_refused_by_name(change: Change, message: str) -> None:
    request = pb.RankRequest(query="q", candidates=candidates("a"))
    change(request)
    with pytest.raises(InvalidInput, match=message):
        read_rank(request, WEIGHTS)


def test_a_hundred_thousand_candidates_are_refused_and_none_are_answered() -> None:
    request = pb.RankRequest(candidates=candidates(*map(str, range(100_000))))
    with pytest.raises(InvalidInput, match="100000 candidates; allowed are 10000"):
        read_rank(request, WEIGHTS)
    assert len(read_rank(pb.RankRequest(query="q"), WEIGHTS).candidates) == 0


def test_texts_come_in_their_normal_form() -> None:
    read = read_rank(
        pb.RankRequest(query="ＬＥＧＯ\x00", candidates=[pb.Candidate(id="1", text="ﬁne\u200b")]),
        WEIGHTS,
    )
    assert (read.query, read.candidates.texts) == ("LEGO", ["fine"])


def test_only_attributes_that_a_rule_looks_at_are_read() -> None:
    rows = [
        pb.Candidate(id="both", attributes={n: pb.StringList(values=["v"]) for n in "ab"}),
        pb.Candidate(id="other", attributes={"b": pb.StringList(values=["v"])}),
        pb.Candidate(id="none"),
    ]
    request = pb.RankRequest(candidates=rows)
    assert read_rank(request, WEIGHTS).candidates.attributes == [{}, {}, None]
    filters(attributes=[pb.AttributeRule(name="a", values=["v"])])(request)
    assert read_rank(request, WEIGHTS).candidates.attributes == [{"a": ("v",)}, {}, None]


def test_brands_are_read_where_any_is_excluded() -> None:
    brands = pb.StringList(values=["Apple", "Beats"])
    row = pb.Candidate(id="both", brand="Apple", attributes={"brand": brands})
    excluding = pb.RankRequest(candidates=[row])
    filters(exclude_brands=["beats"])(excluding)
    profile = pb.Profile(blocked_brands=["beats"])
    blocking = pb.RankRequest(candidates=[row], user=pb.User(profile=profile))
    for request in (excluding, blocking):
        read = read_rank(request, WEIGHTS).candidates
        assert (read.brands, read.attributes) == (["Apple"], [{"brand": ("Apple", "Beats")}])


def test_vectors_of_any_size_are_brought_to_length_one() -> None:
    rows = [np.full(8, size, "<f4") for size in (1e-8, 1.0, 1e18, 3e37)]
    request = pb.RankRequest(
        candidates=[pb.Candidate(id=str(n), vector=row.tobytes()) for n, row in enumerate(rows)]
    )
    vectors = read_rank(request, WEIGHTS).candidates.vectors
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0] * 4, rel=1e-5)


def test_ten_thousand_candidates_are_allowed() -> None:
    request = pb.RankRequest(candidates=candidates(*map(str, range(10_000))))
    assert len(read_rank(request, WEIGHTS).candidates) == 10_000


def test_what_is_absent_differs_from_zero() -> None:
    read = read_rank(
        pb.RankRequest(
            candidates=[
                pb.Candidate(id="absent"),
                pb.Candidate(
                    id="zero", retrieval_score=0, price=0, in_stock=False, brand="", text=""
                ),
            ]
        ),
        WEIGHTS,
    ).candidates
    assert np.isnan(read.retrieval).tolist() == [True, False]
    assert np.isnan(read.prices).tolist() == [True, False]
    assert read.in_stock.tolist() == [-1, 0]
    assert read.brands == [None, ""]
    assert read.texts == [None, ""]


def test_vectors_are_brought_to_length_one_and_a_zero_vector_is_none() -> None:
    rows = [[3, 4], [0, 0]]
    read = read_rank(
        pb.RankRequest(
            candidates=[
                pb.Candidate(id=str(n), vector=np.array(row, "<f4").tobytes())
                for n, row in enumerate(rows)
            ]
            + [pb.Candidate(id="none")]
        ),
        WEIGHTS,
    ).candidates
    assert read.vectors[0] == pytest.approx([0.6, 0.8])
    assert read.has_vector.tolist() == [True, False, False]


def test_weights_that_are_left_out_are_the_settings() -> None:
    request = pb.RankRequest(options=pb.RankOptions(weights=pb.Weights(affinity=3)))
    assert read_rank(request, WEIGHTS).weights == Weights(1.0, 3.0, 0.5)
    request.options.weights.cross_encoder = 0.75
    assert read_rank(request, WEIGHTS).weights == Weights(1.0, 3.0, 0.5, 0.75)


def profile(*stamps: int) -> list[int]:
    """What is read of a profile's interactions with these timestamps."""
    rows = [
        pb.Interaction(item_id=str(number), timestamp_ms=stamp)
        for number, stamp in enumerate(stamps)
    ]
    request = pb.RankRequest(user=pb.User(profile=pb.Profile(interactions=rows)))
    read = read_rank(request, WEIGHTS).profile
    assert read is not None
    return [row.timestamp_ms for row in read.interactions]


def test_what_is_stamped_later_than_now_is_of_now() -> None:
    begun = int(time.time() * 1_000)
    future, unstamped, past = profile(4_000_000_000_000, 0, 5)
    assert past == 5
    assert begun <= future == unstamped <= time.time() * 1_000


def test_a_profile_without_times_is_the_same_whenever_it_comes() -> None:
    assert profile(0, 0) == [0, 0]


def test_what_was_done_with_one_item_in_a_row_is_one_of_a_profile_as_of_events() -> None:
    acts = [("a", "view"), ("b", "impression"), ("a", "purchase"), ("c", "view"), ("a", "view")]
    rows = [
        pb.Interaction(item_id=item, action=action, timestamp_ms=9 - number)
        for number, (item, action) in enumerate(acts)
    ]
    given = pb.User(profile=pb.Profile(interactions=rows))
    read = read_rank(pb.RankRequest(user=given), WEIGHTS).profile
    assert read is not None
    assert read.interactions == (
        Interaction("a", "purchase", 9), Interaction("c", "view", 6), Interaction("a", "view", 5),
    )  # fmt: skip
    assert read.purchased == {"a"}


@pytest.mark.parametrize("action", ["block", "dislike"])
def test_what_a_profile_dislikes_is_blocked_and_no_interest(action: str) -> None:
    rows = [pb.Interaction(item_id="a", action=action), pb.Interaction(item_id="b", action="view")]
    given = pb.Profile(interactions=rows, blocked_items=["c"])
    read = read_rank(pb.RankRequest(user=pb.User(profile=given)), WEIGHTS).profile
    assert read is not None
    assert [row.item_id for row in read.interactions] == ["b"]
    assert read.blocked_items == {"a", "c"}


def test_a_blank_query_is_no_query() -> None:
    assert read_rank(pb.RankRequest(query="  \n"), WEIGHTS).query == ""


def test_a_region_does_not_change_the_language() -> None:
    assert read_rank(pb.RankRequest(language="zh-Hant-TW"), WEIGHTS).language == "zh"


ENCODE: dict[str, tuple[pb.EncodeRequest, str]] = {
    "nothing": (pb.EncodeRequest(), "inputs has 0 entries; allowed are 1 to 256"),
    "too many": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(query="q")] * 257),
        "inputs has 257 entries",
    ),
    "empty input": (pb.EncodeRequest(inputs=[pb.EncodeInput()]), r"inputs\[0\] is empty"),
    "empty query": (pb.EncodeRequest(inputs=[pb.EncodeInput(query=" ")]), "query is empty"),
    "empty image": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(image=b"")]),
        r"inputs\[0\].image is empty; give what the file of a photo holds",
    ),
    "large image": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(image=bytes(2**24 + 1))]),
        "image has 16777217 bytes; allowed are 16777216",
    ),
    "many images": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(image=b"x")] * 33),
        "33 images; allowed are 32. Split it",
    ),
    "photos and texts": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(image=b"x"), pb.EncodeInput(query="q")]),
        "1 of 2 inputs are photos; .* Send photos and texts apart",
    ),
    "photo of no index": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(photo_of="A")]),
        "photo of item 'A' of index ''; both must be given",
    ),
    "huge passage": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(passage="x" * 65_537)]),
        "65537 characters",
    ),
    "user without index": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(user=pb.User(id="A"))]),
        "index is empty",
    ),
    "nobody": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(user=pb.User())], index="shop"),
        "neither id nor profile",
    ),
    "long item": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(item_id="i" * 1_025)], index="shop"),
        r"inputs\[0\].item_id has 1025 characters",
    ),
    "long user": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(user=pb.User(id="i" * 1_025))], index="shop"),
        r"inputs\[0\].user.id has 1025 characters",
    ),
    "long encoder": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(query="q")], encoder="e" * 1_025),
        "encoder has 1025 characters",
    ),
    "long index": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(query="q")], index="e" * 1_025),
        "index has 1025 characters",
    ),
    "item without index": (
        pb.EncodeRequest(inputs=[pb.EncodeInput(item_id="A")]),
        "both must be given",
    ),
}


@pytest.mark.parametrize(("request_", "message"), ENCODE.values(), ids=ENCODE)
def test_a_broken_encode_request_is_refused_by_name(
    request_: pb.EncodeRequest, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_encode(request_)
