"""Counting what a gRPC message holds before it is decoded."""

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.errors import InvalidInput
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.rpc.fields import _guess, check_fields

RANK, ENCODE = pb.RankRequest.DESCRIPTOR, pb.EncodeRequest.DESCRIPTOR
CANDIDATE = bytes([RANK.fields_by_name["candidates"].number << 3 | 2, 0])
INPUT = bytes([ENCODE.fields_by_name["inputs"].number << 3 | 2, 0])


def whole(count: int) -> pb.RankRequest:
    """Candidates with a field of every kind, whose lengths take one byte, two and three."""
    made = pb.RankRequest(query="red", user=pb.User(id="u"), options=pb.RankOptions(explain=True))
    for place in range(count):
        made.candidates.add(
            id=str(place),
            text="x" * (10, 1_000, 20_000)[place % 3],
            retrieval_score=0.5,
            price=2.0,
            in_stock=True,
            version=2**40,
            category=["a", "b"],
            attributes={"colour": pb.StringList(values=["red"])},
        )
    return made


def test_what_is_allowed_passes_and_one_more_does_not() -> None:
    raw = whole(30).SerializeToString()
    check_fields(raw, RANK, {"candidates": 30})
    with pytest.raises(InvalidInput, match="more than 29 candidates; allowed are 29"):
        check_fields(raw, RANK, {"candidates": 29})


def test_a_short_message_of_many_is_found_in_time() -> None:
    with pytest.raises(InvalidInput, match="more than 10000 candidates"):
        check_fields(CANDIDATE * 4_000_000, RANK, {"candidates": 10_000})
    with pytest.raises(InvalidInput, match="more than 256 inputs"):
        check_fields(INPUT * 40_000, ENCODE, {"inputs": 256})


@pytest.mark.parametrize(
    "made",
    [
        pb.RankRequest(
            candidates=[
                pb.Candidate(attributes={str(n): pb.StringList() for n in range(9_000)}),
            ]
        ),
        pb.RankRequest(candidates=[pb.Candidate(features={str(n): 0.0 for n in range(9_000)})]),
        pb.RankRequest(user=pb.User(profile=pb.Profile(interactions=[pb.Interaction()] * 40_000))),
        pb.RankRequest(
            options=pb.RankOptions(filters=pb.Filters(attributes=[pb.AttributeRule()] * 40_000))
        ),
    ],
    ids=["attributes", "features", "interactions", "rules"],
)
def test_fields_of_the_messages_in_it_count(made: pb.RankRequest) -> None:
    raw = made.SerializeToString()
    check_fields(raw, RANK, {})
    with pytest.raises(InvalidInput, match="more than 5000 fields, in candidates and"):
        check_fields(raw, RANK, {}, fields=5_000)
    # Bytes at the end that are none of it hide nothing: the decoder would see them last.
    with pytest.raises(InvalidInput, match="more than 5000 fields"):
        check_fields(raw + b"\x80", RANK, {}, fields=5_000)


def test_many_short_messages_together_are_counted_where_they_look_like_too_many() -> None:
    one = pb.Candidate(features={str(number): 0.0 for number in range(200)})
    raw = pb.RankRequest(candidates=[one] * 300).SerializeToString()
    assert one.ByteSize() < 4_096
    for seed in range(20):
        random.seed(seed)
        assert 30_000 < _guess(raw, RANK, {}, 10**6, 16) < 120_000
        check_fields(raw, RANK, {}, fields=60_300)
    assert _guess(raw, RANK, {}, 10**6, 1) == 60_300
    with pytest.raises(InvalidInput, match="more than 20000 fields"):
        check_fields(raw, RANK, {}, fields=20_000)


def test_fields_that_nobody_knows_count() -> None:
    with pytest.raises(InvalidInput, match="more than 1000 fields"):
        check_fields(b"\xf8\x3f\x00" * 30_000, RANK, {}, fields=1_000)


def test_a_number_that_is_longer_than_it_needs_to_be_hides_nothing() -> None:
    tag, length = CANDIDATE
    long = bytes([tag | 128, 0, length | 128, 128, 0])
    assert len(pb.RankRequest.FromString(long * 3).candidates) == 3
    with pytest.raises(InvalidInput, match="more than 100 candidates"):
        check_fields(long * 20_000, RANK, {"candidates": 100})


@given(st.binary(max_size=200), st.integers(0, 3))
def test_bytes_that_are_no_message_end_the_count(noise: bytes, places: int) -> None:
    raw = whole(places).SerializeToString()
    with suppress(InvalidInput):
        _guess(raw + noise, RANK, {"candidates": 2}, 50, 1)


def test_bytes_that_are_cut_are_left_to_the_decoder() -> None:
    check_fields(whole(30).SerializeToString()[:-1], RANK, {"candidates": 30})
    check_fields(b"\x80" * 2**17, RANK, {})
