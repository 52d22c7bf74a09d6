"""What a request may hold: a broken one is refused with what was received and what is allowed."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from neuralrank.errors import InvalidInput
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Weights
from sidecar.wire import read_encode, read_rank
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
    "weights all 0": (
        options(weights=pb.Weights(relevance=0, affinity=0, retrieval=0)),
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
