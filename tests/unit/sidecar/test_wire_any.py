"""Any message that protobuf takes is either a query that can be ranked, or refused as such."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralrank.errors import InvalidInput
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import RankQuery
from sidecar.rpc.wire import read_encode, read_rank
from tests.unit.sidecar.parts import WEIGHTS

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    # Runs of marks, and signs that become many.
    st.text("a\u0301\u0323\u0344\u0f73\uff9e\ufdfa", max_size=12).map(lambda text: text * 9),
)
# Mostly such as pass, so that what is behind the first check is reached too.
ID = st.text("abcdefgh\u202e1ａ", min_size=1, max_size=4) | TEXT
FLOAT = st.floats(width=32)
GOOD = st.floats(0, 1, width=32)
INT = st.integers(-(2**63), 2**63 - 1)
COUNT = st.integers(0, 2**32 - 1)
VECTOR = st.one_of(
    st.binary(max_size=20),
    st.lists(FLOAT, min_size=2, max_size=2).map(lambda row: np.array(row, "<f4").tobytes()),
    st.lists(GOOD, min_size=2, max_size=2).map(lambda row: np.array(row, "<f4").tobytes()),
)


def message(kind: type, required: dict[str, st.SearchStrategy[object]] | None = None, /,
            **optional: st.SearchStrategy[object]) -> st.SearchStrategy[object]:  # fmt: skip
    fields = st.fixed_dictionaries(required or {}, optional=optional)
    return fields.map(lambda given: kind(**given))


STRINGS = message(pb.StringList, values=st.lists(TEXT, max_size=3))
CANDIDATE = message(
    pb.Candidate, {"id": ID}, text=TEXT, retrieval_score=GOOD | FLOAT, vector=VECTOR, brand=TEXT,
    price=GOOD | st.floats(), in_stock=st.booleans(), version=INT,
    category=st.lists(TEXT, max_size=3),
    features=st.dictionaries(TEXT, GOOD | st.floats(), max_size=2),
    attributes=st.dictionaries(TEXT, STRINGS, max_size=2),
)  # fmt: skip
RULE = message(
    pb.AttributeRule, name=TEXT, values=st.lists(TEXT, max_size=2), exclude=st.booleans()
)
FILTERS = message(
    pb.Filters, exclude_purchased=st.booleans(), exclude_items=st.lists(ID, max_size=3),
    exclude_brands=st.lists(TEXT, max_size=3), min_price=st.floats(), max_price=st.floats(),
    in_stock_only=st.booleans(), attributes=st.lists(RULE, max_size=2),
)  # fmt: skip
GIVEN_WEIGHTS = message(
    pb.Weights, relevance=FLOAT, affinity=FLOAT, retrieval=FLOAT, cross_encoder=GOOD | FLOAT
)
ARM = message(pb.Arm, bundle=TEXT, weights=GIVEN_WEIGHTS, fusion=st.integers(0, 3))
GOOD_ARM = message(pb.Arm, bundle=TEXT, fusion=st.integers(0, 2))
EXPERIMENT = message(
    pb.Experiment, {"name": st.text("ab._-", min_size=1, max_size=4) | TEXT},
    mode=st.integers(0, 3), share=GOOD | st.floats(),
    arms=st.dictionaries(st.sampled_from("ABC"), ARM, max_size=3)
    | st.fixed_dictionaries({"A": GOOD_ARM, "B": GOOD_ARM}),
)  # fmt: skip
OPTIONS = message(
    pb.RankOptions, top_k=COUNT, filters=FILTERS, min_score=GOOD | FLOAT, weights=GIVEN_WEIGHTS,
    explain=st.booleans(), bundle=TEXT, encoder=TEXT, deadline_ms=COUNT, max_reranked=COUNT,
    fusion=st.integers(0, 3), experiment=EXPERIMENT,
)  # fmt: skip
INTERACTION = message(pb.Interaction, item_id=ID, action=TEXT, timestamp_ms=INT, query=TEXT)
PROFILE = message(
    pb.Profile, interactions=st.lists(INTERACTION, max_size=3),
    blocked_items=st.lists(ID, max_size=3), blocked_brands=st.lists(TEXT, max_size=3),
)  # fmt: skip
USER = message(pb.User, id=ID, profile=PROFILE)
REQUEST = message(
    pb.RankRequest, query=TEXT, language=TEXT, user=USER, index=TEXT, options=OPTIONS,
    candidates=st.lists(CANDIDATE, max_size=5, unique_by=lambda row: row.id)
    | st.lists(CANDIDATE, max_size=5), similar_to=ID, request_id=TEXT,
)  # fmt: skip
INPUT = st.one_of(
    message(pb.EncodeInput, query=TEXT),
    message(pb.EncodeInput, passage=TEXT),
    message(pb.EncodeInput, user=USER),
    message(pb.EncodeInput, item_id=ID),
)
ENCODE = message(pb.EncodeRequest, inputs=st.lists(INPUT, max_size=3), encoder=TEXT, index=TEXT)


def check(query: RankQuery) -> None:
    """What ranking relies on."""
    if query.experiment is not None:
        assert sorted(query.experiment.arms) == ["A", "B"]
        assert 0 < query.experiment.share <= 1
        assert query.experiment.arms["A"] != query.experiment.arms["B"]
    candidates = query.candidates
    count = len(candidates)
    assert all(candidates.ids)
    assert len(set(candidates.ids)) == count
    for column in (
        candidates.texts, candidates.brands, candidates.categories, candidates.attributes,
        candidates.versions, candidates.retrieval, candidates.prices, candidates.in_stock,
        candidates.vectors, candidates.has_vector,
    ):  # fmt: skip
        assert len(column) == count
    assert not np.isinf(candidates.retrieval).any()
    assert not np.isinf(candidates.prices).any()
    lengths = np.linalg.norm(candidates.vectors, axis=1)
    assert np.allclose(lengths[candidates.has_vector], 1.0, atol=1e-4)
    weights = (query.weights.relevance, query.weights.affinity, query.weights.retrieval)
    assert min(weights) >= 0
    assert 0 < sum(weights) < float("inf")
    assert 0 <= query.weights.cross_encoder <= 1


@settings(max_examples=150)
@given(REQUEST)
def test_any_message_is_a_query_or_invalid_input(request: pb.RankRequest) -> None:
    try:
        query = read_rank(request, WEIGHTS)
    except InvalidInput:
        return
    check(query)


@settings(max_examples=100)
@given(ENCODE)
def test_any_encode_message_is_inputs_or_invalid_input(request: pb.EncodeRequest) -> None:
    try:
        inputs = read_encode(request)
    except InvalidInput:
        return
    assert len(inputs) == len(request.inputs)
    assert {entry.kind for entry in inputs} <= {"query", "passage", "user", "item"}
